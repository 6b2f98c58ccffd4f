"""Pseudo-labels wait until the EMA teacher has found what labels teach, and labels teach it little more."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dinomix.planning.plan import OnePiece
from dinomix.training import reliability
from dinomix.training.batches import Batch
from dinomix.training.losses import loss_of_heads
from dinomix.training.methods import mean_teacher
from dinomix.training.methods.labeled_only import LabeledOnly
from dinomix.training.methods.mean_teacher import MeanTeacher
from dinomix.training.reliability import Reliability, judged
from dinomix.training.schedule import schedule_of_steps
from tiny_cohort import make_plan, small_config


class Constant(nn.Module):
    """A teacher that says the same of every patch."""

    def __init__(self, said: torch.Tensor, classes: int) -> None:
        super().__init__()
        self.logits = nn.functional.one_hot(said, classes).movedim(-1, 1).float()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits


def test_the_confusion_counts_truth_by_rows():
    truth = torch.tensor([0, 0, 1, 1, 2, 2]).reshape(1, 6, 1, 1)
    said = torch.tensor([0, 1, 1, 1, 0, 2]).reshape(1, 6, 1, 1)
    counted = judged(Constant(said, 3), torch.zeros(1, 1, 6, 1, 1), truth)
    assert counted.tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 1]]


ALL = np.array([True, True, True])


def judge(reliability: Reliability, confusion: np.ndarray, labeled: np.ndarray, memory: int) -> None:
    reliability.update(confusion)
    reliability.judge(labeled, labeled, memory)


def confusion_of(*dice: float) -> np.ndarray:
    """Of structures of 1000 voxels each, with as many false positives as false negatives."""
    found = 1000 * np.array(dice)
    confusion = np.diag([9000.0, *found])
    confusion[0, 1:] = confusion[1:, 0] = 1000 - found
    return confusion


def test_each_structure_has_its_dice():
    reliability = Reliability(4)
    # Structure 3 was never called, and is overlooked wholly.
    judge(reliability, np.array([[900, 10, 20, 0], [10, 90, 0, 0], [24, 0, 16, 0], [50, 0, 0, 0]], float), ALL, 1)
    assert reliability.dice() == pytest.approx([2 * 90 / 200, 2 * 16 / 76, 0.0])


@pytest.mark.parametrize(
    ("labeled", "may"), [((True, True, True), False), ((True, True, False), False), ((True, False, False), True)]
)
def test_a_teacher_that_has_not_quite_found_a_structure_may_not_teach(labeled, may):
    reliability = Reliability(4)
    for _ in range(20):
        judge(reliability, confusion_of(0.9, 0.6, 0.5), np.array(labeled), 10)
    assert reliability.may_teach(np.array(labeled)) == may


def test_what_is_hopeless_holds_up_no_other():
    reliability, labeled = Reliability(4), np.array([True, True, False])
    for number in range(20):
        judge(reliability, confusion_of(0.9, 0.3, 0.3), labeled, 10)
        # While labels may still teach much, there is hope.
        assert reliability.may_teach(labeled) == (number >= 4)
        assert reliability.hopeless.tolist() == [False, number >= 4, False]
    for dice, may, hopeless in ((0.65, True, True), (0.75, True, False), (0.55, False, False), (0.4, True, True)):
        for _ in range(20):
            judge(reliability, confusion_of(0.9, dice, 0.3), labeled, 10)
        assert (reliability.may_teach(labeled), reliability.hopeless[1]) == (may, hopeless), dice


def test_what_labels_still_teach_is_not_hopeless():
    """Of ten structures one rises, by as little of their mean as is a stand."""
    reliability, labeled = Reliability(11), np.ones(10, bool)
    for number in range(20):
        judge(reliability, confusion_of(*[0.9] * 9, 0.02 * number), labeled, 10)
        assert not reliability.may_teach(labeled) and not reliability.hopeless.any()
    for _ in range(20):
        judge(reliability, confusion_of(*[0.9] * 9, 0.4), labeled, 10)
    assert reliability.may_teach(labeled) and reliability.hopeless.tolist() == [False] * 9 + [True]


def test_of_what_labels_do_not_teach_there_is_always_hope():
    reliability, labeled = Reliability(4), np.array([True, True, False])
    for _ in range(20):
        reliability.update(confusion_of(0.9, 0.3, 0.3))
        reliability.judge(labeled, np.array([True, False, False]), 10)
    assert not reliability.hopeless.any() and not reliability.may_teach(labeled)


def test_where_all_is_hopeless_nobody_may_teach():
    reliability = Reliability(4)
    for _ in range(20):
        judge(reliability, confusion_of(0.3, 0.3, 0.0), ALL, 10)
    assert not reliability.may_teach(ALL)


def test_what_is_hopeless_is_taken_for_what_its_voxels_are_called():
    reliability = Reliability(5)
    confusion = np.diag([9000.0, 900, 20, 0, 30])
    confusion[2, :3], confusion[4, [0, 3]] = [10, 70, 20], [20, 50]
    confusion[3, 4] = 50
    for _ in range(20):
        reliability.update(confusion)
        reliability.judge(np.ones(4, bool), np.ones(4, bool), 10)
    assert reliability.hopeless.tolist() == [False, True, True, True]
    # 3 is only called 4, and 4 mostly 3, which are hopeless both.
    assert reliability.taken_for().tolist() == [0, 1, 1, 0, 0]


def test_before_anything_is_measured_no_teacher_may_teach():
    assert not Reliability(4).may_teach(ALL)


def test_a_teacher_may_teach_once_its_dice_has_come_to_a_stand():
    reliability, may = Reliability(4), []
    for step in range(60):
        judge(reliability, confusion_of(*[min(0.02 * step, 0.8)] * 3), ALL, 10)
        may.append(reliability.may_teach(ALL))
    # It is above 0.7 from the 36th on, and still from the 40th on.
    assert not any(may[:40]) and all(may[55:])


def test_what_has_come_to_a_stand_may_teach_until_a_structure_is_lost():
    reliability = Reliability(4)
    for dice, may in ((0.65, False), (0.75, True), (0.65, True), (0.5, False), (0.65, False), (0.9, True)):
        for _ in range(20):
            judge(reliability, confusion_of(0.9, 0.9, dice), ALL, 10)
        assert reliability.may_teach(ALL) == may, dice


def test_few_measurements_say_nothing():
    reliability = Reliability(4)
    for number in range(30):
        judge(reliability, confusion_of(0.9, 0.9, 0.9), ALL, 20)
        assert reliability.may_teach(ALL) == (number >= 9)


def test_one_bad_measurement_is_no_stand():
    reliability = Reliability(4)
    for number in range(22):
        judge(reliability, confusion_of(*[0.7 + 0.013 * number] * 3), ALL, 10)
        if number == 10:
            kept = reliability.confusion.copy()
            judge(reliability, confusion_of(*[0.0] * 3), ALL, 10)
            reliability.confusion = kept
        assert not reliability.may_teach(ALL), number


def test_what_no_patch_has_shown_is_not_counted():
    reliability, shown = Reliability(4), confusion_of(0.9, 0.9, 0.9)
    unseen = shown.copy()
    unseen[3], unseen[:, 3] = 0, 0
    for _ in range(20):
        judge(reliability, unseen, ALL, 10)
    assert not reliability.may_teach(ALL) and not reliability.curve


def test_where_nothing_can_be_found_nothing_is_waited_for():
    assert Reliability(4).may_teach(np.array([False, False, False]))


def test_what_is_not_seen_counts_as_much_as_the_largest_structure():
    reliability, counts = Reliability(5), np.array([1000.0, 100, 0, 10])
    assert reliability.weights(counts, 50) == pytest.approx([1, 1, 1, 1, 1])  # as nothing is known yet
    reliability.update(np.array([[900.0, 0, 0, 0, 0], [90, 0, 0, 0, 0], [0] * 5, [0] * 5, [1, 0, 0, 0, 0]]))
    assert reliability.weights(counts, 50) == pytest.approx([1, 1, 1, 1, 50])  # 2 was in no patch
    reliability.update(np.array([[900.0, 0, 0, 0, 0], [90, 0, 0, 0, 0], [9, 0, 0, 0, 0], [0] * 5, [1, 0, 0, 0, 0]]))
    assert reliability.weights(counts, 50) == pytest.approx([1, 1, 10, 1, 50])
    assert reliability.weights(counts, 1) == pytest.approx([1, 1, 1, 1, 1])
    reliability.hopeless[1] = True
    assert reliability.weights(counts, 50) == pytest.approx([1, 1, 1, 1, 50])
    reliability = Reliability(5)
    # An eighth of structure 2 is called so, half of what makes it seen; 4 is called far too often, which is no reason to weigh.
    reliability.update(np.array([[900.0, 0, 0, 0, 0], [0, 90, 0, 0, 0], [0, 0, 1, 0, 7], [0] * 5, [0, 0, 0, 0, 1]]))
    assert reliability.dice()[3] == pytest.approx(2 / 9)
    assert reliability.weights(counts, 50) == pytest.approx([1, 1, 1 + 9 / 2, 1, 1])
    for _ in range(30):
        reliability.update(np.diag([900.0, 90, 9, 0, 1]))
    assert reliability.weights(counts, 50) == pytest.approx([1, 1, 1, 1, 1])


def losses_with_teacher(cohort, says: torch.Tensor, step: int = 3, **settings: object):
    """A step's losses by a teacher that says ``says`` of any patch; pseudo-labels could count from step 3 on."""
    labels = torch.tensor([0, 0, 1, 2]).repeat(2, 16).reshape(2, 4, 4, 4)
    images = torch.zeros(2, 1, 4, 4, 4)
    config = small_config("mean-teacher", augment="off", wait_until_found=True, **settings)
    seen: list[int] = []

    def student(batch):
        seen.append(len(batch))
        return torch.zeros(len(batch), 1, 3, 4, 4, 4, requires_grad=True), None

    method, schedule = MeanTeacher(config, cohort), schedule_of_steps(config, 12)
    run: Any = SimpleNamespace(
        one_piece=OnePiece(), candidates=None, keeping=None, table_of_labels=torch.eye(3, dtype=torch.bool),
        config=config, cohort=cohort, plan=make_plan(), foundation=None, emit=lambda *_, **__: None,
        batches=SimpleNamespace(thick=None), schedule=schedule,
        state=SimpleNamespace(step=0, student=student, teacher=Constant(says, 3)),
        accelerator=SimpleNamespace(
            process_index=0, num_processes=1, autocast=torch.no_grad, reduce=lambda value, how: value
        ),
    )  # fmt: skip
    for run.state.step in range(step + 1):
        seen.clear()
        waits = run.state.step >= schedule.pseudo_labels_from and method.waits(run)
        run.schedule = replace(schedule, waits=waits)
        losses = method.losses(run, Batch(images, labels, images))
    return losses, seen, labels, method


