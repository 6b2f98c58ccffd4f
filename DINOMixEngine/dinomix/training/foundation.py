"""The frozen foundation model whose features are distilled: how it sees slices, and the map of tokens that it gives."""

import copy
import hashlib
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinomix.errors import DinomixError
from dinomix.inference.precision import has_bfloat16
from dinomix.inference.sliding_window import is_out_of_memory
from dinomix.training.backbones import OTHER_BACKBONE, load_backbone
from dinomix.training.config import FkdConfig

_SAME_TOKENS = 0.99
"""Least mean cosine between tokens in bfloat16 and in float32; those of the architectures tried are above 0.999."""


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
            raise DinomixError(f"The teacher {name} gives no feature maps.", OTHER_BACKBONE) from error
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
            f"The teacher {self.name} gives no feature map of slices of {x}x{y} voxels ({reason}).", OTHER_BACKBONE
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
    """The teacher that ``config.teacher`` names. Raises DinomixError as ``load_backbone``, and as ``FoundationModel``."""
    backbone, name = load_backbone(config.teacher, config.download)
    return FoundationModel(backbone, name, config.scale)
