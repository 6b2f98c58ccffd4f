"""Training in two stages: one run, one progress, one model, resumed at any moment."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dinomix.cohort.case_label import UNLABELED, read_case_label
from dinomix.cohort.cohort import Cohort, LabeledSlices
from dinomix.errors import DinomixError
from dinomix.events import read_events
from dinomix.images.reading import read_image
from dinomix.images.volume import Volume
from dinomix.labels import LabelSet
from dinomix.models.folder import load_model
from dinomix.planning.networks import planned_network
from dinomix.planning.plan import Plan, SecondStage
from dinomix.planning.topology import topology
from dinomix.training.arranging import arrange
from dinomix.training.finish import finish
from dinomix.training.train import resume, train
from tiny_cohort import SIZE, make_plan, small_config, with_only

pytestmark = pytest.mark.usefixtures("without_graphs")

WEIGHTS = ("models/model.safetensors", "models/second.safetensors")


def two_stages(**fields: Any) -> Plan:
    """Voxels of 2 mm, and of 1 mm around the gallbladder; a very small network for each."""
    network = planned_network(topology((16, 16, 16), (1, 1, 1)), 4)
    fine = make_plan().model_copy(update={"patch": (16, 16, 16), "network": network, "fkd_stage": 4})
    coarse = fine.model_dump(mode="json") | {"grid": {"kind": "spacing", "spacing": [2.0] * 3}}
    second = SecondStage(**{"plan": fine, "structures": ("gallbladder",), "margin": 2, **fields})
    return Plan.model_validate({**coarse, "second": second.model_dump(mode="json")})


def run_of(path: Path, cohort: Cohort, method: str = "labeled-only", plan: Plan | None = None, **settings: Any) -> Path:
    config = small_config(method, steps=6, checkpoint_every=2, validate_every=2, record_every=1, **settings)
    return train(cohort, path, config, plan or two_stages())


def same(one: Path, other: Path) -> bool:
    pairs = [(load_file(one / name), load_file(other / name)) for name in WEIGHTS]
    return all(torch.equal(a[key], b[key]) for a, b in pairs for key in a)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cohort: Cohort) -> Path:
    """A run of three steps each, never stopped."""
    path = tmp_path_factory.mktemp("whole") / "run"
    run_of(path, cohort, "mean-teacher")
    return path


def test_both_stages_are_one_run_and_one_model(whole: Path, cohort: Cohort) -> None:
    model = load_model(whole / "model")
    assert model.second is not None and model.plan.grid == two_stages().grid
    assert model.record["steps"] == model.record["steps_done"] == 6 and model.record["validation_of_boxes"]
    events = list(read_events(whole / "events.jsonl"))
    assert [event["step"] for event in events if event["kind"] == "loss"] == [1, 2, 3, 4, 5, 6]
    bar = [
        (event["step"], event["total"]) for event in events if event["kind"] == "progress" and event["stage"] == "train"
    ]
    assert bar == sorted(bar) and bar[0] == (0, 6) and bar[-1] == (6, 6) and {total for _, total in bar} == {6}
    assert [event["kind"] for event in events].count("finished") == 1
    boxes = Cohort.read(whole / "second/cohort.json")
    assert {case.role for case in boxes.cases} >= {"labeled", "validation"}
    assert all(case.image.is_relative_to(whole) for case in boxes.cases)
    assert all(case.label is None for case in boxes.with_role("unlabeled"))
    assert model.plan.second is not None and model.plan.second.places["gallbladder"].landmark == "liver"


def test_structures_of_a_model_of_two_stages_are_kept_in_both(cohort: Cohort, whole: Path, tmp_path: Path) -> None:
    with_only(cohort, "gallbladder", "tumor").write(tmp_path / "cohort.json")
    settings = {"batch_labeled": 1, "batch_unlabeled": 1, "validate_every": 2, "checkpoint_every": 2}
    made = arrange(tmp_path / "cohort.json", method="mean-teacher", fkd="off", steps=4, device="cpu", settings=settings,
                   start=whole / "model", keep_structures=True)  # fmt: skip
    common = {"start": made.weights, "start_model": whole / "model", "second_start": made.second_weights}
    model = load_model(train(made.cohort, tmp_path / "run", made.config, made.plan, **common))
    assert model.labels.names == ("liver", "gallbladder", "tumor") and model.second is not None
    assert model.plan.second is not None and model.plan.second.structures == ("gallbladder",)
    boxes = Cohort.read(tmp_path / "run/second/cohort.json").with_role("labeled")
    assert all(case.predicted == (1, 2) and case.is_whole for case in boxes)
    assert sum(case.voxels[2] for case in boxes) > 0 and sum(case.voxels[3] for case in boxes) > 0
    # Known before the first stage is trained, not when the second one is to begin.
    silent = {"case": Volume(np.zeros((SIZE, SIZE, SIZE), np.uint8), read_image(cohort.cases[0].image).geometry)}
    with pytest.MonkeyPatch.context() as patch, pytest.raises(DinomixError, match="show any gallbladder") as refused:
        patch.setattr("dinomix.training.start_model.StartModel.labels_of", lambda *_: silent["case"])
        train(made.cohort, tmp_path / "other", made.config, made.plan, **common)
    assert refused.value.code == "keep-structures" and not (tmp_path / "other/checkpoints").exists()


def stopped_where(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Make the next run end, as by Ctrl-C, at a place."""
    from dinomix.training import loop, second_cohort, two_stages
    from dinomix.training import train as training

    module, name, at = {
        "the first stage": (loop, "training_step", 2),
        "cutting boxes": (second_cohort, "_write_boxes", 3),
        "the beginning of the second stage": (two_stages, "config_of_second", 2),
        "the second stage": (loop, "training_step", 5),
        "the model": (training, "write_result", 1),
    }[place]
    original, calls = getattr(module, name), iter(range(1, 1000))

    def stopped(*arguments: Any, **named: Any) -> Any:
        if next(calls) == at:
            raise KeyboardInterrupt
        return original(*arguments, **named)

    monkeypatch.setattr(module, name, stopped)


