"""From a volume to what the network sees, and where each of its voxels came from.

The same steps stand in every model folder's ``configs/inference.json``, for use without this package.
"""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dinomix.arrays import Array, usual
from dinomix.cohort.cohort import LabeledSlices
from dinomix.errors import DinomixError
from dinomix.images.volume import Geometry, Volume
from dinomix.memory import check_memory
from dinomix.planning.intensities import between, limits, scaled, scales_on_grid
from dinomix.planning.plan import PercentileWindow, Plan, RangeWindow, SizeGrid, SpacingGrid, Window
from dinomix.planning.resampling import SLAB_BYTES, Line, resample
from dinomix.planning.size_grid import resized_by_floor

SPACING_STEPS = 2**20
"""Spacings are rounded to 1/SPACING_STEPS mm, so that rounding in a header never decides the size of a grid."""


MOST_VOXELS, MOST_GROWTH = 2**27, 512
"""Voxels of the network's grid, and how many it may have for each of the image's: both are passed only by an image whose
header gives it voxels of a size that it does not have."""

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Reorientation:
    """An exact change of axes, a permutation and flips, between a file's (i, j, k) and axes nearest to RAS (x, y, z).

    Attributes:
        axes: the file's axis that becomes x, y and z.
        flips: whether x, y and z then run against the file's axis.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def forward(self, array: NDArray[Any]) -> NDArray[Any]:
        """(i, j, k) -> (x, y, z), a view."""
        return self._flipped(array.transpose(self.axes))

    def backward(self, array: NDArray[Any]) -> NDArray[Any]:
        """(x, y, z) -> (i, j, k), a view."""
        i, j, k = np.argsort(self.axes)
        return self._flipped(array).transpose(i, j, k)

    def _flipped(self, array: NDArray[Any]) -> NDArray[Any]:
        return array[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]


@dataclass(frozen=True)
class Preprocessed:
    """A volume as the network sees it, and the way back.

    Attributes:
        tensor: (channels, x, y, z) float32, each channel scaled by its window; of the ``arrays.usual`` kind.
        affine: 4x4 float64, index (x, y, z, 1) of ``tensor`` -> RAS mm.
        reorientation: between the file's axes and (x, y, z).
        native_size: voxels of the native grid along (x, y, z).
        scale, shift: a native voxel n along an axis lies at n * scale + shift on the network's grid.
    """

    tensor: Array
    affine: NDArray[np.float64]
    reorientation: Reorientation
    native_size: tuple[int, int, int]
    scale: Triple
    shift: Triple


@dataclass(frozen=True)
class _Way:
    """From the native grid, in (x, y, z), to the network's."""

    reorientation: Reorientation
    native_size: tuple[int, int, int]
    grid_size: tuple[int, int, int]
    scale: Triple
    shift: Triple

    def positions(self, axis: int) -> NDArray[np.float64]:
        """Native index of each voxel of the network's grid along an axis."""
        return (np.arange(self.grid_size[axis], dtype=np.float64) - self.shift[axis]) / self.scale[axis]


def preprocess(volumes: Volume | Sequence[Volume], plan: Plan, *, slab_bytes: int = SLAB_BYTES) -> Preprocessed:
    """Bring an image (k, j, i), or the images of all channels, onto the plan's grid, scaled by the channels' windows.

    Reorienting is exact and resampling is done on indices, so that the position and the rotation of the patient, and
    the order in which the file stores the axes, leave no trace in the result. Resampling computes in float64,
    with ``slab_bytes`` at a time.

    Args:
        volumes: one for each channel of the plan, in its order, all on the grid of the first; see ``images.channels``. Where only
            the way back is wanted, the first suffices.
    """
    images = [volumes] if isinstance(volumes, Volume) else volumes
    way = _way(images[0].geometry, plan)
    check_memory(
        4 * len(images) * math.prod(way.grid_size),
        f"On the plan's grid the image has {' x '.join(map(str, way.grid_size))} voxels, which take",
        "Choose a coarser spacing, or crop the image to the region of interest.",
    )
    first = _on_grid(images[0], plan.window, way, slab_bytes)
    if len(images) == 1:
        tensor = first[None]
    else:
        tensor = np.empty((len(images), *first.shape), np.float32)
        tensor[0] = first
        for channel, (image, window) in enumerate(zip(images[1:], plan.windows[1:], strict=True), 1):
            tensor[channel] = _on_grid(image, window, way, slab_bytes)
    return Preprocessed(
        tensor=usual(tensor),
        affine=_grid_affine(images[0].geometry, way),
        reorientation=way.reorientation,
        native_size=way.native_size,
        scale=way.scale,
        shift=way.shift,
    )


