"""The frozen foundation model whose features are distilled: how it sees slices, and the map of tokens that it gives."""

import copy
import hashlib
import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinomix.errors import DinomixError, reason_of
from dinomix.events import Emit, silent
from dinomix.inference.devices import has_bfloat16
from dinomix.inference.sliding_window import is_out_of_memory
from dinomix.training.backbones import OTHER_BACKBONE, load_backbone
from dinomix.training.compiled_backbone import CompiledMaps, Maps, are_same, can_compile
from dinomix.training.config import FkdConfig
from dinomix.training.view import View


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

    def __init__(self, backbone: Any, name: str, layers: int | tuple[int, ...] | Literal["auto"] = "auto") -> None:
        """Raises DinomixError where the backbone has no such layers, or gives no feature maps of slices of any size."""
        super().__init__()
        self.name, self.view = name, View()
        self._compiled: CompiledMaps | None = None
        self._may_be_low, self._emit = False, silent
        try:
            all_reductions = [int(layer["reduction"]) for layer in backbone.feature_info]
            configuration = backbone.pretrained_cfg
            self.register_buffer("mean", torch.tensor(configuration["mean"]).view(1, 3, 1, 1), persistent=False)
            self.register_buffer("std", torch.tensor(configuration["std"]).view(1, 3, 1, 1), persistent=False)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DinomixError(f"The teacher {name} gives no feature maps.", OTHER_BACKBONE) from error
        self.layers = _numbers(_usual_layers(all_reductions) if layers == "auto" else layers, len(all_reductions), name)
        self.maps = Maps(backbone.eval().requires_grad_(False), self.layers)
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

    def on(self, device: torch.device, precision: str, emit: Emit = silent) -> "FoundationModel":
        """This teacher, moved to where and made ready for what it will see.

        On a CPU it is computed by OpenVINO where that is installed, and in bfloat16 where the processor multiplies it, as far as
        its tokens stay the same and ``precision`` does not say otherwise. On a GPU autocast decides.

        Args:
            precision: that of the run, as ``TrainConfig`` has it.
            emit: told by a ``runtime`` event what computes, with the first slices.
        """
        self.to(device)
        if device.type == "cpu":
            self._may_be_low = precision in ("auto", "bf16") and has_bfloat16(device)
            if can_compile():
                self._compiled, self._emit = CompiledMaps(self.maps, self._may_be_low), emit
            else:
                self._compute_by_pytorch()
        return self

    def _compute_by_pytorch(self) -> None:
        """On a CPU, in bfloat16 where that may be and tokens stay the same."""
        self._compiled = None
        if not self._may_be_low:
            return
        noise = self._noise(3 * self.coarsest, 3 * self.coarsest)
        low = copy.deepcopy(self.maps).to(torch.bfloat16)
        # A run in bfloat16 may be within ``autocast``, which float32 is to be compared without.
        with torch.no_grad(), torch.autocast("cpu", enabled=False), suppress(RuntimeError):
            # RuntimeError: layers that PyTorch does not have in bfloat16
            if are_same(low(noise.to(torch.bfloat16)), self.maps(noise), "bfloat16"):
                self.maps = low

    def _compile(self, compiled: CompiledMaps, rows: int, columns: int) -> None:
        """Get ready for pictures of another size; what OpenVINO cannot compute is left to PyTorch, for good."""
        is_first = compiled.size is None
        try:
            compiled.compile(self._noise(rows, columns))
        except Exception as error:  # of many kinds: what a library says of layers that it does not know
            self._compute_by_pytorch()
            reason = f"PyTorch computes the teacher of FKD: OpenVINO cannot ({reason_of(error)})."
            self._emit("runtime", runtime="pytorch", reason=reason)
            return
        if is_first:
            reason = f"OpenVINO computes the teacher of FKD in {compiled.numbers}, with the tokens of PyTorch."
            self._emit("runtime", runtime="openvino", reason=reason)

    def _noise(self, rows: int, columns: int) -> Tensor:
        """Two gray pictures, normalized: (2, 3, rows, columns)."""
        return self._normalized(torch.rand(2, 1, rows, columns, generator=torch.Generator().manual_seed(0)))

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
        pictures = self._normalized(self.view.shown(slices, self._pixels(*slices.shape[-2:])))
        if self._compiled is not None and self._compiled.size != pictures.shape[2:]:
            self._compile(self._compiled, *pictures.shape[2:])
        if self._compiled is not None:
            maps = self._compiled(pictures)
        else:
            maps = self.maps(pictures.to(next(self.maps.parameters()).dtype))
        return [self.view.turned_back(tokens.float()) for tokens in maps]

    def _normalized(self, pictures: Tensor) -> Tensor:
        """(N, 1 or 3, rows, columns), black 0 and white 1 -> (N, 3, rows, columns) as the backbone was trained with them."""
        mean, std = self.view.gray or (self.mean, self.std)
        return (pictures.expand(-1, 3, -1, -1) - mean) / std


def _usual_layers(reductions: Sequence[int]) -> tuple[int, ...]:
    """The last layer, but of a network whose layers are ever coarser the one before it.

    The last of such a network was trained to name the whole picture, and has forgotten most of where things are: see "What a
    teacher's tokens tell" in docs/results.md.
    """
    is_ever_coarser = len(reductions) > 1 and reductions[-1] > reductions[-2]
    return (-2,) if is_ever_coarser else (-1,)


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
