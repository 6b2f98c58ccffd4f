"""Protocol `strict`: native grid, millimetres, symmetric distances; what is not there is counted, never averaged in.

A case and class falls into one of four:

==============  =========  ==========  ==============================================================================
status          reference  prediction  what it gives
==============  =========  ==========  ==============================================================================
scored          present    present     Dice, NSD, HD95, ASD
missed          present    empty       Dice 0, NSD 0; no distance exists: HD95 and ASD are None, counted in ``missed``
false_positive  empty      present     nothing enters a mean; counted in ``false_positive``
absent          empty      empty       nothing
==============  =========  ==========  ==============================================================================

``n`` counts scored and missed cases, over which Dice and NSD are averaged; ``n_distance`` the scored ones, over which
HD95 and ASD are. So a network that misses a structure is punished in Dice and NSD and shows in ``missed``; its
distances speak only of the cases that it found.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from dinomix.evaluation.metrics import common_box, dice, surface_distances
from dinomix.images.bounding_boxes import bounding_boxes
from dinomix.images.volume import Volume
from dinomix.labels import LabelSet

UNITS = {"dice": "0..1", "nsd": "0..1", "hd95": "mm", "asd": "mm"}
METRICS = tuple(UNITS)
NOTHING = dict.fromkeys(METRICS)

CaseMetrics = dict[str, dict[str, Any]]
"""Class name -> ``dice``, ``nsd``, ``hd95``, ``asd`` (float or None) and ``status``."""


def case_metrics(
    prediction: Volume, reference: Volume, labels: LabelSet, tolerances: Mapping[str, float]
) -> CaseMetrics:
    """Metrics of one case: two label volumes (k, j, i) on one grid, their values the ids of ``labels``.

    Args:
        tolerances: of NSD, class name -> mm.
    """
    spacing = reference.geometry.spacing[::-1]
    predicted_boxes, reference_boxes = bounding_boxes(prediction.array), bounding_boxes(reference.array)
    result: CaseMetrics = {}
    for structure in labels.structures:
        here, there = predicted_boxes.get(structure.id), reference_boxes.get(structure.id)
        box = common_box(here, there)
        if box is None:
            result[structure.name] = {**NOTHING, "status": "absent"}
        elif there is None:
            result[structure.name] = {**NOTHING, "status": "false_positive"}
        elif here is None:
            result[structure.name] = {**NOTHING, "dice": 0.0, "nsd": 0.0, "status": "missed"}
        else:
            predicted, expected = prediction.array[box] == structure.id, reference.array[box] == structure.id
            distances = surface_distances(predicted, expected, spacing)
            result[structure.name] = {
                "dice": dice(predicted, expected),
                "nsd": distances.nsd(tolerances[structure.name]),
                "hd95": distances.hd95(),
                "asd": distances.asd(),
                "status": "scored",
            }
    return result


def summary(cases: Mapping[str, CaseMetrics], labels: LabelSet) -> dict[str, Any]:
    """``classes`` (means over cases) and ``mean`` (means over the classes that have one) for ``metrics.json``."""
    classes = {name: _class_summary([case[name] for case in cases.values()]) for name in labels.names}
    overall = {metric: _mean([c[metric] for c in classes.values()]) for metric in METRICS}
    totals = {
        count: sum(c[count] for c in classes.values()) for count in ("n", "n_distance", "missed", "false_positive")
    }
    return {"classes": classes, "mean": {**overall, **totals}}


def _class_summary(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    statuses = [entry["status"] for entry in entries]
    return {
        **{metric: _mean([entry[metric] for entry in entries]) for metric in METRICS},
        "n": statuses.count("scored") + statuses.count("missed"),
        "n_distance": statuses.count("scored"),
        "missed": statuses.count("missed"),
        "false_positive": statuses.count("false_positive"),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None
