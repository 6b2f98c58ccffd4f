"""Patches: what is sampled where."""

import numpy as np
import torch

from dinomix.training.patches import augmented_intensities, random_placement, sample


def test_without_a_change_of_shape_a_patch_is_a_plain_crop():
    volume = np.random.default_rng(0).random((20, 24, 28)).astype(np.float16)
    for seed in range(20):
        placement = random_placement(volume.shape, (16, 16, 16), np.random.default_rng(seed), augment=False)
        start = np.round(placement.center - 7.5).astype(int)
        assert (start >= 0).all() and (start + 16 <= volume.shape).all()
        crop = volume[tuple(slice(s, s + 16) for s in start)].astype(np.float32)
        patch = sample(volume, placement.coordinates((16, 16, 16), (16, 16, 16)), "bilinear")
        np.testing.assert_allclose(patch[0].numpy(), crop, atol=1e-3)


def test_a_volume_smaller_than_the_patch_is_kept_whole():
    volume = np.ones((10, 40, 12), np.float32)
    for seed in range(10):
        placement = random_placement(volume.shape, (32, 32, 32), np.random.default_rng(seed), augment=False)
        patch = sample(volume, placement.coordinates((32, 32, 32), (32, 32, 32)), "bilinear")
        assert patch.sum().item() == 10 * 32 * 12


def test_image_and_label_are_bent_alike():
    label = np.zeros((40, 40, 40), np.uint8)
    label[10:25, 12:30, 8:20] = 1
    placement = random_placement(label.shape, (32, 32, 32), np.random.default_rng(3), augment=True)
    coordinates = placement.coordinates((32, 32, 32), (32, 32, 32))
    image = sample(label.astype(np.float32), coordinates, "bilinear")[0]
    bent = sample(label, coordinates, "nearest")[0]
    assert not np.array_equal(placement.matrix, np.eye(3))
    agreement = ((image > 0.5) == (bent > 0.5)).float().mean()
    assert agreement > 0.995 and set(bent.unique().tolist()) == {0.0, 1.0}


def test_rotation_keeps_distances_in_millimeters():
    spacing = np.array([0.7, 0.7, 5.0])
    for seed in range(20):
        placement = random_placement((300, 300, 40), (224, 224, 32), np.random.default_rng(seed), True, None, spacing)
        lengths = np.linalg.norm(spacing[:, None] * placement.matrix / spacing, axis=0)
        assert ((lengths > 0.84) & (lengths < 1.19)).all()


def test_the_voxel_asked_for_is_in_the_patch():
    size, patch = (50, 60, 40), (32, 32, 32)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        voxel = np.array([int(rng.integers(side)) for side in size])
        placement = random_placement(size, patch, rng, False, voxel)
        assert (np.abs(voxel - placement.center) <= np.array(patch) / 2).all()


def test_coordinates_are_the_placement_of_each_point():
    placement = random_placement((50, 60, 40), (32, 48, 16), np.random.default_rng(1), augment=True)
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
    placement = random_placement(volume.shape, (16, 16, 16), np.random.default_rng(0), augment=True)
    sample(volume, placement.coordinates((16, 16, 16), (16, 16, 16)), "bilinear")
    assert 0 < Watched.largest < 40**3


def test_intensity_changes_repeat_with_their_seed_and_stay_in_range():
    patches = torch.rand(3, 1, 8, 8, 8)
    once, again = augmented_intensities(patches, [1, 2, 3]), augmented_intensities(patches, [1, 2, 3])
    assert torch.equal(once, again) and type(once) is torch.Tensor
    assert once.min() >= 0 and once.max() <= 1
    assert not torch.equal(once, augmented_intensities(patches, [4, 5, 6]))
