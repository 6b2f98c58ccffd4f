"""From logits on the network's grid to labels on the image's own grid, a slab at a time."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dinomix.events import Emit, Progress, silent
from dinomix.planning.preprocessing import Preprocessed
from dinomix.planning.resampling import SLAB_BYTES, Line, interpolate_slab, slabs


def labels_on_native_grid(
    logits: torch.Tensor,
    preprocessed: Preprocessed,
    ids: tuple[int, ...],
    *,
    slab_bytes: int = SLAB_BYTES,
    emit: Emit = silent,
) -> NDArray[Any]:
    """Interpolate logits linearly at every voxel of the native grid and take the structure with the highest one.

    Works through the volume in slabs and through the channels one by one, so that no more than one channel of one slab
    stands in memory at full resolution. The size of the slabs does not change the result: each voxel's value is
    computed in float64 from the same eight neighbors and rounded to float32, whatever slab it lies in.

    Args:
        logits: (channels, x, y, z) on the network's grid; channel 0 is the background.
        ids: structure id of channels 1, 2, ...
        slab_bytes: how much memory a slab may take.
        emit: gets ``progress`` per channel and slab.

    Returns:
        (i, j, k), the file's own axes; uint8, or uint16 when an id needs it. Equal logits go to the lower channel.
    """
    size = preprocessed.native_size
    lines = [_native_line(preprocessed, axis, logits.shape[axis + 1]) for axis in range(3)]
    values = torch.tensor([0, *ids])
    labels = np.empty(size, np.uint8 if max(ids) < 256 else np.uint16)
    parts = list(slabs(lines, slab_bytes))
    progress, done = Progress(emit, "labeling voxels", len(parts) * len(logits)), 0
    for slab in parts:
        best = torch.full((slab.stop - slab.start, size[1], size[2]), -torch.inf)
        winner = torch.zeros(best.shape, dtype=torch.int32)
        for channel, channel_logits in enumerate(logits):
            here = interpolate_slab(channel_logits, lines, slab)
            better = here > best
            # Not by indexing with a mask, which takes 24 bytes per voxel.
            best = torch.where(better, here, best)
            winner.masked_fill_(better, channel)
            done += 1
            progress(done)
        labels[slab] = values[winner.long()].numpy()
    return preprocessed.reorientation.backward(labels)


def _native_line(preprocessed: Preprocessed, axis: int, grid_size: int) -> Line:
    native = torch.arange(preprocessed.native_size[axis], dtype=torch.float64)
    return Line(native * preprocessed.scale[axis] + preprocessed.shift[axis], grid_size)
