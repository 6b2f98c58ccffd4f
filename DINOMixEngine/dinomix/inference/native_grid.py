"""From logits on the network's grid to labels on the image's own grid, a slab at a time."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dinomix.planning.preprocessing import Preprocessed

SLAB_BYTES = 2**28
BYTES_PER_VOXEL = 40
"""Per voxel of a slab: two float64 values and their sum, the best logit so far and a comparison, with some slack."""


def labels_on_native_grid(
    logits: torch.Tensor, preprocessed: Preprocessed, ids: tuple[int, ...], *, slab_bytes: int = SLAB_BYTES
) -> NDArray[Any]:
    """Interpolate logits linearly at every voxel of the native grid and take the structure with the highest one.

    Works through the volume in slabs and through the channels one by one, so that no more than one channel of one slab
    stands in memory at full resolution. The size of the slabs does not change the result: each voxel's value is
    computed in float64 from the same eight neighbors and rounded to float32, whatever slab it lies in.

    Args:
        logits: (channels, x, y, z) on the network's grid; channel 0 is the background.
        ids: structure id of channels 1, 2, ...
        slab_bytes: how much memory a slab may take.

    Returns:
        (i, j, k), the file's own axes; uint8, or uint16 when an id needs it. Equal logits go to the lower channel.
    """
    size = preprocessed.native_size
    lines = [_Line(preprocessed, axis, logits.shape[axis + 1]) for axis in range(3)]
    values = torch.tensor([0, *ids])
    labels = np.empty(size, np.uint8 if max(ids) < 256 else np.uint16)
    thickness = max(1, slab_bytes // (BYTES_PER_VOXEL * size[1] * size[2]))
    for start in range(0, size[0], thickness):
        stop = min(start + thickness, size[0])
        best = torch.full((stop - start, size[1], size[2]), -torch.inf)
        winner = torch.zeros(best.shape, dtype=torch.int32)
        for channel, channel_logits in enumerate(logits):
            slab = lines[0].interpolate(channel_logits, 0, start, stop)
            slab = lines[1].interpolate(slab, 1, 0, size[1])
            slab = lines[2].interpolate(slab, 2, 0, size[2]).float()
            better = slab > best
            best[better] = slab[better]
            winner[better] = channel
        labels[start:stop] = values[winner.long()].numpy()
    return preprocessed.reorientation.backward(labels)


class _Line:
    """The neighbors and weights of all native voxels along one axis; beyond the outermost voxels, these go on."""

    def __init__(self, preprocessed: Preprocessed, axis: int, grid_size: int) -> None:
        native = torch.arange(preprocessed.native_size[axis], dtype=torch.float64)
        position = native * preprocessed.scale[axis] + preprocessed.shift[axis]
        position = position.clamp(0, grid_size - 1)
        self.low = position.floor().long()
        self.high = (self.low + 1).clamp(max=grid_size - 1)
        self.weight = position - self.low
        self.identity = len(native) == grid_size and bool((self.weight == 0).all())

    def interpolate(self, values: torch.Tensor, axis: int, start: int, stop: int) -> torch.Tensor:
        """Native voxels start..stop along ``axis`` of ``values`` (x, y, z)."""
        if self.identity:
            return values.narrow(axis, start, stop - start)
        part = slice(start, stop)
        shape = [1, 1, 1]
        shape[axis] = stop - start
        weight = self.weight[part].reshape(shape)
        low = values.index_select(axis, self.low[part]).double()
        high = values.index_select(axis, self.high[part]).double()
        return low.mul_(1 - weight).add_(high.mul_(weight))
