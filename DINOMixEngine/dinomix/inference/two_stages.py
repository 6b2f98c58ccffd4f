"""What a second stage does in use: it relabels boxes around what the first stage has found of thin structures.

What is too thin for the first grid may not be found there at all, and that is what a second stage is for. So where nothing of a
structure was found, there is a box where the labeled cases have it beside another one that was found. Without such a one there
is none, and the labels stay as they are.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dinomix.events import Emit, ProgressOfPart
from dinomix.images.volume import Volume, cropped
from dinomix.inference.boxes import boxes_around
from dinomix.inference.sliding_window import count_windows
from dinomix.models.folder import Model
from dinomix.planning.intensities import between, limits
from dinomix.planning.plan import PercentileWindow, Plan
from dinomix.planning.preprocessing import grid_size

WINDOWS_PER_STRUCTURE = 8
"""Windows of the second stage by which the time is reckoned until its boxes are known: those of a box two patches long."""

LabelsOf = Callable[[Volume, Model, Emit], NDArray[Any]]
"""Labels (k, j, i) of a volume by one network; told its progress alone."""


def two_stage_labels(volume: Volume, model: Model, labels_of: LabelsOf, emit: Emit) -> NDArray[Any]:
    """Structure ids (k, j, i) on the volume's grid, by both stages of a model that has two."""
    plan, second = model.plan.second, model.second
    assert plan is not None and second is not None
    as_seen = brightness(volume, model.plan)  # before the labels take memory
    of_first = count_windows(grid_size(volume.geometry, model.plan), model.plan)
    labels = labels_of(volume, model, ProgressOfPart(emit, 0, expected_windows(model)))
    boxes = boxes_around(labels, volume.geometry, plan, model.labels)
    if not boxes:
        emit("progress", stage="segmenting", step=of_first, total=of_first, eta=0.0)
        return labels
    parts = [cropped(volume, box.seen) for box in boxes]
    windows = [count_windows(grid_size(part.geometry, second.plan), second.plan) for part in parts]
    for number, (box, part) in enumerate(zip(boxes, parts, strict=True)):
        progress = ProgressOfPart(emit, of_first + sum(windows[:number]), sum(windows[number + 1 :]))
        labels[box.refined] = labels_of(as_seen(part), second, progress)[box.refined_in_seen]
    return labels


def expected_windows(model: Model) -> int:
    """Windows of the second stage, about, before its boxes are known; 0 where there is none."""
    return WINDOWS_PER_STRUCTURE * len(model.plan.second.structures) if model.plan.second is not None else 0


def brightness(whole: Volume, first: Plan) -> Callable[[Volume], Volume]:
    """A function that gives a part of an image the intensities that the second stage takes.

    They are the image's own; where the first stage scales by percentiles, they are scaled by those of the whole image.
    """
    if not isinstance(first.window, PercentileWindow):
        return lambda part: part
    low, high = limits(whole.array, first.window)

    def scaled(part: Volume) -> Volume:
        values = torch.from_numpy(np.array(part.array, dtype=np.float32, order="C"))
        return Volume(between(values, low, high).numpy(), part.geometry)

    return scaled
