"""Where the labeled cases have their structures, and what that tells of pieces elsewhere."""

from itertools import permutations, product

import numpy as np
import pytest
import torch

from dinomix.images.volume import Geometry, Volume
from dinomix.planning.connected_components import remove_far, remove_stray_pieces
from dinomix.planning.plan import OnePiece, SpacingGrid, Whereabouts
from dinomix.planning.preprocessing import preprocess
from dinomix.planning.whereabouts import LEAST_DEVIATION, Nearness, measured_whereabouts, of_image, on_grid
from dinomix.training.augmentation import WIDTHS
from dinomix.training.batches import Batch
from dinomix.training.mixing import labeled_by
from dinomix.training.patches import random_placement
from random_models import small_plan

SIZE, SPACING = (40, 30, 20), (1.0, 2.0, 3.0)
EXTENT = (40.0, 60.0, 60.0)
RULE = OnePiece(channels=(1, 2), together=True)


def heart(at: tuple[int, int, int] = (10, 12, 8), side: int = 6) -> np.ndarray:
    """Two structures side by side, (x, y, z)."""
    labels = np.zeros(SIZE, np.uint8)
    x, y, z = at
    labels[x : x + side // 2, y : y + side, z : z + side] = 1
    labels[x + side // 2 : x + side, y : y + side, z : z + side] = 2
    return labels


def expected() -> Whereabouts:
    found = measured_whereabouts([heart(), heart((12, 12, 8))], SPACING)
    assert found is not None
    return found


def whole() -> Nearness:
    near = Nearness.of_volume(expected(), np.array(SIZE), np.array(EXTENT))
    assert near is not None
    return near


def test_positions_are_shares_of_the_volume() -> None:
    found = expected()
    assert found.center == pytest.approx((14 / 40, 15 / 30, 11 / 20))
    spread = np.sqrt(35 / 12)  # of six neighbors
    assert found.deviation == pytest.approx(
        (max(np.hypot(spread, 1) / 40, LEAST_DEVIATION), spread / 30, spread / 20), abs=1e-6
    )
    assert found.smallest == found.largest == EXTENT
    assert measured_whereabouts([np.zeros(SIZE, np.uint8)], SPACING) is None


def test_each_case_counts_alike() -> None:
    found = measured_whereabouts([heart(side=2), heart((30, 12, 8), side=8)], SPACING)
    assert found is not None and found.center[0] == pytest.approx((11 + 34) / 2 / 40)


def test_what_is_where_it_belongs_stays_though_it_is_smaller() -> None:
    labels = heart(side=4)
    right = labels.copy()
    labels[28:38, 2:9, 2:9] = 1
    labels[28:38, 9:12, 2:9] = 2
    blind = labels.copy()
    assert remove_stray_pieces(blind, RULE) == {1, 2} and not blind[:20].any()
    assert remove_stray_pieces(labels, RULE, nearness=whole()) == {1, 2}
    np.testing.assert_array_equal(labels, right)


def test_every_other_voxel_tells_the_same() -> None:
    labels = heart(side=4)
    right = labels.copy()
    labels[28:38, 2:10, 2:10] = 1
    assert remove_stray_pieces(labels, RULE, every=2, nearness=whole()) == {1}
    np.testing.assert_array_equal(labels, right)


PLAN = small_plan(SpacingGrid(spacing=SPACING))


def sums(near: Nearness, labels: np.ndarray) -> np.ndarray:
    """The nearness of all voxels of each label together."""
    voxels = np.nonzero(labels)
    return np.bincount(labels[voxels], near.at(voxels))


@pytest.mark.parametrize("axes", permutations(range(3)))
@pytest.mark.parametrize("flips", product((False, True), repeat=3))
def test_the_order_of_a_files_axes_changes_nothing(axes: tuple[int, int, int], flips: tuple[bool, ...]) -> None:
    labels = heart() + 3 * heart((30, 3, 2))
    wanted = sums(whole(), labels)
    # Along the file's axis n lies the patient's axes[n], reversed or not; LPS has x and y against RAS.
    direction = np.zeros((3, 3))
    for column, (axis, flip) in enumerate(zip(axes, flips, strict=True)):
        direction[axis, column] = (-1.0 if axis < 2 else 1.0) * (-1 if flip else 1)
    stored = labels.transpose(axes)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    size = tuple(SIZE[axis] for axis in axes)
    spacing = tuple(SPACING[axis] for axis in axes)
    geometry = Geometry(size, spacing, (5.0, 6.0, 7.0), direction)
    near = of_image(expected(), geometry, PLAN, (0, 1, 2))
    assert near is not None
    np.testing.assert_allclose(sums(near, stored), wanted)
    turned = of_image(expected(), geometry, PLAN, (2, 1, 0))
    assert turned is not None
    np.testing.assert_allclose(sums(turned, stored.transpose(2, 1, 0)), wanted)


@pytest.mark.parametrize("orientation", ["RAS", "LPS"])
def test_an_image_is_judged_by_the_axes_of_the_plan(orientation: str) -> None:
    plan = small_plan(SpacingGrid(spacing=SPACING, orientation=orientation))
    array = heart().transpose(2, 1, 0)  # as a file in LPS has it
    volume = Volume(array.astype(np.float32), Geometry(SIZE, SPACING, (0.0, 0.0, 0.0), np.eye(3)))
    seen = preprocess(volume, plan)
    labels = np.asarray(seen.reorientation.forward(heart()))
    found = measured_whereabouts([labels], SPACING)
    assert found is not None and (found.center[0] < 0.5) == (orientation == "LPS")
    grid, image = on_grid(found, SIZE, plan), of_image(found, volume.geometry, plan, (2, 1, 0))
    assert grid is not None and image is not None
    wanted = sums(grid, labels)
    np.testing.assert_allclose(sums(image, array), wanted)
    assert wanted[1] > 0.5 * (labels == 1).sum()


@pytest.mark.parametrize("extent", [(60.0, 60.0, 60.0), (40.0, 60.0, 40.0)])
def test_of_volumes_that_show_more_or_less_of_the_body_nothing_is_known(extent: tuple[float, float, float]) -> None:
    assert Nearness.of_volume(expected(), np.array(SIZE), np.array(extent)) is None
    assert Nearness.of_volume(expected(), np.array(SIZE), np.array([50.0, 50.0, 60.0])) is not None


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1)])
def test_a_patch_knows_where_it_lies(signs: tuple[int, int, int]) -> None:
    rng, patch = np.random.default_rng(0), (8, 6, 4)
    for _ in range(5):
        placement = random_placement(SIZE, patch, rng, WIDTHS["narrow"], spacing=SPACING, signs=signs)
        matrix, offset = placement.as_shares(patch, np.array(SIZE))
        shares = (placement.coordinates(patch, patch) + 0.5) / SIZE
        for voxel in np.ndindex(patch):
            np.testing.assert_allclose(matrix @ voxel + offset, shares[voxel], atol=1e-5)


def test_in_a_patch_far_from_all_structures_nothing_is_taught_to_be_one() -> None:
    logits = torch.zeros(2, 3, 40, 30, 20)
    logits[:, 0] = 1
    labels = torch.from_numpy(heart((10, 12, 8)))
    far = torch.from_numpy(heart((32, 20, 2)))
    logits[0, 1][labels == 1] = logits[0, 2][labels == 2] = 5
    logits[1, 1][far == 1] = logits[1, 2][far == 2] = 5
    batch = Batch(torch.empty(0), torch.empty(0), torch.zeros(2, 1, 40, 30, 20))
    taught = labeled_by(logits, batch, 0.0, RULE, [whole(), whole()])
    assert torch.equal(taught.labels[0], labels.long()) and not taught.labels[1].any()
    unknown = labeled_by(logits, batch, 0.0, RULE, [None, None])
    assert torch.equal(unknown.labels[1], far.long())


def test_what_reaches_to_where_structures_are_is_not_far() -> None:
    labels = heart((4, 12, 8))
    before = labels.copy()
    remove_far(labels, whole())
    np.testing.assert_array_equal(labels, before)
