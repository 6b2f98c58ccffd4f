"""Dice, NSD, HD95 and ASD: against values worked out by hand, and against MONAI's own functions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice

from dinomix.evaluation.metrics import common_box, dice, surface_distances
from dinomix.evaluation.references import Reference
from dinomix.evaluation.strict import case_metrics
from dinomix.images.bounding_boxes import bounding_boxes
from dinomix.images.reading import read_label
from dinomix.images.volume import Volume
from dinomix.labels import LabelSet

SPACING = (5.0, 0.8, 0.7)


def mask(*voxels: tuple[int, int, int], shape: tuple[int, int, int] = (8, 8, 8)) -> np.ndarray:
    array = np.zeros(shape, bool)
    for voxel in voxels:
        array[voxel] = True
    return array


def test_two_voxels_three_slices_apart() -> None:
    here, there = mask((1, 2, 2)), mask((4, 2, 2))
    distances = surface_distances(here, there, SPACING)
    assert dice(here, there) == 0.0
    assert distances.hd95() == pytest.approx(15.0)
    assert distances.asd() == pytest.approx(15.0)
    assert distances.nsd(14.9) == 0.0
    assert distances.nsd(15.0) == 1.0


@pytest.mark.parametrize(("step", "expected"), [((1, 0, 0), 5.0), ((0, 1, 0), 0.8), ((0, 0, 1), 0.7)])
def test_spacing_belongs_to_its_own_axis(step: tuple[int, int, int], expected: float) -> None:
    distances = surface_distances(mask((2, 2, 2)), mask(tuple(2 + s for s in step)), SPACING)  # type: ignore[arg-type]
    assert distances.asd() == pytest.approx(expected)


def test_asd_and_hd95_are_symmetric_where_one_surface_lies_on_a_part_of_the_other() -> None:
    part, whole = mask((0, 2, 2)), mask((0, 2, 2), (4, 2, 2))
    forth, back = surface_distances(part, whole, (1, 1, 1)), surface_distances(whole, part, (1, 1, 1))
    # One surface gives [0], the other [0, 4]: their mean is 4/3, the higher 95th percentile 0.95 * 4.
    for distances in (forth, back):
        assert distances.asd() == pytest.approx(4 / 3)
        assert distances.hd95() == pytest.approx(3.8)
        assert distances.nsd(1.0) == pytest.approx(2 / 3)
    assert dice(part, whole) == pytest.approx(2 / 3)


def test_a_cube_moved_by_one_voxel() -> None:
    here, there = np.zeros((12, 12, 12), bool), np.zeros((12, 12, 12), bool)
    here[2:6, 2:6, 2:6] = True
    there[3:7, 2:6, 2:6] = True
    distances = surface_distances(here, there, (1, 1, 1))
    # 4x4x4 voxels, 56 of them on the surface, those inside a side wall of the other one lie on its surface too. Of the
    # first cap all 16 are 1 away; the 4 of the layer above that were inside the other's cap are 1 away from it: inside.
    assert dice(here, there) == pytest.approx(2 * 48 / 128)
    assert distances.hd95() == pytest.approx(1.0)
    assert distances.from_prediction.size == 56
    assert distances.from_prediction.sum() == pytest.approx(20.0)
    assert distances.asd() == pytest.approx(20 / 56)
    assert distances.nsd(0.5) == pytest.approx(36 / 56)
    assert distances.nsd(1.0) == 1.0


def test_the_border_of_the_volume_is_a_surface() -> None:
    full = np.ones((5, 5, 5), bool)
    distances = surface_distances(full, mask((2, 2, 2), shape=(5, 5, 5)), (1, 1, 1))
    assert distances.from_prediction.size == 5**3 - 3**3


def test_identical_masks_are_perfect() -> None:
    blob = random_blob(0)
    distances = surface_distances(blob, blob, SPACING)
    assert (dice(blob, blob), distances.nsd(0.0), distances.hd95(), distances.asd()) == (1.0, 1.0, 0.0, 0.0)


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_monai(seed: int) -> None:
    here, there = random_blob(seed), random_blob(seed + 100)
    distances = surface_distances(here, there, SPACING)
    a, b = (torch.from_numpy(m)[None, None].float() for m in (here, there))
    settings = {"include_background": True, "spacing": SPACING}
    assert distances.nsd(2.0) == pytest.approx(compute_surface_dice(a, b, [2.0], **settings).item(), abs=1e-6)
    assert distances.hd95() == pytest.approx(
        compute_hausdorff_distance(a, b, percentile=95, **settings).item(), rel=1e-5
    )
    expected = compute_average_surface_distance(a, b, symmetric=True, **settings).item()
    assert distances.asd() == pytest.approx(expected, rel=1e-5)


def test_boxes_hold_each_label_and_nothing_more() -> None:
    labels = np.zeros((6, 7, 8), np.uint8)
    labels[1:3, 2:5, 3:4] = 4
    labels[5, 6, 7] = 9
    assert bounding_boxes(labels) == {
        4: (slice(1, 3), slice(2, 5), slice(3, 4)),
        9: (slice(5, 6), slice(6, 7), slice(7, 8)),
    }
    assert common_box(bounding_boxes(labels)[4], bounding_boxes(labels)[9]) == (slice(1, 6), slice(2, 7), slice(3, 8))
    assert common_box(None, None) is None


def test_cropping_to_the_common_box_changes_nothing() -> None:
    here, there = random_blob(3), random_blob(4)
    box = common_box(bounding_boxes(here.astype(np.uint8)).get(1), bounding_boxes(there.astype(np.uint8)).get(1))
    assert box is not None
    whole, cropped = surface_distances(here, there, SPACING), surface_distances(here[box], there[box], SPACING)
    assert (whole.asd(), whole.hd95(), whole.nsd(1.0)) == (cropped.asd(), cropped.hd95(), cropped.nsd(1.0))


def test_real_organs_moved_by_one_voxel(test_data: Path) -> None:
    """13 organs of a CT of 3 mm, moved along one axis: nothing can be farther off than one voxel."""
    volume, _ = read_label(test_data / "ct_multiorgan/labels_synapse13.nii.gz")
    labels = LabelSet.from_names({int(id): str(id) for id in np.unique(volume.array) if id})
    moved = Volume(np.roll(volume.array, 1, axis=2), volume.geometry)
    metrics = case_metrics(moved, Reference(volume), labels, dict.fromkeys(labels.names, 3.0))
    assert len(metrics) == 12  # the esophagus is not labeled in this scan
    for values in metrics.values():
        assert values["nsd"] == 1.0 and 0 < values["asd"] < 3.0 and values["hd95"] <= 3.0 + 1e-4
        assert 0.3 < values["dice"] < 1.0


def random_blob(seed: int) -> np.ndarray:
    """An irregular body that touches no border, 20 x 20 x 20."""
    random = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(20)] * 3, indexing="ij"), axis=-1)
    center, radii = random.uniform(8, 12, 3), random.uniform(3, 6, 3)
    body = (((grid - center) / radii) ** 2).sum(-1) < 1
    return body & (random.random(body.shape) < 0.95)
