"""What a second stage does in use: it relabels boxes around what the first stage has found of thin structures.

What is too thin for the first grid may not be found there at all, and that is what a second stage is for. So where nothing of a
structure was found, there is a box where the labeled cases have it beside another one that was found. Without such a one there
is none, and the labels stay as they are.
"""

from collections.abc import Callable, Sequence

import numpy as np

from dinomix.events import Emit, ProgressOfPart
from dinomix.images.volume import Volume, cropped
from dinomix.inference.boxes import boxes_around
from dinomix.inference.sliding_window import count_windows
from dinomix.inference.sureness import Found
from dinomix.models.folder import Model
from dinomix.planning.intensities import between, limits
from dinomix.planning.plan import PercentileWindow, Window
from dinomix.planning.preprocessing import grid_size

WINDOWS_PER_STRUCTURE = 8
"""Windows of the second stage by which the time is reckoned until its boxes are known: those of a box two patches long."""

FoundBy = Callable[[list[Volume], Model, Emit], Found]
"""What one network finds in the images of a case; told its progress alone."""


def found_in_two_stages(volumes: Sequence[Volume], model: Model, found_by: FoundBy, emit: Emit) -> Found:
    """What both stages of a model that has two find, on the grid that the images of all channels lie on.

    The Dice that is expected of the second stage's structures is that of what it sees of them in all boxes.
    """
    plan, second = model.plan.second, model.second
    assert plan is not None and second is not None
    geometry = volumes[0].geometry
    # Before the labels take memory.
    as_seen = [brightness(volume, window) for volume, window in zip(volumes, model.plan.windows, strict=True)]
    of_first = count_windows(grid_size(geometry, model.plan), model.plan)
    found = found_by(list(volumes), model, ProgressOfPart(emit, 0, expected_windows(model)))
    boxes = boxes_around(found.array, geometry, plan, model.labels)
    if not boxes:
        emit("progress", stage="segmenting", step=of_first, total=of_first, eta=0.0)
        return found
    parts = [[cropped(volume, box.seen) for volume in volumes] for box in boxes]
    windows = [count_windows(grid_size(part[0].geometry, second.plan), second.plan) for part in parts]
    expected = []
    for number, (box, part) in enumerate(zip(boxes, parts, strict=True)):
        progress = ProgressOfPart(emit, of_first + sum(windows[:number]), sum(windows[number + 1 :]))
        seen = [as_it_is_seen(channel) for as_it_is_seen, channel in zip(as_seen, part, strict=True)]
        in_box = found_by(seen, second, progress)
        found.refine(box, in_box)
        expected += [in_box.expected] if in_box.expected is not None else []
    if found.expected is not None and expected:
        found.expected.take_over(expected, [model.labels.names.index(name) + 1 for name in plan.structures])
    return found


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
        return Volume(between(np.array(part.array, dtype=np.float32, order="C"), low, high), part.geometry)

    return scaled
