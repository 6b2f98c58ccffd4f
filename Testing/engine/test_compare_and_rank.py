"""``dinomix compare`` and ``dinomix rank``: what a run has gained, and which case to label next."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dinomix.cli import main
from dinomix.errors import DinomixError
from dinomix.evaluation.evaluate import evaluate_pairs
from dinomix.evaluation.matched_model import MatchedModel
from dinomix.images.reading import read_geometry, read_image, read_label
from dinomix.inference.batch import segment_files
from dinomix.inference.options import Options
from dinomix.labels import LabelSet
from dinomix.models.folder import load_model
from dinomix.models.matched_weights import matched_weights
from dinomix.models.writing import changed_aside
from dinomix.planning.plan import CleanUp, Plan, RangeWindow, SpacingGrid
from dinomix.report.comparing import compare_run
from dinomix.training import ranking
from dinomix.training.next_case import STRATEGIES, StrategyName
from dinomix.training.ranking import disagreements, of_channels, rank_run
from dinomix.training.run_directory import RunDirectory
from dinomix.training.train import train
from tiny_cohort import LABELS, make_cohort, make_plan, small_config

pytestmark = pytest.mark.usefixtures("without_graphs")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run that starts from the model of another one, with all its cases."""
    folder = tmp_path_factory.mktemp("study")
    cohort, plan, cache = make_cohort(folder / "cases", validation=2), make_plan(), folder / "cache"
    first = small_config("labeled-only", steps=8)
    start = train(cohort, folder / "first", first, plan, cache=cache)
    config = small_config("mean-teacher", steps=60, learning_rate=0.01, validate_every=30, seed=3)
    weights = matched_weights(load_model(start), LABELS, plan, 0, lambda *a, **k: None)
    train(cohort, folder / "second", config, plan, cache=cache, start=weights, start_model=start)
    return folder


def test_a_comparison_is_what_evaluation_says(folder: Path, tmp_path: Path):
    run = folder / "second"
    result = compare_run(run, device="cpu")
    assert json.loads((run / "comparison/comparison.json").read_text()) == result
    assert result["before"]["title"] == "first" and result["after"]["title"] == "second"
    assert result["before"]["path"] == str(folder / "first/model")
    cases = RunDirectory.open(run).cohort.with_role("validation")
    for key, model in (("before", folder / "first/model"), ("after", run / "model")):
        segment_files(
            load_model(model), [case.image for case in cases], tmp_path / key, Options("cpu", precision="float32")
        )
        pairs = {c.name: (next((tmp_path / key).glob(f"{c.name}-*.nii.gz")), c.label) for c in cases}
        metrics = evaluate_pairs(pairs, LABELS)
        for case in result["cases"]:
            assert case[key] == {name: values["dice"] for name, values in metrics["cases"][case["name"]].items()}
        for name in LABELS.names:
            assert result["classes"][name][key] == pytest.approx(metrics["classes"][name]["dice"])
    assert result["classes"]["liver"]["after"] > result["classes"]["liver"]["before"]
    assert all((run / case["picture"]).read_bytes().startswith(b"\x89PNG") for case in result["cases"])


def test_a_comparison_that_is_there_is_kept_until_the_model_changes(folder: Path, monkeypatch):
    run = folder / "second"
    compare_run(run, device="cpu")
    written = (run / "comparison/comparison.json").stat().st_mtime_ns
    monkeypatch.setattr("dinomix.evaluation.matched_model.segment_volume", None)
    compare_run(run, device="cpu")
    assert (run / "comparison/comparison.json").stat().st_mtime_ns == written
    monkeypatch.undo()
    next((run / "comparison").glob("*.png")).unlink()
    compare_run(run, device="cpu")
    assert (run / "comparison/comparison.json").stat().st_mtime_ns > written


def test_a_structure_that_the_first_model_does_not_know_has_no_before(folder: Path, tmp_path: Path):
    model = load_model(folder / "first/model")
    other = LABELS.model_copy(
        update={"structures": tuple(s.model_copy(update={"id": s.id + 4}) for s in LABELS.structures if s.id == 1)
                + tuple(s.model_copy(update={"name": "spleen", "terminology": None}) for s in LABELS.structures if s.id == 2)}
    )  # fmt: skip
    compared = MatchedModel(model, other)
    case = RunDirectory.open(folder / "second").cohort.with_role("validation")[0]
    predicted = compared.segment([read_image(case.image)], "cpu")
    assert set(np.unique(predicted.array)) <= {0, 5}
    assert compared.dice(predicted, predicted, case)["spleen"] is None


def test_from_scratch_or_with_the_first_model_gone_there_is_no_before(folder: Path, tmp_path: Path):
    assert compare_run(folder / "first", device="cpu")["before"] is None
    run = folder / "second"
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "start_model": str(tmp_path / "gone")}))
    told: list[str] = []
    result = compare_run(run, device="cpu", emit=lambda kind, **f: told.append(f.get("message", "")))
    (run / "config.json").write_text(json.dumps(config))
    assert result["before"] is None and any("gone" in message for message in told)
    assert result["classes"]["liver"]["before"] is None and result["classes"]["liver"]["after"] > 0


