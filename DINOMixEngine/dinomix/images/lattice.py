"""How two grids lie to each other: whether the voxels of one lie on those of the other, and how its array becomes the other's."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dinomix.images.volume import Geometry

SAME_PLACE = 0.05
"""Parts of a voxel. Up to that, a difference is rounding in a header, as in ``Geometry.difference``."""


@dataclass(frozen=True)
class Lattice:
    """How a grid lies on another one of the same spacing and parallel axes.

    Attributes:
        axes: for each of the grid's own (i, j, k), the axis of the other grid that it runs along.
        signs: for each of these, 1, or -1 where it runs the other way.
        size: voxels of the grid along the other grid's (i, j, k).
        start: its first voxel along the other grid's (i, j, k), in voxels of that; whole numbers where voxels coincide.
    """

    axes: tuple[int, int, int]
    signs: tuple[int, int, int]
    size: tuple[int, int, int]
    start: tuple[float, float, float]

    @property
    def coincides(self) -> bool:
        """Whether each voxel lies where the other grid's lattice has one."""
        return bool(np.abs(np.subtract(self.start, np.rint(self.start))).max() <= SAME_PLACE)

    @property
    def is_turned(self) -> bool:
        """Whether an axis is another one, or runs the other way."""
        return self.axes != (0, 1, 2) or self.signs != (1, 1, 1)


def lattice(own: Geometry, other: Geometry) -> Lattice | None:
    """How ``own`` lies on ``other``; None where spacing or direction differ, by more than ``SAME_PLACE`` of a voxel in all."""
    step = np.linalg.inv(other.affine_ras) @ own.affine_ras
    turn = np.rint(step[:3, :3])
    if not (np.abs(turn).sum(axis=0) == 1).all() or not (np.abs(turn).sum(axis=1) == 1).all():
        return None
    last = np.array(own.size) - 1
    if (np.abs(step[:3, :3] - turn) @ last).max() > SAME_PLACE:
        return None
    axes = np.abs(turn).argmax(axis=0)
    signs = turn.sum(axis=0)
    # The far end is the first voxel along an axis that runs the other way.
    start = step[:3, 3] + turn @ np.where(signs < 0, last, 0)
    return turned(own.size, axes.tolist(), signs.astype(int).tolist(), start.tolist())


def turned(
    size: tuple[int, int, int], axes: Sequence[int], signs: Sequence[int], start: Sequence[float] = (0, 0, 0)
) -> Lattice:
    """The ``Lattice`` of a grid of so many voxels along its own (i, j, k)."""
    along = [size[list(axes).index(axis)] for axis in range(3)]
    (a, b, c), (d, e, f), (x, y, z) = axes, signs, start
    return Lattice((a, b, c), (d, e, f), (along[0], along[1], along[2]), (x, y, z))


def enlarged(grid: Geometry, low: NDArray[np.float64], high: NDArray[np.float64]) -> Geometry:
    """The smallest grid on the lattice of ``grid`` that holds its voxels and all those from ``low`` to before ``high``.

    Args:
        low, high: (3,), places in voxels (i, j, k) of ``grid``; parts of a voxel count as whole ones.
    """
    first = np.minimum(0, np.floor(low))
    i, j, k = (int(voxels) for voxels in np.maximum(grid.size, np.ceil(high)) - first)
    x, y, z = (float(mm) for mm in grid.direction @ (first * grid.spacing) + grid.origin)
    return replace(grid, size=(i, j, k), origin=(x, y, z))


def union(grid: Geometry, other: Geometry) -> Geometry | None:
    """The smallest grid on the lattice of ``grid`` that holds both; None where the voxels of ``other`` do not lie on it."""
    way = lattice(other, grid)
    if way is None or not way.coincides:
        return None
    start = np.rint(way.start)
    return enlarged(grid, start, start + np.array(way.size))


def on_lattice(array: NDArray[np.generic], way: Lattice, size: tuple[int, int, int]) -> tuple[NDArray[np.generic], int]:
    """The array as it lies on the other grid, of ``size`` voxels (i, j, k): turned, then cropped or filled up with 0.

    Args:
        array: (k, j, i), of the grid itself.
        way: its place, which is rounded to whole voxels.

    Returns:
        (k, j, i) of the other grid, and how many voxels that are not 0 lie outside of it.
    """
    here = array.transpose()  # (i, j, k)
    here = here[tuple(slice(None, None, sign) for sign in way.signs)]
    here = here.transpose([way.axes.index(axis) for axis in range(3)])
    start = np.rint(way.start).astype(int)
    low, high = np.maximum(start, 0), np.minimum(start + here.shape, size)
    out = np.zeros(size[::-1], array.dtype)
    if (high > low).all():
        into = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        inside = here[tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))]
        out.transpose()[into] = inside
    return out, int(np.count_nonzero(array)) - int(np.count_nonzero(out))
