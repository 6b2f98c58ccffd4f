"""Linear interpolation along the axes of a grid, a slab at a time, on all cores."""

import copy
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dinomix.threads import threads

SLAB_BYTES = 2**28
BYTES_PER_VOXEL = 40
"""Per voxel of a slab: two float64 values and their sum, their float32, and what the caller compares them with."""
CACHED_BYTES = 2**22
"""A slab no larger than that stays in the processor's cache while it is computed: half the time of one that does not."""


class Line:
    """Where all points of a new grid lie between the voxels of the old one, along one axis.

    Args:
        positions: (n,) float64, indices of the old grid; beyond its outermost voxels, these go on.
        size: voxels of the old grid.
    """

    def __init__(self, positions: NDArray[np.float64], size: int) -> None:
        self.size = size
        positions = positions.clip(0, size - 1)
        self.low = np.floor(positions).astype(np.int64)
        self.weight = positions - self.low
        self.high = self.low + (self.weight > 0)
        self.identity = np.array_equal(positions, np.arange(size))

    def __len__(self) -> int:
        return len(self.low)

    @cached_property
    def neighbors(self) -> NDArray[np.int64]:
        """The voxels of the old grid that the points lie between, ascending."""
        return np.unique(np.concatenate([self.low, self.high]))

    def among_its_neighbors(self) -> "Line":
        """The same line on a grid that has only its ``neighbors``."""
        if self.identity or len(self.neighbors) == self.size:
            return self
        line = copy.copy(self)
        line.low, line.high = (np.searchsorted(self.neighbors, index) for index in (self.low, self.high))
        line.size = len(self.neighbors)
        return line

    def interpolate(self, values: NDArray[np.floating], axis: int, start: int, stop: int) -> NDArray[np.floating]:
        """Points start..stop along ``axis`` of ``values`` (x, y, z); float64 unless nothing has to be computed."""
        if self.identity:
            return values[(*[slice(None)] * axis, slice(start, stop))]
        shape = [1, 1, 1]
        shape[axis] = stop - start
        weight = self.weight[start:stop].reshape(shape)
        low = values.take(self.low[start:stop], axis).astype(np.float64, copy=False)
        high = values.take(self.high[start:stop], axis).astype(np.float64, copy=False)
        low *= 1 - weight
        high *= weight
        low += high
        return low


def slabs(lines: list[Line], slab_bytes: int) -> Iterator[slice]:
    """Parts of the new grid's first axis, each small enough to take no more than ``slab_bytes``."""
    thickness = max(1, slab_bytes // _bytes_of_a_plane(lines))
    for start in range(0, len(lines[0]), thickness):
        yield slice(start, min(start + thickness, len(lines[0])))


def interpolate_slab(values: NDArray[np.floating], lines: list[Line], slab: slice) -> NDArray[np.float32]:
    """The new grid's voxels in ``slab``, float32, from ``values`` (x, y, z).

    Computed in float64 and rounded once; the same for every voxel whatever slab it lies in.
    """
    result = lines[0].interpolate(values, 0, slab.start, slab.stop)
    result = lines[1].interpolate(result, 1, 0, len(lines[1]))
    return lines[2].interpolate(result, 2, 0, len(lines[2])).astype(np.float32, copy=False)


def resample(values: NDArray[np.floating], lines: list[Line], slab_bytes: int = SLAB_BYTES) -> NDArray[Any]:
    """``values`` (x, y, z) on the new grid, float32; with no more than ``slab_bytes`` beside it, or a plane's."""
    if all(line.identity for line in lines):
        return values
    result = np.empty([len(line) for line in lines], np.float32)
    at_once = min(threads(), max(1, slab_bytes // max(CACHED_BYTES, _bytes_of_a_plane(lines))))

    def fill(slab: slice) -> None:
        result[slab] = interpolate_slab(values, lines, slab)

    with ThreadPoolExecutor(at_once) as pool:
        for _ in pool.map(fill, slabs(lines, min(CACHED_BYTES, slab_bytes))):
            pass
    return result


def _bytes_of_a_plane(lines: list[Line]) -> int:
    return BYTES_PER_VOXEL * math.prod(len(line) for line in lines[1:])