def test_disagreement_is_one_minus_dice():
    one, other = np.array([0, 1, 1, 2, 0]), np.array([0, 1, 0, 0, 0])
    assert disagreements(one[:, None], other[:, None], (1, 2, 3)) == [pytest.approx(1 / 3), 1.0, None]


def test_what_the_cohort_lacks_is_background():
    logits = torch.randn((5, 2, 3, 4), generator=torch.Generator().manual_seed(0))
    every, merged = logits.softmax(0), of_channels(logits, [4, 2]).softmax(0)
    assert torch.allclose(merged[1:], every[[4, 2]]) and torch.allclose(merged[0], every[[0, 1, 3]].sum(0))
    assert torch.equal(of_channels(logits, [1, 2, 3, 4]), logits)


def test_unlabeled_cases_are_ranked_with_labels_to_correct(folder: Path):
    run = folder / "second"
    result = rank_run(run, by="disagreement", device="cpu")
    assert json.loads((run / "ranking/ranking.json").read_text()) == result
    unlabeled = {case.name: case for case in RunDirectory.open(run).cohort.with_role("unlabeled")}
    assert {case["name"] for case in result["cases"]} == set(unlabeled)
    order = [case["disagreement"] for case in result["cases"]]
    assert order == sorted(order, reverse=True) and order[0] > 0
    for case in result["cases"]:
        labels, names = read_label(run / case["pseudo_label"])
        assert names == {1: "liver", 2: "gallbladder"}
        assert labels.geometry.difference(read_geometry(unlabeled[case["name"]].image)) == ""
        known = [value for value in case["classes"].values() if value is not None]
        assert case["disagreement"] == case["score"] == pytest.approx(sum(known) / len(known))


def test_pseudo_labels_are_what_the_runs_model_segments(folder: Path, tmp_path: Path):
    """Without the pieces that its own plan removes."""
    run = tmp_path / "run"
    shutil.copytree(folder / "second", run)
    with changed_aside(run / "model") as aside:
        plan = Plan.read(aside / "plan.json")
        plan.model_copy(
            update={"clean_up": (CleanUp(channel=1, smallest=None), CleanUp(channel=2, smallest=1e6))}
        ).write(aside / "plan.json")
    assert same_as_segmented(run, rank_run(run, device="cpu")) == {0, 1}


def same_as_segmented(run: Path, result: dict) -> set[int]:
    """The ids that occur in the labels to correct, which are the same as those that the run's model gives."""
    cohort, found = RunDirectory.open(run).cohort, set()
    matched = MatchedModel(load_model(run / "model"), cohort.labels)
    images = {case.name: case.image for case in cohort.with_role("unlabeled")}
    assert {case["name"] for case in result["cases"]} == set(images)
    for case in result["cases"]:
        labels, names = read_label(run / case["pseudo_label"])
        assert names == dict(zip(cohort.labels.ids, cohort.labels.names, strict=True))
        assert np.array_equal(labels.array, matched.segment([read_image(images[case["name"]])], "cpu").array)
        found |= set(np.unique(labels.array).tolist())
    return found


@pytest.mark.parametrize("grid", [1.0, 1.5])
def test_a_run_that_has_kept_its_start_is_ranked_by_it(grid: float, folder: Path, tmp_path: Path):
    """Under the cohort's ids; on its own grid and by its own window, whatever those of the run's networks are."""
    first = RunDirectory.open(folder / "second")
    cases = tuple(
        case.model_copy(update={"label_values": {1: 5, 2: 0}, "voxels": {5: case.voxels[1]}}) if case.label else case
        for case in first.cohort.cases
    )
    cohort = first.cohort.model_copy(update={"labels": LabelSet.from_names({5: "Liver"}), "cases": cases})
    changed = {"grid": SpacingGrid(spacing=(grid,) * 3), "window": RangeWindow(low=-150 / grid, high=250)}
    # From random weights, so that it ends below its start.
    train(cohort, tmp_path / "run", small_config("labeled-only", steps=2, learning_rate=1e-9),
          make_plan().model_copy(update=changed), cache=tmp_path / "cache", start_model=folder / "second/model")  # fmt: skip
    model = load_model(tmp_path / "run/model")
    assert model.record["start_model"]["kept"] == "start" and model.labels.names == ("gallbladder", "Liver")
    result = rank_run(tmp_path / "run", by="disagreement", device="cpu")
    assert same_as_segmented(tmp_path / "run", result) == {0, 5}
    assert all(0 < case["classes"]["Liver"] <= 1 for case in result["cases"])
    for by in ("predicted-dice", "clasp-pe"):
        classes = [case["classes"] for case in rank_run(tmp_path / "run", by=by, device="cpu")["cases"]]  # type: ignore[arg-type]
        assert all(set(of_case) == {"Liver"} and 0 < of_case["Liver"] < 1 for of_case in classes)


