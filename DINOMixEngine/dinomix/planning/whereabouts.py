"""Where in their volumes the labeled cases have their structures, and how near to that something in another volume lies.

Scans of one organ are centered on it. A network that has seen few cases finds the organ's like at the edge of the field of view,
too, and larger than the organ itself: where it lies tells the two apart.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dinomix.images.volume import Geometry
from dinomix.planning.plan import Plan, SpacingGrid, Whereabouts
from dinomix.planning.preprocessing import reorientation_for

LEAST_DEVIATION = 0.05
"""Of the volume, that positions are taken to vary by along each axis; few cases may agree by chance."""
WIDER = 1.5
"""How much further than in the labeled cases structures are expected in others, as deviations."""
OTHER_EXTENT = 1.4
"""How many times larger than the largest labeled volume, or smaller than the smallest, another may be along an axis: beyond, it
shows other parts of the body, and positions tell nothing."""
FAR = float(np.exp(-2))
"""The nearness below which nothing is expected: at twice ``WIDER`` deviations."""

Vector = NDArray[np.float64]


def measured_whereabouts(labels: Iterable[NDArray[Any]], spacing: Sequence[float]) -> Whereabouts | None:
    """Where structures lie in labels (x, y, z) of the labeled cases on one grid of ``spacing`` mm; None where none show any.

    Positions are shares of the volume; that of a case counts as much as another's, however large its structures are.
    """
    means, variances, extents = [], [], []
    for label in labels:
        voxels = np.argwhere(label > 0)
        if len(voxels):
            shares = (voxels + 0.5) / label.shape
            means.append(shares.mean(0))
            variances.append(shares.var(0))
            extents.append(np.array(label.shape) * spacing)
    if not means:
        return None
    deviation = np.sqrt(np.mean(variances, axis=0) + np.var(means, axis=0))
    return Whereabouts(
        center=_triple(np.mean(means, axis=0)),
        deviation=_triple(np.maximum(deviation, LEAST_DEVIATION)),
        smallest=_triple(np.min(extents, axis=0)),
        largest=_triple(np.max(extents, axis=0)),
    )


@dataclass(frozen=True)
class Nearness:
    """How near the voxels of an array lie to where structures are expected: 1 there, less with each deviation [a Gaussian].

    Attributes:
        center, deviation: (3,), shares of the volume along (x, y, z).
        matrix, offset: (3, 3) and (3,); the voxel with the index v of the array lies at ``matrix @ v + offset``, a share too.
    """

    center: Vector
    deviation: Vector
    matrix: Vector
    offset: Vector

    @classmethod
    def of(cls, expected: Whereabouts | None, extent: Vector, matrix: Vector, offset: Vector) -> "Nearness | None":
        """None where nothing is expected anywhere, or the volume is not like the labeled ones.

        Args:
            extent: (3,), mm of the volume along (x, y, z).
            matrix, offset: as the attributes are.
        """
        if expected is None:
            return None
        if (extent > np.array(expected.largest) * OTHER_EXTENT).any() or (
            extent * OTHER_EXTENT < expected.smallest
        ).any():
            return None
        return cls(np.array(expected.center), WIDER * np.array(expected.deviation), matrix, offset)

    @classmethod
    def of_volume(cls, expected: Whereabouts | None, size: Vector, extent: Vector,
                  axes: Sequence[int] = (0, 1, 2), flips: Sequence[bool] = (False,) * 3) -> "Nearness | None":  # fmt: skip
        """That of an array of a whole volume.

        Args:
            size, extent: (3,), voxels and mm of the volume along (x, y, z).
            axes: the array's axis that becomes x, y and z.
            flips: whether x, y and z then run against the array's axis.
        """
        matrix, offset = np.zeros((3, 3)), np.empty(3)
        for number, (axis, flip, count) in enumerate(zip(axes, flips, size, strict=True)):
            matrix[number, axis] = (-1 if flip else 1) / count
            offset[number] = 1 - 0.5 / count if flip else 0.5 / count
        return cls.of(expected, extent, matrix, offset)

    def every(self, step: int) -> "Nearness":
        """That of every so manieth voxel of the array along each axis."""
        return Nearness(self.center, self.deviation, self.matrix * step, self.offset)

    def at(self, index: Sequence[NDArray[np.int64]]) -> Vector:
        """(n,), that of voxels of the array, whose indices (n,) along its axes are given."""
        away = (self.matrix @ np.stack(index) + self.offset[:, None] - self.center[:, None]) / self.deviation[:, None]
        return np.exp(-0.5 * (away**2).sum(0))


def on_grid(expected: Whereabouts | None, size: Sequence[int], plan: Plan) -> Nearness | None:
    """That of an array (x, y, z) of a whole volume on the plan's grid."""
    if not isinstance(plan.grid, SpacingGrid):
        return None
    voxels = np.array(size, np.float64)
    return Nearness.of_volume(expected, voxels, voxels * plan.grid.spacing)


def of_image(expected: Whereabouts | None, geometry: Geometry, plan: Plan, order: Sequence[int]) -> Nearness | None:
    """That of an array on an image's own grid.

    Args:
        order: the array's axis that is the file's i, j and k.
    """
    way, spacing = reorientation_for(geometry, plan), np.array(geometry.spacing)
    axes = list(way.axes)
    size = np.array(geometry.size, np.float64)[axes]
    return Nearness.of_volume(expected, size, size * spacing[axes], [order[axis] for axis in axes], way.flips)


def _triple(values: Vector) -> tuple[float, float, float]:
    x, y, z = (round(float(value), 6) for value in values)
    return x, y, z
