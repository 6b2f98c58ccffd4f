"""Labels that leave open what a voxel is: nothing there is drawn where not all structures were, or nobody labeled it."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from dinomix.cohort.case_label import UNLABELED
from dinomix.cohort.cohort import Cohort, LabeledSlices
from dinomix.errors import DinomixError
from dinomix.evaluation.matched_model import MatchedModel
from dinomix.evaluation.references import reference_of
from dinomix.events import read_events, silent
from dinomix.files import sha256
from dinomix.images.reading import read_label
from dinomix.images.volume import Volume
from dinomix.planning.cache import cache_cases, structures_in
from dinomix.planning.connected_components import measured
from dinomix.planning.field_of_view import _smallest_structure
from dinomix.planning.plan import OnePiece
from dinomix.training.batches import Batches, labeled_counts
from dinomix.training.candidates import Candidates, not_drawn
from dinomix.training.control import RunPaused
from dinomix.training.filling import filled
from dinomix.training.losses import loss_of_heads, segmentation_loss
from dinomix.training.methods import mean_teacher
from dinomix.training.reliability import Reliability, judged
from dinomix.training.schedule import schedule_of_steps
from dinomix.training.train import resume, train
from dinomix.training.validation import dice_per_class
from tiny_cohort import LABELS, SIZE, make_cohort, make_plan, small_config

pytestmark = pytest.mark.usefixtures("without_graphs")

# Channels 0..3; 4: background or 2; 5: background, 1 or 3; 6: anything.
TABLE = torch.zeros(7, 4, dtype=torch.bool)
for row, of_row in enumerate([[0], [1], [2], [3], [0, 2], [0, 1, 3], [0, 1, 2, 3]]):
    TABLE[row, of_row] = True


def brute_force(logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Voxel by voxel, by the words of ``segmentation_loss``."""
    losses = []
    for sample in range(len(logits)):
        probabilities = logits[sample].double().softmax(0).flatten(1).T
        labels, weights = target[sample].flatten().tolist(), weight[sample].double().flatten()
        entropy, telling = torch.zeros((), dtype=torch.double), 0
        for p, label, w in zip(probabilities, labels, weights, strict=True):
            may_be = [c for c in range(4) if TABLE[label, c]]
            entropy = entropy - w * torch.log(sum(p[c] for c in may_be))
            telling += len(may_be) < 4
        dices = []
        for c in (1, 2, 3):
            both, said, true = 0.0, 0.0, 0.0
            for p, label, w in zip(probabilities, labels, weights, strict=True):
                may_be = [k for k in range(4) if TABLE[label, k]]
                if may_be == [c]:
                    both, true = both + w * p[c], true + w
                if may_be == [c] or c not in may_be:
                    said = said + w * p[c]
            if true > 0:
                dices.append(1 - 2 * both / (said + true))
        losses.append(entropy / max(telling, 1) + (sum(dices) / len(dices) if dices else 0))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_the_marginal_loss_and_its_gradient_are_those_of_brute_force(layout):
    torch.manual_seed(0)
    logits = (3 * torch.randn(3, 4, 3, 4, 2)).contiguous(memory_format=layout).requires_grad_()
    target, weight = torch.randint(0, 7, (3, 3, 4, 2)), torch.rand(3, 3, 4, 2)
    target[2] = torch.randint(4, 7, (3, 4, 2))  # nothing certain
    loss, expected = segmentation_loss(logits, target, weight, TABLE), brute_force(logits, target, weight)
    torch.testing.assert_close(loss.double(), expected)
    (mine,), (theirs,) = (torch.autograd.grad(value, logits) for value in (loss, expected))
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_where_nothing_is_open_it_is_the_loss_of_whole_labels():
    torch.manual_seed(0)
    logits, target = torch.randn(2, 4, 4, 4, 4), torch.randint(0, 4, (2, 4, 4, 4))
    torch.testing.assert_close(segmentation_loss(logits, target, None, TABLE), segmentation_loss(logits, target))


