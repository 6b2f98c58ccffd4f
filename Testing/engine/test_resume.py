"""A killed run goes on as if nothing had happened."""

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dinomix.events import read_events
from dinomix.planning.plan import Plan
from dinomix.training import reliability
from dinomix.training.compiled_backbone import can_compile
from dinomix.training.methods import mean_teacher
from dinomix.training.run_directory import RunDirectory
from dinomix.training.sightings import LAG
from dinomix.training.step import training_step
from dinomix.training.train import resume, train
from tiny_cohort import make_cohort, make_plan, small_config

pytestmark = pytest.mark.usefixtures("without_graphs")


def quiet_resume(run: Path) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    resume(run)


def test_an_interrupt_saves_and_leaves(tmp_path: Path):
    cohort, plan = make_cohort(tmp_path / "cases", validation=0), make_plan()
    config = small_config("mean-teacher", steps=400, checkpoint_every=400)
    RunDirectory.create(tmp_path / "run", config, cohort, plan, None, None)
    process = multiprocessing.get_context("fork").Process(target=quiet_resume, args=(tmp_path / "run",))
    process.start()
    deadline = time.monotonic() + 60
    while not any(event["kind"] == "loss" for event in read_events(tmp_path / "run/events.jsonl")):
        assert time.monotonic() < deadline and process.is_alive()
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    assert process.exitcode not in (0, None)
    state = RunDirectory.open(tmp_path / "run").checkpoints.load()
    assert state is not None and 0 < state["step"] < 400


def stopped_and_resumed(
    folder: Path, settings: dict[str, Any], plan: Plan, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trains ``folder``/whole and ``folder``/stopped, which is stopped at step ``at`` and resumed; both models are the same."""
    cohort, config = make_cohort(folder / "cases", validation=0), small_config(**{"method": "mean-teacher", **settings})
    train(cohort, folder / "whole", config, plan, cache=folder / "cache")

    def stopped(run, batch):
        if run.state.step == at:
            raise KeyboardInterrupt
        return training_step(run, batch)

    monkeypatch.setattr("dinomix.training.loop.training_step", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(cohort, folder / "stopped", config, plan, cache=folder / "cache")
    monkeypatch.undo()
    resume(folder / "stopped")
    whole, again = (load_file(folder / run / "model/models/model.safetensors") for run in ("whole", "stopped"))
    assert all(torch.equal(tensor, again[name]) for name, tensor in whole.items())


def test_a_model_that_a_kill_has_hidden_is_there_again_when_the_run_goes_on(tmp_path: Path):
    for place in (".partial-killed-old/model/configs", ".partial-half", "checkpoints/.partial-half"):
        (tmp_path / place).mkdir(parents=True)
    cohort = make_cohort(tmp_path / "cases", validation=0)
    with RunDirectory(tmp_path, small_config("mean-teacher"), cohort, make_plan(), tmp_path / "cache").locked():
        assert (tmp_path / "model/configs").is_dir() and not list(tmp_path.rglob(".partial-*"))


def test_dropout_draws_the_same_after_a_stop(tmp_path: Path, monkeypatch):
    plan = make_plan()
    plan = plan.model_copy(update={"network": {**plan.network, "dropout": 0.3}})
    stopped_and_resumed(tmp_path, {"steps": 4, "checkpoint_every": 2}, plan, 3, monkeypatch)


def test_patches_lie_around_what_was_seen_before_a_stop(tmp_path: Path, monkeypatch):
    settings = {"pic": True, "pic.places": 4, "pic.probability": 1.0, "pseudo_label_start": 0.0, "steps": LAG + 9,
                "checkpoint_every": LAG - 4, "record_every": 1}  # fmt: skip
    stopped_and_resumed(tmp_path, settings, make_plan(), LAG + 3, monkeypatch)
    whole, again = ([event["draws"] for event in read_events(tmp_path / run / "events.jsonl") if event["kind"] == "pic"]
                    for run in ("whole", "stopped"))  # fmt: skip
    assert whole == again


@pytest.mark.parametrize(("often", "first"), [(0, 14), (16, 17)])
def test_pseudo_labels_wait_as_long_with_a_stop(often: int, first: int, tmp_path: Path, monkeypatch):
    """Of any teacher, until its Dice was measured three times, in steps 0, 6 and 12, the last time after the stop; and until each
    labeled case was seen often enough, once a step."""
    monkeypatch.setattr(reliability, "FOUND", 0.0)
    monkeypatch.setattr(reliability, "LOST", 0.0)
    monkeypatch.setattr(reliability, "STAND", 1.0)
    monkeypatch.setattr(mean_teacher, "MEMORY", 2.0)
    monkeypatch.setattr(mean_teacher, "OFTEN", often)
    settings = {"steps": 20, "checkpoint_every": 12, "record_every": 1, "wait_until_found": True}
    # What is undone before the run is resumed is the stop alone.
    with monkeypatch.context() as stop:
        stopped_and_resumed(tmp_path, settings, make_plan(), 14, stop)
    losses = [event for event in read_events(tmp_path / "stopped/events.jsonl") if event["kind"] == "loss"]
    assert [event["step"] for event in losses if event["unsupervised"] is not None] == list(range(first, 21))


def test_what_is_not_seen_weighs_the_same_after_a_stop(tmp_path: Path, monkeypatch):
    settings = {
        "method": "mean-teacher",
        "wait_until_found": True,
        "unseen_weight": 50,
        "steps": 14,
        "checkpoint_every": 10,
    }
    stopped_and_resumed(tmp_path, settings, make_plan(), 12, monkeypatch)


@pytest.mark.skipif(not can_compile(), reason="OpenVINO is not installed, or is not used on this processor")
def test_a_compiled_teacher_gives_the_same_tokens_after_a_stop(tmp_path: Path, monkeypatch):
    settings = {"method": "dino-mix", "steps": 4, "checkpoint_every": 2}
    stopped_and_resumed(tmp_path, settings, make_plan(), 3, monkeypatch)
    computing = [
        event["runtime"] for event in read_events(tmp_path / "stopped/events.jsonl") if event["kind"] == "runtime"
    ]
    assert computing == ["openvino", "openvino"]
