"""Cases of which only some slices were labeled: where patches lie, and what is one piece."""

import numpy as np
import pytest

from dinomix.training.augmentation import WIDTHS
from dinomix.training.patches import random_placement
from dinomix.training.unlabeled_slices import beyond_volume, without_gaps

UNLABELED = 4


def label_of(size: int, labeled: list[int]) -> np.ndarray:
    label = np.full((6, 5, size), UNLABELED, np.uint8)
    label[..., labeled] = 0
    return label


@pytest.mark.parametrize("size, side, labeled, beyond", [
    (10, 10, [1, 5, 9], 2),     # three unlabeled slices between two labeled ones
    (10, 10, [5], 5),           # the first slice of a patch is shown the sixth, the last one too
    (7, 10, [0, 3, 6], 0),      # a smaller volume lies anywhere in the patch
    (7, 10, [3], 3),            # but its first slice is never the tenth
    (40, 10, [0, 10, 20, 30], 0),  # a longer one lies anywhere, too
    (12, 10, [0, 11], 4),
    (10, 10, list(range(10)), 0),
])  # fmt: skip
def test_a_patch_lies_so_far_beyond_that_each_of_its_places_sees_a_labeled_slice(size, side, labeled, beyond):
    label = label_of(size, labeled)
    assert beyond_volume(label, UNLABELED, (6, 5, side)) == (0, 0, beyond)
    seen = set()
    for seed in range(300):
        placement = random_placement(label.shape, (6, 5, side), np.random.default_rng(seed), WIDTHS["off"],
                                     beyond=(0, 0, beyond))  # fmt: skip
        first = round(placement.center[2] - (side - 1) / 2)
        seen |= {number - first for number in labeled}
    assert set(range(side)) <= seen


def test_nothing_labeled_asks_for_nothing():
    assert beyond_volume(label_of(10, []), UNLABELED, (6, 5, 10)) == (0, 0, 0)


def test_labeled_slices_are_put_one_on_the_other():
    label = label_of(9, [0, 4, 8])
    label[2:4, 2:4, [0, 4, 8]] = 1
    stacked = without_gaps(label, UNLABELED)
    assert stacked.shape == (6, 5, 3)
    assert (stacked[2:4, 2:4] == 1).all()
    assert not (stacked == UNLABELED).any()