def test_voxels_that_nobody_labeled_cost_nothing_and_take_nothing_from_the_others():
    torch.manual_seed(0)
    logits = torch.randn(1, 4, 4, 4, 4, requires_grad=True)
    target = torch.full((1, 4, 4, 4), 6)
    loss = segmentation_loss(logits, target, None, TABLE)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6) and logits.grad.abs().max() < 1e-6
    target[0, 1] = torch.randint(0, 4, (4, 4))
    alone = segmentation_loss(logits[:, :, 1:2], target[:, 1:2])
    torch.testing.assert_close(segmentation_loss(logits, target, None, TABLE), alone)


def test_what_was_not_drawn_is_not_pushed_into_the_background():
    logits = torch.zeros(1, 4, 2, 2, 2, requires_grad=True)
    segmentation_loss(logits, torch.full((1, 2, 2, 2), 4), None, TABLE).backward()
    assert (logits.grad[:, 2] < 0).all() and (logits.grad[:, 1] > 0).all()


def test_logits_far_apart_stay_finite():
    logits = torch.zeros(1, 4, 1, 1, 2)
    logits[:, 1] = 500
    logits.requires_grad_()
    loss = segmentation_loss(logits, torch.full((1, 1, 1, 2), 4), None, TABLE)
    loss.backward()
    assert loss.item() == pytest.approx(500 - np.log(2)) and logits.grad.isfinite().all()


def partly(cohort: Cohort, **changes: dict) -> Cohort:
    """The cohort with some cases changed: case0={"drawn": (1,)}."""
    return cohort.model_copy(
        update={"cases": tuple(case.model_copy(update=changes.get(case.name, {})) for case in cohort.cases)}
    )


def without(cohort: Cohort, name: str, value: int) -> Cohort:
    """The cohort whose case ``name`` has lost a structure in its label file, as if it had not been drawn."""
    case = next(case for case in cohort.cases if case.name == name)
    image = sitk.ReadImage(str(case.label))
    array = sitk.GetArrayFromImage(image)
    array[array == value] = 0
    sitk.WriteImage(sitk.GetImageFromArray(array), str(case.label))
    return partly(cohort, **{name: {"voxels": {**case.voxels, value: 0}, "label_sha256": sha256(case.label)}})


def test_the_candidates_of_a_cohort(tmp_path):
    cohort = make_cohort(tmp_path, labeled=3)
    assert Candidates.of_cohort(cohort) is None
    open_ = partly(cohort, case1={"drawn": (1,)}, case2={"ignored": (9,)})
    found = Candidates.of_cohort(open_)
    # 3: background or gallbladder; 4: anything.
    assert found.table.tolist()[3:] == [[True, True, True], [True, False, True]]
    assert found.numbers["case1"].tolist() == [0, 1, 2, 4, 3] and found.numbers["case2"].tolist() == [0, 1, 2, 0, 3]
    # Where no case draws it completely, all would be background or gallbladder, and nothing would say which.
    nowhere = Candidates.of_cohort(partly(cohort, **{f"case{n}": {"drawn": (1,)} for n in range(3)}))
    assert nowhere.numbers["case0"].tolist() == [0, 1, 2, 0, 3]


def test_patches_of_a_case_say_what_its_label_leaves_open(tmp_path):
    cohort, plan, config = make_cohort(tmp_path, labeled=1, unlabeled=0), make_plan(), small_config("labeled-only")
    whole = cohort.cases[0]
    slices = LabeledSlices(axis="k", numbers=(10, 20))
    second = whole.model_copy(update={"name": "again", "drawn": (1,), "labeled_slices": slices})
    both = cohort.model_copy(update={"cases": (whole, second)})
    cached = cache_cases(both, plan, tmp_path / "cache", silent)
    label, sliced = np.array(cached["case0"].label), np.array(cached["again"].label)
    assert (sliced[:, :, [9, 11, 30]] == 4).all()
    assert np.array_equal(np.where(label == 0, 3, label)[:, :, [10, 20]], sliced[:, :, [10, 20]])
    assert np.array_equal(structures_in(sliced, 3)[:, :, 20], label[:, :, 20])
    batches = Batches(both, cached, plan, config, schedule_of_steps(config, 4), rank=0, first_step=0, features=None)
    drawn = torch.cat([batches[batches.wanted(step)].labels for step in range(4)])
    assert set(drawn.unique().tolist()) >= {0, 3, 4} and drawn.max() == 4


