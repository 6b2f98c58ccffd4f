"""The frozen foundation model: DINOv3 through timm, any other timm backbone, or the same architecture untrained.

The DINOv3 weights have a licence of their own. They are never bundled and never fetched unasked: they come from a file, from
the user's own Hugging Face cache, or, once the user agreed, through timm.
"""

import copy
import hashlib
import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinomix.errors import DinomixError
from dinomix.inference.precision import has_bfloat16
from dinomix.inference.sliding_window import is_out_of_memory
from dinomix.training.config import FkdConfig

LICENSE = "https://ai.meta.com/resources/models-and-libraries/dinov3-license/"
_FILE_ENDINGS = {".safetensors", ".pth", ".pt", ".bin"}
_SAME_TOKENS = 0.99
"""Least mean cosine between tokens in bfloat16 and in float32; those of the architectures tried are above 0.999."""
_OTHER_BACKBONE = (
    "Name a backbone of timm that takes pictures of any size, such as vit_small_patch16_dinov3 or resnet50."
)
_DINOV3_BY_WIDTH = {
    384: "vit_small_patch16_dinov3",
    768: "vit_base_patch16_dinov3",
    1024: "vit_large_patch16_dinov3",
}


class FoundationModel(nn.Module):
    """A timm backbone that turns axial slices into a map of tokens, without gradients.

    Attributes:
        name: as it is recorded in the model card; an untrained one says so.
        width: channels of its feature maps, which are others than timm's ``num_features`` where a head follows them.
        reduction: pixels per token and axis.
        usual_range: the intensities that are shown black and white.
        fingerprint: tells these weights, as they were loaded, from others.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Any, name: str, scale: float) -> None:
        """Raises DinomixError where the backbone gives no feature maps of slices of any size."""
        super().__init__()
        self.backbone = backbone.eval().requires_grad_(False)
        self.name = name
        self.scale = scale
        self.usual_range = (0.0, 1.0)
        try:
            self.reduction = int(backbone.feature_info[-1]["reduction"])
            configuration = backbone.pretrained_cfg
            self.register_buffer("mean", torch.tensor(configuration["mean"]).view(1, 3, 1, 1), persistent=False)
            self.register_buffer("std", torch.tensor(configuration["std"]).view(1, 3, 1, 1), persistent=False)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise DinomixError(f"The teacher {name} gives no feature maps.", _OTHER_BACKBONE) from error
        self.width = self.try_slices(96, 64)
        # The first values of each tensor suffice.
        sums = [f"{tensor.flatten()[:16].double().sum().item():.12g}" for tensor in backbone.state_dict().values()]
        self.fingerprint = hashlib.sha256(" ".join(sums).encode()).hexdigest()

    def train(self, mode: bool = True) -> "FoundationModel":
        """Stays in evaluation mode: a frozen teacher has no training mode."""
        return super().train(False)

    def on(self, device: torch.device, precision: str, usual_range: tuple[float, float]) -> "FoundationModel":
        """This teacher, moved to where and made ready for what it will see.

        On a CPU it computes in bfloat16 where that is faster and its tokens stay the same, unless ``precision`` says
        otherwise. On a GPU autocast decides.

        Args:
            precision: that of the run, as ``TrainConfig`` has it.
            usual_range: the intensities that are shown black and white.
        """
        self.to(device)
        self.usual_range = usual_range
        if device.type == "cpu" and precision in ("auto", "bf16") and has_bfloat16(device):
            low, high = usual_range
            side = 3 * self.reduction
            noise = torch.rand(2, side, side, generator=torch.Generator().manual_seed(0)) * (high - low) + low
            exact, backbone = self.tokens(noise), self.backbone
            self.backbone = copy.deepcopy(backbone).to(torch.bfloat16)
            try:
                is_same = float(F.cosine_similarity(self.tokens(noise), exact, dim=1).mean()) >= _SAME_TOKENS
            except RuntimeError:  # layers that PyTorch does not have in bfloat16
                is_same = False
            if not is_same:
                self.backbone = backbone
        return self

    def try_slices(self, x: int, y: int) -> int:
        """Channels of the tokens of a slice of ``x`` by ``y`` voxels.

        Raises:
            DinomixError: the backbone takes no such slices, or does not give one map of them.
        """
        wanted = (self.tokens_along(x), self.tokens_along(y))
        reason = "its maps do not cover the slice evenly"
        try:
            maps = self.tokens(torch.full((1, x, y), self.usual_range[0], device=self.mean.device))
            if maps.ndim == 4 and maps.shape[2:] == wanted:
                return int(maps.shape[1])
        except MemoryError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DinomixError(
            f"The teacher {self.name} gives no feature map of slices of {x}x{y} voxels ({reason}).", _OTHER_BACKBONE
        )

    def tokens_along(self, side: int) -> int:
        """How many tokens cover ``side`` voxels of a slice."""
        return math.ceil(side * self.scale / self.reduction)

    @torch.no_grad()
    def tokens(self, slices: Tensor) -> Tensor:
        """Token maps of axial slices.

        A slice is shown as a radiologist sees it (anterior up, the patient's right on the left), resized to whole tokens.

        Args:
            slices: (N, x, y) in RAS, intensities in ``usual_range``.

        Returns:
            (N, width, x tokens, y tokens), float32; the tokens cover the slice evenly.
        """
        low, high = self.usual_range
        pictures = ((slices.transpose(1, 2).flip(1, 2)[:, None].float() - low) / (high - low)).clamp(0, 1)
        size = [self.tokens_along(side) * self.reduction for side in pictures.shape[2:]]
        pictures = F.interpolate(pictures, size=size, mode="bilinear", align_corners=False, antialias=self.scale < 1)
        pictures = (pictures.expand(-1, 3, -1, -1) - self.mean) / self.std
        backbone: Any = self.backbone
        pictures = pictures.to(next(backbone.parameters()).dtype)
        maps = backbone.forward_intermediates(pictures, indices=1, norm=True, output_fmt="NCHW",
                                                   intermediates_only=True)[-1]  # fmt: skip
        return maps.float().flip(2, 3).transpose(2, 3)


def load_foundation(config: FkdConfig) -> FoundationModel:
    """The teacher that ``config.teacher`` names: ``random``, ``random:TIMM_NAME``, a weight file, or a timm name.

    Raises:
        DinomixError: no such backbone; a file that is not its weights; weights that are not in the user's cache.
    """
    wanted = config.teacher
    if wanted == "random" or wanted.startswith("random:"):
        architecture = wanted.partition(":")[2] or _DINOV3_BY_WIDTH[768]
        with torch.random.fork_rng(devices=[]):
            # One seed for all runs: a frozen teacher is the same for every student, trained or not.
            torch.manual_seed(0)
            backbone = _create(architecture)
        return FoundationModel(backbone, f"{architecture} (random weights, never trained)", config.scale)
    if Path(wanted).suffix.lower() in _FILE_ENDINGS:
        architecture = _architecture_of(Path(wanted))
        return FoundationModel(
            _create(architecture, Path(wanted)), f"{architecture} ({Path(wanted).name})", config.scale
        )
    return FoundationModel(_create(wanted, _cached_weights(wanted, config.download)), wanted, config.scale)


def _create(architecture: str, weights: Path | None = None) -> nn.Module:
    import timm

    if not timm.is_model(architecture):
        raise DinomixError(
            f"timm knows no backbone named {architecture}.", "Name one of timm.list_models(), a weight file, or random."
        )
    arguments: dict[str, Any] = {"num_classes": 0}
    if weights is not None:
        # timm's own loader converts the original checkpoints' names; it reads pickles with weights_only=True.
        arguments |= {"pretrained": True, "pretrained_cfg_overlay": {"file": str(weights)}}
    try:
        try:
            backbone = timm.create_model(architecture, dynamic_img_size=True, **arguments)
        except TypeError:  # a backbone without positions takes slices of any size as it is
            backbone = timm.create_model(architecture, **arguments)
    except DinomixError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DinomixError(
            f"{weights or architecture} could not be loaded as {architecture} ({reason[:200]}).",
            "Give the weight file as it was published, or name the backbone that it belongs to.",
        ) from error
    if not hasattr(backbone, "forward_intermediates"):
        raise DinomixError(f"timm's {architecture} gives no feature maps.", _OTHER_BACKBONE)
    return backbone


def _architecture_of(file: Path) -> str:
    """The DINOv3 ViT whose weights ``file`` holds, told by the width of its class token."""
    if not file.is_file():
        raise DinomixError(f"There is no teacher file {file}.", "Check the path given as --teacher.", code="teacher")
    try:
        if file.suffix.lower() == ".safetensors":
            from safetensors import safe_open

            with safe_open(file, framework="pt") as tensors:
                width = tensors.get_slice("cls_token").get_shape()[-1]
        else:
            state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
            width = state.get("model", state)["cls_token"].shape[-1]
        return _DINOV3_BY_WIDTH[width]
    except Exception as error:
        raise DinomixError(
            f"{file} holds no weights of a DINOv3 ViT-S, ViT-B or ViT-L.",
            "Give timm's model.safetensors or the original .pth file.",
        ) from error


def _cached_weights(architecture: str, download: bool) -> Path | None:
    """The user's own copy of a backbone's weights, fetched only where ``download`` says that the user agreed."""
    import timm
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    if not timm.is_model(architecture):
        return None
    configuration = timm.get_pretrained_cfg(architecture)
    repository = configuration.hf_hub_id if configuration else None
    if not repository:
        raise DinomixError(f"timm has no weights for {architecture}.", "Name another backbone, or random.")
    cached = try_to_load_from_cache(repository, "model.safetensors")
    if isinstance(cached, str):
        return Path(cached)
    if not download:
        raise DinomixError(
            f"The weights of {architecture} ({repository}) are not in your Hugging Face cache; nothing is "
            "fetched unasked.",
            f"Read their licence ({LICENSE} for DINOv3) and add --download-teacher, give a file with --teacher FILE, "
            "choose --teacher random, or train without them: --fkd off.",
            code="teacher",
        )
    try:
        return Path(hf_hub_download(repository, "model.safetensors"))
    except Exception as error:
        raise DinomixError(
            f"The weights of {architecture} could not be fetched from {repository} ({type(error).__name__}).",
            "Accept their licence on that page and log in with `hf auth login`, or give a file with --teacher FILE.",
            code="teacher",
        ) from error
