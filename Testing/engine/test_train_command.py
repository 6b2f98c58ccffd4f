"""``dinomix train`` as its user meets it."""

import json
from pathlib import Path

import pytest

from dinomix.cli import main
from dinomix.events import read_events
from dinomix.models.folder import load_model
from dinomix.training.run_directory import RunDirectory
from tiny_cohort import make_cohort, make_plan

SMALL = [
    "--device", "cpu", "--steps", "4", "--fkd", "off", "--set", "optimizer=adamw", "--set", "learning_rate=0.003",
    "--set", "pseudo_label_start=0.25", "--set", "wait_until_found=false", "--set", "pic.start=0",
]  # fmt: skip


@pytest.fixture
def cohort_file(tmp_path: Path) -> Path:
    folder = tmp_path / "Bäuche & Köpfe 腹部"
    cohort = make_cohort(folder)
    cohort.write(folder / "cohort.json")
    make_plan().write(folder / "plan.json")
    return folder / "cohort.json"


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return int(left.value.code or 0)


def refused(capsys, *arguments: object) -> str:
    """The one line of a refusal."""
    assert run("train", *arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("Error: ") and not any("Traceback" in line for line in lines)
    return lines[-1]


def test_a_cohort_in_a_folder_of_any_script_becomes_a_model(cohort_file: Path, capsys):
    out = cohort_file.parent / "Lauf 1"
    plan = cohort_file.with_name("plan.json")
    assert run("train", "--cohort", cohort_file, "--out", out, "--plan", plan, *SMALL, "--json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[-1] == {"kind": "result", "model": str(out / "model")}
    assert {"progress", "loss", "validation", "checkpoint", "finished"} <= {event["kind"] for event in events}

    start = ["--start", out / "model", "--set", "plan.overlap=0.25,0.25,0.25"]
    assert run("train", "--cohort", cohort_file, "--out", cohort_file.parent / "Lauf 2", *start, *SMALL) == 0
    assert load_model(cohort_file.parent / "Lauf 2" / "model").plan.overlap == (0.25, 0.25, 0.25)


def test_what_is_finished_stays_finished(cohort_file: Path, capsys):
    out = cohort_file.parent / "run"
    plan = cohort_file.with_name("plan.json")
    assert run("train", "--cohort", cohort_file, "--out", out, "--plan", plan, *SMALL) == 0
    weights = (out / "model/models/model.safetensors").read_bytes()
    assert run("train", "--resume", out) == 0
    assert (out / "model/models/model.safetensors").read_bytes() == weights
    assert "already holds a run" in refused(capsys, "--cohort", cohort_file, "--out", out, *SMALL)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Give --cohort and --out"),
        (["--resume", "nowhere"], "nowhere holds no run"),
        (["--cohort", "nowhere.json", "--out", "run"], "is not a cohort file"),
        (["--resume", "run", "--out", "run", "--steps", "50"], "leave out --out, --steps"),
    ],
)
def test_what_is_missing_is_said(arguments, words, capsys, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert words in refused(capsys, *arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "no_such=1"], "no_such"),
        (["--set", "pic.kapa=1"], "pic.kapa"),
        (["--set", "steps"], "is not KEY=VALUE"),
        (["--set", "method=mean-teacher"], "Give --method"),
        (["--set", "plan.patch=42,42,42"], "multiple of"),
        (["--set", "learning_rate=fast"], "learning_rate"),
        (["--start", "nowhere"], "no model folder nowhere"),
        (["--plan", "nowhere.json"], "is not a plan"),
        (["--device", "cuda:99"], "cuda:99"),
        (["--fkd", "on-the-fly", "--teacher", "nowhere.pth"], "no teacher file nowhere.pth"),
        (["--fkd", "cached", "--teacher", "no_such_backbone"], "no_such_backbone"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_any_work(arguments, words, cohort_file: Path, capsys, monkeypatch):
    monkeypatch.chdir(cohort_file.parent)
    assert words in refused(capsys, "--cohort", cohort_file, "--out", "run", *SMALL, *arguments)
    assert not (cohort_file.parent / "run" / "checkpoints").exists()


def test_absent_dinov3_weights_name_the_licence_and_the_ways_on(cohort_file: Path, capsys, monkeypatch, tmp_path: Path):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *arguments, **options: None)
    options = ["--cohort", cohort_file, "--out", tmp_path / "run", "--device", "cpu", "--steps", "4"]
    line = refused(capsys, *options, "--fkd", "on-the-fly")
    for way in ("dinov3-license", "--download-teacher", "--teacher FILE", "--teacher random", "--fkd off"):
        assert way in line


def test_without_dinov3_weights_the_default_trains_without_fkd(cohort_file: Path, capsys, monkeypatch, tmp_path: Path):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *arguments, **options: None)
    options = [option for option in SMALL if option not in ("--fkd", "off")]
    plan = cohort_file.with_name("plan.json")
    assert run("train", "--cohort", cohort_file, "--out", tmp_path / "run", *options, "--plan", plan) == 0
    said = capsys.readouterr().err
    assert "trains without FKD" in said and "dinov3-license" in said
    config = RunDirectory.open(tmp_path / "run").config
    assert config.method == "dino-mix" and config.pic.enabled and config.fkd.mode == "off"


def test_a_start_that_fails_is_told_to_the_one_who_made_the_folder(cohort_file: Path, capsys, tmp_path: Path):
    options = [*SMALL, "--cohort", cohort_file, "--plan", cohort_file.with_name("plan.json")]
    awaited, own = tmp_path / "awaited", tmp_path / "own"
    awaited.mkdir()
    for run_folder in (awaited, own):
        refused(capsys, *options, "--fkd", "on-the-fly", "--teacher", "gone.pth", "--out", run_folder)
    (told,) = read_events(awaited / "events.jsonl")
    assert told["kind"] == "error" and told["code"] == "teacher" and "gone.pth" in told["message"]
    assert not own.exists()
    assert run("train", *options, "--out", awaited) == 0
    assert not [event for event in read_events(awaited / "events.jsonl") if event["kind"] == "error"]


def test_a_read_only_folder_is_said(cohort_file: Path, capsys, tmp_path: Path, monkeypatch):
    import os

    if os.geteuid() == 0:
        pytest.skip("root may write everywhere, so no folder is read-only for this test")
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "may write" in refused(capsys, "--cohort", cohort_file, "--out", tmp_path / "locked/run", *SMALL)
