"""A volume: an array and the regular grid that it lies on."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.images.overlaps import Overlaps

THICK = 3.0
"""From this ratio to the other spacings on, slices are thick: neighbors show other anatomy."""


@dataclass(frozen=True)
class Geometry:
    """A regular grid in patient space, in ITK's conventions.

    Attributes:
        size: voxels along the index axes (i, j, k).
        spacing: mm along (i, j, k).
        origin: position of the center of voxel (0, 0, 0), mm, LPS.
        direction: 3x3; its columns are the unit vectors of i, j, k in LPS. Orthonormal, of either handedness.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: NDArray[np.float64] = field(compare=False)

    @property
    def affine_ras(self) -> NDArray[np.float64]:
        """4x4, index (i, j, k, 1) -> RAS mm, as nibabel and MONAI define it."""
        affine = np.eye(4)
        affine[:3, :3] = self.direction * np.asarray(self.spacing)
        affine[:3, 3] = self.origin
        return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine

    def difference(self, other: "Geometry") -> str:
        """What differs between two grids, in words; empty when they are the same to within 5% of a voxel."""
        if self.size != other.size:
            return f"size {self.size} against {other.size} voxels"
        if not np.allclose(self.spacing, other.spacing, rtol=1e-3):
            return f"spacing {_rounded(self.spacing)} against {_rounded(other.spacing)} mm"
        smallest = min(self.spacing)
        corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * (np.array(self.size) - 1)
        here = corners * self.spacing @ self.direction.T + self.origin
        there = corners * other.spacing @ other.direction.T + other.origin
        shift = float(np.abs(here - there).max())
        # A twentieth of a voxel is rounding in a header; up to that, two grids are one grid.
        if shift > 0.05 * smallest:
            return f"position or direction, by up to {shift:.3g} mm"
        return ""


@dataclass(frozen=True)
class Volume:
    """An image or a label volume.

    Attributes:
        array: axis order (k, j, i), as SimpleITK and Slicer give it; float32 for images (HU for CT, else as stored),
            unsigned integers for labels.
        geometry: the grid of ``array``; ``geometry.size == array.shape[::-1]``.
        notices: full sentences about what was done while reading (a scale applied, a series resampled).
        overlaps: of labels, structures that were drawn over each other, as an order settled it: below, above, voxels.
    """

    array: NDArray[np.generic]
    geometry: Geometry
    notices: tuple[str, ...] = ()
    overlaps: Overlaps = ()

    def __post_init__(self) -> None:
        if self.array.shape[::-1] != self.geometry.size:
            raise DinomixError(
                f"An array of {self.array.shape[::-1]} voxels does not fit a grid of {self.geometry.size}."
            )


def cropped(volume: Volume, box: tuple[slice, slice, slice]) -> Volume:
    """The part of a volume within index ranges (k, j, i), which lies where it lay; a view."""
    whole, array = volume.geometry, volume.array[box]
    start = np.array([part.indices(size)[0] for part, size in zip(box, volume.array.shape, strict=True)])[::-1]
    x, y, z = (float(mm) for mm in whole.direction @ (start * whole.spacing) + whole.origin)
    size = array.shape[2], array.shape[1], array.shape[0]
    return Volume(array, Geometry(size, whole.spacing, (x, y, z), whole.direction))


def thick_axis(spacing: Sequence[float]) -> int | None:
    """The axis (0, 1, 2) across which slices are thick; None where none is."""
    axis = int(np.argmax(spacing))
    return axis if spacing[axis] >= THICK * max(np.delete(spacing, axis)) else None


def _rounded(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(v, 4) for v in values)
