"""Cases of which only some slices were labeled: how patches lie, so that each place in them is taught, and what is one piece.

A patch that always lies alike shows the labeled slices always at the same places. What the network says at the others is then up
to chance: on ten thick slices, which a patch holds all, it was right at the labeled ones and wild between them (docs/results.md).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from numpy.typing import NDArray

from dinomix.cohort.labeled_slices import runs_of

Beyond = tuple[int, int, int]
NOWHERE: Beyond = (0, 0, 0)


def beyond_volume(label: NDArray[Any], unlabeled: int, patch: Sequence[int]) -> Beyond:
    """Voxels along (x, y, z) by which patches are to lie outside.

    Along an axis with slices that nobody labeled, so many that some placement shows a labeled slice at each place of a patch, as
    far as placements within the volume do not: the gap at an end, or half of the widest one between two labeled slices.

    Args:
        label: (x, y, z).
        unlabeled: the value of voxels that nobody labeled.
        patch: voxels along (x, y, z).
    """
    labeled = runs_of((label != unlabeled).transpose(2, 1, 0))
    x, y, z = (_beyond(runs, size, side) for runs, size, side in zip(labeled, label.shape, patch, strict=True))
    return x, y, z


def without_gaps(label: NDArray[Any], unlabeled: int) -> NDArray[Any]:
    """The slices (x, y, z) that somebody labeled, put one on the other.

    What is one piece so is one piece in the body, since its neighboring sections lie over each other.
    """
    known = label != unlabeled
    for axis in range(3):
        label = label.compress(known.any(axis=tuple({0, 1, 2} - {axis})), axis)
    return label


def _beyond(runs: Sequence[tuple[int, int]], size: int, side: int) -> int:
    if not runs:
        return 0
    between = [following - stop for (_, stop), (following, _) in pairwise(runs)]
    # A volume smaller than the patch lies anywhere in it; but its ends are never beyond the patch's.
    at_ends = max(runs[0][0], size - runs[-1][1]) - max(0, size - side)
    return max(0, at_ends, (max(between, default=0) - abs(size - side) + 1) // 2)