def labels_to_plan_grid(
    label_volume: Volume, plan: Plan, labeled_slices: LabeledSlices | None = None
) -> NDArray[np.int32]:
    """Bring a label volume (k, j, i) onto the grid that ``preprocess`` gives an image of the same geometry.

    Nearest neighbor; a point halfway between two voxels takes the higher one along that axis. On a size grid the voxel
    taken is floor(index * old / new), as in the released code that protocol `dhc-compat` follows.

    Args:
        labeled_slices: the only ones that somebody labeled. On a spacing grid, each goes to the plane that is nearest to it: of a
            coarse grid few planes have a labeled slice for their nearest one, or none has, and what was drawn would be lost.

    Returns:
        (x, y, z), the structure ids.
    """
    way = _way(label_volume.geometry, plan)
    native = way.reorientation.forward(label_volume.array.transpose(2, 1, 0))
    if isinstance(plan.grid, SizeGrid):
        return resized_by_floor(native, plan.grid.size).astype(np.int32)
    nearest = [
        np.clip(np.floor(way.positions(axis) + 0.5 + 1e-6), 0, way.native_size[axis] - 1).astype(np.int64)
        for axis in range(3)
    ]
    if labeled_slices is not None:
        axis = way.reorientation.axes.index("ijk".index(labeled_slices.axis))
        _show_labeled(nearest[axis], way, axis, labeled_slices)
    return native[np.ix_(*nearest)].astype(np.int32)


def _show_labeled(taken: NDArray[np.int64], way: _Way, axis: int, slices: LabeledSlices) -> None:
    """Let each labeled slice be taken by the plane nearest to it, and of several for one plane the nearest."""
    numbers = np.array(slices.numbers)
    if way.reorientation.flips[axis]:
        numbers = way.native_size[axis] - 1 - numbers
    away = np.abs(way.positions(axis)[:, None] - numbers)
    nearest = away.argmin(axis=0)
    for plane in np.unique(nearest):
        taken[plane] = numbers[np.where(nearest == plane, away[plane], np.inf).argmin()]


def grid_size(geometry: Geometry, plan: Plan) -> tuple[int, int, int]:
    """Voxels of the network's grid along (x, y, z) for an image on ``geometry``."""
    return _way(geometry, plan).grid_size


def reorientation_for(geometry: Geometry, plan: Plan) -> Reorientation:
    """The axes nearest to those of a spacing grid's orientation; the file's own axes for a size grid."""
    if not isinstance(plan.grid, SpacingGrid):
        return Reorientation((0, 1, 2), (False, False, False))
    ras = nearest_to_ras(geometry)
    x, y, z = (flip != (code in "LPI") for flip, code in zip(ras.flips, plan.grid.orientation, strict=True))
    return Reorientation(ras.axes, (x, y, z))


def nearest_to_ras(geometry: Geometry) -> Reorientation:
    """Which of the file's axes runs closest along R, A and S; the surest axis chooses first, as nibabel has it."""
    direction = np.diag([-1.0, -1.0, 1.0]) @ geometry.direction
    strength = np.abs(direction)
    axes, flips = [0, 0, 0], [False, False, False]
    for axis in np.argsort(-(direction**2).max(axis=0), kind="stable"):
        world = int(np.argmax(strength[:, axis]))
        axes[world] = int(axis)
        flips[world] = bool(direction[world, axis] < 0)
        strength[world, :] = -1.0
    return Reorientation((axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]))