def test_a_teacher_that_overlooks_a_structure_teaches_nothing_and_costs_little(cohort):
    # Half of the second structure, which is 0.67.
    says = torch.tensor([0, 0, 1, 0, 0, 0, 1, 2]).repeat(2, 8).reshape(2, 4, 4, 4)
    losses, seen, _, _ = losses_with_teacher(cohort, says)
    assert set(losses) == {"supervised"} and seen == [2]


def test_what_is_hopeless_is_left_open_by_pseudo_labels(cohort):
    says = torch.tensor([0, 0, 1, 0]).repeat(2, 16).reshape(2, 4, 4, 4)
    losses, seen, _, _ = losses_with_teacher(cohort, says)
    assert seen == [4]
    # "Background" is background or the second structure, to which the student gives a third each.
    heads = torch.tensor([2.0, 1.0, 0.0]).log().reshape(1, 1, 3, 1, 1, 1).expand(2, 1, 3, 4, 4, 4)
    torch.testing.assert_close(losses["unsupervised"].value.detach(), loss_of_heads(heads, says))


def test_what_the_teacher_calls_hopeless_teaches_nothing(cohort):
    says = torch.tensor([2, 0, 1, 0]).repeat(2, 16).reshape(2, 4, 4, 4)
    losses, _, _, _ = losses_with_teacher(cohort, says)
    heads = torch.tensor([2.0, 1.0, 0.0]).log().reshape(1, 1, 3, 1, 1, 1).expand(2, 1, 3, 4, 4, 4)
    expected = loss_of_heads(heads, torch.where(says == 2, 0, says), (says != 2).float())
    torch.testing.assert_close(losses["unsupervised"].value.detach(), expected)


