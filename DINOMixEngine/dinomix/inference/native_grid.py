"""From logits on the network's grid to labels on the image's own grid, as soon as a slab of logits is there."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dinomix.inference.cells import (
    CellAxis,
    alike,
    contenders,
    corners_of,
    sure_winners,
    winners_inside,
)
from dinomix.planning.preprocessing import Preprocessed
from dinomix.planning.resampling import SLAB_BYTES, Line

CPU = torch.device("cpu")
CACHED_BYTES = 2**20
"""What the processor's cache holds of one channel of a few cells."""
BYTES_PER_CORNER = 16
"""Per corner and channel of the cells that are looked at together: its logit, and what is compared with it."""


class NativeLabels:
    """Labels that grow along x: every voxel of the native grid gets the structure with the highest interpolated logit.

    The logits are interpolated linearly in float64 from the eight neighbors and rounded to float32. Neither the slabs in
    which they come nor ``slab_bytes`` change the result. Equal logits go to the lower channel.

    Args:
        preprocessed: where the native grid lies.
        grid: voxels of the network's grid along (x, y, z).
        ids: structure id of channels 1, 2, ...; channel 0 is the background.
        slab_bytes: how much memory interpolating may take.
        on_part: called again and again while labels are found; what it raises ends that.

    Attributes:
        array: (k, j, i), the file's own axes; uint8, or uint16 when an id needs it.
    """

    def __init__(
        self, preprocessed: Preprocessed, grid: tuple[int, ...], ids: tuple[int, ...], slab_bytes: int = SLAB_BYTES,
        on_part: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        reorientation = preprocessed.reorientation
        x, y, z = (_native_line(preprocessed, axis, size) for axis, size in enumerate(grid))
        self._axes = CellAxis.of(x), CellAxis.of(y), CellAxis.of(z)
        self._values = np.array([0, *ids], np.uint8 if max(ids) < 256 else np.uint16)
        file_size = [preprocessed.native_size[reorientation.axes.index(axis)] for axis in (2, 1, 0)]
        self.array: NDArray[Any] = np.empty(file_size, self._values.dtype)
        self._in_xyz = reorientation.forward(self.array.transpose(2, 1, 0))
        self._slab_bytes, self._on_part = slab_bytes, on_part
        self._planes, self._last_plane = 0, torch.empty(0)

    def add(self, logits: torch.Tensor) -> None:
        """Take the next planes (channels, x, y, z) along x, on any device, and label what lies between them."""
        if logits.device.type == "mps":  # which has no float64
            logits = logits.to(CPU)
        x, y, z = (axis.to(logits.device) for axis in self._axes)
        axes = x, y, z
        if self._planes:
            between = torch.cat([self._last_plane, logits[:, :1]], 1)
            self._label(between, axes, self._planes - 1, self._planes)
        last = self._planes + logits.shape[1]
        is_end = last > int(self._axes[0].high.max())
        self._label(logits, axes, self._planes, last if is_end else last - 1)
        self._planes, self._last_plane = last, logits[:, -1:].clone()

    def _label(self, logits: torch.Tensor, axes: tuple[CellAxis, CellAxis, CellAxis], start: int, stop: int) -> None:
        """Label the cells whose lower side along x is one of the planes start..stop; ``logits`` begins at ``start``."""
        inside = (axes[0].low >= start) & (axes[0].low < stop)
        if not inside.any():
            return
        x = axes[0].where(inside, start)
        own = x, axes[1], axes[2]
        cells = alike(sure_winners(logits), own)
        self._fill(cells.cpu().numpy(), [axis.to(CPU) for axis in own])
        open_cells = (cells < 0).nonzero()
        together = max(1024, self._slab_bytes // 2 // (8 * len(logits) * BYTES_PER_CORNER))
        for part in open_cells.split(together) if len(open_cells) else ():
            self._on_part()
            self._interpolate(logits, part, own)

    def _fill(self, cells: NDArray[np.int16], axes: list[CellAxis]) -> None:
        """Give all native voxels of a cell its winner's label; in the order in which the file's voxels lie in memory."""
        rows = slice(int(axes[0].first[0]), int(axes[0].rows.max()) + 1)
        target = self._in_xyz[rows]
        labels = self._values[np.maximum(cells, 0)]
        numbers = [axis.cell_of.numpy() for axis in axes]
        # The axis along which neighbors lie in memory first, then whole rows, then whole planes.
        fast, middle, slow = sorted(range(3), key=lambda axis: abs(target.strides[axis]))
        order = slow, middle, fast
        labels = np.ascontiguousarray(labels.transpose(order))
        labels = np.take(np.take(labels, numbers[fast], 2), numbers[middle], 1)
        for plane, number in zip(target.transpose(order), numbers[slow], strict=True):
            plane[...] = labels[number]

    def _interpolate(
        self, logits: torch.Tensor, cells: torch.Tensor, axes: tuple[CellAxis, CellAxis, CellAxis]
    ) -> None:
        corners = corners_of(logits, cells, axes)
        can_win = contenders(corners)
        # Cells with the same contenders together, so that no other channel is computed for them.
        order = torch.argsort(_codes(can_win))
        voxels = int(np.prod([len(axis.rows) for axis in axes]))
        budget = CACHED_BYTES if logits.device == CPU else self._slab_bytes // 8
        for some in order.split(max(budget // (8 * voxels), 64)):
            x, y, z = (cells[some, dimension] for dimension in range(3))
            channels = can_win[:, some].any(1).nonzero().flatten().tolist()
            weights = axes[0].weight[:, x], axes[1].weight[:, y], axes[2].weight[:, z]
            winners = winners_inside(corners[..., some], weights, channels)
            rows = [axis.rows[:, at].cpu().numpy() for axis, at in zip(axes, (x, y, z), strict=True)]
            self._in_xyz[rows[0][:, None, None], rows[1][None, :, None], rows[2][None, None]] = self._values[
                winners.cpu().numpy()
            ]


def labels_on_native_grid(
    logits: torch.Tensor, preprocessed: Preprocessed, ids: tuple[int, ...], *, slab_bytes: int = SLAB_BYTES
) -> NDArray[Any]:
    """The labels of a whole volume of logits (channels, x, y, z), as (i, j, k); see ``NativeLabels``."""
    labels = NativeLabels(preprocessed, tuple(logits.shape[1:]), ids, slab_bytes)
    labels.add(logits)
    return labels.array.transpose(2, 1, 0)


def _codes(can_win: torch.Tensor) -> torch.Tensor:
    """A number (float64) for each of n cells by which those with alike contenders (channels, n) come side by side."""
    exponents = torch.arange(len(can_win), dtype=torch.float64, device=can_win.device) * min(1.0, 900 / len(can_win))
    return 2.0**exponents @ can_win.double()


def _native_line(preprocessed: Preprocessed, axis: int, grid_size: int) -> Line:
    native = np.arange(preprocessed.native_size[axis], dtype=np.float64)
    return Line(native * preprocessed.scale[axis] + preprocessed.shift[axis], grid_size)
