"""The boxes that a second stage refines: around what labels show of the structures that it is for.

In training they come from the labels of labeled cases and from the first stage's on unlabeled ones, so that it sees what it
will see in use.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from dinomix.images.volume import Geometry
from dinomix.inference.places import box_at
from dinomix.labels import LabelSet
from dinomix.planning.plan import SecondStage, SpacingGrid
from dinomix.planning.preprocessing import reorientation_for

SMALLEST_PART = 0.25
"""Of a structure's largest part: what is smaller is taken for a speck elsewhere, and gets no box."""
Slices = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Box:
    """Index ranges (k, j, i) of an image.

    Attributes:
        seen: what the second stage sees: at least one patch where the image has that much.
        refined: what it relabels, as far from the border of ``seen`` as the margin says, or at the border of the image.
    """

    seen: Slices
    refined: Slices

    @property
    def refined_in_seen(self) -> Slices:
        """``refined``, counted from the first voxel of ``seen``."""
        k, j, i = (
            slice(inner.start - outer.start, inner.stop - outer.start)
            for inner, outer in zip(self.refined, self.seen, strict=True)
        )
        return k, j, i


def boxes_around(labels: NDArray[np.generic], geometry: Geometry, second: SecondStage, names: LabelSet) -> list[Box]:
    """The boxes for a label map: around what it shows of the structures, and where others say that those must be which it
    does not show. None where it shows nothing of any.

    Boxes that would relabel the same voxel become one, so that each voxel is relabeled once.

    Args:
        labels: (k, j, i), ids of ``names``.
    """
    sizes = np.array(labels.shape)
    margin = np.ceil(second.margin / np.array(geometry.spacing[::-1])).astype(int)
    ids = {s.name: s.id for s in names.structures if s.name in second.structures}
    found = {name: list(parts_of(labels, id)) for name, id in ids.items()}
    for name, parts in found.items():
        if not parts and name in second.places:
            place = box_at(second.places[name], labels, geometry, names)
            parts += [place] if place is not None else []
    refined = [_grown(part, margin, sizes) for parts in found.values() for part in parts]
    while overlapping := next((pair for pair in combinations(refined, 2) if _overlap(*pair)), None):
        first, other = overlapping
        refined = [box for box in refined if box is not first and box is not other]
        refined.append(np.stack([np.minimum(first[0], other[0]), np.maximum(first[1], other[1])]))
    patch = _patch_in_voxels(geometry, second)
    return [Box(_slices(_at_least(_grown(box, margin, sizes), patch, sizes)), _slices(box)) for box in refined]


def parts_of(labels: NDArray[np.generic], id: int) -> Iterator[NDArray[np.int64]]:
    """First and behind the last voxel, (2, 3), of each part of a structure that is not a speck beside its largest."""
    from scipy import ndimage  # here, since importing it takes a while

    box = ndimage.find_objects(labels, max_label=id)[id - 1]
    if box is None:
        return
    parts, _ = ndimage.label(labels[box] == id)
    counts = np.bincount(parts.ravel())[1:]
    start = np.array([side.start for side in box])
    for count, part in zip(counts, ndimage.find_objects(parts), strict=True):
        if count >= SMALLEST_PART * counts.max():
            yield start + np.array([[side.start for side in part], [side.stop for side in part]])


def _grown(box: NDArray[np.int64], by: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.stack([np.maximum(box[0] - by, 0), np.minimum(box[1] + by, sizes)])


def _overlap(one: NDArray[np.int64], other: NDArray[np.int64]) -> bool:
    return bool((np.maximum(one[0], other[0]) < np.minimum(one[1], other[1])).all())


def _at_least(box: NDArray[np.int64], sides: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The box made as long as ``sides``, about its middle, or as near to that as the image lets it."""
    missing = np.maximum(np.minimum(sides, sizes) - (box[1] - box[0]), 0)
    start = np.clip(box[0] - missing // 2, 0, sizes - (box[1] - box[0]) - missing)
    return np.stack([start, start + (box[1] - box[0]) + missing])


def _patch_in_voxels(geometry: Geometry, second: SecondStage) -> NDArray[np.int64]:
    """A patch's sides in the image's voxels, along (k, j, i)."""
    assert isinstance(second.plan.grid, SpacingGrid)
    sides = np.zeros(3)
    for file_axis, voxels, mm in zip(
        reorientation_for(geometry, second.plan).axes, second.plan.patch, second.plan.grid.spacing, strict=True
    ):
        sides[file_axis] = voxels * mm
    return np.ceil(sides / np.array(geometry.spacing)).astype(int)[::-1]


def _slices(box: NDArray[np.int64]) -> Slices:
    k, j, i = (slice(int(start), int(stop)) for start, stop in box.T)
    return k, j, i