@pytest.mark.parametrize(
    ("counts", "most", "step"), [([300.0, 100.0], 50, 3), ([2000.0, 100.0], 50, 9), ([2000.0, 100.0], 1, 3)]
)
def test_a_teacher_that_is_right_teaches_all(cohort, monkeypatch, counts, most, step):
    """It is measured two steps before pseudo-labels could count, and from the first one on where structures are weighed."""
    monkeypatch.setattr(mean_teacher, "labeled_counts", lambda _: np.array(counts))
    labels = torch.tensor([0, 0, 1, 2]).repeat(2, 16).reshape(2, 4, 4, 4)
    losses, seen, _, _ = losses_with_teacher(cohort, labels, step, unseen_weight=most)
    assert seen == [4]
    torch.testing.assert_close(losses["unsupervised"].value, losses["supervised"].value)


@pytest.mark.parametrize(
    ("settings", "weight"), [({"unseen_weight": 50}, 20), ({"unseen_weight": 5}, 5), ({"unseen_weight": 1}, 1)]
)
def test_a_rare_structure_weighs_from_the_first_step_on_until_it_is_seen(cohort, monkeypatch, settings, weight):
    monkeypatch.setattr(mean_teacher, "labeled_counts", lambda _: np.array([2000.0, 100.0]))
    overlooked, right = ([0, 0, 1, 0], [0, 0, 1, 2])
    for says, expected in ((overlooked, weight), (right, 1)):
        said = torch.tensor(says).repeat(2, 16).reshape(2, 4, 4, 4)
        losses, seen, labels, method = losses_with_teacher(cohort, said, 0, **settings)
        weights = torch.tensor([1.0, 1.0, expected])[labels]
        heads = torch.zeros(2, 1, 3, 4, 4, 4)
        torch.testing.assert_close(losses["supervised"].value.detach(), loss_of_heads(heads, labels, weights))
        assert set(losses) == {"supervised"} and seen == [2]
        assert method.reliability.confusion.any() == (weight > 1)


