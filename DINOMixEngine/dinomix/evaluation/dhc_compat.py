"""Protocol `dhc-compat`: the evaluation of the code that DHC, GenericSSL (A&D) and SKCDF released, quirk for quirk.

It exists so that our numbers can be set beside published ones, and for nothing else. Its quirks, each kept on purpose:

1. Everything happens on the whole volume resized to 80 x 160 x 160 voxels (k, j, i), whatever its spacing and
   orientation; labels by PyTorch's "nearest", which takes voxel floor(index * old / new).
2. Dice is on the scale 0 to 100; but where prediction and reference are both empty it is 1, as if that case were all
   but lost, and ASD is 0.
3. Where exactly one of the two is empty, Dice is 0 and ASD is 128.
4. ASD is the mean distance from the prediction's surface to the reference's, not back, in voxels of the resized grid. A
   prediction that lies on a part of the reference's surface is perfect.
5. All cases enter the mean, also where the class does not occur: first over cases, then over classes.

The released code computes Dice and ASD with MedPy (``metric.binary.dc`` and ``asd``), whose surface is that of
``dinomix.evaluation.metrics``. It has no NSD and no HD95.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dinomix.evaluation.metrics import common_box, dice, surface_distances
from dinomix.images.bounding_boxes import bounding_boxes
from dinomix.images.volume import Volume
from dinomix.labels import LabelSet
from dinomix.planning.size_grid import resized_by_floor

SIZE = (160, 160, 80)
"""Voxels along (i, j, k)."""
ASD_OF_ONE_EMPTY = 128.0
DICE_OF_BOTH_EMPTY = 1.0
UNITS = {"dice": "percent, 0..100", "asd": "voxels of the resized grid, prediction to reference only"}

CaseMetrics = dict[str, dict[str, Any]]


def resized(labels: NDArray[Any], size: tuple[int, int, int] = SIZE) -> NDArray[np.uint16]:
    """A label array (k, j, i) on the protocol's grid; ``size`` along (i, j, k). Of that size already: unchanged."""
    array: NDArray[np.uint16] = resized_by_floor(labels, (size[2], size[1], size[0])).astype(np.uint16)
    return array


def case_metrics(
    prediction: Volume, reference: Volume, labels: LabelSet, size: tuple[int, int, int] = SIZE
) -> CaseMetrics:
    """Dice and ASD of one case. Either volume may lie on its native grid or on the resized one already."""
    predicted, expected = resized(prediction.array, size), resized(reference.array, size)
    predicted_boxes, expected_boxes = bounding_boxes(predicted), bounding_boxes(expected)
    result: CaseMetrics = {}
    for structure in labels.structures:
        here, there = predicted_boxes.get(structure.id), expected_boxes.get(structure.id)
        box = common_box(here, there)
        if box is None:
            values = {"dice": DICE_OF_BOTH_EMPTY, "asd": 0.0, "status": "absent"}
        elif here is None or there is None:
            status = "missed" if here is None else "false_positive"
            values = {"dice": 0.0, "asd": ASD_OF_ONE_EMPTY, "status": status}
        else:
            a, b = predicted[box] == structure.id, expected[box] == structure.id
            distances = surface_distances(a, b, (1.0, 1.0, 1.0))
            asd = float(distances.from_prediction.mean())
            values = {"dice": 100.0 * dice(a, b), "asd": asd, "status": "scored"}
        result[structure.name] = {"dice": values["dice"], "nsd": None, "hd95": None, **values}
    return result


def summary(cases: Mapping[str, CaseMetrics], labels: LabelSet) -> dict[str, Any]:
    """``classes`` (means over all cases) and ``mean`` (over classes) for ``metrics.json``."""
    classes = {}
    for name in labels.names:
        entries = [case[name] for case in cases.values()]
        classes[name] = {
            "dice": float(np.mean([entry["dice"] for entry in entries])),
            "nsd": None,
            "hd95": None,
            "asd": float(np.mean([entry["asd"] for entry in entries])),
            "n": len(entries),
            **{status: sum(entry["status"] == status for entry in entries) for status in ("missed", "false_positive")},
        }
    return {
        "classes": classes,
        "mean": {
            "dice": float(np.mean([c["dice"] for c in classes.values()])),
            "nsd": None,
            "hd95": None,
            "asd": float(np.mean([c["asd"] for c in classes.values()])),
            **{count: sum(c[count] for c in classes.values()) for count in ("n", "missed", "false_positive")},
        },
    }
