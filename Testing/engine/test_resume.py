"""A killed run goes on as if nothing had happened."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dinomix.events import read_events
from dinomix.training.run_directory import RunDirectory
from dinomix.training.step import training_step
from dinomix.training.train import resume, train
from tiny_cohort import make_cohort, make_plan, small_config


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


def test_dropout_draws_the_same_after_a_stop(tmp_path: Path, monkeypatch):
    cohort, plan = make_cohort(tmp_path / "cases", validation=0), make_plan()
    plan = plan.model_copy(update={"network": {**plan.network, "dropout": 0.3}})
    config = small_config("mean-teacher", steps=4, checkpoint_every=2)
    train(cohort, tmp_path / "whole", config, plan, cache=tmp_path / "cache")

    def stopped(run, batch):
        if run.state.step == 3:
            raise KeyboardInterrupt
        return training_step(run, batch)

    monkeypatch.setattr("dinomix.training.loop.training_step", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(cohort, tmp_path / "stopped", config, plan, cache=tmp_path / "cache")
    monkeypatch.undo()
    resume(tmp_path / "stopped")
    whole, again = (load_file(tmp_path / run / "model/models/model.safetensors") for run in ("whole", "stopped"))
    assert all(torch.equal(tensor, again[name]) for name, tensor in whole.items())
