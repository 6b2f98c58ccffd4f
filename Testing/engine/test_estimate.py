"""Presets, and what a run is said to cost before it begins."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dinomix.cli import main
from dinomix.planning import cache
from dinomix.training import estimate as estimate_module
from dinomix.training import finish as finish_module
from dinomix.training import fkd as fkd_module
from dinomix.training import loop as loop_module
from dinomix.training import pace as pace_module
from dinomix.training import recording, start_model, validation
from dinomix.training import step as step_module
from dinomix.training.batches import Batches
from dinomix.training.config import make_config
from dinomix.training.disk import bytes_of_case
from dinomix.training.estimate import estimate
from dinomix.training.presets import PRESETS, preset_settings
from dinomix.training.run_directory import RunDirectory
from dinomix.training.train import train
from tiny_cohort import make_cohort, make_plan, small_config


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return make_cohort(tmp_path_factory.mktemp("cases"), validation=2)


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as left:
        main(["train", *(str(argument) for argument in arguments)])
    return int(left.value.code or 0)


def everything_in(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


def test_presets_are_settings_that_a_run_takes():
    times = [make_config("dino-mix", **preset_settings(preset.name)).time or 0.0 for preset in PRESETS]
    assert 0 < times[0] < times[1] < times[2] and [preset.name for preset in PRESETS] == [
        "quick-look",
        "standard",
        "thorough",
    ]
    assert make_config("dino-mix", **preset_settings("standard")) == make_config("dino-mix", time="1h")


def test_devices_are_listed_for_programs_and_people(capsys):
    assert run("--list-devices", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kind"] == "devices" and told["reason"].endswith(".")
    names = [device["name"] for device in told["devices"]]
    assert names[-1] == "cpu" and told["automatic"] in names
    assert all(device["title"] and device["memory"] > 2**20 for device in told["devices"])
    assert run("--list-devices") == 0
    assert "cpu: CPU" in capsys.readouterr().out


def test_presets_are_listed_for_programs(capsys):
    assert run("--list-presets", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kind"] == "presets"
    assert all(
        set(p) == {"name", "title", "description", "settings", "config"} and p["settings"] for p in told["presets"]
    )


def test_what_is_given_wins_over_the_preset(cohort, tmp_path: Path, capsys):
    cohort.write(tmp_path / "cohort.json")
    make_plan().write(tmp_path / "plan.json")
    common = ["--cohort", tmp_path / "cohort.json", "--plan", tmp_path / "plan.json", "--device", "cpu", "--fkd", "off"]
    given = ["--preset", "quick-look", "--steps", "3", "--set", "learning_rate=0.002"]
    assert run(*common, "--out", tmp_path / "run", *given) == 0
    config = RunDirectory.open(tmp_path / "run").config
    assert (config.steps, config.learning_rate, config.optimizer, config.time) == (3, 0.002, "adamw", None)
    assert run(*common, "--out", tmp_path / "other", "--preset", "quick") == 2
    assert "no preset quick" in capsys.readouterr().err


@pytest.mark.parametrize("fkd", ["off", "on-the-fly", "cached"])
def test_an_estimate_is_what_a_run_takes(fkd: str, cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    now = clock_of_work(monkeypatch)
    config = small_config("dino-mix", steps=24, validate_every=9, checkpoint_every=20, fkd=fkd)
    before = everything_in(tmp_path)
    told: list[dict] = []
    said = estimate(cohort, config, make_plan(), emit=lambda kind, **fields: told.append(fields))
    assert everything_in(tmp_path) == before
    assert [fields["step"] for fields in told] == [0, 1, 2, 3, 4]

    began = now[0]
    train(cohort, tmp_path / "run", config, make_plan())
    assert said["seconds"] == pytest.approx(now[0] - began)
    assert said["seconds_per_step"] == pytest.approx((6 * 3.5 + 18 * 5.5) / 24)
    disk = sum(path.stat().st_size for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert 0.6 < said["disk_bytes"] / disk < 1.4
    assert 2**27 < said["memory_bytes"] < 2**35
    assert said["device"] == "cpu" and said["reason"].startswith("Computing on the CPU") and said["fkd"] == fkd
    assert said["pseudo_labels"] == "Pseudo-labels count after 6 steps."


def test_what_the_start_model_predicts_is_counted(cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of labeled cases only where structures are kept; of validation cases of each run that starts from a model."""
    now = clock_of_work(monkeypatch)
    start = train(
        cohort, tmp_path / "start", small_config("labeled-only", steps=1), make_plan(), cache=tmp_path / "cache"
    )
    segment = start_model.segment_volume

    def costing(*arguments: Any, **named: Any) -> Any:
        now[0] += 100
        return segment(*arguments, **named)

    monkeypatch.setattr(start_model, "segment_volume", costing)

    def seconds(keeps: bool, **named: Any) -> float:
        config = small_config("labeled-only", steps=2, keep_structures=keeps)
        return estimate(cohort, config, make_plan(), cache=tmp_path / "cache", **named)["seconds"]

    before = everything_in(tmp_path)
    alone, validation, labeled = seconds(False), *(len(cohort.with_role(role)) for role in ("validation", "labeled"))
    compared = 4.0 * validation  # at the end, of the run's own model
    assert seconds(False, start_model=start) - alone == pytest.approx(100 * validation + compared)
    assert seconds(True, start_model=start) - alone == pytest.approx(100 * (validation + labeled) + compared)
    assert everything_in(tmp_path) == before


