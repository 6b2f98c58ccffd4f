"""A map of how likely each voxel's label is wrong, on the image's own grid, as soon as a slab of logits is there."""

import numpy as np
from numpy.typing import NDArray

from dinomix.arrays import Array, as_numpy, moved, namespace, without_gradients
from dinomix.images.bounding_boxes import bounding_boxes
from dinomix.inference.devices import cpu
from dinomix.planning.preprocessing import Preprocessed
from dinomix.planning.resampling import Line, resample

UNIT = "percent"
BYTES_PER_VOXEL = 40
"""What is computed at once takes of each voxel of the image's grid: positions, probabilities in float64 and what is written."""


class NativeUncertainty:
    """Percent (0 sure, 100 certainly wrong) that grow along x with the labels that they are of.

    The probability of each voxel's label is interpolated linearly between the network's voxels.

    Args:
        preprocessed: where the native grid lies.
        grid: voxels of the network's grid along (x, y, z).
        labels: (k, j, i) on the native grid, filled in slab by slab before ``add`` is called with the same slab.
        ids: structure id of channels 1, 2, ..., ascending or not.
        temperature: what logits are divided by.
        slab_bytes: how much memory interpolating may take.

    Attributes:
        array: (k, j, i), uint8.
    """

    def __init__(self, preprocessed: Preprocessed, grid: tuple[int, ...], labels: NDArray[np.unsignedinteger],
                 ids: tuple[int, ...], temperature: float, slab_bytes: int) -> None:  # fmt: skip
        forward = preprocessed.reorientation.forward
        self.array = np.zeros(labels.shape, np.uint8)
        self._in_xyz, self._labels = forward(self.array.transpose(2, 1, 0)), forward(labels.transpose(2, 1, 0))
        self._channels = {0: 0} | {id: channel for channel, id in enumerate(ids, 1)}
        self._temperature, self._slab_bytes, self._grid = temperature, slab_bytes, grid
        self._positions = [
            (np.arange(size, dtype=np.float64) * scale + shift).clip(0, side - 1)
            for size, scale, shift, side in zip(
                preprocessed.native_size, preprocessed.scale, preprocessed.shift, grid, strict=True
            )
        ]
        self._planes = self._rows = 0
        self._last = None

    @without_gradients
    def add(self, logits: Array) -> None:
        """Take the next planes (channels, x, y, z) along x, on any device, and say how sure the labels between them are."""
        xp = namespace(logits)
        logits = moved(logits, cpu())
        start = self._planes
        self._planes += logits.shape[1]
        # The plane before belongs to the rows in between.
        before, self._last = self._last, xp.asarray(logits[:, -1:], copy=True)
        first = start - 1 if before is not None else start
        upper = np.minimum(np.floor(self._positions[0]) + 1, self._grid[0] - 1)
        stop = int((upper < self._planes).sum())
        if stop == self._rows:
            return

        planes = _Planes(logits, before, self._temperature)
        together = max(self._slab_bytes // 2 // (BYTES_PER_VOXEL * int(np.prod(self._in_xyz.shape[1:]))), 1)
        for row in range(self._rows, stop, together):
            rows = slice(row, min(row + together, stop))
            whole = tuple(slice(0, size) for size in self._labels[rows].shape)
            for id, box in {0: whole, **bounding_boxes(self._labels[rows])}.items():
                self._fill(rows, id, box, planes, first)
        self._rows = stop

    def _fill(self, rows: slice, id: int, box: tuple[slice, ...], planes: "_Planes", first: int) -> None:
        """The percent of the voxels labeled ``id`` in a box of some rows; ``planes`` begin at the plane ``first``."""
        labels, percent = self._labels[rows][box], self._in_xyz[rows][box]
        sides = [slice(rows.start + box[0].start, rows.start + box[0].stop), *box[1:]]
        lines, part = [], []
        for axis, (positions, side) in enumerate(zip(self._positions, sides, strict=True)):
            here = positions[side] - (first if axis == 0 else 0)
            low, high = int(here[0]), min(int(here[-1]) + 2, planes.size[axis])
            part.append(slice(low, high))
            lines.append(Line(here - low, high - low))
        sure = resample(as_numpy(planes.probability(self._channels[id], part)), lines, self._slab_bytes // 2)
        own = labels == id
        percent[own] = np.rint(100 * (1 - sure[own])).clip(0, 100)


class _Planes:
    """Probabilities of some planes (channels, x, y, z) of logits, the last of the slab before among them."""

    def __init__(self, logits: Array, before: Array | None, temperature: float) -> None:
        self._xp = xp = namespace(logits)
        self._logits, self._before, self._temperature = logits, before, temperature
        self._best = self._of(0)
        for channel in range(1, len(logits)):
            self._best = xp.maximum(self._best, self._of(channel))
        self._total = xp.zeros_like(self._best)
        for channel in range(len(logits)):
            self._total += xp.exp((self._of(channel) - self._best) / temperature)
        self.size = tuple(self._best.shape)

    def _of(self, channel: int) -> Array:
        # Joined channel by channel, so that no slab is copied whole.
        xp = self._xp
        here = xp.astype(self._logits[channel], xp.float32, copy=False)
        if self._before is None:
            return here
        return xp.concat([xp.astype(self._before[channel], xp.float32, copy=False), here])

    def probability(self, channel: int, part: list[slice]) -> Array:
        """Of a channel in a part (x, y, z)."""
        x, y, z = part
        lead = self._of(channel)[x, y, z] - self._best[x, y, z]
        return self._xp.exp(lead / self._temperature) / self._total[x, y, z]
