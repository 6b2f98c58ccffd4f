"""Patches: what is sampled where."""

from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation

from dinomix.training.augmentation import WIDTHS
from dinomix.training.patches import Placement, cut, random_placement

OFF, NARROW, WIDE = (WIDTHS[name] for name in ("off", "narrow", "wide"))


def by_points(volume: np.ndarray, placement: Placement, patch: tuple[int, int, int], mode: str) -> torch.Tensor:
    """The patch as PyTorch samples each of its points in the whole volume; the last axis comes first there."""
    points = placement.coordinates(patch, patch).astype(np.float64)
    grid = ((2 * points + 1) / np.array(volume.shape) - 1)[..., ::-1].copy()
    values = torch.from_numpy(volume.astype(np.float64))[None, None]
    return F.grid_sample(values, torch.from_numpy(grid)[None], mode=mode, align_corners=False)[0].float()


TURNS = ((0, 0, 0), (0, 0, 20), (0, 25, 0), (-15, 0, 0), (10, 20, -15))


@pytest.mark.parametrize(("angles", "stretched", "mirrored"), list(product(TURNS, (False, True), (False, True))))
def test_a_patch_is_the_volume_at_its_points(angles, stretched: bool, mirrored: bool):
    rng = np.random.default_rng(0)
    volume, patch = rng.random((30, 26, 22)).astype(np.float16), (16, 12, 20)
    matrix = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    matrix = matrix * (np.array([1.31, 0.83, 1.13]) if stretched else 1.0) * (np.array([-1, 1, 1]) if mirrored else 1.0)
    # In the middle, over an edge, over a corner, outside.
    for center in ((14.5, 12.5, 10.5), (3.1, 12.2, 10.7), (28.3, 24.1, -2.2), (80.1, 12.2, 10.1)):
        placement = Placement(np.array(center), matrix)
        image = cut(volume, placement, patch, "bilinear")
        torch.testing.assert_close(image, by_points(volume, placement, patch, "bilinear"), atol=1e-3, rtol=0)
        label = cut((volume * 9).astype(np.uint8), placement, patch, "nearest")
        wanted = by_points((volume * 9).astype(np.uint8), placement, patch, "nearest")
        assert (label == wanted).float().mean() > 0.99


def test_without_a_change_of_shape_a_patch_is_a_plain_crop():
    volume = np.random.default_rng(0).random((20, 24, 28)).astype(np.float16)
    for seed in range(20):
        placement = random_placement(volume.shape, (16, 16, 16), np.random.default_rng(seed), OFF)
        start = np.round(placement.center - 7.5).astype(int)
        assert (start >= 0).all() and (start + 16 <= volume.shape).all()
        crop = volume[tuple(slice(s, s + 16) for s in start)].astype(np.float32)
        np.testing.assert_array_equal(cut(volume, placement, (16, 16, 16), "bilinear")[0].numpy(), crop)
        mirrored = random_placement(volume.shape, (16, 16, 16), np.random.default_rng(seed), OFF, signs=(-1, 1, 1))
        np.testing.assert_array_equal(cut(volume, mirrored, (16, 16, 16), "bilinear")[0].numpy(), crop[::-1])


def test_a_volume_smaller_than_the_patch_is_kept_whole():
    volume = np.ones((10, 40, 12), np.float32)
    for seed in range(10):
        placement = random_placement(volume.shape, (32, 32, 32), np.random.default_rng(seed), OFF)
        assert cut(volume, placement, (32, 32, 32), "bilinear").sum().item() == 10 * 32 * 12


def test_image_and_label_are_bent_alike():
    label = np.zeros((40, 40, 40), np.uint8)
    label[10:25, 12:30, 8:20] = 1
    placement = random_placement(label.shape, (32, 32, 32), np.random.default_rng(3), NARROW)
    image = cut(label.astype(np.float32), placement, (32, 32, 32), "bilinear")[0]
    bent = cut(label, placement, (32, 32, 32), "nearest")[0]
    assert not np.array_equal(placement.matrix, np.eye(3))
    agreement = ((image > 0.5) == (bent > 0.5)).float().mean()
    assert agreement > 0.995 and set(bent.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(("width", "least", "most"), [(NARROW, 0.84, 1.19), (WIDE, 0.69, 1.41)])
def test_rotation_keeps_distances_in_millimeters(width, least: float, most: float):
    spacing = np.array([0.7, 0.7, 2.0])
    for seed in range(40):
        placement = random_placement((300, 300, 40), (224, 224, 32), np.random.default_rng(seed), width, None, spacing)
        lengths = np.linalg.norm(spacing[:, None] * placement.matrix / spacing, axis=0)
        assert ((lengths > least) & (lengths < most)).all()


def test_the_voxel_asked_for_is_in_the_patch():
    size, patch = (50, 60, 40), (32, 32, 32)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        voxel = np.array([int(rng.integers(side)) for side in size])
        placement = random_placement(size, patch, rng, OFF, voxel)
        assert (np.abs(voxel - placement.center) <= np.array(patch) / 2).all()


def test_coordinates_are_the_placement_of_each_point():
    placement = random_placement((50, 60, 40), (32, 48, 16), np.random.default_rng(1), NARROW)
    coordinates = placement.coordinates((32, 48, 16), (8, 6, 16))
    assert coordinates.shape == (8, 6, 16, 3) and coordinates.dtype == np.float32
    for i, j, k in ((0, 0, 0), (7, 5, 15), (3, 4, 9)):
        # The middles of cells of 4 x 8 x 1 voxels, from the patch's own middle.
        offset = np.array([4 * i + 1.5, 8 * j + 3.5, k]) - np.array([15.5, 23.5, 7.5])
        np.testing.assert_allclose(coordinates[i, j, k], placement.center + placement.matrix @ offset, atol=1e-5)


def test_only_the_region_of_the_patch_is_read():
    class Watched(np.ndarray):
        largest = 0

        def __getitem__(self, index):
            region = super().__getitem__(index)
            Watched.largest = max(Watched.largest, getattr(region, "size", 0))
            return region

    volume = np.zeros((200, 200, 200), np.float16).view(Watched)
    cut(
        volume, random_placement(volume.shape, (16, 16, 16), np.random.default_rng(0), NARROW), (16, 16, 16), "bilinear"
    )
    assert 0 < Watched.largest < 40**3
