"""From a volume to what the network sees, and where each of its voxels came from.

The same steps stand in every model folder's ``configs/inference.json``, for use without this package.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Resize, ScaleIntensityRange, ScaleIntensityRangePercentiles, Spacing
from numpy.typing import NDArray

from dinomix.images.volume import Geometry, Volume
from dinomix.planning.plan import Plan, RangeWindow, SizeGrid, SpacingGrid

SPACING_STEPS = 2**20
"""Spacings are rounded to 1/SPACING_STEPS mm, so that rounding in a header never decides the size of a grid."""


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
        tensor: (1, x, y, z) float32 in [0, 1].
        affine: 4x4 float64, index (x, y, z, 1) of ``tensor`` -> RAS mm.
        reorientation: between the file's axes and (x, y, z).
        native_size: voxels of the native grid along (x, y, z).
        scale, shift: a native voxel n along an axis lies at n * scale + shift on the network's grid.
    """

    tensor: torch.Tensor
    affine: NDArray[np.float64]
    reorientation: Reorientation
    native_size: tuple[int, int, int]
    scale: tuple[float, float, float]
    shift: tuple[float, float, float]


def preprocess(volume: Volume, plan: Plan) -> Preprocessed:
    """Bring an image (k, j, i) onto the plan's grid, with intensities in [0, 1].

    Reorienting is exact and resampling is done on indices, so that the position and the rotation of the patient, and
    the order in which the file stores the axes, leave no trace in the result. Resampling computes in float64.
    """
    reorientation = reorientation_for(volume.geometry, plan)
    native = reorientation.forward(volume.array.transpose(2, 1, 0))
    spacing = _native_spacing(volume.geometry, reorientation)
    image = MetaTensor(
        torch.from_numpy(np.ascontiguousarray(native, dtype=np.float32))[None],
        affine=torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64)),
    )
    image = _to_grid(_window(plan)(image), plan)
    native_size = tuple(int(n) for n in native.shape)
    scale, shift = _index_map(plan, spacing, native_size, image)
    return Preprocessed(
        tensor=image.as_tensor().contiguous(),
        affine=_grid_affine(volume.geometry, reorientation, native_size, scale, shift),
        reorientation=reorientation,
        native_size=native_size,  # type: ignore[arg-type]
        scale=scale,
        shift=shift,
    )


def labels_to_plan_grid(label_volume: Volume, plan: Plan) -> torch.Tensor:
    """Bring a label volume (k, j, i) onto the grid that ``preprocess`` gives an image of the same geometry.

    Nearest neighbor; a point halfway between two voxels takes the higher one along that axis. On a size grid the voxel
    taken is floor(index * old / new), as in the released code that protocol `dhc-compat` follows.

    Returns:
        (1, x, y, z), the structure ids as int32.
    """
    geometry = label_volume.geometry
    reorientation = reorientation_for(geometry, plan)
    native = reorientation.forward(label_volume.array.transpose(2, 1, 0))
    if isinstance(plan.grid, SizeGrid):
        return resized_by_floor(native, plan.grid.size)[None]
    size = tuple(int(n) for n in native.shape)
    spacing = _native_spacing(geometry, reorientation)
    # The image's own way onto the grid, walked by an empty image, decides the grid's size.
    empty = MetaTensor(
        torch.zeros(1, 1, 1, 1).expand(1, *size),
        affine=torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64)),
    )
    grid = _to_grid(empty, plan)
    scale, shift = _index_map(plan, spacing, size, grid)
    nearest = [
        np.clip(np.floor((np.arange(grid.shape[axis + 1]) - shift[axis]) / scale[axis] + 0.5 + 1e-6), 0, size[axis] - 1)
        for axis in range(3)
    ]
    picked = native[np.ix_(*(index.astype(np.int64) for index in nearest))]
    return torch.from_numpy(picked.astype(np.int32))[None]


def resized_by_floor(labels: NDArray[Any], size: tuple[int, int, int]) -> torch.Tensor:
    """Labels on a grid of another size along the same axes, by PyTorch's "nearest": voxel floor(index * old / new).

    Half a voxel off what nearest to the voxel's center would be, so that only references resized alike compare with it.

    Returns:
        int32, of shape ``size``.
    """
    batch = torch.from_numpy(np.ascontiguousarray(labels, dtype=np.float32))[None, None]
    return torch.nn.functional.interpolate(batch, size=size, mode="nearest")[0, 0].int()


def reorientation_for(geometry: Geometry, plan: Plan) -> Reorientation:
    """The axes nearest to RAS for a spacing grid; the file's own axes for a size grid."""
    if not isinstance(plan.grid, SpacingGrid):
        return Reorientation((0, 1, 2), (False, False, False))
    return nearest_to_ras(geometry)


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


def _native_spacing(geometry: Geometry, reorientation: Reorientation) -> tuple[float, float, float]:
    x, y, z = (round(geometry.spacing[axis] * SPACING_STEPS) / SPACING_STEPS for axis in reorientation.axes)
    return x, y, z


def _window(plan: Plan) -> Any:
    if isinstance(plan.window, RangeWindow):
        return ScaleIntensityRange(plan.window.low, plan.window.high, 0.0, 1.0, clip=True)
    return ScaleIntensityRangePercentiles(plan.window.lower, plan.window.upper, 0.0, 1.0, clip=True, relative=False)


def _to_grid(image: MetaTensor, plan: Plan) -> MetaTensor:
    if isinstance(plan.grid, SpacingGrid):
        # Not scale_extent: for a grid whose corner lies at a negative position its offset has the wrong sign.
        to_grid: Any = Spacing(plan.grid.spacing, mode="bilinear", padding_mode="border", align_corners=False)
    else:
        to_grid = Resize(plan.grid.size, mode="trilinear", align_corners=False, dtype=torch.float64)
    resampled: MetaTensor = to_grid(image)
    return resampled


Triple = tuple[float, float, float]


def _index_map(plan: Plan, spacing: Triple, size: tuple[int, ...], image: MetaTensor) -> tuple[Triple, Triple]:
    """Scale and shift from native indices to indices of the resampled ``image``, along (x, y, z)."""
    if isinstance(plan.grid, SpacingGrid):
        # Read off the image, not the plan: spacings that differ by less than MONAI's tolerance are not resampled.
        grid_spacing = [float(image.affine[axis, axis]) for axis in range(3)]
        x, y, z = (native / grid for native, grid in zip(spacing, grid_spacing, strict=True))
        return (x, y, z), (0.0, 0.0, 0.0)
    x, y, z = (image.shape[axis + 1] / size[axis] for axis in range(3))
    return (x, y, z), (0.5 * x - 0.5, 0.5 * y - 0.5, 0.5 * z - 0.5)


def _grid_affine(
    geometry: Geometry, reorientation: Reorientation, size: tuple[int, ...], scale: Triple, shift: Triple
) -> NDArray[np.float64]:
    native_to_file = np.zeros((4, 4))
    native_to_file[3, 3] = 1.0
    for axis, (file_axis, flip) in enumerate(zip(reorientation.axes, reorientation.flips, strict=True)):
        native_to_file[file_axis, axis] = -1.0 if flip else 1.0
        native_to_file[file_axis, 3] = size[axis] - 1.0 if flip else 0.0
    native_to_grid = np.diag([*scale, 1.0])
    native_to_grid[:3, 3] = shift
    affine: NDArray[np.float64] = geometry.affine_ras @ native_to_file @ np.linalg.inv(native_to_grid)
    return affine
