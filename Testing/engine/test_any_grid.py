"""Segmenting an array on any affine grid: its labels lie on its own voxels, also where the grid is sheared."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from dinomix.errors import DinomixError
from dinomix.images.shear import is_sheared, labels_at
from dinomix.inference.any_grid import segment_array
from dinomix.inference.options import Options
from dinomix.models.folder import Model
from dinomix.planning.plan import RangeWindow, SpacingGrid
from random_models import labels_with_ids, random_model, small_plan

SHEARED = np.array([[-0.8, 0.0, 0.1, 20.0], [0.0, -0.9, 0.7, 5.0], [0.1, 0.0, 1.8, -30.0], [0, 0, 0, 1]])
"""A gantry tilted by about 20 degrees."""


class Threshold(torch.nn.Module):
    """Labels the upper half of the window 7 and the rest background."""

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return torch.cat([0.5 - windows, windows - 0.5], dim=1)


def threshold_model(folder: Path, low: float, high: float) -> Model:
    plan = small_plan(SpacingGrid(spacing=(1.1, 1.0, 1.6)), RangeWindow(low=low, high=high))
    return random_model(folder / "model", plan, labels_with_ids(7))


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * np.sum(one & other) / (one.sum() + other.sum())


def ball(affine: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Millimeters from the sphere of radius 14 mm about the grid's middle, positive inside."""
    k, j, i = np.indices(shape)
    ras = np.stack([i, j, k, np.ones(shape)], axis=-1) @ affine.T
    middle = affine @ [*((np.array(shape[::-1]) - 1) / 2), 1]
    return 14 - np.linalg.norm((ras - middle)[..., :3], axis=-1)


@pytest.mark.parametrize("flip", [False, True])
def test_a_ball_on_a_sheared_grid(tmp_path: Path, flip: bool) -> None:
    shape = (34, 50, 56)
    affine = SHEARED @ np.diag([1, 1, -1, 1]) if flip else SHEARED
    assert is_sheared(affine, shape[::-1])
    image = (ball(affine, shape) * 50).clip(-500, 500).astype(np.int16 if flip else np.float32)
    model = threshold_model(tmp_path, -500, 500)
    labels, notices = segment_array(image, affine, model, Options("cpu"), networks=[Threshold()])
    assert labels.shape == shape and labels.dtype == np.uint8 and set(np.unique(labels)) == {0, 7}
    assert len(notices) == 1 and "sheared" in notices[0]
    truth = image > 0
    overlap = dice(labels == 7, truth)
    assert overlap > 0.95
    for axis in range(3):
        for step in (-1, 1):
            assert dice(np.roll(labels == 7, step, axis), truth) < overlap


def test_labels_of_a_tilted_scan_lie_on_its_own_voxels(test_data: Path, tmp_path: Path) -> None:
    file = nibabel.load(test_data / "geometry/gantry_tilt_sheared_affine.nii.gz")
    image = np.asarray(file.dataobj).transpose(2, 1, 0)
    assert is_sheared(file.affine, image.shape[::-1])
    # Bone and soft tissue against air, without the single voxels of noise that resampling blurs.
    smooth = gaussian_filter(image.astype(np.float32), 2)
    model = threshold_model(tmp_path, -400, 300)
    labels, notices = segment_array(smooth, file.affine, model, Options("cpu"), networks=[Threshold()])
    assert labels.shape == image.shape and notices
    assert dice(labels == 7, smooth > -50) > 0.95


def test_nearest_labels_agree_with_scipy() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 400, (9, 11, 13)).astype(np.uint16)
    affine, wanted = np.diag([1.0, 1.2, 2.0, 1.0]), np.eye(4)
    wanted[:3, :3] += rng.uniform(-0.2, 0.2, (3, 3))
    wanted[:3, 3] = 1.5, -1.0, 3.0
    shape = (12, 10, 14)
    result = labels_at(labels, affine, wanted, shape)
    k, j, i = np.indices(shape)
    at = np.einsum("ab,bkji->akji", np.linalg.inv(affine) @ wanted, np.stack([i, j, k, np.ones(shape)]))
    expected = map_coordinates(labels, at[[2, 1, 0]], order=0, mode="grid-constant")
    assert result.dtype == np.uint16 and 0 < np.mean(result > 0) < 1
    assert np.array_equal(result, expected)


def test_the_same_grid_changes_nothing() -> None:
    labels = np.random.default_rng(0).integers(0, 9, (5, 6, 7)).astype(np.uint8)
    assert np.array_equal(labels_at(labels, SHEARED, SHEARED, labels.shape), labels)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 30, 30), (1, 40, 3)])
def test_tiny_sheared_volumes(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    affine = SHEARED.copy()
    affine[0, 1] = 0.4
    model = threshold_model(tmp_path, -10, 10)
    labels, _ = segment_array(np.full(shape, 9, np.int16), affine, model, Options("cpu"), networks=[Threshold()])
    assert labels.shape == shape and set(np.unique(labels)) <= {0, 7}


def test_axes_that_are_nearly_parallel_are_refused_before_they_fill_the_memory(tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = (0.05, 0.0, 0.0), (50.0, 0.15, 0.0)
    model = threshold_model(tmp_path, -10, 10)
    with pytest.raises(DinomixError, match="too far from perpendicular"):
        segment_array(np.zeros((60, 300, 300), np.int16), affine, model, Options("cpu"), networks=[Threshold()])


def test_an_array_is_read_where_it_lies(tmp_path: Path) -> None:
    """A memory-mapped array of any layout and byte order, and the array itself stays as it is."""
    image = ball(np.diag([1.0, 1, 1, 1]), (30, 32, 34)).clip(-10, 10)
    model = threshold_model(tmp_path, -10, 10)
    expected, notices = segment_array(image, np.eye(4), model, Options("cpu"), networks=[Threshold()])
    assert not notices
    np.save(tmp_path / "image.npy", image.astype(">f4"))
    mapped = np.load(tmp_path / "image.npy", mmap_mode="r")
    for array in (mapped, np.asfortranarray(image), np.repeat(image, 2, axis=2)[:, :, ::2]):
        labels, _ = segment_array(array, np.eye(4), model, Options("cpu"), networks=[Threshold()])
        assert np.array_equal(labels, expected)
