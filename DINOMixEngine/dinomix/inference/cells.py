"""Cells of the network's grid, and which structure wins at the native voxels inside them.

A cell lies between eight voxels of the network's grid, its corners. Inside it every logit is interpolated between its
values there. So a structure whose logit is below another's at all corners can win nowhere in the cell, and where one
structure is above all others, nothing has to be interpolated: most cells are such. The others are interpolated, for
the structures that can win.
"""

from dataclasses import dataclass

import numpy as np

from dinomix.arrays import Array, like, namespace
from dinomix.planning.resampling import Line

TIE = 2.0**-20
"""Logits whose difference is below this part of the largest one are looked at as equal until they are computed."""


@dataclass(frozen=True)
class CellAxis:
    """The cells along one axis that hold native voxels, in ascending order; a long one is cut into several.

    Of NumPy's arrays; ``like`` brings them to others.

    Attributes:
        low, high: (cells,) the voxels of the network's grid on both sides; the same one beyond the outermost.
        first: (cells,) the first native voxel inside.
        rows: (most, cells) native voxels inside, the last one repeated up to the largest number in a cell.
        weight: (most, cells) float64, how near each of ``rows`` is to ``high``.
        cell_of: (native voxels,) the cell that each lies in.
    """

    low: Array
    high: Array
    first: Array
    rows: Array
    weight: Array
    cell_of: Array

    @classmethod
    def of(cls, line: Line) -> "CellAxis":
        """The cells that the points of ``line``, the native voxels, lie in."""
        native = np.arange(len(line))
        begins = np.ones(len(line), bool)
        begins[1:] = line.low[1:] != line.low[:-1]
        counts = np.bincount(begins.cumsum() - 1)
        # The outermost may hold more, beyond the grid's outermost voxels.
        most = int((counts[1:-1] if len(counts) > 2 else counts).max())
        # Within a cell, each ``most``-th voxel begins a new one.
        begins |= (native - native[begins][begins.cumsum() - 1]) % most == 0
        first = native[begins]
        last = np.append(first[1:], len(line)) - 1
        rows = np.minimum(first + np.arange(most)[:, None], last)
        low = line.low[first]
        high = np.minimum(low + 1, line.size - 1)
        return cls(low, high, first, rows, line.weight[rows], begins.cumsum() - 1)

    def __len__(self) -> int:
        return len(self.low)

    def part(self, start: int, stop: int) -> "CellAxis | None":
        """The cells whose lower side is a voxel start..stop of the grid, on one that begins at ``start``; None for none."""
        first, behind = np.searchsorted(self.low, (start, stop))
        if first == behind:
            return None
        at = slice(int(first), int(behind))
        cell_of = self.cell_of[(self.cell_of >= first) & (self.cell_of < behind)] - first
        return CellAxis(
            self.low[at] - start,
            self.high[at] - start,
            self.first[at],
            self.rows[:, at],
            self.weight[:, at],
            cell_of,
        )

    def like(self, other: Array) -> "CellAxis":
        """The same as arrays of the kind of another one, where that is."""
        return CellAxis(*(like(getattr(self, name), other) for name in self.__dataclass_fields__))


def sure_winners(logits: Array) -> Array:
    """The channel with the highest logit at each voxel, -1 where another one is too near to be told apart.

    Args:
        logits: (channels, x, y, z).

    Returns:
        (x, y, z) int16.
    """
    xp = namespace(logits)
    best, second, winners = two_highest(logits)
    # Comparing this way round also finds NaN.
    sure = best - second > TIE * xp.maximum(xp.abs(best), xp.abs(second))
    winners[~sure] = -1
    return winners


def two_highest(logits: Array) -> tuple[Array, Array, Array]:
    """The highest and the second highest logit at each voxel, and the channel of the highest.

    Args:
        logits: (channels, x, y, z).

    Returns:
        (x, y, z) float32, float32 and int16; of equal logits, the channel of the first.
    """
    xp = namespace(logits)
    best = xp.empty_like(logits[0], dtype=xp.float32)
    second = xp.full_like(best, -xp.inf)
    winners = xp.zeros_like(best, dtype=xp.int16)
    for x in range(0, logits.shape[1], 4):  # a few planes, which the processor's cache holds
        planes = slice(x, x + 4)
        part = xp.astype(logits[:, planes], xp.float32, copy=False)
        highest, next_highest, winner = part[0], second[planes], winners[planes]
        for channel in range(1, len(part)):
            here = part[channel]
            winner[here > highest] = channel
            next_highest = xp.maximum(next_highest, xp.minimum(highest, here))
            highest = xp.maximum(highest, here)
        best[planes], second[planes] = highest, next_highest
    return best, second, winners


