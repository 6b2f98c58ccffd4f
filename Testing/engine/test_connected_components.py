"""Stray pieces: found by what the labeled cases show in one piece, and never more than that removed."""

import numpy as np
import pytest

from dinomix.planning.connected_components import measured, remove_stray_pieces
from dinomix.planning.plan import OnePiece


def blank() -> np.ndarray:
    return np.zeros((24, 20, 16), np.uint8)


def heart() -> np.ndarray:
    """Two structures side by side."""
    labels = blank()
    labels[4:10, 4:10, 4:10] = 1
    labels[10:14, 4:10, 4:10] = 2
    return labels


def test_a_structure_is_one_piece_only_where_all_labeled_cases_show_it_so() -> None:
    kidneys = heart()
    kidneys[18:22, 4:10, 4:10] = 1
    assert measured([heart(), heart()], 4) == OnePiece(channels=(1, 2), together=True)
    assert measured([heart(), kidneys], 4) == OnePiece(channels=(2,), together=False)


def test_a_slip_of_the_pen_does_not_make_two_pieces() -> None:
    slip = heart()
    slip[20, 15, 10] = 1
    assert measured([slip], 3).channels == (1, 2)


def test_one_structure_alone_lies_not_together() -> None:
    alone = np.where(heart() == 1, 1, 0)
    assert measured([alone], 2) == OnePiece(channels=(1,), together=False)
    assert measured([blank()], 3) == OnePiece()


def test_stray_pieces_go_and_large_ones_stay() -> None:
    labels = heart()
    expected = labels.copy()
    labels[18:21, 14:17, 10:13] = 1  # 27 voxels beside 216
    expected[18:22, 2:8, 2:10] = labels[18:22, 2:8, 2:10] = (
        2  # 192 beside 144: a half that was broken off, or the true one
    )
    assert remove_stray_pieces(labels, OnePiece(channels=(1, 2))) == {1}
    np.testing.assert_array_equal(labels, expected)


def test_pieces_that_touch_at_a_corner_are_one() -> None:
    labels = blank()
    labels[2:6, 2:6, 2:6] = 1
    labels[6, 6, 6] = 1
    assert remove_stray_pieces(labels, OnePiece(channels=(1,))) == set()
    assert labels[6, 6, 6] == 1


def test_what_is_not_one_piece_is_left_alone() -> None:
    labels = heart()
    labels[18:21, 14:17, 10:13] = 1
    before = labels.copy()
    assert remove_stray_pieces(labels, OnePiece(channels=(2,))) == set()
    np.testing.assert_array_equal(labels, before)


def test_apart_from_the_others_goes_but_never_the_largest_of_a_structure() -> None:
    labels = heart()
    labels[18:23, 14:19, 10:15] = 1  # 125 voxels: not stray beside 216, but far from the heart
    labels[0:2, 0:2, 0:2] = 3  # the only piece of its structure
    expected = heart()
    expected[0:2, 0:2, 0:2] = 3
    assert remove_stray_pieces(labels, OnePiece(channels=(1, 2, 3), together=True)) == {1}
    np.testing.assert_array_equal(labels, expected)


def test_a_larger_mistake_elsewhere_does_not_take_the_place_of_a_structure() -> None:
    labels = heart()
    labels[17:24, 12:20, 4:12] = 2  # 448 voxels beside 144, and more than the whole heart
    labels[4:14, 10:20, 4:10] = 1  # which is larger than it with what is beside it
    expected = labels.copy()
    expected[17:24, 12:20, 4:12] = 0
    assert remove_stray_pieces(labels, OnePiece(channels=(1, 2), together=True)) == {2}
    np.testing.assert_array_equal(labels, expected)


def test_crumbs_in_the_largest_group_do_not_take_a_structure_away() -> None:
    labels = blank()
    labels[4:14, 4:10, 4:10] = 1
    labels[14, 4:6, 4:6] = 2  # 4 voxels
    labels[17:21, 4:10, 4:10] = 2  # the structure itself, beyond a gap
    before = labels.copy()
    before[14, 4:6, 4:6] = 0
    assert remove_stray_pieces(labels, OnePiece(channels=(1, 2), together=True)) == {2}
    np.testing.assert_array_equal(labels, before)


def test_labels_may_be_called_otherwise_than_channels() -> None:
    labels = heart().astype(np.uint16)
    labels[18:20, 14:16, 10:12] = 1
    renamed = np.array([0, 300, 7], np.uint16)[labels]
    assert remove_stray_pieces(renamed, OnePiece(channels=(1, 2)), np.array([0, 300, 7])) == {1}
    np.testing.assert_array_equal(renamed, np.array([0, 300, 7], np.uint16)[heart()])


@pytest.mark.parametrize("every", [2, 3])
def test_on_a_coarser_grid_the_same_piece_goes(every: int) -> None:
    labels = heart()
    labels[17:21, 13:18, 9:14] = 1
    assert remove_stray_pieces(labels, OnePiece(channels=(1,)), every=every) == {1}
    assert (labels == heart()).mean() > 0.99
    assert (labels[:16] == heart()[:16]).all()


def test_without_any_structure_nothing_happens() -> None:
    labels = blank()
    assert remove_stray_pieces(labels, OnePiece(channels=(1, 2), together=True)) == set()
    assert not labels.any()
