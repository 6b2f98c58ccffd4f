"""PIC: the curriculum, the boxes, the donors, and how a batch is mixed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dinomix.planning.plan import SpacingGrid
from dinomix.training import pic
from dinomix.training.arranging import arrange
from dinomix.training.batches import Batch
from dinomix.training.config import PicConfig, make_config
from dinomix.training.groups import Group
from dinomix.training.mixing import PseudoLabeled, mix_unlabeled
from tiny_cohort import make_cohort, make_plan


def test_curriculum_begins_with_the_rare_and_ends_uniform():
    counts = np.array([1000.0, 100.0, 10.0])
    begin = pic.class_probabilities(counts, 0.0, 1.0)
    # w = log(1000/n) / log(100) = 0, 1/2, 1; divided by their sum 3/2.
    np.testing.assert_allclose(begin, [0, 1 / 3, 2 / 3])
    np.testing.assert_allclose(pic.class_probabilities(counts, 1.0, 1.0), [1 / 3] * 3)
    np.testing.assert_allclose(pic.class_probabilities(counts, 0.5, 1.0), (begin + 1 / 3) / 2)
    np.testing.assert_allclose(pic.class_probabilities(counts, 0.5, 2.0), 0.75 * begin + 0.25 / 3)


@pytest.mark.parametrize("counts", [[0.0, 0.0], [5.0, 5.0], [7.0]])
def test_without_imbalance_all_classes_are_alike(counts):
    probabilities = pic.class_probabilities(np.array(counts), 0.0, 1.0)
    np.testing.assert_allclose(probabilities, 1 / len(counts))


def test_a_class_without_a_voxel_is_not_drawn():
    for progress in (0.0, 0.5, 1.0):
        probabilities = pic.class_probabilities(np.array([500.0, 20.0, 0.0]), progress, 1.0)
        assert probabilities[2] == 0 and probabilities.sum() == pytest.approx(1)


def test_a_class_never_predicted_has_no_endless_priority():
    labeled = np.array([1000.0, 100.0, 10.0])
    seen = np.array([5e6, 0.0, 5e4])
    counts = pic.with_prior(seen, labeled, 0.1)
    assert counts.sum() == pytest.approx(seen.sum()) and counts[1] == pytest.approx(0.1 * seen.sum() * 100 / 1110)
    # However long it is not seen, it is as rare as a tenth of its labeled share.
    longer = pic.with_prior(seen * 100, labeled, 0.1)
    np.testing.assert_allclose(pic.class_probabilities(longer, 0.3, 1.0), pic.class_probabilities(counts, 0.3, 1.0))
    np.testing.assert_array_equal(pic.with_prior(np.zeros(3), labeled, 0.1), labeled)


def test_the_rarest_are_a_third():
    assert pic.rarest(np.array([5.0, 1.0, 9.0, 8.0, 0.0, 7.0, 2.0])) == {2, 7}
    assert pic.rarest(np.array([5.0, 1.0])) == {2}


def test_boxes_keep_their_size_and_contain_their_center():
    rng = np.random.default_rng(0)
    patch = (32, 48, 16)
    for _ in range(300):
        center = [int(rng.integers(side)) for side in patch]
        box = pic.random_box(patch, (0.25, 0.67), rng, center)
        for axis, (side, part) in enumerate(zip(patch, box, strict=True)):
            assert 0 <= part.start <= center[axis] < part.stop <= side
            assert round(0.25 * side) <= part.stop - part.start <= round(0.67 * side)


def test_donors_contain_the_class_drawn():
    rng = np.random.default_rng(0)
    channels = {0: {1}, 1: {1, 2}, 2: {3}}
    draws = [pic.draw_donor(channels, np.array([0.0, 0.5, 0.5]), 5, rng) for _ in range(200)]
    assert all(channel in channels[donor] for channel, donor in draws)
    assert {channel for channel, _ in draws} == {2, 3}


def test_without_a_donor_a_random_box_is_taken():
    rng = np.random.default_rng(0)
    channel, donor = pic.draw_donor({4: {1}}, np.array([0.0, 1.0]), 3, rng)
    assert channel is None and donor == 4
    drawn, box = pic.draw_box(torch.zeros(8, 8, 8, dtype=torch.long), 2, (0.5, 0.5), rng)
    assert drawn is None and all(part.stop - part.start == 4 for part in box)


def test_feature_mask_is_the_covered_share_of_each_cell():
    box = (slice(0, 8), slice(0, 16), slice(4, 16))
    mask = pic.feature_mask(box, (16, 16, 16), (2, 2, 2))
    assert mask[0, 0].tolist() == [0.5, 1.0]
    assert mask[1].abs().sum() == 0


def batch_of(labels: torch.Tensor, *groups: Group) -> Batch:
    images = torch.rand(len(labels), 1, *labels.shape[1:])
    return Batch(labeled=images, labels=labels, unlabeled=images, groups=groups or (Group((0, 1)), Group((2, 3))))


def pseudo_labels() -> PseudoLabeled:
    torch.manual_seed(0)
    labels = torch.zeros(4, 16, 16, 16, dtype=torch.long)
    labels[0, 2:5, 2:5, 2:5] = 1
    labels[1, 9:12, 9:12, 9:12] = 2
    labels[3, :, :, :2] = 1
    images, weight, features = torch.rand(4, 1, 16, 16, 16), torch.ones(4, 16, 16, 16), torch.rand(4, 6, 2, 2, 2)
    counts = torch.bincount(labels.flatten(), minlength=3)[1:]
    is_true = torch.zeros(4, 16, 16, 16, dtype=torch.bool)
    return PseudoLabeled(images, labels, weight, is_true, features, counts, certainty=torch.ones(2))


def test_image_and_pseudo_label_are_pasted_at_the_same_place():
    before = pseudo_labels()
    config = make_config("dino-mix", **{"pic.probability": 1.0})
    mixed, draws = mix_unlabeled(before, batch_of(before.labels), np.array([0.5, 0.5]), config, 3, 0)
    assert [draw.receiver for draw in draws] == [0, 1, 2, 3]
    for draw in draws:
        assert draw.donor // 2 == draw.receiver // 2 and draw.donor != draw.receiver
        inside = (draw.receiver, 0, *draw.box)
        assert torch.equal(mixed.images[inside], before.images[(draw.donor, 0, *draw.box)])
        assert torch.equal(mixed.labels[(draw.receiver, *draw.box)], before.labels[(draw.donor, *draw.box)])
        if draw.channel is not None:
            assert (mixed.labels[(draw.receiver, *draw.box)] == draw.channel).any()
        outside = torch.ones(16, 16, 16, dtype=torch.bool)
        outside[draw.box] = False
        assert torch.equal(mixed.images[draw.receiver, 0][outside], before.images[draw.receiver, 0][outside])


def test_sharing_the_batch_out_changes_nothing():
    before = pseudo_labels()
    config = make_config("dino-mix", **{"batch_unlabeled": 4})
    together, draws = mix_unlabeled(before, batch_of(before.labels), np.array([0.5, 0.5]), config, 7, 0)
    assert draws
    halves = []
    for first in (0, 2):
        part = slice(first, first + 2)
        parts = {name: getattr(before, name)[part] for name in ("images", "labels", "weight", "features")}
        half = replace(before, **parts)
        halves.append(
            mix_unlabeled(half, batch_of(half.labels, Group((0, 1))), np.array([0.5, 0.5]), config, 7, first)[0]
        )
    assert torch.equal(together.images, torch.cat([half.images for half in halves]))
    assert torch.equal(together.features, torch.cat([half.features for half in halves]))


def test_the_class_of_a_group_comes_from_its_donor():
    before = pseudo_labels()
    config = make_config("dino-mix", **{"pic.probability": 1.0})
    groups = Group((0, 1), channel=1, donor=0, voxel=(3, 3, 3)), Group((2, 3), channel=2, donor=0, voxel=(1, 1, 1))
    for step in range(5):
        # Probabilities without the groups' classes: what is drawn is theirs, or that of a random box.
        _, draws = mix_unlabeled(before, batch_of(before.labels, *groups), np.array([0.0, 1.0]), config, step, 0)
        assert draws[1].receiver == 1 and draws[1].channel == 1 and draws[1].donor == 0
        # The donor itself receives from the other, which shows another class; nobody in the second group shows class 2.
        assert draws[0].channel == 2 and draws[0].donor == 1
        assert draws[2].channel is None and draws[3].channel is None


def labeled_donor(before: PseudoLabeled, *groups: Group) -> Batch:
    truth = torch.zeros(1, 16, 16, 16, dtype=torch.long)
    truth[0, 4:8, 4:8, 4:8] = 2
    return replace(batch_of(before.labels, *groups), donors=torch.full((1, 1, 16, 16, 16), 2.0), donor_labels=truth)


def test_a_labeled_donor_gives_its_true_label():
    before = replace(pseudo_labels(), weight=torch.zeros(4, 16, 16, 16), features=None)
    config = make_config("dino-mix", **{"pic.probability": 1.0})
    batch = labeled_donor(before, Group((0, 1)), Group((2, 3), channel=2, labeled=7))
    mixed, draws = mix_unlabeled(before, batch, np.array([1.0, 0.0]), config, 1, 0)
    assert [draw.donor for draw in draws[2:]] == [7, 7]
    for draw in draws[2:]:
        inside = (draw.receiver, *draw.box)
        assert draw.channel == 2 and (mixed.weight[inside] == 1).all()
        assert torch.equal(mixed.labels[inside], batch.donor_labels[(0, *draw.box)])
        assert (mixed.images[(draw.receiver, 0, *draw.box)] == 2).all()
        assert mixed.weight[draw.receiver].min() == 0 and mixed.images[draw.receiver].min() < 1


def test_across_pastes_ground_truth_and_halves_the_rest():
    before = replace(pseudo_labels(), features=None)
    config = make_config("dino-mix", **{"pic.across": True, "pic.probability": 1.0})
    groups = Group((0,)), Group((1,)), Group((2,), channel=2, labeled=5), Group((3,))
    mixed, draws = mix_unlabeled(before, labeled_donor(before, *groups), np.array([0.0, 1.0]), config, 1, 0)
    assert [(draw.channel, draw.donor, draw.receiver) for draw in draws] == [(2, 5, 2)]
    assert (mixed.weight[(2, *draws[0].box)] == 1).all()
    assert mixed.weight.min() == 0.5 and (mixed.weight[[0, 1, 3]] == 0.5).all()


def test_groups_must_fit_the_batch():
    from dinomix.errors import DinomixError

    with pytest.raises(DinomixError, match=r"multiple of pic\.group"):
        make_config("dino-mix", **{"batch_unlabeled": 3})
    assert PicConfig().group == 2


def test_across_thick_slices_labeled_boxes_go_into_all_unlabeled_patches(tmp_path: Path):
    cohort = make_cohort(tmp_path / "cases")
    cohort.write(tmp_path / "cohort.json")
    thick = make_plan().model_copy(update={"grid": SpacingGrid(spacing=(1.5, 1.5, 10.0))})
    thick.write(tmp_path / "thick.json")
    make_plan().write(tmp_path / "plan.json")
    told: list[str] = []

    def emit(kind: str, **fields: Any) -> None:
        told.append(fields["message"])

    def pic_of(plan: str, **choices: Any) -> tuple[bool, bool, float]:
        arranged = arrange(
            tmp_path / "cohort.json", fkd="off", device="cpu", plan=tmp_path / plan, emit=emit, **choices
        )
        pic = arranged.config.pic
        return pic.enabled, pic.across, pic.probability

    assert pic_of("plan.json") == (True, False, 0.5) and not told
    assert pic_of("thick.json", settings={"pic.across": False}) == (True, False, 0.5) and not told
    assert pic_of("thick.json", settings={"pic.probability": 0.3}) == (True, False, 0.3) and not told
    assert pic_of("thick.json", pic=False) == pic_of("thick.json", method="cps") == (False, False, 0.5) and not told
    assert pic_of("thick.json", method="cps", pic=True) == (True, False, 0.5) and not told
    assert pic_of("thick.json") == pic_of("thick.json", pic=True) == (True, True, 1.0)
    assert "pic.across=true" in told.pop()
    told.clear()
    assert pic_of("thick.json", settings={"batch_unlabeled": 0}) == (False, False, 0.5) and "without PIC" in told[0]
    assert pic_of("thick.json", pic=True, settings={"batch_unlabeled": 0}) == (True, False, 0.5)
