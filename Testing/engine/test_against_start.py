"""Fine-tuning never ends below its start: what the validation cases decide, and what is told."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dinomix.cohort.cohort import Cohort
from dinomix.events import read_events
from dinomix.files import write_json
from dinomix.images.reading import read_image
from dinomix.inference.segment import segment_volume
from dinomix.labels import LabelSet
from dinomix.models.folder import Model, load_model
from dinomix.models.manifest import read_record
from dinomix.models.writing import changed_aside
from dinomix.report.comparing import compare_run
from dinomix.report.report import write_report
from dinomix.training.against_start import Verdict
from dinomix.training.arranging import arrange
from dinomix.training.finish import finish
from dinomix.training.run_directory import RunDirectory
from dinomix.training.train import train
from tiny_cohort import LABELS, make_cohort, make_plan, small_config


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """Cases, and a model that finds both balls."""
    folder = tmp_path_factory.mktemp("study")
    cohort = make_cohort(folder / "cases", 2, 2, 2)
    cohort.write(folder / "cohort.json")
    config = small_config("labeled-only", steps=60, learning_rate=0.01, validate_every=20, seed=3)
    model = train(cohort, folder / "first", config, make_plan(), cache=folder / "cache")
    with changed_aside(model) as aside:
        record = {**read_record(aside), "eight_bits": {"exact": 1, "cases": 2}}
        write_json(aside / "record.json", record)
    return folder


def tuned(study: Path, run: Path, cohort: Path | None = None, *, is_worse: bool = False) -> Model:
    """A short run that starts from that model: it can only stay as it is, or has lost all that the model knew."""
    settings = {"learning_rate": 1e-9, "validate_every": 2}
    made = arrange(cohort or study / "cohort.json", method="labeled-only", start=study / "first/model", steps=2, device="cpu",
                   settings=settings)  # fmt: skip
    weights = None if is_worse else made.weights
    path = train(made.cohort, run, made.config, made.plan, cache=study / "cache", start=weights,
                 start_model=study / "first/model")  # fmt: skip
    return load_model(path)


def events_of(run: Path, kind: str) -> list[dict]:
    return [event for event in read_events(run / "events.jsonl") if event["kind"] == kind]


def test_a_run_that_ends_below_its_start_leaves_the_start_model(study: Path, tmp_path: Path) -> None:
    model, start = tuned(study, tmp_path / "run", is_worse=True), load_model(study / "first/model")
    (verdict,) = events_of(tmp_path / "run", "verdict")
    assert verdict["kept"] == "start" and verdict["mean"]["after"] < verdict["mean"]["before"]
    assert "has ended below first" in verdict["message"] and "holds the start model" in verdict["message"]
    assert verdict["remedy"].startswith("More labeled cases")

    assert all(torch.equal(model.weights[name], weight) for name, weight in start.weights.items())
    assert (model.plan, model.labels) == (start.plan, start.labels)
    assert model.record["config"] == start.record["config"]  # the record is that of the weights
    assert model.record["start_model"]["kept"] == "start"
    card = (tmp_path / "run/model/README.md").read_text(encoding="utf-8")
    assert verdict["message"] in card and "8 bits" not in card, "its graph of 8 bits does not come along"
    write_report(tmp_path / "run", tmp_path / "report.html")
    assert "Beside its start" in (tmp_path / "report.html").read_text(encoding="utf-8")

    # The figures are those that `dinomix compare` gives, and what the event before the first step said.
    compared = compare_run(tmp_path / "run", device="cpu")
    (said,) = events_of(tmp_path / "run", "start")
    for name, dice in verdict["dice"].items():
        assert dice["before"] == compared["classes"][name]["before"] == said["dice"][name]
    assert compared["classes"]["liver"]["after"] == compared["classes"]["liver"]["before"]


def test_what_is_not_worse_is_the_runs_own(study: Path, tmp_path: Path) -> None:
    model = tuned(study, tmp_path / "run")
    (verdict,) = events_of(tmp_path / "run", "verdict")
    assert (
        verdict["kept"] == "trained" and verdict["mean"]["after"] == verdict["mean"]["before"] and not verdict["remedy"]
    )
    assert model.record["steps_done"] == 2 and "Beside first" in model.record["start_model"]["message"]


def test_the_start_model_keeps_what_it_knows_beyond_the_cohort(study: Path, tmp_path: Path) -> None:
    """Under the ids of the cohort, by which its label files go."""
    cohort = Cohort.read(study / "cohort.json")
    cases = tuple(
        case.model_copy(update={"label_values": {1: 2, 2: 0}, "voxels": {2: case.voxels[1]}}) if case.label else case
        for case in cohort.cases
    )
    cohort.model_copy(update={"labels": LabelSet.from_names({2: "Liver"}), "cases": cases}).write(
        tmp_path / "cohort.json"
    )
    model, start = (
        tuned(study, tmp_path / "run", tmp_path / "cohort.json", is_worse=True),
        load_model(study / "first/model"),
    )
    assert model.record["start_model"]["kept"] == "start"
    assert dict(zip(model.labels.ids, model.labels.names, strict=True)) == {2: "Liver", 1: "gallbladder"}
    image = read_image(cohort.cases[0].image)
    own, other = (segment_volume(image, m, device="cpu").array for m in (start, model))
    assert np.array_equal(np.array([0, 2, 1])[own], other) and other.any()


def test_a_run_that_has_learned_something_new_is_kept_and_the_figures_are_told(study: Path, tmp_path: Path) -> None:
    cohort = Cohort.read(study / "cohort.json")
    names = LabelSet.from_names({1: "liver", 2: "tumor"})
    cohort.model_copy(update={"labels": names}).write(tmp_path / "cohort.json")
    model = tuned(study, tmp_path / "run", tmp_path / "cohort.json", is_worse=True)
    (verdict,) = events_of(tmp_path / "run", "verdict")
    assert model.labels.names == ("liver", "tumor") and verdict["kept"] == "trained"
    assert "become worse" in verdict["message"] and "it alone knows tumor" in verdict["message"]
    assert "first segments them better" in verdict["remedy"]
    assert verdict["dice"]["tumor"]["before"] is None and verdict["dice"]["liver"]["before"] is not None


def test_without_validation_cases_nothing_can_decide(study: Path, tmp_path: Path) -> None:
    cohort = Cohort.read(study / "cohort.json")
    cases = tuple(case for case in cohort.cases if case.role != "validation")
    cohort.model_copy(update={"cases": cases}).write(tmp_path / "cohort.json")
    model = tuned(study, tmp_path / "run", tmp_path / "cohort.json")
    (notice,) = [event for event in events_of(tmp_path / "run", "notice") if event.get("code") == "no-validation"]
    assert "--validation" in notice["remedy"] and "start_model" not in model.record
    assert not events_of(tmp_path / "run", "verdict")


def test_a_run_is_not_lost_where_its_start_is_gone_or_a_case_cannot_be_read(study: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    tuned(study, run, is_worse=True)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "start_fingerprint": "another"}))
    model = load_model(finish(run))
    assert model.record["steps_done"] == 2
    assert any("not the model any more" in event["message"] for event in events_of(run, "notice"))
    (run / "config.json").write_text(json.dumps(config))
    cohort = RunDirectory.open(run).cohort
    lost = tuple(
        c.model_copy(update={"image": tmp_path / "gone"}) if c.role == "validation" else c for c in cohort.cases
    )
    cohort.model_copy(update={"cases": lost}).write(run / "cohort.json")
    assert load_model(finish(run)).record["steps_done"] == 2
    assert any("was not compared" in event["message"] for event in events_of(run, "notice"))


def test_means_are_over_what_both_know() -> None:
    before = {"liver": 0.9, "spleen": None, "tumor": None}
    verdict = Verdict("old", before, {"liver": 0.8, "spleen": 0.9, "tumor": 0.4}, ("tumor",), {})
    assert verdict.means == (0.9, 0.8) and verdict.is_worse and not verdict.keeps_start
    nothing = Verdict("old", dict.fromkeys(LABELS.names), dict.fromkeys(LABELS.names, 0.5), (), {})
    assert nothing.means is None and not nothing.is_worse and nothing.message == ""