def test_the_entry_of_a_whole_case_keeps_its_name(tmp_path):
    cohort, plan = make_cohort(tmp_path, labeled=2, unlabeled=0), make_plan()
    before = cache_cases(cohort, plan, tmp_path / "cache", silent)
    after = cache_cases(partly(cohort, case1={"drawn": (1,)}), plan, tmp_path / "cache", silent)
    assert before["case0"] == after["case0"] and before["case1"] != after["case1"]


def test_a_structure_that_was_not_drawn_is_not_rare(tmp_path):
    cohort = without(make_cohort(tmp_path, labeled=3), "case1", 2)
    counted = labeled_counts(partly(cohort, case1={"drawn": (1,)}))
    others = [case.voxels[2] for case in cohort.with_role("labeled") if case.name != "case1"]
    assert counted[1] == pytest.approx(1.5 * sum(others))
    assert counted[0] == sum(case.voxels[1] for case in cohort.with_role("labeled"))


def test_planning_takes_nothing_from_what_was_not_drawn(tmp_path):
    cohort = make_cohort(tmp_path, labeled=3, unlabeled=0, validation=0)
    size = _smallest_structure(list(cohort.cases))
    missing = without(without(cohort, "case0", 2), "case1", 2)
    assert _smallest_structure(list(missing.cases)) == pytest.approx(size, rel=0.1), "two of three patients lack it"
    partial = partly(missing, case0={"drawn": (1,)}, case1={"drawn": (1,)})
    assert _smallest_structure(list(partial.cases)) == pytest.approx(size, rel=0.1)
    tenth = LabeledSlices(numbers=(0, 10, 20, 30))
    sparse = [case.model_copy(update={"labeled_slices": tenth}) for case in cohort.cases]
    assert _smallest_structure(sparse) == pytest.approx(2 * size)


def test_one_piece_asks_only_cases_that_draw_a_structure():
    broken = np.zeros((8, 8, 8), np.uint8)
    broken[:2], broken[5:7] = 1, 1
    whole = np.zeros((8, 8, 8), np.uint8)
    whole[:4, :4] = 1
    assert measured([broken, whole], 2).channels == ()
    assert measured([broken, whole], 2, [{1}, set()]) == OnePiece(channels=(1,), together=False)


def test_the_dice_of_a_validation_leaves_out_what_is_not_known():
    reference = np.array([0, 1, 1, 4, 4, 3, 2, 0])  # two structures; 3: nothing drawn, 4: nobody labeled
    prediction = np.array([1, 1, 0, 1, 2, 2, 2, 2])
    assert dice_per_class(prediction, reference, 2, {2}) == [pytest.approx(0.5), None]
    assert dice_per_class(prediction, reference, 2) == [pytest.approx(0.5), pytest.approx(0.5)]


@pytest.mark.parametrize("open_", [{"labeled_slices": LabeledSlices(numbers=range(0, SIZE, 2))}, {"ignored": (9,)}])
def test_a_prediction_is_not_judged_where_nobody_labeled(tmp_path, open_):
    """Whatever the label file says there: a perfect prediction has the Dice 1."""
    case = make_cohort(tmp_path, labeled=1, unlabeled=0, validation=0).cases[0].model_copy(update=open_)
    truth, _ = read_label(case.label)
    array = truth.array.copy()
    array[1::2] = 9 if case.ignored else 0
    sitk.WriteImage(sitk.GetImageFromArray(array), str(case.label))
    reference = reference_of(case, truth.geometry)
    assert np.array_equal(reference.array[::2], truth.array[::2]) and (reference.array[1::2] == UNLABELED).all()
    matched = MatchedModel(SimpleNamespace(labels=LABELS), LABELS)
    assert matched.dice(truth, reference, case) == {"liver": 1, "gallbladder": 1}
    nothing = Volume(np.zeros_like(truth.array), truth.geometry)
    assert matched.dice(nothing, reference, case) == {"liver": 0, "gallbladder": 0}


