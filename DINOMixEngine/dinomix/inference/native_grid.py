"""From logits on the network's grid to labels on the image's own grid, as soon as a slab of logits is there."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dinomix.arrays import Array, as_numpy, like, namespace, place_of
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

CACHED_BYTES = 2**20
"""What the processor's cache holds of one channel of a few cells."""
FEW = 16
"""Which part of the cells that are interpolated at once is too few to be worth a group of their own."""
Axes = tuple[CellAxis, CellAxis, CellAxis]
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
        self._planes, self._last_plane = 0, None

    def add(self, logits: Array) -> None:
        """Take the next planes (channels, x, y, z) along x, on any device, and label what lies between them."""
        xp = namespace(logits)
        if str(place_of(logits)).startswith("mps"):  # which has no float64
            logits = logits.cpu()
        if self._last_plane is not None:
            between = xp.concat([self._last_plane, logits[:, :1]], axis=1)
            self._label(between, self._planes - 1, self._planes)
        last = self._planes + logits.shape[1]
        is_end = last > int(self._axes[0].high.max())
        self._label(logits, self._planes, last if is_end else last - 1)
        self._planes, self._last_plane = last, xp.asarray(logits[:, -1:], copy=True)

    def _label(self, logits: Array, start: int, stop: int) -> None:
        """Label the cells whose lower side along x is one of the planes start..stop; ``logits`` begins at ``start``."""
        x = self._axes[0].part(start, stop)
        if x is None:
            return
        axes = x, self._axes[1], self._axes[2]
        there = axes[0].like(logits), axes[1].like(logits), axes[2].like(logits)
        cells = alike(sure_winners(logits), there)
        self._fill(as_numpy(cells), axes)
        xp = namespace(cells)
        open_cells = xp.stack(xp.nonzero(cells < 0), axis=1)
        together = max(1024, self._slab_bytes // 2 // (8 * len(logits) * BYTES_PER_CORNER))
        for first in range(0, len(open_cells), together):
            self._on_part()
            self._interpolate(logits, open_cells[first : first + together], axes, there)

    def _fill(self, cells: NDArray[np.int16], axes: Axes) -> None:
        """Give all native voxels of a cell its winner's label; in the order in which the file's voxels lie in memory."""
        rows = slice(int(axes[0].first[0]), int(axes[0].rows.max()) + 1)
        target = self._in_xyz[rows]
        labels = self._values[np.maximum(cells, 0)]
        numbers = [axis.cell_of for axis in axes]
        # The axis along which neighbors lie in memory first, then whole rows, then whole planes.
        fast, middle, slow = sorted(range(3), key=lambda axis: abs(target.strides[axis]))
        order = slow, middle, fast
        labels = np.ascontiguousarray(labels.transpose(order))
        labels = np.take(np.take(labels, numbers[fast], 2), numbers[middle], 1)
        for plane, number in zip(target.transpose(order), numbers[slow], strict=True):
            plane[...] = labels[number]

    def _interpolate(self, logits: Array, cells: Array, axes: Axes, there: Axes) -> None:
        """Label the native voxels inside ``cells`` (n, 3); ``there`` are the axes where the logits are."""
        xp = namespace(logits)
        corners = corners_of(logits, cells, there)
        can_win = contenders(corners)
        # Cells with the same contenders together, so that no other channel is computed for them.
        codes = _codes(can_win)
        order = xp.argsort(codes, stable=False)
        voxels = int(np.prod([len(axis.rows) for axis in axes]))
        budget = CACHED_BYTES if str(place_of(logits)) == "cpu" else self._slab_bytes // 8
        together = max(budget // (8 * voxels), 64)
        for first, behind in _groups(as_numpy(codes[order]), together):
            some = order[first:behind]
            x, y, z = (cells[some, dimension] for dimension in range(3))
            channels = np.flatnonzero(as_numpy(xp.any(can_win[:, some], axis=1))).tolist()
            wx, wy, wz = (xp.take(axis.weight, at, axis=1) for axis, at in zip(there, (x, y, z), strict=True))
            winners = as_numpy(winners_inside(corners, some, (wx, wy, wz), channels))
            rows = [axis.rows[:, as_numpy(at)] for axis, at in zip(axes, (x, y, z), strict=True)]
            self._in_xyz[rows[0][:, None, None], rows[1][None, :, None], rows[2][None, None]] = self._values[winners]


def labels_on_native_grid(
    logits: Array, preprocessed: Preprocessed, ids: tuple[int, ...], *, slab_bytes: int = SLAB_BYTES
) -> NDArray[Any]:
    """The labels of a whole volume of logits (channels, x, y, z), as (i, j, k); see ``NativeLabels``."""
    labels = NativeLabels(preprocessed, tuple(logits.shape[1:]), ids, slab_bytes)
    labels.add(logits)
    return labels.array.transpose(2, 1, 0)


def _codes(can_win: Array) -> Array:
    """A number (float64) for each of n cells by which those with alike contenders (channels, n) come side by side."""
    xp = namespace(can_win)
    powers = 2.0 ** (np.arange(len(can_win)) * min(1.0, 900 / len(can_win)))
    return like(powers, can_win) @ xp.astype(can_win, xp.float64)


def _groups(codes: NDArray[np.float64], most: int) -> list[tuple[int, int]]:
    """Where groups of at most ``most`` ascending codes begin and end: of one code each, and small ones together."""
    ends = np.append(np.flatnonzero(codes[1:] != codes[:-1]) + 1, len(codes)).tolist()
    groups, first = [], 0
    for end in ends:
        while end - first > most:
            groups.append((first, first + most))
            first += most
        if end - first >= most // FEW:
            groups.append((first, end))
            first = end
    return [*groups, (first, len(codes))] if first < len(codes) else groups


def _native_line(preprocessed: Preprocessed, axis: int, grid_size: int) -> Line:
    native = np.arange(preprocessed.native_size[axis], dtype=np.float64)
    return Line(native * preprocessed.scale[axis] + preprocessed.shift[axis], grid_size)
