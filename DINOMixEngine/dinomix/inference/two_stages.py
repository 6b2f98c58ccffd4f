"""What a second stage does in use: it relabels boxes around what the first stage has found of thin structures.

What is too thin for the first grid may not be found there at all, and that is what a second stage is for. So where nothing of a
structure was found, there is a box where the labeled cases have it beside another one that was found. Without such a one there
is none, and the labels stay as they are.
"""

from collections.abc import Callable, Sequence
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
from dinomix.planning.plan import PercentileWindow, Window
from dinomix.planning.preprocessing import grid_size

WINDOWS_PER_STRUCTURE = 8
"""Windows of the second stage by which the time is reckoned until its boxes are known: those of a box two patches long."""

LabelsOf = Callable[[list[Volume], Model, Emit], NDArray[Any]]
"""Labels (k, j, i) of the images of a case by one network; told its progress alone."""


def two_stage_labels(volumes: Sequence[Volume], model: Model, labels_of: LabelsOf, emit: Emit) -> NDArray[Any]:
    """Structure ids (k, j, i) on the grid that the images of all channels lie on, by both stages of a model that has two."""
    plan, second = model.plan.second, model.second
    assert plan is not None and second is not None
    geometry = volumes[0].geometry
    # Before the labels take memory.
    as_seen = [brightness(volume, window) for volume, window in zip(volumes, model.plan.windows, strict=True)]
    of_first = count_windows(grid_size(geometry, model.plan), model.plan)
    labels = labels_of(list(volumes), model, ProgressOfPart(emit, 0, expected_windows(model)))
    boxes = boxes_around(labels, geometry, plan, model.labels)
    if not boxes:
        emit("progress", stage="segmenting", step=of_first, total=of_first, eta=0.0)
        return labels
    parts = [[cropped(volume, box.seen) for volume in volumes] for box in boxes]
    windows = [count_windows(grid_size(part[0].geometry, second.plan), second.plan) for part in parts]
    for number, (box, part) in enumerate(zip(boxes, parts, strict=True)):
        progress = ProgressOfPart(emit, of_first + sum(windows[:number]), sum(windows[number + 1 :]))
        seen = [as_it_is_seen(channel) for as_it_is_seen, channel in zip(as_seen, part, strict=True)]
        labels[box.refined] = labels_of(seen, second, progress)[box.refined_in_seen]
    return labels


def expected_windows(model: Model) -> int:
    """Windows of the second stage, about, before its boxes are known; 0 where there is none."""
    return WINDOWS_PER_STRUCTURE * len(model.plan.second.structures) if model.plan.second is not None else 0


def brightness(whole: Volume, window: Window) -> Callable[[Volume], Volume]:
    """A function that gives a part of an image the intensities that the second stage takes.

    They are the image's own; where ``window``, the first stage's, has percentiles, they are scaled by those of the whole image.
    """
    if not isinstance(window, PercentileWindow):
        return lambda part: part
    low, high = limits(whole.array, window)

    def scaled(part: Volume) -> Volume:
        values = torch.from_numpy(np.array(part.array, dtype=np.float32, order="C"))
        return Volume(between(values, low, high).numpy(), part.geometry)

    return scaled