def test_what_is_not_seen_by_the_last_quarter_weighs_no_more(cohort, monkeypatch):
    monkeypatch.setattr(reliability, "HOPELESS", 0.0)
    monkeypatch.setattr(mean_teacher, "labeled_counts", lambda _: np.array([2000.0, 100.0]))
    overlooked = torch.tensor([0, 0, 1, 0]).repeat(2, 16).reshape(2, 4, 4, 4)
    for until, expected in ((0.75, 20), (0.5, 1)):
        monkeypatch.setattr(mean_teacher, "WEIGHED_UNTIL", until)
        losses, _, labels, _ = losses_with_teacher(cohort, overlooked, 8, unseen_weight=50)
        weights = torch.tensor([1.0, 1.0, expected])[labels]
        expected_loss = loss_of_heads(torch.zeros(2, 1, 3, 4, 4, 4), labels, weights)
        torch.testing.assert_close(losses["supervised"].value.detach(), expected_loss)


def test_structures_of_like_size_weigh_alike_and_are_measured_late(cohort, monkeypatch):
    monkeypatch.setattr(mean_teacher, "labeled_counts", lambda _: np.array([300.0, 100.0]))
    said = torch.tensor([0, 0, 1, 0]).repeat(2, 16).reshape(2, 4, 4, 4)
    losses, _, labels, method = losses_with_teacher(cohort, said, 0, unseen_weight=50)
    torch.testing.assert_close(
        losses["supervised"].value.detach(), loss_of_heads(torch.zeros(2, 1, 3, 4, 4, 4), labels)
    )
    assert not method.reliability.confusion.any()


