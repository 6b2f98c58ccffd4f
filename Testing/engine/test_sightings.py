"""Sightings and groups: unlabeled patches are cut around what the EMA teacher has predicted, by the same steps for all."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dinomix.training.augmentation import WIDTHS
from dinomix.training.batches import Batches, in_order
from dinomix.training.groups import Groups
from dinomix.training.patches import Placement, cut, random_placement
from dinomix.training.schedule import schedule_of_steps
from dinomix.training.sightings import LAG, Sighting, Sightings, sighting
from tiny_cohort import make_cohort, make_plan, small_config

PATCH = (16, 16, 16)


def seen(case: int, *voxels: tuple[int, int, int, int], center: float = 20.0) -> Sighting:
    """Voxels (channel, x, y, z) seen in a patch of 16 voxels a side."""
    rows = np.array(voxels, np.int32).reshape(-1, 4)
    return Sighting(case, Placement(np.full(3, center), np.eye(3)), PATCH, rows)


def known(sightings: Sightings, step: int) -> dict[int, list[list[int]]]:
    return {case: voxels.tolist() for case, voxels in sightings.at(step).voxels.items()}


def test_voxels_are_those_of_the_volume():
    volume = np.zeros((40, 36, 30), np.uint8)
    volume[20:24, 16:19, 12:15] = 2
    volume[10:30, 8:28, 20:23] = 1
    for seed in range(10):
        rng = np.random.default_rng(seed)
        placement = random_placement(
            volume.shape, PATCH, rng, WIDTHS["wide"], np.array([21, 17, 16]), signs=((-1) ** seed, 1, 1)
        )
        labels = cut(volume, placement, PATCH, "nearest")[0].numpy().astype(np.int16)
        found = sighting(labels, 3, placement, volume.shape, 8, rng)
        assert found.case == 3 and all(1 <= (found.voxels[:, 0] == c).sum() <= 8 for c in np.unique(labels[labels > 0]))
        for channel, *voxel in found.voxels:
            assert volume[tuple(voxel)] == channel
        assert found.covers(found.voxels).all()
        assert not found.covers(found.voxels + np.array([0, 60, 0, 0])).any()


def test_what_the_padding_shows_is_no_place():
    labels = np.ones(PATCH, np.int16)
    found = sighting(
        labels, 0, Placement(np.array([2.0, 2.0, 2.0]), np.eye(3)), (6, 6, 6), 5000, np.random.default_rng(0)
    )
    assert len(found.voxels) and (found.voxels[:, 1:] >= 0).all() and (found.voxels[:, 1:] < 6).all()


def test_a_step_is_known_so_many_steps_later():
    sightings = Sightings(2, 0.9, 4)
    for step in range(3):
        sightings.add(step, np.array([100.0 * step, 10.0]), [seen(step, (1, 20, 20, step))])
        assert known(sightings, step + 1) == {}
    assert known(sightings, LAG) == {}
    assert known(sightings, LAG + 1) == {0: [[1, 20, 20, 0]]}
    assert set(known(sightings, LAG + 3)) == {0, 1, 2}
    # Asked for far ahead or not, the same is known of a step.
    for step in range(3, 40):
        ahead = known(sightings, step + LAG)
        sightings.add(step, np.ones(2), [])
        assert known(sightings, step + LAG) == ahead


def test_counts_run_on():
    sightings = Sightings(2, 0.9, 4)
    sightings.add(0, np.array([100.0, 10.0]), [])
    sightings.add(1, np.array([0.0, 110.0]), [])
    np.testing.assert_allclose(sightings.at(LAG + 1).counts, [100.0, 10.0])
    np.testing.assert_allclose(sightings.at(LAG + 2).counts, [90.0, 20.0])


def test_a_second_look_replaces_the_first_and_the_newest_are_kept():
    sightings = Sightings(2, 0.9, 3)
    sightings.add(0, np.ones(2), [seen(0, (1, 20, 20, 20), (2, 21, 20, 20)), seen(0, (1, 60, 60, 60), center=60.0)])
    sightings.add(1, np.ones(2), [seen(0, (2, 18, 18, 18))])  # no class 1 there after all
    sightings.add(2, np.ones(2), [seen(0, *[(2, 99, 99, z) for z in range(5)], center=99.0)])
    assert known(sightings, LAG + 2)[0] == [[1, 60, 60, 60], [2, 18, 18, 18]]
    assert known(sightings, LAG + 3)[0] == [[1, 60, 60, 60], *[[2, 99, 99, z] for z in (2, 3, 4)]]


def test_a_checkpoint_gives_back_what_was_seen(tmp_path: Path):
    sightings = Sightings(2, 0.9, 3)
    for step in range(LAG + 5):
        sightings.add(step, np.array([step + 1.0, 2.0]), [seen(step % 3, (1, 20, 20, step % 8 + 13))])
    torch.save(sightings.state(), tmp_path / "state.pt")
    again = Sightings(2, 0.9, 3)
    again.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    for step in range(LAG + 5, 2 * LAG + 5):
        assert known(again, step) == known(sightings, step)
        np.testing.assert_array_equal(again.at(step).counts, sightings.at(step).counts)
    with pytest.raises(ValueError, match="structures"):
        Sightings(3, 0.9, 3).restore(sightings.state())


def groups(sightings: Sightings, unlabeled: int = 4, **settings: object) -> Groups:
    defaults = {"pic.places": 4, "pic.probability": 1.0, "batch_unlabeled": 2, "pseudo_label_start": 0.0}
    config = small_config("mean-teacher", fkd="off", pic=True, **{**defaults, **settings})
    schedule = schedule_of_steps(config, 400)
    return Groups(unlabeled, {0: {1}, 1: {1, 2}}, np.array([1000.0, 10.0]), config, schedule, sightings)


def with_class_two_in_case(case: int) -> Sightings:
    sightings = Sightings(2, 0.9, 4)
    sightings.add(0, np.array([1000.0, 10.0]), [seen(case, (2, 20, 21, 22))])
    return sightings


def test_groups_are_cut_around_what_was_predicted():
    planned = groups(with_class_two_in_case(3))
    drawn = [planned.of(step, 0)[0] for step in range(LAG + 1, 100)]
    around = [group for group in drawn if group.channel == 2]
    assert len(around) > len(drawn) / 2  # the rarest first
    for group in drawn:
        assert len(set(group.cases)) == 2
    for group in around:
        assert group.labeled is None and group.voxel == (20, 21, 22) and group.cases[group.donor] == 3
    assert {group.donor for group in around} == {0, 1}


def test_where_no_unlabeled_case_has_the_class_a_labeled_one_gives():
    planned = groups(Sightings(2, 0.9, 4))
    drawn = [planned.of(step, 0)[0] for step in range(60)]
    assert all(group.labeled == 1 for group in drawn if group.channel == 2)
    assert {group.channel for group in drawn} == {1, 2}


def test_a_case_never_gives_to_itself():
    planned = groups(with_class_two_in_case(0), unlabeled=1)
    drawn = [planned.of(step, 0)[0] for step in range(LAG + 1, 60)]
    assert all(group.cases == (0, 0) and group.donor is None and group.labeled is not None for group in drawn)


@pytest.mark.parametrize("settings", [{"pic.places": 0}, {"pic.probability": 0.0}, {"pseudo_label_start": 0.9}])
def test_groups_lie_anywhere_where_nothing_is_to_be_received(settings: dict):
    planned = groups(with_class_two_in_case(3), **settings)
    assert all(planned.of(step, 0)[0].channel is None for step in range(LAG + 1, 60))


def test_processes_plan_together_what_one_process_plans():
    sightings = with_class_two_in_case(3)
    one, two = groups(sightings, batch_unlabeled=4), groups(sightings, batch_unlabeled=2)
    for step in range(LAG + 1, 40):
        assert one.of(step, 0) == two.of(step, 0) + two.of(step, 1)


def batches(tmp_path: Path, sightings: Sightings, first_step: int, **settings: object) -> Batches:
    cohort = make_cohort(tmp_path, unlabeled=4)
    place = np.broadcast_to(np.arange(64, dtype=np.float16)[:, None, None] / 64, (64, 64, 64))
    label = np.zeros((64, 64, 64), np.uint8)
    label[46:50, 30:34, 30:34] = 2
    cases = {
        case.name: SimpleNamespace(
            name=case.name, size=label.shape, image=place, label=label, locations=lambda: {2: np.argwhere(label == 2)}
        )
        for case in cohort.cases
    }
    config = small_config("mean-teacher", fkd="off", pic=True, pseudo_label_start=0.0, augment="off", steps=LAG + 9,
                          **{"pic.places": 4, "pic.probability": 1.0, **settings})  # fmt: skip
    plan = make_plan().model_copy(update={"patch": PATCH})
    return Batches(cohort, cases, plan, config, schedule_of_steps(config, config.steps),
                   rank=0, first_step=first_step, features=None, sightings=sightings)  # type: ignore[arg-type]  # fmt: skip


def test_patches_lie_where_their_group_does(tmp_path: Path):
    sightings = Sightings(2, 0.9, 4)
    sightings.add(0, np.array([1000.0, 10.0]), [seen(2, (2, 16, 30, 30))])
    source = batches(tmp_path, sightings, 0)
    kinds = set()
    for step in range(LAG + 9):
        batch = source[source.wanted(step)]
        group, patch_places = batch.groups[0], batch.unlabeled.mean((1, 2, 3, 4)) * 64
        if group.channel == 2:
            wanted = 16 if group.labeled is None else 48
            assert ((patch_places - wanted).abs() <= 4.6).all()
            kinds.add(wanted)
            assert (batch.donors is None) == (wanted == 16)
            if batch.donor_labels is not None:
                assert (batch.donor_labels == 2).any()
    assert kinds == {16, 48}


@pytest.mark.parametrize("workers", [0, 2, 8])
def test_batches_prepared_beside_the_steps_go_by_the_same_steps(workers: int, tmp_path: Path):
    """Each step adds a sighting of its own; whoever prepares batches ahead must not know more or less of them."""

    def run(first: int, last: int, sightings: Sightings, workers: int) -> list:
        source = batches(tmp_path, sightings, first, workers=workers)
        groups = []
        for step, batch in zip(range(first, last), in_order(source), strict=False):
            groups.append((batch.groups, batch.unlabeled.mean().item()))
            sightings.add(step, np.array([500.0, 5.0]), [seen(step % 4, (2, 10 + step, 30, 30), center=30.0)])
        return groups

    whole = run(0, LAG + 9, Sightings(2, 0.9, 4), workers)
    half, resumed = Sightings(2, 0.9, 4), Sightings(2, 0.9, 4)
    parts = run(0, LAG + 3, half, 0)
    resumed.restore(half.state())
    parts += run(LAG + 3, LAG + 9, resumed, workers)
    assert parts == whole
    assert any(group.voxel for groups, _ in whole for group in groups)
