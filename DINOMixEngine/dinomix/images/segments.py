"""The segments of 3D Slicer's ``.seg.nrrd``: one file may hold several label maps ("layers") that share voxels.

The keys are described in Slicer's developer guide, "Segmentation labelmap file format (.seg.nrrd)".
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.images.header import Header


@dataclass(frozen=True)
class Segment:
    """``value`` is the segment's voxel value in the label map ``layer``."""

    name: str
    value: int
    layer: int


def segments_of(header: Header, path: Path) -> tuple[Segment, ...]:
    """The segments that a NRRD file's keys describe; none when it is not a segmentation of Slicer's.

    Files older than Slicer 4.11 say neither value nor layer: there, each segment is a layer of its own, of ones.

    Raises:
        DinomixError: an empty segmentation, one without voxels of its own, or two segments of one name.
    """
    metadata, layers = header.metadata, header.values
    kind = metadata.get("Segmentation_SourceRepresentation", metadata.get("Segmentation_MasterRepresentation"))
    if kind is not None and header.size == (1, 1, 1):
        raise DinomixError(f"{path} is an empty segmentation.", "Segment something in it first.")
    if kind not in (None, "Binary labelmap"):
        raise DinomixError(
            f'{path} holds a segmentation as "{kind}".',
            'In 3D Slicer, make "Binary labelmap" the source representation.',
        )
    found: list[Segment] = []
    while f"Segment{len(found)}_ID" in metadata:
        prefix = f"Segment{len(found)}_"
        name = metadata.get(prefix + "Name") or metadata[prefix + "ID"]
        layer = int(metadata.get(prefix + "Layer", len(found) if layers > 1 else 0))
        found.append(Segment(name=name, value=int(metadata.get(prefix + "LabelValue", 1)), layer=layer))
    names = [segment.name for segment in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DinomixError(f"{path} has several segments named {', '.join(twice)}.", "Give each its own name.")
    return tuple(found)


def flattened(
    voxels: NDArray[np.generic], segments: tuple[Segment, ...], path: Path
) -> tuple[NDArray[np.generic], dict[int, str], tuple[str, ...]]:
    """One label map out of the layers.

    Args:
        voxels: (k, j, i), or (k, j, i, layer).
        segments: what the voxel values of each layer mean.
        path: the file, for messages.

    Returns:
        The label map (k, j, i), id -> name, and notices. Ids are the file's own where no two layers use the same one,
        else 1, 2, 3... in the file's order.

    Raises:
        DinomixError: two segments share a voxel.
    """
    ids = [segment.value for segment in segments]
    if voxels.ndim == 3 and len(set(ids)) == len(ids):
        return voxels, {segment.value: segment.name for segment in segments}, ()
    notices: tuple[str, ...] = ()
    if len(set(ids)) < len(ids):
        ids = list(range(1, len(segments) + 1))
        notices = ("The segments' numbers were not unique across layers; they are now counted in the file's order.",)
    layers = voxels if voxels.ndim == 4 else voxels[..., None]
    out = np.zeros(layers.shape[:3], np.uint8 if max(ids) < 256 else np.uint16)
    for number, segment in zip(ids, segments, strict=True):
        if segment.layer >= layers.shape[3]:
            raise DinomixError(f"{path} lacks the layer of its segment {segment.name}.", "Save the segmentation again.")
        inside = layers[..., segment.layer] == segment.value
        taken = np.unique(out[inside])
        taken = taken[taken > 0]
        if taken.size:
            other = segments[ids.index(int(taken[0]))].name
            shared = int(np.count_nonzero(inside & (out > 0)))
            raise DinomixError(
                f"In {path} the segments {other} and {segment.name} overlap ({shared} voxels); "
                "one voxel can be one structure only.",
                "In 3D Slicer's Segment Editor, subtract one from the other with Logical operators, then save again.",
            )
        out[inside] = number
    return out, {number: segment.name for number, segment in zip(ids, segments, strict=True)}, notices