@pytest.mark.parametrize("steps", [100, 200, 400, 4000])
def test_a_run_waits_until_the_teachers_dice_stands_still(cohort, steps):
    """It rises from 0.75 to 1 until 0.6 of the steps are done, so that all is found from the first measurement on."""
    labels = torch.tensor([1, 2]).repeat(2, 500).reshape(2, 10, 10, 10)
    config = small_config("mean-teacher", wait_until_found=True, pseudo_label_start=0.5)
    method = MeanTeacher(config, cohort)
    run: Any = SimpleNamespace(
        candidates=None, keeping=None, plan=make_plan(), schedule=schedule_of_steps(config, steps), state=SimpleNamespace(),
        accelerator=SimpleNamespace(num_processes=1, autocast=torch.no_grad, reduce=lambda value, how: value),
    )  # fmt: skip
    waits = []
    for run.state.step in range(steps):
        right = min(0.6 + 0.4 * max(run.state.step / steps - 0.3, 0) / 0.3, 1.0)
        says = labels.flatten().clone()
        says[: round((1 - right) * len(says))] = 0
        run.state.teacher = Constant(says.reshape(labels.shape), 3)
        method._measure(run, Batch(torch.zeros(2, 1, 10, 10, 10), labels, torch.empty(0)))
        waits.append(method.waits(run))
    opened = waits.index(False) / steps
    assert 0.6 < opened < 0.85 and not any(waits[waits.index(False) :])


def test_what_a_second_stage_refines_need_not_be_found(cohort):
    config, plan = small_config("mean-teacher", unseen_weight=50, wait_until_found=True), make_plan()
    refining = plan.model_copy(update={"second": SimpleNamespace(structures=(cohort.labels.names[1],))})
    for of_plan, waits in ((plan, True), (refining, False)):
        method, run = MeanTeacher(config, cohort), ended()
        run.plan = of_plan
        overlooked = np.array([[90.0, 0, 0], [0, 90, 0], [9, 0, 0]])
        judge(method.reliability, overlooked, method._expected(run), 1)  # type: ignore[arg-type]
        assert method.waits(run) == waits  # type: ignore[arg-type]
    # Nor does it weigh more, nor what is kept of a start model.
    method._counts = np.array([2000.0, 100.0])
    kept = SimpleNamespace(kept=torch.tensor([0, 2]))
    for weighs, of_plan, keeping in ((True, plan, None), (False, refining, None), (False, plan, kept)):
        run.plan, run.keeping = of_plan, keeping
        assert method._weighs(run) == weighs  # type: ignore[arg-type]


def ended(**of_schedule: object) -> Any:
    schedule = SimpleNamespace(
        **{"waits": True, "pseudo_labels_from": 5, "steps": 9, "progress": lambda _: 0.5} | of_schedule
    )
    return SimpleNamespace(
        plan=make_plan(), candidates=None, state=SimpleNamespace(step=9), schedule=schedule, labels_alone=0
    )


@pytest.mark.parametrize(("processes", "wait", "alone"), [(1, True, 75), (2, True, 38), (1, False, 0)])
def test_labels_of_many_cases_are_learned_from_for_longer(cohort, processes, wait, alone):
    """Of two labeled cases, two patches a step, so that each is seen once a step of one process."""
    config = small_config("mean-teacher", wait_until_found=wait, pseudo_label_start=0.5)
    assert len(cohort.with_role("labeled")) == config.batch_labeled == 2
    assert MeanTeacher(config, cohort).labels_alone(processes) == alone
    assert LabeledOnly(config, cohort).labels_alone(processes) == 0
    froms = [schedule_of_steps(config, steps, alone).pseudo_labels_from for steps in (20, 100, 1000)]
    assert froms == [max(10, min(20, alone)), max(50, alone), 500]


def test_a_run_in_which_labels_alone_teach_to_the_end_says_so(cohort):
    method = MeanTeacher(small_config("mean-teacher", wait_until_found=True), cohort)
    run = ended(steps=9, pseudo_labels_from=9, waits=False)
    run.labels_alone = 75
    assert "was seen 75 times, that is for 75 steps" in method.doubts(run)
    run.state.step = 8  # stopped
    assert method.doubts(run) == ""
    run.state.step, run.labels_alone = 9, 0  # so few that a share of them is all
    assert method.doubts(run) == ""
    alone = MeanTeacher(small_config("mean-teacher", wait_until_found=True, batch_unlabeled=0), cohort)
    run.labels_alone = 75
    assert alone.doubts(run) == ""


