"""How patches are changed at random: their shape in the volume, and their intensities, on whatever device they are.

Two widths: ``narrow`` turns most patches a little; ``wide`` has the ranges and shares of nnU-Net's trainer, turns few patches
and those further [F. Isensee et al., nnU-Net, Nature Methods 18, 2021]. Thick slices are changed in their own plane only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from monai.networks.layers import GaussianFilter
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from dinomix.images.volume import thick_axis
from dinomix.training.config import Augment

Change = Callable[[Tensor, Sequence[float], int | None], Tensor]
"""Changes patches (B, 1, x, y, z) of about [0, 1] by an amount each; an axis across which slices are thick is left alone."""


@dataclass(frozen=True)
class Chance:
    """``share`` of the patches get a change, by an amount between ``least`` and ``most``."""

    share: float
    least: float
    most: float

    def draw(self, rng: np.random.Generator) -> float | None:
        """The amount; None for a patch that is left alone."""
        return float(rng.uniform(self.least, self.most)) if rng.random() < self.share else None


def _blurred(patches: Tensor, sigmas: Sequence[float], thick: int | None) -> Tensor:
    """``sigmas`` in voxels."""
    blurred = []
    for patch, sigma in zip(patches, sigmas, strict=True):
        # So narrow a filter gives back each voxel.
        along = [1e-3 if axis == thick else sigma for axis in range(3)]
        blurred.append(GaussianFilter(3, along).to(patch.device)(patch[None])[0])
    return torch.stack(blurred)


def _coarse(patches: Tensor, zooms: Sequence[float], thick: int | None) -> Tensor:
    """As if taken with fewer voxels, ``zooms`` times as many along an axis."""
    size, coarse = patches.shape[2:], []
    for patch, zoom in zip(patches, zooms, strict=True):
        fewer = [side if axis == thick else max(round(side * zoom), 1) for axis, side in enumerate(size)]
        small = F.interpolate(patch[None], size=fewer, mode="nearest-exact")
        coarse.append(F.interpolate(small, size=size, mode="trilinear", align_corners=False)[0])
    return torch.stack(coarse)


def _brighter(patches: Tensor, factors: Sequence[float], thick: int | None) -> Tensor:
    return patches * _column(factors, patches)


def _shifted(patches: Tensor, shifts: Sequence[float], thick: int | None) -> Tensor:
    return patches + _column(shifts, patches)


def _contrasted(patches: Tensor, factors: Sequence[float], thick: int | None) -> Tensor:
    """Stretched about each patch's mean, within its own range."""
    mean, low, high = (part(patches, dim=(1, 2, 3, 4), keepdim=True) for part in (torch.mean, torch.amin, torch.amax))
    return torch.lerp(mean, patches, _column(factors, patches)).clamp(low, high)


def _gamma(patches: Tensor, exponents: Sequence[float], thick: int | None) -> Tensor:
    low, high = (part(patches, dim=(1, 2, 3, 4), keepdim=True) for part in (torch.amin, torch.amax))
    extent = (high - low).clamp(min=1e-6)
    return ((patches - low) / extent) ** _column(exponents, patches) * extent + low


def _inverted_gamma(patches: Tensor, exponents: Sequence[float], thick: int | None) -> Tensor:
    return -_gamma(-patches, exponents, thick)


