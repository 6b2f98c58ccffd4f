"""Protocol `strict`: native grid, millimetres, symmetric distances; what is not there is counted, never averaged in.

A case and class falls into one of these:

==============  =========  ==========  ==============================================================================
status          reference  prediction  what it gives
==============  =========  ==========  ==============================================================================
scored          present    present     Dice, NSD, HD95, ASD
missed          present    empty       Dice 0, NSD 0; no distance exists: HD95 and ASD are None, counted in ``missed``
false_positive  empty      present     nothing enters a mean; counted in ``false_positive``
absent          empty      empty       nothing
scored_in_part  in part    present     Dice, where somebody labeled; a surface ends where nobody did, so no distance exists
not_drawn       not drawn  anything    nothing
==============  =========  ==========  ==============================================================================

``n`` counts scored (also in part) and missed cases, over which Dice and NSD are averaged; ``n_distance`` the scored ones, of
which HD95 and ASD are. So a network that misses a structure is punished in Dice and NSD and shows in ``missed``; its
distances speak only of the cases that it found.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

from dinomix.evaluation.metrics import common_box, dice, surface_distances
from dinomix.evaluation.references import Reference
from dinomix.images.bounding_boxes import Box, bounding_boxes
from dinomix.images.volume import Volume
from dinomix.labels import LabelSet

UNITS = {"dice": "0..1", "nsd": "0..1", "hd95": "mm", "asd": "mm"}
METRICS = tuple(UNITS)
NOTHING = dict.fromkeys(METRICS)

CaseMetrics = dict[str, dict[str, Any]]
"""Name of a class or region -> ``dice``, ``nsd``, ``hd95``, ``asd`` (float or None) and ``status``."""


def case_metrics(
    prediction: Volume, compared: Reference, labels: LabelSet, tolerances: Mapping[str, float]
) -> CaseMetrics:
    """Metrics of one case: two label volumes (k, j, i) on one grid, their values the ids of ``labels``.

    Args:
        tolerances: of NSD, class name -> mm.
    """
    reference, prediction = compared.volume, compared.in_part(prediction)
    spacing = reference.geometry.spacing[::-1]
    predicted_boxes, reference_boxes = bounding_boxes(prediction.array), bounding_boxes(reference.array)
    result: CaseMetrics = {}
    for name, ids in classes_of(labels).items():
        here, there = (_box_of_all(ids, boxes) for boxes in (predicted_boxes, reference_boxes))
        box = common_box(here, there)
        if not compared.not_drawn.isdisjoint(ids):
            result[name] = {**NOTHING, "status": "not_drawn"}
        elif box is None:
            result[name] = {**NOTHING, "status": "absent"}
        elif there is None:
            result[name] = {**NOTHING, "status": "false_positive"}
        elif here is None:
            nsd = 0.0 if compared.unlabeled is None else None
            result[name] = {**NOTHING, "dice": 0.0, "nsd": nsd, "status": "missed"}
        elif compared.unlabeled is not None:
            predicted, expected = np.isin(prediction.array[box], ids), np.isin(reference.array[box], ids)
            result[name] = {**NOTHING, "dice": dice(predicted, expected), "status": "scored_in_part"}
        else:
            predicted, expected = np.isin(prediction.array[box], ids), np.isin(reference.array[box], ids)
            distances = surface_distances(predicted, expected, spacing)
            result[name] = {
                "dice": dice(predicted, expected),
                "nsd": distances.nsd(tolerances[name]),
                "hd95": distances.hd95(),
                "asd": distances.asd(),
                "status": "scored",
            }
    return result


def summary(cases: Mapping[str, CaseMetrics], labels: LabelSet) -> dict[str, Any]:
    """``classes`` (means over cases) and ``mean`` (means over the classes that have one) for ``metrics.json``.

    Regions have means of their own, ``regions``, and no say in ``mean``, which would count their structures twice.
    """
    every = {name: _class_summary([case[name] for case in cases.values()]) for name in classes_of(labels)}
    classes = {name: every[name] for name in labels.names}
    overall = {metric: _mean([c[metric] for c in classes.values()]) for metric in METRICS}
    totals = {
        count: sum(c[count] for c in classes.values()) for count in ("n", "n_distance", "missed", "false_positive")
    }
    regions = {"regions": {region.name: every[region.name] for region in labels.regions}} if labels.regions else {}
    return {"classes": classes, **regions, "mean": {**overall, **totals}}


def classes_of(labels: LabelSet) -> dict[str, tuple[int, ...]]:
    """Name -> ids of all that is compared: structures, and regions after them."""
    structures = {structure.name: (structure.id,) for structure in labels.structures}
    return structures | {region.name: region.structures for region in labels.regions}


def _box_of_all(ids: Sequence[int], boxes: Mapping[int, Box]) -> Box | None:
    """The smallest box around all structures of these ids; None where there is none of them."""
    return reduce(common_box, (boxes.get(id) for id in ids))


def _class_summary(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    statuses = [entry["status"] for entry in entries]
    return {
        **{metric: _mean([entry[metric] for entry in entries]) for metric in METRICS},
        "n": sum(statuses.count(status) for status in ("scored", "scored_in_part", "missed")),
        "n_distance": statuses.count("scored"),
        "missed": statuses.count("missed"),
        "false_positive": statuses.count("false_positive"),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None