@pytest.mark.parametrize(("begins", "weight", "counts", "measured", "judged"), [
    (50, 50, [900.0, 9.0], range(75), range(30, 100)),
    (50, 1, [900.0, 9.0], [], range(30, 100)),
    (90, 1, [900.0, 9.0], [], range(70, 100)),
    (90, 50, [900.0, 9.0], range(75), range(30, 100)),
    (100, 50, [900.0, 9.0], range(75), range(30, 75)),
    (100, 50, [900.0, 900.0], [], []),
])  # fmt: skip
def test_what_is_measured_and_judged_when(cohort, begins, weight, counts, measured, judged):
    """Of 100 steps: for the weights until three quarters, for pseudo-labels from a fifth before they begin."""
    settings = {"wait_until_found": True, "unseen_weight": weight, "pseudo_label_start": 0.5}
    method = MeanTeacher(small_config("mean-teacher", **settings), cohort)
    method._counts, found = np.array(counts), []
    for step in range(100):
        run = ended(steps=100, pseudo_labels_from=begins, progress=lambda step: step / 100)
        run.state.step, run.keeping = step, None
        found.append(method._is_measured(run))
    assert [step for step, (weighs, _) in enumerate(found) if weighs] == list(measured)
    assert [step for step, (_, is_judged) in enumerate(found) if is_judged] == list(judged)


def test_a_run_that_waited_to_its_end_says_for_what(cohort):
    method, run, expected = MeanTeacher(small_config("mean-teacher"), cohort), ended(), np.array([True, True])
    judge(method.reliability, np.array([[90.0, 0, 0], [0, 90, 0], [5, 0, 5]]), expected, 1)
    assert "0.67 for gallbladder" in method.doubts(run) and "wait_until_found=false" in method.doubts(run)
    for _ in range(9):
        judge(method.reliability, np.diag([90.0, 90, 9]), expected, 1)
    assert "Labels alone" in method.doubts(run)
    run.state.step = 5  # stopped before they could count
    assert method.doubts(run) == ""


def test_a_run_says_what_pseudo_labels_left_open(cohort):
    method, run = MeanTeacher(small_config("mean-teacher"), cohort), ended(waits=False)
    judge(method.reliability, np.diag([90.0, 90, 9]), np.array([True, True]), 1)
    assert method.doubts(run) == ""
    for _ in range(20):
        judge(method.reliability, np.array([[90.0, 0, 0], [0, 90, 0], [8, 0, 2]]), np.array([True, True]), 2)
    assert "nothing about gallbladder (0.33)" in method.doubts(run)
    labeled = cohort.model_copy(update={"cases": cohort.with_role("labeled")})
    again = MeanTeacher(method.config, labeled)
    again.reliability = method.reliability
    assert again.doubts(run) == ""  # there is nothing to teach


def test_a_run_without_anything_to_teach_does_not_wait(cohort):
    labeled = cohort.model_copy(update={"cases": cohort.with_role("labeled")})
    method = MeanTeacher(small_config("mean-teacher", wait_until_found=True), labeled)
    run = SimpleNamespace(plan=make_plan(), candidates=None)
    assert not method.waits(run)  # type: ignore[arg-type]


def test_a_run_that_is_timed_does_not_wait(cohort):
    method = MeanTeacher(small_config("mean-teacher", wait_until_found=True), cohort)
    method.wait_no_more()
    assert not method.waits(SimpleNamespace())  # type: ignore[arg-type]


def test_a_resumed_run_knows_how_right_its_teacher_was(cohort):
    _, _, _, method = losses_with_teacher(cohort, torch.ones(2, 4, 4, 4, dtype=torch.long), unseen_weight=1)
    again = MeanTeacher(method.config, cohort)
    method.reliability.stands = True
    method.reliability.found, method.reliability.hopeless = np.array([True, False]), np.array([False, True])
    again.restore(method.saved())
    assert method.reliability.confusion.any() and len(method.reliability.curve) == 2
    for name, value in vars(method.reliability).items():
        assert np.array_equal(getattr(again.reliability, name), value), name
    with pytest.raises(ValueError, match="a confusion of 3 classes"):
        Reliability(4).restore(method.reliability.state())