def clock_of_work(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of a clock that only the work of a run drives, so that other programs do not count."""
    now = [0.0]
    lock = threading.Lock()

    def costing(work: Callable, seconds: Callable[..., float]) -> Callable:
        def done(*arguments: Any, **named: Any) -> Any:
            with lock:
                now[0] += seconds(*arguments)
            return work(*arguments, **named)

        return done

    step = costing(step_module.training_step, lambda run, _: 3.0 if run.state.step < 6 else 5.0)
    validate = costing(validation.validate, lambda network, cases, *_: 4.0 * len(cases))
    prepared_case = costing(cache.prepared_case, lambda *_: 1.0)
    # What the run's model is asked at the end, about overlaps with more and with fewer windows.
    asked = {
        name: costing(
            getattr(finish_module, name),
            lambda model, cohort, *_, n=times: n * 4.0 * len(cohort.with_role("validation")),
        )
        for name, times in (("with_calibration", 1), ("chosen_clean_up", 1), ("chosen_overlap", 2))
    }
    for name, function in asked.items():
        monkeypatch.setattr(finish_module, name, function)
    for module in (estimate_module, pace_module):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    for module, name, function in (
        (pace_module, "training_step", step), (loop_module, "training_step", step),
        (pace_module, "validate", validate), (recording, "validate", validate),
        (estimate_module, "prepared_case", prepared_case), (cache, "prepared_case", prepared_case),
        (fkd_module, "features_of_volume", costing(fkd_module.features_of_volume, lambda *_: 2.0)),
        (Batches, "__getitem__", costing(Batches.__getitem__, lambda *_: 0.5)),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, function)
    return now


def test_cases_that_are_cached_cost_no_disk_again(cohort, tmp_path: Path):
    config = small_config("labeled-only", steps=4)
    alone = estimate(cohort, config, make_plan(), cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    train(cohort, tmp_path / "run", config, make_plan(), cache=tmp_path / "cache")
    again = estimate(cohort, config, make_plan(), cache=tmp_path / "cache")
    read = [case for case in cohort.cases if case.role in ("labeled", "validation")]
    cases = sum(bytes_of_case(case, cohort, make_plan()) for case in read)
    assert cases > 0 and alone["disk_bytes"] - again["disk_bytes"] == cases
    # What labels alone teach needs no unlabeled case prepared.
    assert cohort.with_role("unlabeled") and len(list((tmp_path / "cache").glob("*/image.npy"))) == len(read)
    with_unlabeled = estimate(cohort, small_config("mean-teacher", steps=4), make_plan(), cache=tmp_path / "cache")
    unlabeled = sum(bytes_of_case(case, cohort, make_plan()) for case in cohort.with_role("unlabeled"))
    assert with_unlabeled["disk_bytes"] - again["disk_bytes"] == unlabeled


def test_a_run_with_more_steps_and_cases_is_said_to_take_longer(tmp_path: Path):
    few, many = make_cohort(tmp_path / "few", 1, 1, 1), make_cohort(tmp_path / "many", 8, 8, 4)
    config = small_config("labeled-only", steps=4)
    small, large = estimate(few, config, make_plan()), estimate(many, config, make_plan())
    assert large["disk_bytes"] > 2 * small["disk_bytes"]
    longer = estimate(few, small_config("labeled-only", steps=4000, validate_every=4000), make_plan())
    assert longer["seconds"] > 50 * small["seconds_per_step"]


def test_an_estimate_by_the_command_line_that_is_killed_leaves_nothing(cohort, tmp_path: Path, capsys):
    folder = tmp_path / "study"
    folder.mkdir()
    cohort.write(folder / "cohort.json")
    options = ["--cohort", folder / "cohort.json", "--device", "cpu", "--teacher", "random:vit_small_patch16_dinov3"]
    before = everything_in(folder)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    command = [sys.executable, "-m", "dinomix", "train", "--estimate", "--json", *map(str, options)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=folder, env={**os.environ, "TMPDIR": str(temporary)}
    )
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["kind"] == "progress" and json.loads(line)["step"] == 1:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert everything_in(folder) == before and not list(temporary.iterdir())

    assert run(*options, "--estimate", "--steps", "30", "--json") == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["kind"] == "estimate" and last["steps"] == 30 and last["fkd"] == "cached"
    assert everything_in(folder) == before
    assert run("--estimate") == 2
