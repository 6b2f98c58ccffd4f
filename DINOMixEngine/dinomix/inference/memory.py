"""How much main memory segmenting takes, and how to stay below a limit."""

from dataclasses import dataclass, replace
from math import prod

import psutil

from dinomix.arrays import has_torch
from dinomix.errors import DinomixError
from dinomix.images.volume import Geometry
from dinomix.memory import check_memory, gigabytes, give_back_freed_memory
from dinomix.models.folder import Model
from dinomix.models.networks import Network
from dinomix.models.weights import bytes_of
from dinomix.planning.preprocessing import grid_size
from dinomix.planning.resampling import BYTES_PER_VOXEL, SLAB_BYTES

SMALLEST_SLAB = 2**24
ALLOCATOR_SLACK = 2**26
"""What the allocators keep beside what is asked of them."""
BYTES_PER_LABEL = 2


@dataclass(frozen=True)
class MemoryUse:
    """What ``segment_volume`` does to stay below its limit.

    Attributes:
        half_buffers: windows are put together in float16.
        slab_bytes: for the ways to the network's grid and back.
        window: bytes of those for computing a window.
        estimate: bytes that the process is expected to take at its peak.
        spare: bytes that it may take beside these.
    """

    half_buffers: bool
    slab_bytes: int
    window: int
    estimate: int
    spare: int = 0


def plan_memory(
    geometry: Geometry, model: Model, limit: int | None, *, voxel_bytes: int = 4, given_back: int = 0,
    uncertainty: bool = False,
) -> MemoryUse:  # fmt: skip
    """Choose the buffers for an image that is already read.

    Args:
        limit: bytes that this process may take in all. With None, what the computer has free decides how large the
            buffers are, and only what is more than all of its memory is refused: the system may make room.
        voxel_bytes: of the voxels of one image; with several channels the mean of them.
        given_back: bytes of the image, where it is dropped once it lies on the network's grid.
        uncertainty: whether a map of it is made, too, of a byte a voxel.

    Raises:
        DinomixError: the limit cannot be kept even with the smallest buffers.
    """
    of_network = max(map(_window_bytes, model.members))
    free = free_memory(limit)
    choices = [(False, SLAB_BYTES), (False, SMALLEST_SLAB), (True, SMALLEST_SLAB)]
    map_bytes = prod(geometry.size) if uncertainty else 0
    uses = [
        MemoryUse(
            half,
            slab,
            of_network,
            _estimate(geometry, model, of_network, half, slab, voxel_bytes, given_back) + map_bytes,
        )
        for half, slab in choices
    ]
    allowed = free + psutil.Process().memory_info().rss
    for use in uses:
        if use.estimate <= allowed:
            return replace(use, spare=allowed - use.estimate)
    if limit is None:
        check_memory(uses[-1].estimate, "Segmenting this image takes", "Crop it to the region of interest.")
        return uses[-1]
    raise DinomixError(
        f"Segmenting this image takes about {gigabytes(uses[-1].estimate)}; {gigabytes(limit)} are allowed.",
        "Raise the memory limit (--max-memory), or crop the image to the region of interest.",
        code="memory-limit",
    )


def _window_bytes(model: Model) -> int:
    """Of a window of a model with one network: of PyTorch's, where that is installed, else of its graph."""
    if has_torch():
        from dinomix.models.network import footprint

        return footprint(model.plan, model.labels.channels).window
    from dinomix.inference.runtimes.graph_memory import window_of_graph

    return window_of_graph(model.path / model.weights_file, len(model.plan.channels), model.plan.patch)


def bytes_of_weights(model: Model) -> int:
    """Of all networks of an ensemble, or of the one."""
    return sum(map(bytes_of, (model.weights, *model.more_weights)))


def network_within(model: Model, limit: int | None) -> Network:
    """A model's network; those of an ensemble are read one after the other for each window where all would take too much.

    Args:
        limit: bytes that this process may take in all; None for what the computer has free.

    Raises:
        DinomixError: as ``Model.network``.
    """
    # Beside the networks and their copies in bfloat16, there must be room for the image.
    if model.more_weights and has_torch() and 3 * bytes_of_weights(model) > free_memory(limit):
        return model.network_in_turns()
    return model.network()


def free_memory(limit: int | None) -> int:
    """Bytes that this process may still take; without a limit, what the computer has free."""
    give_back_freed_memory()
    return limit - psutil.Process().memory_info().rss if limit else psutil.virtual_memory().available


def _estimate(
    geometry: Geometry, model: Model, window: int, half: bool, slab: int, voxel_bytes: int, given_back: int
) -> int:
    plan, channels = model.plan, model.labels.channels
    native, inputs = prod(geometry.size), len(plan.channels)
    sides = grid_size(geometry, plan)
    grid = prod(sides)
    padded = [max(side, patch) for side, patch in zip(sides, plan.patch, strict=True)]
    layer = plan.patch[0] * padded[1] * padded[2]
    # The voxels around the grid's points, as they are and as float32; percentiles sort a copy of all voxels.
    neighbors = min(native, 8 * grid)
    # Percentiles sort a copy of all voxels; the steps of other windows make some.
    whole = native * max({"range": 0, "percentiles": 12, "steps": 16}[window.kind] for window in plan.windows)
    others = 4 * grid * inputs if inputs > 1 else 0  # of which each is made apart, and then put with the rest
    preprocessing = others + max(whole, neighbors * (4 + voxel_bytes) + grid * 4 + min(slab, grid * BYTES_PER_VOXEL))
    blending = layer * ((2 if half else 4) * channels + 4) + 4 * channels * prod(plan.patch)
    # A few numbers for every cell, and what is interpolated at once.
    labeling = layer * 40 + slab + native * BYTES_PER_LABEL // max(1, sides[0] // plan.patch[0])
    copy = bytes_of_weights(model) // 2  # of the network, in bfloat16
    kept = 4 * inputs * (grid + prod(padded)) + native * BYTES_PER_LABEL + copy - given_back
    return (
        psutil.Process().memory_info().rss
        + max(preprocessing, kept + blending + max(window, labeling))
        + ALLOCATOR_SLACK
    )
