"""Where a U-Net halves which axis, and how far its kernels reach along each: fine axes first, as nnU-Net plans them.

While slices are at least twice as thick as the finest voxels, a level halves only the fine axes, and kernels do not mix
slices; thick slices are so mixed only once the network's voxels have become about as long as the slices are thick
[F. Isensee et al., nnU-Net, Nature Methods 18, 2021; the factor 2 is that of its released planner].
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Triple = tuple[int, int, int]

LEAST_SIDE = 4
"""Voxels of a side at the deepest level; what is shorter would be padding for the most part."""
MOST_LEVELS = 6
COARSER = 2.0
"""From this ratio to the finest spacing on, a level leaves an axis alone."""


@dataclass(frozen=True)
class Topology:
    """Strides and kernels along (x, y, z), level by level; the first level has stride 1."""

    strides: tuple[Triple, ...]
    kernels: tuple[Triple, ...]

    @property
    def multiple(self) -> Triple:
        """What the sides of a patch must be multiples of."""
        x, y, z = np.prod(self.strides, axis=0).tolist()
        return x, y, z


def topology(size: Sequence[float], spacing: Sequence[float]) -> Topology:
    """The levels of a network for patches of about ``size`` voxels along (x, y, z) of ``spacing`` mm.

    Sides need not be divisible yet: round them up to ``multiple``.
    """
    sides, length = np.array(size, dtype=float), np.array(spacing, dtype=float)
    kernel = np.where(length / length.min() < COARSER, 3, 1)
    strides, kernels = [(1, 1, 1)], [_triple(kernel)]
    while len(strides) < MOST_LEVELS:
        long_enough = sides >= 2 * LEAST_SIDE
        if not long_enough.any():
            break
        halved = long_enough & (length / length[long_enough].min() < COARSER)
        stride = np.where(halved, 2, 1)
        sides, length = np.ceil(sides / stride), length * stride
        # Once an axis has been mixed, it stays so.
        kernel = np.where((kernel == 3) | (length / length.min() < COARSER), 3, 1)
        strides.append(_triple(stride))
        kernels.append(_triple(kernel))
    return Topology(tuple(strides), tuple(kernels))


def _triple(values: np.ndarray) -> Triple:
    x, y, z = (int(value) for value in values)
    return x, y, z