def _on_grid(volume: Volume, window: Window, way: _Way, slab_bytes: int) -> NDArray[np.float32]:
    """One channel, (x, y, z) float32, scaled by its window."""
    lines = [Line(way.positions(axis), way.native_size[axis]) for axis in range(3)]
    nearby = [line.among_its_neighbors() for line in lines]
    if scales_on_grid(window):
        return scaled(resample(_neighbors(volume.array, way.reorientation, lines), nearby, slab_bytes), window)
    if isinstance(window, (RangeWindow, PercentileWindow)):
        # Only the voxels between which the grid's points lie are scaled: a few of many where the grid is coarse.
        ends = limits(volume.array, window)
        return resample(between(_neighbors(volume.array, way.reorientation, lines), *ends), nearby, slab_bytes)
    native = way.reorientation.forward(volume.array.transpose(2, 1, 0))
    return resample(scaled(np.array(native, dtype=np.float32, order="C"), window), lines, slab_bytes)


def _way(geometry: Geometry, plan: Plan) -> _Way:
    reorientation = reorientation_for(geometry, plan)
    i, j, k = reorientation.axes
    native_size = geometry.size[i], geometry.size[j], geometry.size[k]
    if not isinstance(plan.grid, SpacingGrid):
        x, y, z = (grid / native for grid, native in zip(plan.grid.size, native_size, strict=True))
        return _Way(
            reorientation, native_size, plan.grid.size, (x, y, z), (0.5 * x - 0.5, 0.5 * y - 0.5, 0.5 * z - 0.5)
        )
    native = np.array([round(geometry.spacing[axis] * SPACING_STEPS) / SPACING_STEPS for axis in (i, j, k)])
    grid = np.array(plan.grid.spacing)
    x, y, z = np.round((np.array(native_size) - 1) * native / grid + 1).astype(int).tolist()
    if x * y * z > max(MOST_VOXELS, MOST_GROWTH * math.prod(native_size)):
        raise DinomixError(
            "An image of {} x {} x {} voxels of {:.3g} x {:.3g} x {:.3g} mm".format(*native_size, *native)
            + f" would have {x} x {y} x {z} on the grid of the network, {4 * x * y * z / 2**30:.0f} GB.",
            "Check the size of its voxels, and export it again.",
        )
    # As MONAI has it, spacings that differ by less than this are the same.
    alike = np.allclose(native, grid, rtol=1e-5, atol=1e-3) or np.allclose(grid / native, 1, rtol=1e-5, atol=1e-3)
    if alike and (x, y, z) == native_size:
        return _Way(reorientation, native_size, native_size, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    sx, sy, sz = (native / grid).tolist()
    return _Way(reorientation, native_size, (x, y, z), (sx, sy, sz), (0.0, 0.0, 0.0))


def _neighbors(array: NDArray[np.generic], reorientation: Reorientation, lines: list[Line]) -> NDArray[np.float32]:
    """The voxels of an array (k, j, i) that are neighbors of the lines' points; (x, y, z), always a copy."""
    wanted = {}
    for line, file_axis, flip in zip(lines, *astuple(reorientation), strict=True):
        wanted[file_axis] = line.size - 1 - line.neighbors if flip else line.neighbors
    i, j, k = (wanted[file_axis] for file_axis in range(3))
    if (len(k), len(j), len(i)) != array.shape or any(reorientation.flips):
        planes, array = array, np.empty((len(k), len(j), len(i)), array.dtype)
        # Plane by plane, which the cache holds from one axis to the next: a third of the time of whole axes.
        for plane, number in zip(array, k, strict=True):
            np.take(planes[number].take(j, 0), i, 1, out=plane, mode="clip")
    x, y, z = (2 - file_axis for file_axis in reorientation.axes)
    # A copy always, since numpy takes one voxel against the axis for contiguous and PyTorch does not.
    return np.array(array.transpose(x, y, z), dtype=np.float32, order="C")


def _grid_affine(geometry: Geometry, way: _Way) -> NDArray[np.float64]:
    native_to_file = np.zeros((4, 4))
    native_to_file[3, 3] = 1.0
    for axis, (file_axis, flip) in enumerate(zip(way.reorientation.axes, way.reorientation.flips, strict=True)):
        native_to_file[file_axis, axis] = -1.0 if flip else 1.0
        native_to_file[file_axis, 3] = way.native_size[axis] - 1.0 if flip else 0.0
    native_to_grid = np.diag([*way.scale, 1.0])
    native_to_grid[:3, 3] = way.shift
    affine: NDArray[np.float64] = geometry.affine_ras @ native_to_file @ np.linalg.inv(native_to_grid)
    return affine