@pytest.mark.parametrize("by", STRATEGIES)
def test_each_strategy_ranks_all_cases_and_keeps_what_was_seen(folder: Path, by: StrategyName, monkeypatch):
    run = folder / "second"
    rank_run(run, by="disagreement", device="cpu")
    monkeypatch.setattr(ranking, "_see", None)
    result = rank_run(run, by=by, seed=5, device="cpu")
    assert result["by"] == by and result["seed"] == 5
    assert len({case["name"] for case in result["cases"]}) == 3
    assert all((run / case["pseudo_label"]).is_file() for case in result["cases"])
    scores = [case["score"] for case in result["cases"]]
    assert all(score is None if "random" in by else 0 <= score <= 1 for score in scores)
    if by == "predicted-dice":
        assert scores == sorted(scores)


def test_the_student_is_asked_once_a_strategy_needs_it(folder: Path):
    run = folder / "second"
    for record in (run / "ranking" / ".done").glob("*.json"):
        record.unlink()
    rank_run(run, by="predicted-dice", device="cpu")
    result = rank_run(run, by="disagreement", device="cpu")
    assert all(any(case["classes"].values()) for case in result["cases"])


def test_an_interrupted_ranking_goes_on_and_new_weights_begin_it_anew(folder: Path, monkeypatch):
    run = folder / "second"
    rank_run(run, device="cpu")
    ranked: list[str] = []

    def counting(case, *arguments):
        ranked.append(case.name)
        if len(ranked) == 2:
            raise KeyboardInterrupt
        return see(case, *arguments)

    see = ranking._see
    monkeypatch.setattr(ranking, "_see", counting)
    rank_run(run, device="cpu")
    assert not ranked
    state = torch.load(run / "checkpoints/last.pt", weights_only=True)
    state["student"] = {name: tensor + 0.01 for name, tensor in state["student"].items()}
    RunDirectory.open(run).checkpoints.save(state)
    with pytest.raises(KeyboardInterrupt):
        rank_run(run, device="cpu")
    rank_run(run, device="cpu")
    assert len(ranked) == 2 + 2 and len(set(ranked)) == 3


def test_a_case_that_is_gone_does_not_keep_the_others_from_being_ranked(tmp_path: Path):
    cohort = make_cohort(tmp_path / "cases", validation=0)
    config = small_config("mean-teacher", steps=4)
    train(cohort, tmp_path / "run", config, make_plan(), cache=tmp_path / "cache")
    gone = cohort.with_role("unlabeled")[1]
    gone.image.unlink()
    told: list[dict] = []
    with pytest.raises(DinomixError, match="1 of 3 cases could not be ranked"):
        rank_run(tmp_path / "run", device="cpu", emit=lambda kind, **f: told.append({"kind": kind, **f}))
    assert [event["message"].startswith(gone.name) for event in told if event["kind"] == "error"] == [True]
    assert len(json.loads((tmp_path / "run/ranking/ranking.json").read_text())["cases"]) == 2


def left(*arguments: object) -> int:
    with pytest.raises(SystemExit) as code:
        main([str(argument) for argument in arguments])
    return int(code.value.code or 0)


def test_the_command_lines(folder: Path, tmp_path: Path, capsys):
    run = folder / "second"
    for verb, kind in (("compare", "comparison"), ("rank", "ranking")):
        assert left(verb, run, "--device", "cpu", "--json") == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert lines[-1]["kind"] == kind and lines[-1]["cases"] and Path(lines[-1]["path"]).is_file()
        assert left(verb, run, "--device", "cpu") == 0
        assert "liver" in capsys.readouterr().out
        assert left(verb, tmp_path / "nowhere", "--json") == 2
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["remedy"]
    assert left("rank", run, "--by", "random", "--seed", "2", "--device", "cpu") == 0
    assert "-----" in capsys.readouterr().out
    assert left("rank", run, "--by", "guess") == 2


def test_what_cannot_be_compared_or_ranked_yet_is_said(tmp_path: Path):
    cohort, plan = make_cohort(tmp_path / "cases", unlabeled=0, validation=0), make_plan()
    RunDirectory.create(tmp_path / "run", small_config("labeled-only"), cohort, plan, None, None)
    with pytest.raises(DinomixError, match="no validation case"):
        compare_run(tmp_path / "run")
    with pytest.raises(DinomixError, match="no unlabeled case"):
        rank_run(tmp_path / "run")
    RunDirectory.create(tmp_path / "other", small_config(), make_cohort(tmp_path / "more"), plan, None, None)
    with pytest.raises(DinomixError, match="no model yet"):
        compare_run(tmp_path / "other")
    with pytest.raises(DinomixError, match="no checkpoint yet"):
        rank_run(tmp_path / "other")