@pytest.mark.parametrize(
    "place",
    ["the first stage", "cutting boxes", "the beginning of the second stage", "the second stage", "the model"],
)
def test_a_stop_anywhere_changes_nothing(place: str, whole: Path, cohort: Cohort, tmp_path: Path, monkeypatch) -> None:
    stopped_where(monkeypatch, place)
    with pytest.raises(KeyboardInterrupt):
        run_of(tmp_path / "run", cohort, "mean-teacher")
    monkeypatch.undo()
    resume(tmp_path / "run")
    assert same(whole / "model", tmp_path / "run/model")
    steps = [event["step"] for event in read_events(tmp_path / "run/events.jsonl") if event["kind"] == "loss"]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_a_kill_at_the_change_of_stages_changes_nothing(
    whole: Path, cohort: Cohort, tmp_path: Path, monkeypatch
) -> None:
    run = tmp_path / "run"
    stopped_where(monkeypatch, "the first stage")
    with pytest.raises(KeyboardInterrupt):
        run_of(run, cohort, "mean-teacher")
    monkeypatch.undo()
    process = subprocess.Popen(
        [sys.executable, "-m", "dinomix", "train", "--resume", run],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while '"stage": "cut boxes", "step": 2' not in (run / "events.jsonl").read_text() and process.poll() is None:
        time.sleep(0.002)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL and not (run / "second/config.json").exists()
    resume(run)
    assert same(whole / "model", run / "model") and not list(run.rglob(".partial-*"))


def test_stopped_in_the_first_stage_a_run_gives_its_model(whole: Path, cohort: Cohort, tmp_path: Path) -> None:
    run, told = tmp_path / "run", []

    def stop_at_once(kind: str, **fields: Any) -> None:
        told.append(kind)
        if kind == "loss" and fields["step"] == 1 and told.count("started") == 1:
            (run / "request.json").write_text(json.dumps({"request": "stop"}))

    config = small_config("mean-teacher", steps=6, checkpoint_every=2, validate_every=2, record_every=1)
    train(cohort, run, config, two_stages(), emit=stop_at_once)
    model = load_model(run / "model")
    assert model.plan.second is None and model.second is None and model.record["steps_done"] <= 3
    resume(run)
    assert same(whole / "model", run / "model")


def test_stopped_while_the_second_stage_is_prepared_a_run_gives_the_model_of_the_first(
    whole: Path, cohort: Cohort, tmp_path: Path, monkeypatch
) -> None:
    from dinomix.training import stage
    from dinomix.training.control import Asked, Wish

    original, calls = stage.prepare, iter(range(1, 1000))

    def stopped(run: Any) -> None:
        if next(calls) == 2:
            raise Asked(Wish.STOP)
        original(run)

    monkeypatch.setattr(stage, "prepare", stopped)
    run_of(tmp_path / "run", cohort, "mean-teacher")
    monkeypatch.undo()
    model = load_model(tmp_path / "run/model")
    assert model.second is None and model.record["steps_done"] == 3
    resume(tmp_path / "run")
    assert same(whole / "model", tmp_path / "run/model")


def test_a_run_that_nobody_trains_is_finished_in_either_stage(cohort: Cohort, tmp_path: Path, monkeypatch) -> None:
    for place, stages, steps in (("the first stage", 1, 1), ("the second stage", 2, 4)):
        run = tmp_path / place
        stopped_where(monkeypatch, place)
        with pytest.raises(KeyboardInterrupt):
            config = small_config("labeled-only", steps=6, checkpoint_every=1, validate_every=2, record_every=1)
            train(cohort, run, config, two_stages())
        monkeypatch.undo()
        model = load_model(finish(run))
        assert (1 if model.second is None else 2, model.record["steps_done"]) == (stages, steps)


def test_without_a_box_in_unlabeled_cases_the_second_stage_learns_from_labels(
    cohort: Cohort, tmp_path: Path, monkeypatch
) -> None:
    from dinomix.training import second_cohort

    def finds_nothing(volumes: Any, model: Any, **options: Any) -> Any:
        volume = volumes[0]
        return type(volume)(volume.array.astype("uint8") * 0, volume.geometry)

    monkeypatch.setattr(second_cohort, "segment_volume", finds_nothing)
    run_of(tmp_path / "run", cohort, "mean-teacher")
    notices = [event["message"] for event in read_events(tmp_path / "run/events.jsonl") if event["kind"] == "notice"]
    assert any("labeled cases alone" in message for message in notices)
    assert load_model(tmp_path / "run/model").second is not None


def test_a_time_is_divided_between_the_stages(cohort: Cohort, tmp_path: Path) -> None:
    config = small_config("labeled-only", time=8, steps=None, checkpoint_every=None, validate_every=None)
    began = time.monotonic()
    train(cohort, tmp_path / "run", config, two_stages())
    took = time.monotonic() - began
    events = list(read_events(tmp_path / "run/events.jsonl"))
    told = [event for event in events if event["kind"] == "schedule"]
    assert told[0]["message"].startswith("First of two") and told[-1]["message"].startswith("Second of two")
    assert all(event["seconds"] == 8 for event in told)
    bar = [event for event in events if event["kind"] == "progress" and event["stage"] == "train"]
    assert [event["step"] for event in bar] == sorted(event["step"] for event in bar)
    second = Cohort.read(tmp_path / "run/second/cohort.json")
    config_of_second = json.loads((tmp_path / "run/second/config.json").read_text())
    assert second.cases and 0 < config_of_second["train"]["time"] < 8 and 3 < took < 30
    assert told[-1]["prepared"] >= 8 - config_of_second["train"]["time"], "what the first stage took counts"


def test_structures_that_a_cohort_lacks_are_refused(cohort: Cohort, tmp_path: Path) -> None:
    with pytest.raises(DinomixError, match="refines spleen, which the cohort does not have"):
        run_of(tmp_path / "run", cohort, plan=two_stages(structures=("spleen",)))
    assert not (tmp_path / "run/config.json").exists()


def test_a_model_of_two_stages_starts_both(whole: Path, cohort: Cohort, tmp_path: Path) -> None:
    cohort.write(tmp_path / "cohort.json")
    settings = {"method": "labeled-only", "start": whole / "model", "steps": 2, "device": "cpu"}
    run = arrange(tmp_path / "cohort.json", settings={"learning_rate": 1e-9}, **settings)
    assert run.second_weights is not None and run.plan.second is not None and not run.plan.second.places
    train(run.cohort, tmp_path / "run", run.config, run.plan, start=run.weights, second_start=run.second_weights)
    for name in WEIGHTS:
        before, after = load_file(whole / "model" / name), load_file(tmp_path / "run/model" / name)
        assert all(torch.allclose(before[key], after[key], atol=1e-6) for key in before)
    one = arrange(tmp_path / "cohort.json", settings={"plan.stages": 1}, **settings)
    assert one.plan.second is None and one.second_weights is None
    one.plan.write(tmp_path / "plan.json")
    with pytest.raises(DinomixError, match="starts from scratch, or from a model of two"):
        arrange(tmp_path / "cohort.json", device="cpu", plan=tmp_path / "plan.json", settings={"plan.stages": 2})


def test_a_start_refines_what_the_cohort_knows(whole: Path, cohort: Cohort, tmp_path: Path) -> None:
    other = cohort.model_copy(update={"labels": LabelSet.from_names({1: "liver", 2: "spleen"})})
    other.write(tmp_path / "cohort.json")
    told: list[str] = []
    run = arrange(
        tmp_path / "cohort.json", method="labeled-only", start=whole / "model", device="cpu",
        emit=lambda kind, **fields: told.append(str(fields.get("message"))),
    )  # fmt: skip
    assert run.plan.second is None and run.second_weights is None and any("it has one stage" in m for m in told)


def test_the_boxes_of_a_sparsely_labeled_case_know_what_nobody_labeled(cohort: Cohort, tmp_path: Path) -> None:
    slices = LabeledSlices(numbers=tuple(range(0, 32, 2)))
    cases = tuple(
        case.model_copy(update={"labeled_slices": slices, "drawn": (2,)}) if case.role == "labeled" else case
        for case in cohort.cases
    )
    run_of(tmp_path / "run", cohort.model_copy(update={"cases": cases}))
    boxes = Cohort.read(tmp_path / "run/second/cohort.json")
    box = boxes.with_role("labeled")[0]
    assert box.labeled_slices is None and box.drawn == (2,) and box.ignored == (3,)
    image = read_image(box.image)
    label = read_case_label(box, image.geometry).array
    assert (label == UNLABELED).any((1, 2)).sum() in (label.shape[0] // 2, (label.shape[0] + 1) // 2)
    assert (label == 2).any() and boxes.with_role("validation")[0].ignored == ()
