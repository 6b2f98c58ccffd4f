"""The segments of 3D Slicer's ``.seg.nrrd``: one file may hold several label maps ("layers") that share voxels.

The keys are described in Slicer's developer guide, "Segmentation labelmap file format (.seg.nrrd)". Needs nothing installed
but numpy, to read them; the bridge to Slicer writes and reads such files by the same functions.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.images.header import Header
from dinomix.images.overlaps import LabelMap, Overlaps
from dinomix.names import listed

SLAB_VOXELS = 2**22
"""Voxels that are searched at once, a few milliseconds of work."""
NO_BOX = np.array([[0, -1]] * 3)


@dataclass(frozen=True)
class Segment:
    """One structure of a segmentation.

    Attributes:
        value: its voxel value in the label map ``layer``.
        color: RGB, 0 to 1; None where the file does not say it.
        terminology: Slicer's terminology entry; empty without one.
    """

    name: str
    value: int
    layer: int = 0
    color: tuple[float, float, float] | None = None
    terminology: str = ""


def segments_of(header: Header, path: Path) -> tuple[Segment, ...]:
    """The segments that a NRRD file's keys describe; none when it is not a segmentation of Slicer's.

    Files older than Slicer 4.11 say neither value nor layer: there, each segment is a layer of its own, of ones.

    Raises:
        DinomixError: an empty segmentation, one without voxels of its own, keys that make no sense, or two segments of one
            name.
    """
    metadata = header.metadata
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
        found.append(_segment(metadata, len(found), header.values, path))
    count = Counter(segment.name for segment in found)
    if twice := sorted(name for name, number in count.items() if number > 1):
        raise DinomixError(f"{path} has several segments named {listed(twice)}.", "Give each its own name.")
    return tuple(found)


def flattened(
    voxels: NDArray[np.generic], segments: tuple[Segment, ...], path: Path, order: Sequence[str] = ()
) -> tuple[NDArray[np.generic], dict[int, str], tuple[str, ...], Overlaps]:
    """One label map out of the layers.

    Args:
        voxels: (k, j, i), or (k, j, i, layer), at most 65535.
        segments: what the voxel values of each layer mean.
        path: the file, for messages.
        order: names of segments; where some overlap, the later one wins.

    Returns:
        The label map (k, j, i), id -> name, notices, and the overlaps that the order settled. Ids are the file's own where no
        two layers use the same one, else 1, 2, 3... in the file's order.

    Raises:
        OverlapError: two segments share a voxel, and the order does not say which one wins.
    """
    ids = [segment.value for segment in segments]
    if voxels.ndim == 3 and len(set(ids)) == len(ids):
        return voxels, {segment.value: segment.name for segment in segments}, (), ()
    notices: tuple[str, ...] = ()
    if len(set(ids)) < len(ids):
        ids = list(range(1, len(segments) + 1))
        notices = ("The segments' numbers were not unique across layers; they are now counted in the file's order.",)
    names = {number: segment.name for number, segment in zip(ids, segments, strict=True)}
    layers = voxels if voxels.ndim == 4 else voxels[..., None]
    label = LabelMap(layers.shape[:3], names, order, path)
    boxes = {layer: boxes_of(layers[..., layer]) for layer in {segment.layer for segment in segments}}
    for number, segment in zip(ids, segments, strict=True):
        if (box := boxes[segment.layer].get(segment.value)) is not None:
            place = tuple(slice(first, last + 1) for first, last in box[::-1])
            label.add(number, layers[..., segment.layer][place] == segment.value, place)  # type: ignore[arg-type]
    overlaps = label.settled()
    return label.array, names, (*notices, *label.notices()), overlaps


def boxes_of(labels: NDArray[np.generic], check_stop: Callable[[], None] = lambda: None) -> dict[int, NDArray[np.intp]]:
    """Value -> its first and last index, a row of two for each of i, j, k; values without a voxel are left out.

    Args:
        labels: (k, j, i), whole numbers.
        check_stop: called every few milliseconds; it may raise.
    """
    from scipy.ndimage import find_objects  # Slicer has it, but importing it takes a while

    boxes: dict[int, NDArray[np.intp]] = {}
    slices = max(1, SLAB_VOXELS // max(1, labels[0].size))
    for start in range(0, len(labels), slices):
        check_stop()
        slab = np.ascontiguousarray(labels[start : start + slices], np.int32)
        for value, place in enumerate(find_objects(slab), start=1):
            if place is not None:
                k, j, i = place
                box = np.array([[i.start, i.stop - 1], [j.start, j.stop - 1], [k.start + start, k.stop - 1 + start]])
                before = boxes.get(value, box)
                boxes[value] = np.stack([np.minimum(before, box)[:, 0], np.maximum(before, box)[:, 1]], axis=1)
    return boxes


def segment_keys(
    labels: NDArray[np.generic], segments: Sequence[Segment], check_stop: Callable[[], None] = lambda: None
) -> dict[str, str]:
    """The keys of a file with one label map.

    Args:
        labels: (k, j, i).
        segments: the structures, those without a voxel too, with colors.
        check_stop: called now and then; it may raise.
    """
    # Slicer calls it SourceRepresentation in its documentation, but writes and reads this key in every version.
    keys = {
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_ConversionParameters": "",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    boxes = boxes_of(labels, check_stop)
    for number, segment in enumerate(segments):
        fields = {
            "ID": f"Segment_{segment.value}",
            "Name": segment.name,
            "NameAutoGenerated": "0",
            "LabelValue": str(segment.value),
            "Layer": "0",
            "Color": " ".join(f"{value:.6g}" for value in segment.color or ()),
            "ColorAutoGenerated": "0",
            "Extent": " ".join(map(str, boxes.get(segment.value, NO_BOX).ravel())),
            "Tags": f"TerminologyEntry:{segment.terminology}|" if segment.terminology else "",
        }
        keys.update({f"Segment{number}_{field}": text for field, text in fields.items()})
    return keys


def _segment(metadata: Mapping[str, str], number: int, layers: int, path: Path) -> Segment:
    prefix = f"Segment{number}_"

    def whole(key: str, otherwise: int, least: int, most: int) -> int:
        text = metadata.get(prefix + key, str(otherwise)).strip()
        if not (text.isdecimal() and len(text) < 9 and least <= int(text) <= most):
            raise DinomixError(
                f"{path} is damaged: its key {prefix}{key} is {text[:20]!r}, not a whole number from {least} to {most}.",
                "Save the segmentation again.",
            )
        return int(text)

    name = metadata.get(prefix + "Name") or metadata[prefix + "ID"]
    if not name.strip():
        raise DinomixError(f"{path} has a segment without a name, number {number + 1}.", "Give each segment a name.")
    tags = metadata.get(prefix + "Tags", "").split("|")
    return Segment(
        name=name,
        value=whole("LabelValue", 1, 1, 65535),
        layer=whole("Layer", number if layers > 1 else 0, 0, layers - 1),
        color=_color(metadata.get(prefix + "Color", "")),
        terminology=next((tag for tag in tags if tag.startswith("TerminologyEntry:")), ":").partition(":")[2],
    )


def _color(text: str) -> tuple[float, float, float] | None:
    try:
        red, green, blue = (float(value) for value in text.split())
    except ValueError:
        return None
    return red, green, blue