def alike(winners: Array, axes: tuple[CellAxis, CellAxis, CellAxis]) -> Array:
    """The winner of each cell (x, y, z) whose corners agree, else -1."""
    xp = namespace(winners)
    for dimension, axis in enumerate(axes):
        low, high = (xp.take(winners, side, axis=dimension) for side in (axis.low, axis.high))
        low[low != high] = -1
        winners = low
    return winners


def corners_of(logits: Array, cells: Array, axes: tuple[CellAxis, CellAxis, CellAxis]) -> Array:
    """The logits at the corners of ``cells`` (n, 3), as (channels, 2, 2, 2, n)."""
    xp = namespace(logits)
    x, y, z = (xp.stack([axis.low[cells[:, d]], axis.high[cells[:, d]]]) for d, axis in enumerate(axes))
    channels, nx, ny, nz = logits.shape
    flat = xp.reshape((x[:, None, None] * ny + y[None, :, None]) * nz + z[None, None], (-1,))
    corners = xp.take(xp.reshape(logits, (channels, nx * ny * nz)), flat, axis=1)
    return xp.reshape(corners, (channels, 2, 2, 2, len(cells)))


def contenders(corners: Array) -> Array:
    """(channels, n), whether a channel can win anywhere in each of n cells (channels, 2, 2, 2, n)."""
    xp = namespace(corners)
    flat = xp.astype(xp.reshape(corners, (len(corners), 8, corners.shape[-1])), xp.float32, copy=False)
    highest, lowest = xp.max(flat, axis=1), xp.min(flat, axis=1)
    # What the best of the channels reaches everywhere in the cell.
    floor = xp.max(lowest, axis=0)
    can = highest >= floor - TIE * xp.maximum(xp.abs(floor), xp.abs(highest))
    # Where a logit is no finite number, interpolating may give none, so that any other channel wins.
    can |= ~xp.all(xp.isfinite(highest) & xp.isfinite(lowest), axis=0)
    return can


def winners_inside(corners: Array, some: Array, weights: tuple[Array, Array, Array], channels: list[int]) -> Array:
    """Interpolate some channels at the native voxels inside n cells, and take the highest.

    Computed in float64, along x, y and z in turn, and rounded to float32, as ``resampling.interpolate_slab`` does it.

    Args:
        corners: (channels, 2, 2, 2, cells).
        some: (n,), which of the cells.
        weights: (voxels, n) float64 along x, y and z.
        channels: ascending; equal logits go to the first of them.

    Returns:
        (x, y, z, n) int16, channel numbers.
    """
    xp = namespace(corners)
    wx, wy, wz = weights[0][:, None, None], weights[1][None, :, None], weights[2][None, None]
    vx, vy, vz = 1 - wx, 1 - wy, 1 - wz
    best = winner = None
    for channel in channels:
        # ``take`` puts the cells side by side in memory, which an index in brackets does not.
        here = xp.astype(xp.take(corners[channel], some, axis=3), xp.float64)
        here = here[0] * vx + here[1] * wx
        here = here[:, None, 0] * vy + here[:, None, 1] * wy
        here = xp.astype(here[:, :, None, 0] * vz + here[:, :, None, 1] * wz, xp.float32)
        if best is None or winner is None:
            best, winner = xp.full_like(here, -xp.inf), xp.zeros_like(here, dtype=xp.int16)
        # Without choosing voxel by voxel, which processors are slow at where it cannot be foreseen.
        winner = winner + xp.astype(here > best, xp.int16) * (channel - winner)
        best = xp.fmax(best, here)  # not of the standard, but of both kinds; ``maximum`` would hand on NaN
    assert winner is not None
    return winner
