"""Where a structure lies beside another one, for boxes around what a first stage has not found."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dinomix.images.volume import Geometry
from dinomix.labels import LabelSet
from dinomix.planning.plan import Place
from dinomix.planning.preprocessing import nearest_to_ras

Measures = dict[str, dict[str, list[float]]]
"""By a structure's name: ``low`` and ``high``, its ends, and ``middle``, the median of its voxels, mm along (x, y, z) in RAS
axes from the image's corner. Neither position nor rotation of the patient is in it."""


def measures(labels: NDArray[np.generic], geometry: Geometry, names: LabelSet) -> Measures:
    """Of each structure in a label map (k, j, i)."""
    reorientation = nearest_to_ras(geometry)
    in_ras = reorientation.forward(labels.transpose(2, 1, 0))
    spacing = np.array([geometry.spacing[axis] for axis in reorientation.axes])
    found: Measures = {}
    for structure, box in zip(names.structures, _boxes(in_ras, names), strict=True):
        if box is None:
            continue
        start = np.array([side.start for side in box])
        middle = start + [np.median(voxels) for voxels in np.nonzero(in_ras[box] == structure.id)]
        ends = {"low": start, "high": np.array([side.stop for side in box]), "middle": middle + 0.5}
        found[structure.name] = {end: (spacing * at).tolist() for end, at in ends.items()}
    return found


def learned_places(cases: Sequence[Measures], structures: Sequence[str]) -> dict[str, Place]:
    """Where each of ``structures`` lies, from the other one beside which the cases agree most on it.

    A structure that no case has, or that has no other beside it in each of its cases, is left out.
    """
    places = {}
    for name in structures:
        having = [case for case in cases if name in case]
        landmarks = set.intersection(*(set(case) for case in having)) - set(structures) if having else set()
        possible = [_place(name, landmark, having) for landmark in sorted(landmarks)]
        if possible:
            places[name] = min(possible, key=_vagueness)
    return places


def box_at(place: Place, labels: NDArray[np.generic], geometry: Geometry, names: LabelSet) -> NDArray[np.int64] | None:
    """First and behind the last voxel, (2, 3) along (k, j, i), of a place in an image; None where it is not known there."""
    landmark = next((s for s in names.structures if s.name == place.landmark), None)
    if landmark is None:
        return None
    found = measures(labels, geometry, LabelSet(structures=(landmark,)))
    if not found:
        return None
    reorientation = nearest_to_ras(geometry)
    box = np.zeros((2, 3), dtype=int)
    for axis, (file_axis, flip) in enumerate(zip(reorientation.axes, reorientation.flips, strict=True)):
        middle, size = found[landmark.name]["middle"][axis], geometry.size[file_axis]
        ends = [(middle + end[axis]) / geometry.spacing[file_axis] for end in (place.low, place.high)]
        low, high = sorted(size - end for end in ends) if flip else ends
        box[:, 2 - file_axis] = np.clip([np.floor(low), np.ceil(high)], 0, size)
    return box if (box[1] > box[0]).all() else None


def _boxes(in_ras: NDArray[np.generic], names: LabelSet) -> list[tuple[slice, slice, slice] | None]:
    from scipy.ndimage import find_objects  # here, since importing it takes a while

    found = find_objects(in_ras, max_label=max(names.ids))
    return [found[id - 1] for id in names.ids]


def _place(name: str, landmark: str, cases: Sequence[Measures]) -> Place:
    from_middle = {
        end: np.array([np.subtract(case[name][end], case[landmark]["middle"]) for case in cases])
        for end in ("low", "high")
    }
    low, high = from_middle["low"].min(0).round(1).tolist(), from_middle["high"].max(0).round(1).tolist()
    return Place(landmark=landmark, low=tuple(low), high=tuple(high))


def _vagueness(place: Place) -> tuple[float, float]:
    """Volume; where that is the same, as with one case, the distance to the landmark."""
    low, high = np.array(place.low), np.array(place.high)
    return float(np.prod(high - low).round()), float(np.linalg.norm(low + high))
