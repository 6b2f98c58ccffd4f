"""Segmenting only a box of an image, around a structure that was found there: a fraction of the time.

The box comes from labels that another model has given, or from a quick pass of the model itself, whose windows do not overlap.
The network sees as much again beyond the box, and intensities are those of the whole image.
"""

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dinomix.arrays import as_numpy, namespace
from dinomix.events import Emit
from dinomix.images.volume import Geometry
from dinomix.inference.boxes import Slices, parts_of
from dinomix.inference.devices import Device, has_bfloat16
from dinomix.inference.options import Numbers, Precision
from dinomix.inference.sliding_window import predict_slabs
from dinomix.models.folder import Model
from dinomix.models.networks import Network
from dinomix.planning.plan import Plan, SpacingGrid
from dinomix.planning.preprocessing import Preprocessed

MARGIN = 15.0
"""mm around the structure, on each side: that of a second stage's boxes."""
Ends = NDArray[np.float64]
"""(2, 3): first and behind the last voxel."""

BoxFor = Callable[[Network, Preprocessed], Slices | None]
"""The box (k, j, i) of an image in which a network is to compute; None for the whole image."""


def box_around(labels: NDArray[Any], ids: Collection[int], geometry: Geometry) -> Slices | None:
    """The box (k, j, i) around structures in a label map (k, j, i), with the margin; None where none of them is there.

    Parts that are specks beside a structure's largest one do not count.
    """
    parts = [part for id in ids for part in parts_of(labels, id)]
    if not parts:
        return None
    ends = np.stack([np.min([low for low, _ in parts], 0), np.max([high for _, high in parts], 0)])
    return _grown(ends, geometry.spacing[::-1], labels.shape)


def quick_box(
    model: Model,
    channels: Collection[int],
    geometry: Geometry,
    device: Device,
    precision: Precision,
    emit: Emit,
) -> BoxFor:
    """A box around what a model finds of some of its channels in windows that do not overlap."""
    fast = precision == "bfloat16" or (precision == "auto" and has_bfloat16(device))
    plan = quick_plan(model)

    def looking(kind: str, **fields: Any) -> None:
        emit(kind, **({**fields, "stage": "looking for the structure"} if kind == "progress" else fields))

    def find(network: Network, image: Preprocessed) -> Slices | None:
        found = np.zeros(image.tensor.shape[1:], np.int16)
        start = 0
        numbers: Numbers = "bfloat16" if fast else "float32"
        for slab in predict_slabs(network, image.tensor, plan, device, looking, numbers=numbers):
            found[start : start + slab.shape[1]] = as_numpy(namespace(slab).argmax(slab, axis=0))
            start += slab.shape[1]
        parts = [part for channel in channels for part in parts_of(found, channel)]
        if not parts:
            return None
        on_grid = np.stack([np.min([low for low, _ in parts], 0), np.max([high for _, high in parts], 0)])
        # Voxel g of the grid lies at (g - shift) / scale on the image's own.
        native = (on_grid - 0.5 - np.array(image.shift)) / np.array(image.scale)
        native = np.stack([np.floor(native[0]), np.ceil(native[1]) + 1])
        return _grown(_in_file(native, image), geometry.spacing[::-1], geometry.size[::-1])

    return find


def quick_plan(model: Model) -> Plan:
    """The plan of a quick pass, whose windows do not overlap."""
    return model.plan.model_copy(update={"overlap": (0.0, 0.0, 0.0)})


def cut(image: Preprocessed, box: Slices, plan: Plan) -> Preprocessed:
    """The part of a preprocessed image that gives the labels of a box (k, j, i), and shows what lies around it."""
    natives = _in_xyz(box, image)
    grid = np.array(image.tensor.shape[1:])
    scale, shift = np.array(image.scale), np.array(image.shift)
    around = MARGIN / np.array(plan.grid.spacing) if isinstance(plan.grid, SpacingGrid) else np.array(plan.patch) / 4
    low = np.floor(natives[0] * scale + shift - around)
    high = np.ceil((natives[1] - 1) * scale + shift + around) + 1
    # At least a window where the image has that much, about the middle.
    missing = np.maximum(np.minimum(plan.patch, grid) - (high - low), 0)
    low = np.clip(np.floor(low - missing / 2), 0, np.maximum(grid - plan.patch, 0))
    high = np.clip(np.ceil(np.maximum(high, low + np.minimum(plan.patch, grid))), 0, grid)
    x, y, z = (slice(int(start), int(stop)) for start, stop in zip(low, high, strict=True))
    size = (natives[1] - natives[0]).astype(int)
    offset = natives[0] * scale + shift - low
    return replace(
        image,
        tensor=namespace(image.tensor).asarray(image.tensor[:, x, y, z], copy=True),
        native_size=(int(size[0]), int(size[1]), int(size[2])),
        shift=(float(offset[0]), float(offset[1]), float(offset[2])),
    )


def at_the_border(labels: NDArray[Any], box: Slices, ids: Collection[int]) -> set[int]:
    """Which of some structures in a label map (k, j, i) reach a side of the box that is no side of the image."""
    found: set[int] = set()
    inside = labels[box]
    for axis, (side, size) in enumerate(zip(box, labels.shape, strict=True)):
        for is_cut, at in ((side.start > 0, 0), (side.stop < size, -1)):
            if is_cut:
                found |= set(np.unique(inside.take(at, axis)).tolist())
    return found & set(ids)


def _grown(ends: Ends, spacing: tuple[float, ...], sizes: tuple[int, ...]) -> Slices:
    margin = np.ceil(MARGIN / np.array(spacing))
    low, high = np.maximum(ends[0] - margin, 0), np.minimum(ends[1] + margin, sizes)
    k, j, i = (slice(int(start), int(stop)) for start, stop in zip(low, high, strict=True))
    return k, j, i


def _in_xyz(box: Slices, image: Preprocessed) -> Ends:
    """A box (k, j, i) along (x, y, z) of the native grid."""
    ends = np.zeros((2, 3))
    for axis, (file_axis, flip) in enumerate(zip(image.reorientation.axes, image.reorientation.flips, strict=True)):
        side, size = box[2 - file_axis], image.native_size[axis]
        ends[:, axis] = (size - side.stop, size - side.start) if flip else (side.start, side.stop)
    return ends


def _in_file(native: Ends, image: Preprocessed) -> Ends:
    """Ends along (x, y, z) of the native grid along (k, j, i)."""
    ends = np.zeros((2, 3))
    for axis, (file_axis, flip) in enumerate(zip(image.reorientation.axes, image.reorientation.flips, strict=True)):
        size = image.native_size[axis]
        ends[:, 2 - file_axis] = (size - native[1, axis], size - native[0, axis]) if flip else native[:, axis]
    return ends
