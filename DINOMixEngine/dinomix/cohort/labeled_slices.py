"""Cases of which only some slices were labeled: every tenth, say. The others are not background, nobody labeled them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dinomix.cohort.cohort import LabeledSlices

Runs = tuple[tuple[int, int], ...]
"""First and behind the last slice of each run of neighboring slices that show something."""
LEAST = 3
"""Slices at equal distances that are taken for every so manieth; two say nothing of a rhythm."""


def runs_of(shown: NDArray[np.bool_]) -> tuple[Runs, Runs, Runs]:
    """Along (i, j, k), of what a label map (k, j, i) shows."""
    i, j, k = (_runs(np.asarray(shown.any(axis=tuple({0, 1, 2} - {axis})))) for axis in (2, 1, 0))
    return i, j, k


def _runs(shown: NDArray[np.bool_]) -> Runs:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], shown, [False]]).astype(np.int8)))
    return tuple((int(start), int(stop)) for start, stop in edges.reshape(-1, 2))


def found_slices(runs: Sequence[Runs], size: Sequence[int]) -> LabeledSlices | None:
    """The labeled slices of a case that shows single slices at equal distances along exactly one axis; else None.

    The rhythm goes on to both ends of the volume: who draws every tenth slice has seen there that nothing is to be drawn. So a
    network learns where a structure ends.

    Args:
        runs, size: along (i, j, k).
    """
    rhythmic = [axis for axis in range(3) if _is_rhythm(runs[axis])]
    if len(rhythmic) != 1:
        return None
    (axis,) = rhythmic
    numbers = [start for start, _ in runs[axis]]
    step = int(np.median(np.diff(numbers)))
    before, behind = range(numbers[0] - step, -1, -step), range(numbers[-1] + step, size[axis], step)
    return LabeledSlices(axis="ijk"[axis], numbers=tuple(sorted([*before, *numbers, *behind])))  # type: ignore[arg-type]


def _is_rhythm(runs: Runs) -> bool:
    if len(runs) < LEAST or any(stop - start > 1 for start, stop in runs):
        return False
    distances = np.diff([start for start, _ in runs])
    # Who counts slices by eye is now and then off by one.
    return bool(distances.max() - distances.min() <= max(1, distances.min() // 4))


def drawn_slices(runs: Sequence[Runs]) -> LabeledSlices | None:
    """The slices that show something, along the axis with the most gaps; None where there is nothing or no gap."""
    axis = max((2, 1, 0), key=lambda axis: len(runs[axis]))
    if len(runs[axis]) < 2:
        return None
    numbers = tuple(number for start, stop in runs[axis] for number in range(start, stop))
    return LabeledSlices(axis="ijk"[axis], numbers=numbers)  # type: ignore[arg-type]