def test_the_teacher_is_not_judged_by_what_is_not_known():
    class Constant(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.one_hot(said, 4).movedim(-1, 1).float()

    truth = torch.tensor([0, 1, 4, 4, 4, 6]).reshape(1, 6, 1, 1)
    said = torch.tensor([0, 1, 0, 2, 3, 1]).reshape(1, 6, 1, 1)
    counted = judged(Constant(), torch.zeros(1, 1, 6, 1, 1), truth, TABLE)
    assert counted.tolist() == [[1, 0, 0, 1], [0, 1, 0, 0], [0] * 4, [0] * 4]


def test_the_teacher_fills_in_only_what_a_voxel_may_be():
    labels = torch.tensor([0, 1, 4, 5, 6]).reshape(1, 5, 1, 1)
    logits = torch.zeros(1, 4, 5, 1, 1)
    logits[:, 2], logits[:, 3] = 5, 4
    logits[0, :, 4] = torch.tensor([0.1, 0, 0, 0]).reshape(4, 1, 1)
    found = filled(logits, labels, TABLE, 0.5, OnePiece())
    assert found.labels.flatten().tolist() == [0, 1, 2, 3, 0]
    assert found.weight.flatten().tolist() == [0, 0, 1, 1, 0]


def last_weights(run) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.pt", weights_only=True)["teacher"]


def test_a_run_learns_nothing_of_voxels_that_nobody_labeled(tmp_path):
    """Whatever the label file says beyond the labeled slices, the run is the same."""
    plan, config = (
        make_plan(),
        small_config("dino-mix", wait_until_found=False, fkd="off", steps=4, pseudo_label_start=0.5),
    )
    weights = []
    for folder, junk in (("one", 0), ("other", 2)):
        cohort = make_cohort(tmp_path / folder)
        case = cohort.cases[0]
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(case.label)))
        array[SIZE // 2 + 1 :] = junk
        sitk.WriteImage(sitk.GetImageFromArray(array), str(case.label))
        slices = LabeledSlices(numbers=tuple(range(SIZE // 2 + 1)))
        cohort = partly(cohort, case0={"labeled_slices": slices, "label_sha256": sha256(case.label)})
        train(cohort, tmp_path / folder / "run", config, plan)
        weights.append(last_weights(tmp_path / folder / "run"))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_decided_structures_are_those_of_the_case(tmp_path):
    cohort = make_cohort(tmp_path, labeled=1, unlabeled=0, validation=0)
    case = cohort.cases[0].model_copy(update={"drawn": (2,)})
    assert not_drawn(case, cohort.labels) == {1} and case.has_drawn(2) and not case.is_whole
    cohort.model_copy(update={"cases": (case,)}).write(tmp_path / "cohort.json")
    assert Cohort.read(tmp_path / "cohort.json").cases[0].drawn == (2,)


@pytest.mark.parametrize("method", ["mean-teacher", "cps"])
def test_without_unlabeled_cases_pseudo_labels_still_fill_in_what_labels_leave_open(tmp_path, method):
    every_tenth = {"labeled_slices": LabeledSlices(numbers=(9, 19, 29))}
    cohort = partly(make_cohort(tmp_path, labeled=2, unlabeled=0), case0=every_tenth, case1=every_tenth)
    events: list[dict] = []

    def told(kind: str, **fields: object) -> None:
        events.append({"kind": kind, **fields})

    train(cohort, tmp_path / "run", small_config(method, steps=4, pseudo_label_start=0.5), make_plan(), emit=told)
    learned = [event["unsupervised"] for event in events if event["kind"] == "loss"]
    assert learned[0] is None and learned[-1] > 0
    whole = make_cohort(tmp_path / "whole", labeled=2, unlabeled=0)
    with pytest.raises(DinomixError, match="no unlabeled case"):
        train(whole, tmp_path / "other", small_config(method, steps=4), make_plan())


def test_a_resumed_run_of_partly_labeled_cases_is_the_same(tmp_path):
    cohort = without(make_cohort(tmp_path / "data"), "case0", 2)
    slices = LabeledSlices(axis="j", numbers=(5, 15, 25))
    cohort = partly(cohort, case0={"drawn": (1,)}, case1={"labeled_slices": slices})
    config = small_config("dino-mix", fkd="off", steps=6, checkpoint_every=3)
    train(cohort, tmp_path / "one", config, make_plan())

    def pause(kind: str, **fields: object) -> None:
        if kind == "checkpoint" and fields["step"] == 3 and not fields["best"]:
            (tmp_path / "two" / "request.json").write_text(json.dumps({"request": "pause"}))

    with pytest.raises(RunPaused):
        train(cohort, tmp_path / "two", config, make_plan(), emit=pause)
    resume(tmp_path / "two")
    one, two = last_weights(tmp_path / "one"), last_weights(tmp_path / "two")
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(("into", "is_filled"), [([0, 1, 2], True), ([0, 1, 0], True), ([0, 1, 1], False)])
def test_what_is_not_found_is_left_open_in_labeled_and_unlabeled_patches(tmp_path, monkeypatch, into, is_filled):
    """The gallbladder, which a case leaves open, is one with the background, or with the liver, which may not be there."""
    monkeypatch.setattr(Reliability, "taken_for", lambda _: np.array(into))
    filled_in: list[torch.Tensor] = []
    monkeypatch.setattr(
        mean_teacher,
        "loss_of_heads",
        lambda heads, labels, weight: filled_in.append(weight) or loss_of_heads(heads, labels, weight),
    )
    cohort = without(make_cohort(tmp_path / "data"), "case0", 2)
    cohort = partly(cohort, case0={"drawn": (1,)})
    config = small_config("dino-mix", fkd="off", steps=4, pseudo_label_start=0.0, confidence=0.0, record_every=1,
                          wait_until_found=False, **{"pic.across": True, "pic.probability": 1.0})  # fmt: skip
    train(cohort, tmp_path / "run", config, make_plan())
    losses = [
        event["unsupervised"] for event in read_events(tmp_path / "run" / "events.jsonl") if event["kind"] == "loss"
    ]
    assert len(losses) == 4 and np.isfinite(losses).all()
    assert bool(torch.stack(filled_in).any()) == is_filled


def test_structures_drawn_in_half_of_the_cases_are_learned_where_the_others_leave_them_open(tmp_path):
    """Learned as background in the other half, the liver loses half of its Dice."""
    cohort = make_cohort(tmp_path / "data", labeled=4, unlabeled=0, validation=2)
    drawn = {"case0": 2, "case1": 2, "case2": 1, "case3": 1}
    for name, value in drawn.items():
        cohort = without(cohort, name, 3 - value)
    cases = {
        "background": cohort,
        "open": partly(cohort, **{name: {"drawn": (value,)} for name, value in drawn.items()}),
    }
    plan = make_plan()
    plan = plan.model_copy(update={"network": {**plan.network, "channels": [8, 16, 16, 16]}})
    config = small_config("labeled-only", fkd="off", steps=100, validate_every=100, learning_rate=0.02)
    found: dict[str, dict[str, float]] = {}
    for way, of_way in cases.items():
        train(of_way, tmp_path / way, config, plan)
        (validation,) = (e for e in read_events(tmp_path / way / "events.jsonl") if e["kind"] == "validation")
        found[way] = validation["dice"]
    assert min(found["open"].values()) > 0.9 > found["background"]["liver"] + 0.2
