"""Cells of the network's grid, and which structure wins at the native voxels inside them.

A cell lies between eight voxels of the network's grid, its corners. Inside it every logit is interpolated between its
values there. So a structure whose logit is below another's at all corners can win nowhere in the cell, and where one
structure is above all others, nothing has to be interpolated: most cells are such. The others are interpolated, for
the structures that can win.
"""

from dataclasses import dataclass

import numpy as np
import torch

from dinomix.planning.resampling import Line

TIE = 2.0**-20
"""Logits whose difference is below this part of the largest one are looked at as equal until they are computed."""


@dataclass(frozen=True)
class CellAxis:
    """The cells along one axis that hold native voxels, in ascending order; a long one is cut into several.

    Attributes:
        low, high: (cells,) the voxels of the network's grid on both sides; the same one beyond the outermost.
        first: (cells,) the first native voxel inside.
        rows: (most, cells) native voxels inside, the last one repeated up to the largest number in a cell.
        weight: (most, cells) float64, how near each of ``rows`` is to ``high``.
        cell_of: (native voxels,) the cell that each lies in.
    """

    low: torch.Tensor
    high: torch.Tensor
    first: torch.Tensor
    rows: torch.Tensor
    weight: torch.Tensor
    cell_of: torch.Tensor

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
        return cls(*map(torch.from_numpy, (low, high, first, rows, line.weight[rows], begins.cumsum() - 1)))

    def __len__(self) -> int:
        return len(self.low)

    def where(self, inside: torch.Tensor, start: int) -> "CellAxis":
        """The cells for which ``inside`` holds, which lie side by side, on a grid that begins at its voxel ``start``."""
        at = inside.nonzero().flatten()
        cell_of = self.cell_of[(self.cell_of >= at[0]) & (self.cell_of <= at[-1])] - at[0]
        return CellAxis(
            self.low[at] - start,
            self.high[at] - start,
            self.first[at],
            self.rows[:, at],
            self.weight[:, at],
            cell_of,
        )

    def to(self, device: torch.device) -> "CellAxis":
        return CellAxis(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


def sure_winners(logits: torch.Tensor) -> torch.Tensor:
    """The channel with the highest logit at each voxel, -1 where another one is too near to be told apart.

    Args:
        logits: (channels, x, y, z).

    Returns:
        (x, y, z) int16.
    """
    best, second, winners = two_highest(logits)
    # Comparing this way round also finds NaN.
    sure = best - second > TIE * torch.maximum(best.abs(), second.abs())
    return winners.masked_fill_(~sure, -1)


def two_highest(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The highest and the second highest logit at each voxel, and the channel of the highest.

    Args:
        logits: (channels, x, y, z).

    Returns:
        (x, y, z) float32, float32 and int16; of equal logits, the channel of the first.
    """
    best = torch.empty(logits.shape[1:], device=logits.device)
    second = torch.full_like(best, -torch.inf)
    winners = torch.zeros(logits.shape[1:], dtype=torch.int16, device=logits.device)
    for x in range(0, logits.shape[1], 4):  # a few planes, which the processor's cache holds
        planes = slice(x, x + 4)
        part = logits[:, planes].float()
        highest, next_highest = part[0].clone(), second[planes]
        for channel, here in enumerate(part[1:], start=1):
            winners[planes].masked_fill_(here > highest, channel)
            torch.maximum(next_highest, torch.minimum(highest, here), out=next_highest)
            highest = torch.maximum(highest, here)
        best[planes] = highest
    return best, second, winners


def alike(winners: torch.Tensor, axes: tuple[CellAxis, CellAxis, CellAxis]) -> torch.Tensor:
    """The winner of each cell (x, y, z) whose corners agree, else -1."""
    for dimension, axis in enumerate(axes):
        low, high = winners.index_select(dimension, axis.low), winners.index_select(dimension, axis.high)
        winners = low.masked_fill_(low != high, -1)
    return winners


def corners_of(logits: torch.Tensor, cells: torch.Tensor, axes: tuple[CellAxis, CellAxis, CellAxis]) -> torch.Tensor:
    """The logits at the corners of ``cells`` (n, 3), as (channels, 2, 2, 2, n)."""
    x, y, z = (torch.stack([axis.low, axis.high])[:, cells[:, d]] for d, axis in enumerate(axes))
    _, ny, nz = logits.shape[1:]
    flat = ((x[:, None, None] * ny + y[None, :, None]) * nz + z[None, None]).reshape(-1)
    return logits.flatten(1).index_select(1, flat).reshape(-1, 2, 2, 2, len(cells))


def contenders(corners: torch.Tensor) -> torch.Tensor:
    """(channels, n), whether a channel can win anywhere in each of n cells (channels, 2, 2, 2, n)."""
    flat = corners.float().flatten(1, 3)
    highest, lowest = flat.amax(1), flat.amin(1)
    # What the best of the channels reaches everywhere in the cell.
    floor = lowest.amax(0)
    can = highest >= floor - TIE * torch.maximum(floor.abs(), highest.abs())
    can |= ~torch.isfinite(highest) | ~torch.isfinite(floor)
    return can


def winners_inside(
    corners: torch.Tensor, weights: tuple[torch.Tensor, torch.Tensor, torch.Tensor], channels: list[int]
) -> torch.Tensor:
    """Interpolate some channels at the native voxels inside n cells, and take the highest.

    Computed in float64, along x, y and z in turn, and rounded to float32, as ``resampling.interpolate_slab`` does it.

    Args:
        corners: (channels, 2, 2, 2, n).
        weights: (voxels, n) float64 along x, y and z.
        channels: ascending; equal logits go to the first of them.

    Returns:
        (x, y, z, n) int16, channel numbers.
    """
    wx, wy, wz = weights[0][:, None, None], weights[1][None, :, None], weights[2][None, None]
    best = winner = None
    for channel in channels:
        here = corners[channel].double()
        here = here[0] * (1 - wx) + here[1] * wx
        here = here[:, None, 0] * (1 - wy) + here[:, None, 1] * wy
        here = (here[:, :, None, 0] * (1 - wz) + here[:, :, None, 1] * wz).float()
        if best is None or winner is None:
            best, winner = torch.full_like(here, -torch.inf), torch.zeros_like(here, dtype=torch.int16)
        better = here > best
        best = torch.where(better, here, best)
        winner.masked_fill_(better, channel)
    assert winner is not None
    return winner
