"""Connected voxels by runs, against scipy's and plain NumPy."""

import tracemalloc

import numpy as np
import pytest
from scipy.ndimage import label

from dinomix.planning.runs import BYTES_PER_RUN, Runs, count_runs

CORNERS = np.ones((3, 3, 3))
SHAPES = [(1, 1, 1), (1, 7, 9), (8, 1, 6), (9, 5, 1), (6, 9, 12), (12, 11, 10)]


def blobs(shape: tuple[int, ...], share: float, seed: int) -> np.ndarray:
    """Labels 0 to 3; the others make up a share of the voxels."""
    random = np.random.default_rng(seed)
    return (random.integers(1, 4, shape) * (random.random(shape) < share)).astype(np.uint8)


def on_voxels(runs: Runs, of_runs: np.ndarray) -> np.ndarray:
    result = np.zeros(runs.shape, of_runs.dtype)
    for there, _, index in runs.voxels():
        result[index] = np.repeat(of_runs[there], runs.sizes[there])
    return result


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.6, 1.0])
def test_pieces_are_those_of_scipy_in_its_order(shape: tuple[int, ...], share: float) -> None:
    for seed in range(5):
        labels = blobs(shape, share, seed)
        runs = Runs.of(labels)
        assert np.array_equal(on_voxels(runs, runs.value), labels) and len(runs) == count_runs(labels)
        together = on_voxels(runs, runs.pieces(of_any_label=True))
        assert np.array_equal(together, label(labels, CORNERS)[0])
        pieces = on_voxels(runs, runs.pieces())
        for value in (1, 2, 3):
            expected, count = label(labels == value, CORNERS)
            there = labels == value
            numbers, in_order = np.unique(pieces[there], return_inverse=True)
            assert len(numbers) == count and np.array_equal(in_order + 1, expected[there])


def test_axes_may_be_in_any_order() -> None:
    labels = blobs((6, 9, 12), 0.3, 0)
    turned = Runs.of(labels.transpose(2, 0, 1)[:, ::-1])
    assert np.array_equal(on_voxels(turned, turned.value), labels.transpose(2, 0, 1)[:, ::-1])
    assert turned.pieces().max() == Runs.of(labels).pieces().max()


def test_values_of_voxels_are_put_together_by_runs_and_voxels_cleared() -> None:
    labels = blobs((6, 9, 12), 0.4, 1)
    weights = np.random.default_rng(2).random(labels.shape)
    runs = Runs.of(labels)
    summed, highest = (runs.reduced(reduce, lambda index: weights[index]) for reduce in (np.add, np.maximum))
    for value in (1, 2, 3):
        there = runs.value == value
        assert summed[there].sum() == pytest.approx(weights[labels == value].sum())
        assert highest[there].max() == weights[labels == value].max()
    cleared = labels.copy()
    runs.only(runs.value == 2).clear(cleared)
    assert np.array_equal(cleared, np.where(labels == 2, 0, labels))


def test_noise_takes_no_more_memory_than_is_reckoned_with() -> None:
    labels = blobs((60, 60, 60), 1.0, 3)
    tracemalloc.start()
    Runs.of(labels).pieces()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < BYTES_PER_RUN * count_runs(labels)