def _column(amounts: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(amounts, dtype=like.dtype).to(like.device, non_blocking=True).view(-1, 1, 1, 1, 1)


@dataclass(frozen=True)
class Width:
    """What is changed, how often and how far.

    Attributes:
        reshaped: share of the patches whose shape may change; ``rotation`` and ``scaling`` are shares of these.
        rotation: degrees, about each axis by an angle of its own between minus and plus the amount drawn.
        scaling: logarithm of how much more of the volume a patch shows, the same along all axes.
        stretch: the most that one axis differs from that, as a logarithm.
        intensities: the changes in their order.
        noise: standard deviation.
    """

    reshaped: float
    rotation: Chance
    scaling: Chance
    stretch: float
    intensities: tuple[tuple[Change, Chance], ...]
    noise: Chance


_NEVER = Chance(0.0, 0.0, 0.0)
WIDTHS: dict[Augment, Width] = {
    "off": Width(0.0, _NEVER, _NEVER, 0.0, (), _NEVER),
    "narrow": Width(
        reshaped=0.7,
        rotation=Chance(1.0, 15.0, 15.0),
        scaling=Chance(1.0, -0.1, 0.1),
        stretch=0.06,
        intensities=(
            (_blurred, Chance(0.15, 0.4, 1.0)),
            (_brighter, Chance(0.5, 0.75, 1.25)),
            (_shifted, Chance(0.5, -0.1, 0.1)),
            (_gamma, Chance(0.4, 0.7, 1.5)),
        ),
        noise=Chance(0.3, 0.0, 0.06),
    ),
    "wide": Width(
        reshaped=1.0,
        rotation=Chance(0.2, 30.0, 30.0),
        scaling=Chance(0.2, float(np.log(0.7)), float(np.log(1.4))),
        stretch=0.0,
        intensities=(
            (_blurred, Chance(0.2, 0.5, 1.0)),
            (_coarse, Chance(0.25, 0.5, 1.0)),
            (_brighter, Chance(0.15, 0.75, 1.25)),
            (_contrasted, Chance(0.15, 0.75, 1.25)),
            (_inverted_gamma, Chance(0.1, 0.7, 1.5)),
            (_gamma, Chance(0.3, 0.7, 1.5)),
        ),
        # nnU-Net's variance of up to 0.1 is that of normalized images, whose deviation is 1; here it is about a quarter.
        noise=Chance(0.1, 0.0, 0.08),
    ),
}


def random_shape(width: Width, rng: np.random.Generator, spacing: Sequence[float]) -> NDArray[np.float64]:
    """Patch voxels to volume voxels, (3, 3): a rotation in millimeters, so that thick slices are not sheared, and scales.

    Args:
        spacing: mm along (x, y, z).
    """
    if rng.random() >= width.reshaped:
        return np.eye(3)
    thick = thick_axis(spacing)
    matrix = np.eye(3)
    if (most := width.rotation.draw(rng)) is not None:
        angles = rng.uniform(-most, most, 3)
        if thick is not None:
            # Tilted or stretched slices would be interpolated between neighbors that show other anatomy.
            angles[np.arange(3) != thick] = 0
        millimeters = np.asarray(spacing, dtype=np.float64)
        rotation = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
        matrix = rotation * (millimeters[None, :] / millimeters[:, None])
    if (scale := width.scaling.draw(rng)) is not None:
        scales = np.exp(scale + rng.uniform(-width.stretch, width.stretch, 3))
        if thick is not None:
            scales[thick] = 1
        matrix = matrix * scales
    return matrix


def augmented_intensities(patches: Tensor, rngs: Sequence[np.random.Generator], width: Width,
                          usual_ranges: Sequence[tuple[float, float]] = ((0.0, 1.0),),
                          thick: int | None = None) -> Tensor:  # fmt: skip
    """Each patch changed by its own generator, clipped back to the usual range, or the patch's own where it is wider.

    The changes are those of [0, 1]; other ranges are brought there and back. Amounts are drawn on the CPU; what is done with
    them is done where the patches are, for all at once that get it. Each channel is changed by amounts of its own, one after
    the other from the generator of its patch.

    Args:
        patches: (B, channels, x, y, z).
        usual_ranges: of each channel.
        thick: the axis across which slices are thick.
    """
    shape, channels = patches.shape, patches.shape[1]
    patches = patches.reshape(-1, 1, *shape[2:])
    rngs = [rng for rng in rngs for _ in range(channels)]
    low, extent = _scales(usual_ranges, patches)
    unit = (patches - low) / extent
    least = unit.amin((1, 2, 3, 4), keepdim=True).clamp(max=0.0)
    most = unit.amax((1, 2, 3, 4), keepdim=True).clamp(min=1.0)
    for change, chance in width.intensities:
        chosen, amounts = _drawn(chance, rngs)
        if chosen:
            numbers = torch.tensor(chosen).to(unit.device, non_blocking=True)
            unit.index_copy_(0, numbers, change(unit.index_select(0, numbers), amounts, thick))
    for number, deviation in zip(*_drawn(width.noise, rngs), strict=True):
        seed = int(rngs[number].integers(2**31))
        noise = torch.randn(
            unit[number].shape, generator=torch.Generator(unit.device).manual_seed(seed), device=unit.device
        )
        unit[number].add_(noise, alpha=deviation)
    return (unit.clamp(least, most) * extent + low).reshape(shape)


def _scales(ranges: Sequence[tuple[float, float]], patches: Tensor) -> tuple[Tensor | float, Tensor | float]:
    """Low ends and extents for patches (B * channels, 1, x, y, z): numbers where all channels have the same."""
    if len(set(ranges)) == 1:
        return ranges[0][0], ranges[0][1] - ranges[0][0]
    ends = patches.new_tensor(ranges).repeat(len(patches) // len(ranges), 1).view(-1, 2, 1, 1, 1)
    return ends[:, :1], ends[:, 1:] - ends[:, :1]


def _drawn(chance: Chance, rngs: Sequence[np.random.Generator]) -> tuple[list[int], list[float]]:
    """The numbers of the patches that get a change, and by how much."""
    amounts = [(number, chance.draw(rng)) for number, rng in enumerate(rngs)]
    chosen = [(number, amount) for number, amount in amounts if amount is not None]
    return [number for number, _ in chosen], [amount for _, amount in chosen]
