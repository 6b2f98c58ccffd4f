"""Linear interpolation along the axes of a grid, a slab at a time."""

import copy
from collections.abc import Iterator
from functools import cached_property

import torch

SLAB_BYTES = 2**28
BYTES_PER_VOXEL = 40
"""Per voxel of a slab: two float64 values and their sum, their float32, and what the caller compares them with."""


class Line:
    """Where all points of a new grid lie between the voxels of the old one, along one axis.

    Args:
        positions: (n,) float64, indices of the old grid; beyond its outermost voxels, these go on.
        size: voxels of the old grid.
    """

    def __init__(self, positions: torch.Tensor, size: int) -> None:
        self.size = size
        positions = positions.clamp(0, size - 1)
        self.low = positions.floor().long()
        self.weight = positions - self.low
        self.high = self.low + (self.weight > 0)
        self.identity = bool(torch.equal(positions, torch.arange(size, dtype=torch.float64)))

    def __len__(self) -> int:
        return len(self.low)

    @cached_property
    def neighbors(self) -> torch.Tensor:
        """The voxels of the old grid that the points lie between, ascending."""
        return torch.unique(torch.cat([self.low, self.high]))

    def among_its_neighbors(self) -> "Line":
        """The same line on a grid that has only its ``neighbors``."""
        if self.identity or len(self.neighbors) == self.size:
            return self
        line = copy.copy(self)
        line.low, line.high = (torch.searchsorted(self.neighbors, index) for index in (self.low, self.high))
        line.size = len(self.neighbors)
        return line

    def interpolate(self, values: torch.Tensor, axis: int, start: int, stop: int) -> torch.Tensor:
        """Points start..stop along ``axis`` of ``values`` (x, y, z); float64 unless nothing has to be computed."""
        if self.identity:
            return values.narrow(axis, start, stop - start)
        shape = [1, 1, 1]
        shape[axis] = stop - start
        weight = self.weight[start:stop].reshape(shape)
        low = values.index_select(axis, self.low[start:stop]).double()
        high = values.index_select(axis, self.high[start:stop]).double()
        return low.mul_(1 - weight).add_(high.mul_(weight))


def slabs(lines: list[Line], slab_bytes: int = SLAB_BYTES) -> Iterator[slice]:
    """Parts of the new grid's first axis, each small enough to take no more than ``slab_bytes``."""
    thickness = max(1, slab_bytes // (BYTES_PER_VOXEL * len(lines[1]) * len(lines[2])))
    for start in range(0, len(lines[0]), thickness):
        yield slice(start, min(start + thickness, len(lines[0])))


def interpolate_slab(values: torch.Tensor, lines: list[Line], slab: slice) -> torch.Tensor:
    """The new grid's voxels in ``slab``, float32, from ``values`` (x, y, z).

    Computed in float64 and rounded once; the same for every voxel whatever slab it lies in.
    """
    result = lines[0].interpolate(values, 0, slab.start, slab.stop)
    result = lines[1].interpolate(result, 1, 0, len(lines[1]))
    return lines[2].interpolate(result, 2, 0, len(lines[2])).float()


def resample(values: torch.Tensor, lines: list[Line], slab_bytes: int = SLAB_BYTES) -> torch.Tensor:
    """``values`` (x, y, z) on the new grid, float32."""
    if all(line.identity for line in lines):
        return values
    result = torch.empty([len(line) for line in lines])
    for slab in slabs(lines, slab_bytes):
        result[slab] = interpolate_slab(values, lines, slab)
    return result
