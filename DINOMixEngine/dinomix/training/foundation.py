"""The frozen foundation model whose features are distilled: how it sees slices, and the map of tokens that it gives."""

import copy
import hashlib
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinomix.errors import DinomixError
from dinomix.inference.devices import has_bfloat16
from dinomix.inference.sliding_window import is_out_of_memory
from dinomix.training.backbones import OTHER_BACKBONE, load_backbone
from dinomix.training.config import FkdConfig
from dinomix.training.view import View

_SAME_TOKENS = 0.99
"""Least mean cosine between tokens in bfloat16 and in float32; those of the architectures tried are above 0.999."""


class FoundationModel(nn.Module):
    """A timm backbone that turns axial slices into a map of tokens, without gradients.

    Attributes:
        name: as it is recorded in the model card; an untrained one says so.
        layers: which of the backbone's maps are taken, by their number.
        widths: channels of each of them, which are others than timm's ``num_features`` where a head follows them.
        width: of all together.
        reductions: pixels per token and axis of each of them; the coarser are resized to the finest.
        view: how slices are shown.
        fingerprint: tells these weights, as they were loaded, from others.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Any, name: str, layers: int | tuple[int, ...] = 1) -> None:
        """Raises DinomixError where the backbone has no such layers, or gives no feature maps of slices of any size."""
        super().__init__()
        self.backbone = backbone.eval().requires_grad_(False)
        self.name, self.view = name, View()
        try:
            all_reductions = [int(layer["reduction"]) for layer in backbone.feature_info]
            configuration = backbone.pretrained_cfg
            self.register_buffer("mean", torch.tensor(configuration["mean"]).view(1, 3, 1, 1), persistent=False)
            self.register_buffer("std", torch.tensor(configuration["std"]).view(1, 3, 1, 1), persistent=False)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DinomixError(f"The teacher {name} gives no feature maps.", OTHER_BACKBONE) from error
        self.layers = _numbers(layers, len(all_reductions), name)
        self.reductions = [all_reductions[number] for number in self.layers]
        self.finest, self.coarsest = min(self.reductions), max(self.reductions)
        self.widths = tuple(tokens.shape[1] for tokens in self.try_slices(96, 64))
        self.width = sum(self.widths)
        # The first values of each tensor suffice.
        sums = [f"{tensor.flatten()[:16].double().sum().item():.12g}" for tensor in backbone.state_dict().values()]
        self.fingerprint = hashlib.sha256(" ".join(sums).encode()).hexdigest()

    def train(self, mode: bool = True) -> "FoundationModel":
        """Stays in evaluation mode: a frozen teacher has no training mode."""
        return super().train(False)

    def on(self, device: torch.device, precision: str) -> "FoundationModel":
        """This teacher, moved to where and made ready for what it will see.

        On a CPU it computes in bfloat16 where that is faster and its tokens stay the same, unless ``precision`` says
        otherwise. On a GPU autocast decides.

        Args:
            precision: that of the run, as ``TrainConfig`` has it.
        """
        self.to(device)
        if device.type == "cpu" and precision in ("auto", "bf16") and has_bfloat16(device):
            low, high = self.view.black, self.view.white
            side = 3 * self.coarsest
            noise = torch.rand(2, side, side, generator=torch.Generator().manual_seed(0)) * (high - low) + low
            exact, backbone = self._maps(noise), self.backbone
            self.backbone = copy.deepcopy(backbone).to(torch.bfloat16)
            try:
                pairs = zip(self._maps(noise), exact, strict=True)
                is_same = min(float(F.cosine_similarity(*pair, dim=1).mean()) for pair in pairs) >= _SAME_TOKENS
            except RuntimeError:  # layers that PyTorch does not have in bfloat16
                is_same = False
            if not is_same:
                self.backbone = backbone
        return self

    def try_slices(self, x: int, y: int) -> list[Tensor]:
        """The maps of a black slice of ``x`` by ``y`` voxels, one for each layer.

        Raises:
            DinomixError: the backbone takes no such slices, or does not give one map of them for each layer.
        """
        reason, pixels = "its maps do not cover the slice evenly", self._pixels(x, y)
        wanted = [(pixels[0] // reduction, pixels[1] // reduction) for reduction in self.reductions]
        try:
            maps = self._maps(torch.full((1, x, y), self.view.black, device=self.mean.device))
            if [tuple(tokens.shape[2:]) for tokens in maps] == wanted:
                return maps
        except MemoryError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DinomixError(
            f"The teacher {self.name} gives no feature map of slices of {x}x{y} voxels ({reason}).", OTHER_BACKBONE
        )

    def tokens_of(self, x: int, y: int) -> tuple[int, int]:
        """How many tokens of the finest map cover a slice of ``x`` by ``y`` voxels."""
        columns, rows = self._pixels(x, y)
        return columns // self.finest, rows // self.finest

    def _pixels(self, x: int, y: int) -> tuple[int, int]:
        """Pixels along x and y with which a slice is shown: whole tokens of each map."""
        scale_x, scale_y = self.view.scale
        return (
            math.ceil(x * scale_x / self.coarsest) * self.coarsest,
            math.ceil(y * scale_y / self.coarsest) * self.coarsest,
        )

    @torch.no_grad()
    def tokens(self, slices: Tensor) -> Tensor:
        """Token maps of axial slices.

        Args:
            slices: (N, x, y), or (N, colors, x, y), intensities as ``view`` has them; one color is gray.

        Returns:
            (N, width, x tokens, y tokens), float32, layer after layer; the tokens cover the slice evenly.
        """
        size = self.tokens_of(*slices.shape[-2:])
        return torch.cat([
            tokens if tokens.shape[2:] == size else F.interpolate(tokens, size, mode="bilinear", align_corners=False)
            for tokens in self._maps(slices)
        ], 1)  # fmt: skip

    @torch.no_grad()
    def _maps(self, slices: Tensor) -> list[Tensor]:
        """What each layer gives for slices as ``tokens`` takes them: (N, width, x tokens, y tokens), float32."""
        pictures = self.view.shown(slices, self._pixels(*slices.shape[-2:]))
        mean, std = self.view.gray or (self.mean, self.std)
        pictures = (pictures.expand(-1, 3, -1, -1) - mean) / std
        backbone: Any = self.backbone
        maps = backbone.forward_intermediates(
            pictures.to(next(backbone.parameters()).dtype),
            indices=list(self.layers), norm=True, output_fmt="NCHW", intermediates_only=True,
        )  # fmt: skip
        return [self.view.turned_back(tokens.float()) for tokens in maps]


def _numbers(layers: int | tuple[int, ...], count: int, name: str) -> tuple[int, ...]:
    """The layers that a setting means, from the first on. Raises DinomixError where the teacher has not as many."""
    wanted = range(-layers, 0) if isinstance(layers, int) else layers
    if not count or not all(-count <= number < count for number in wanted):
        raise DinomixError(
            f"The teacher {name} has {count} layers that give maps, not those of fkd.layers={layers}.",
            f"Give how many of the last ones, up to {count}, or which, from -1 for the last to {-count}.",
        )
    return tuple(sorted({number % count for number in wanted}))


def load_foundation(config: FkdConfig) -> FoundationModel:
    """The teacher that ``config.teacher`` names. Raises DinomixError as ``load_backbone``, and as ``FoundationModel``."""
    return FoundationModel(*load_backbone(config.teacher, config.download), config.layers)
