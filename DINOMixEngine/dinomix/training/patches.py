"""Patches: where they lie in a cached volume, and how image, label and teacher features are sampled there alike.

A patch is one affine resampling of the volume, so an augmented patch loses no corners and is interpolated once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from monai.transforms import (
    Compose,
    RandAdjustContrast,
    RandGaussianNoise,
    RandGaussianSmooth,
    RandScaleIntensity,
    RandShiftIntensity,
)
from monai.utils import convert_to_tensor
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.spatial.transform import Rotation
from torch import Tensor

from dinomix.planning.topology import thick_axis

Array = NDArray[np.generic]


@dataclass(frozen=True)
class Placement:
    """Patch coordinates to volume coordinates, both in voxels: ``center + matrix @ (v - (patch - 1) / 2)``."""

    center: NDArray[np.float64]
    matrix: NDArray[np.float64]

    def coordinates(self, patch: Sequence[int], points: Sequence[int]) -> NDArray[np.float32]:
        """Volume coordinates of a grid of ``points`` that evenly covers the patch: (px, py, pz, 3)."""
        along = [
            ((np.arange(n) + 0.5) * side / n - 0.5 - (side - 1) / 2)[:, None] * column
            for n, side, column in zip(points, patch, self.matrix.T, strict=True)
        ]
        x, y, z = along[0][:, None, None], along[1][:, None], along[2] + self.center
        coordinates: NDArray[np.float32] = (x + (y + z)).astype(np.float32)
        return coordinates


def random_placement(size: Sequence[int], patch: Sequence[int], rng: np.random.Generator, augment: bool,
                     around: NDArray[np.int64] | None = None,
                     spacing: Sequence[float] = (1.0, 1.0, 1.0)) -> Placement:  # fmt: skip
    """A patch that lies inside the volume, per axis; where the volume is smaller than the patch, around all of it.

    With ``augment``, 7 of 10 patches are rotated by up to 15 degrees about each axis and scaled by about 0.85 to 1.18; thick
    slices in their own plane only.
    There is no mirroring: left and right organs are different structures. Without a change of shape, patches lie on voxels
    and are not interpolated.

    Args:
        size, patch: voxels along (x, y, z).
        around: a voxel that lies in the patch (off its center by up to a quarter of the patch), or None.
        spacing: mm along (x, y, z); the patient is rotated in millimeters, so that thick slices are not sheared.
    """
    center = np.empty(3)
    for axis, (extent, side) in enumerate(zip(size, patch, strict=True)):
        low, high = sorted(((side - 1) / 2, extent - 1 - (side - 1) / 2))
        if around is None:
            center[axis] = rng.uniform(low, high)
        else:
            center[axis] = np.clip(around[axis] + rng.uniform(-side / 4, side / 4), low, high)
    if augment and rng.random() < 0.7:
        millimeters = np.asarray(spacing, dtype=np.float64)
        angles = rng.uniform(-15, 15, 3)
        scales = np.exp(rng.uniform(-0.1, 0.1) + rng.uniform(-0.06, 0.06, 3))
        if (thick := thick_axis(spacing)) is not None:
            # Tilted or stretched slices would be interpolated between neighbors that show other anatomy.
            angles[np.arange(3) != thick] = 0
            scales[thick] = 1
        rotation = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
        return Placement(center, rotation * (millimeters[None, :] / millimeters[:, None]) * scales)
    half = (np.array(patch) - 1) / 2
    return Placement(np.round(center - half) + half, np.eye(3))


def sample(volume: Array, coordinates: NDArray[np.float32], mode: Literal["bilinear", "nearest"]) -> Tensor:
    """Values of a volume at volume coordinates; 0 outside.

    Only the region that the coordinates span is read, so that a memory-mapped volume stays on disk.

    Args:
        volume: (X, Y, Z) or with channels (C, X, Y, Z).
        coordinates: (px, py, pz, 3), voxels; affine in the index, so that the corners span them.

    Returns:
        (C, px, py, pz) float32; C is 1 for a volume without channels.
    """
    spatial = np.array(volume.shape[-3:])
    corners = coordinates[
        :: len(coordinates) - 1 or 1, :: coordinates.shape[1] - 1 or 1, :: coordinates.shape[2] - 1 or 1
    ]
    low = np.clip(np.floor(corners.min((0, 1, 2))).astype(int), 0, spatial - 1)
    high = np.clip(np.ceil(corners.max((0, 1, 2))).astype(int) + 1, low + 1, spatial)
    region = volume[..., low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    values = torch.from_numpy(np.ascontiguousarray(region, dtype=np.float32))
    values = values.reshape(1, -1, *values.shape[-3:])
    scale, shift = 2 / (high - low), (1 - 2 * low) / (high - low) - 1
    grid = coordinates[..., ::-1] * scale[::-1].astype(np.float32) + shift[::-1].astype(np.float32)
    return F.grid_sample(values, torch.from_numpy(grid)[None], mode=mode, padding_mode="zeros", align_corners=False)[0]


def sample_features(features: Array, stride: int, depth: int, placement: Placement, patch: Sequence[int],
                    volume_size: Sequence[int], grid: tuple[int, int, int]) -> Tensor:  # fmt: skip
    """Cached teacher features at the cells of the student's grid, averaged over the slices of each cell.

    Args:
        features: (slices, x tokens, y tokens, width) of ``fkd.features_of_volume``; tokens cover the slice evenly.
        depth: number of axial slices of the volume.
        grid: (x, y, z) of the tapped stage.

    Returns:
        (width, x, y, z), float32.
    """
    per_cell = max(1, round(patch[2] / grid[2] / stride))
    coordinates = placement.coordinates(patch, (grid[0], grid[1], grid[2] * per_cell))
    tokens = np.array(features.shape[1:3])
    in_plane = (coordinates[..., :2] + 0.5) * tokens / np.array(volume_size[:2]) - 0.5
    along = (coordinates[..., 2:] - min(stride // 2, depth - 1)) / stride
    # Clamped rather than zero: beyond the last token the nearest one still describes the border best.
    limits = np.array([len(features), *tokens]) - 1
    points = np.clip(np.concatenate([along, in_plane], -1), 0, limits).reshape(-1, 3)
    low, high = np.floor(points.min(0)).astype(int), np.ceil(points.max(0)).astype(int) + 1
    region = np.asarray(features[low[0] : high[0], low[1] : high[1], low[2] : high[2]], dtype=np.float32)
    cells = np.repeat(np.arange(grid[0] * grid[1] * grid[2]), per_cell)
    weights = _linear_weights(points - low, region.shape[:3], cells)
    means = weights @ region.reshape(-1, region.shape[3]) / per_cell
    return torch.from_numpy(means).reshape(*grid, -1).movedim(-1, 0)


def _linear_weights(points: NDArray[np.float64], size: Sequence[int], rows: NDArray[np.int64]) -> csr_matrix:
    """Linear interpolation at points (n, 3) of a grid as a matrix, (rows, voxels of the grid); points of a row are summed.

    A product with few numbers in each row takes a third of the time of sampling channel by channel.
    """
    floor = np.minimum(points.astype(np.int64), np.maximum(np.array(size) - 2, 0))
    part = points - floor
    columns, weights = [], []
    for corner in np.ndindex(2, 2, 2):
        index = np.minimum(floor + corner, np.array(size) - 1)
        columns.append(np.ravel_multi_index(tuple(index.T), tuple(size)))
        weights.append(np.where(corner, part, 1 - part).prod(1))
    shape = (int(rows[-1]) + 1, int(np.prod(size)))
    entries = np.concatenate(weights).astype(np.float32)
    return csr_matrix((entries, (np.tile(rows, 8), np.concatenate(columns))), shape)


def intensity_augmentation() -> Compose:
    """Random noise, blur, contrast and brightness of a (1, x, y, z) patch in [0, 1]; seed it before each use."""
    return Compose([
        RandGaussianSmooth((0.4, 1.0), (0.4, 1.0), (0.4, 1.0), prob=0.15),
        RandScaleIntensity((-0.25, 0.25), prob=0.5),
        RandShiftIntensity((-0.1, 0.1), prob=0.5),
        RandAdjustContrast(prob=0.4, gamma=(0.7, 1.5)),
        RandGaussianNoise(prob=0.3, std=0.06),
    ])  # fmt: skip


def augmented_intensities(
    patches: Tensor, seeds: Sequence[int], usual_range: tuple[float, float] = (0.0, 1.0)
) -> Tensor:
    """Each of (B, 1, x, y, z) changed by its own seed, clipped back to the usual range, or the patch's own where it is wider.

    The changes are those of [0, 1]; other ranges are brought there and back.
    """
    low, width = usual_range[0], usual_range[1] - usual_range[0]
    augmentation = intensity_augmentation()
    changed = []
    for patch, seed in zip(patches, seeds, strict=True):
        augmentation.set_random_state(seed=seed)
        unit = (patch - low) / width
        bounds = min(0.0, float(unit.min())), max(1.0, float(unit.max()))
        changed.append(convert_to_tensor(augmentation(unit)).clamp(*bounds) * width + low)
    return torch.stack(changed)
