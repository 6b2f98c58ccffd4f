"""A run that is asked to pause or to stop, and one that a failure pauses: what is kept, what is told, how it goes on."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dinomix.errors import DinomixError
from dinomix.events import read_events
from dinomix.images.reading import read_geometry, read_image, read_label
from dinomix.inference.segment import segment_volume
from dinomix.models.folder import load_model
from dinomix.training import validation
from dinomix.training.control import POLL_SECONDS, RunPaused
from dinomix.training.failures import pause_for
from dinomix.training.finish import finish
from dinomix.training.run_directory import RunDirectory
from dinomix.training.step import training_step
from dinomix.training.train import resume, train
from tiny_cohort import make_cohort, make_plan, small_config

pytestmark = pytest.mark.usefixtures("without_graphs")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return make_cohort(tmp_path_factory.mktemp("cases"), validation=3)


def events_of(run: Path, kind: str) -> list[dict]:
    return [event for event in read_events(run / "events.jsonl") if event["kind"] == kind]


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model/models/model.safetensors")


def request(run: Path, what: str) -> None:
    (run / "request.json").write_text(json.dumps({"request": what}))


def asking(run: Path, what: str, at_step: int):
    """A training step that asks for something before it takes step ``at_step``, and waits until it can be seen."""

    def step(running, batch):
        if running.state.step == at_step - 1:
            request(run, what)
            time.sleep(1.1 * POLL_SECONDS)
        return training_step(running, batch)

    return step


def test_a_paused_run_goes_on_bit_for_bit(cohort, cache, tmp_path: Path, monkeypatch):
    config = small_config("dino-mix", checkpoint_every=100)
    train(cohort, tmp_path / "whole", config, make_plan(), cache=cache)

    run = tmp_path / "paused"
    monkeypatch.setattr("dinomix.training.loop.training_step", asking(run, "pause", 5))
    with pytest.raises(RunPaused) as pause:
        train(cohort, run, config, make_plan(), cache=cache)
    monkeypatch.undo()
    assert pause.value.asked
    (told,) = events_of(run, "paused")
    assert told["step"] == 5 and told["message"] and told["remedy"]
    assert not (run / "request.json").exists() and not (run / "alive.json").exists()
    assert not (run / "model").exists()

    resume(run)
    whole, paused = weights_of(tmp_path / "whole"), weights_of(run)
    assert all(torch.equal(tensor, paused[name]) for name, tensor in whole.items())
    assert len(events_of(run, "started")) == 2


def test_a_stopped_run_leaves_its_best_model(cohort, cache, tmp_path: Path, monkeypatch):
    run = tmp_path / "run"
    monkeypatch.setattr("dinomix.training.loop.training_step", asking(run, "stop", 8))
    model = train(cohort, run, small_config("labeled-only", steps=50, validate_every=6), make_plan(), cache=cache)
    (finished,) = events_of(run, "finished")
    assert finished["stopped"] is True
    assert load_model(model).record["steps_done"] == 8
    best = load_file(run / "checkpoints/best.safetensors")
    assert all(torch.equal(tensor, best[name]) for name, tensor in weights_of(run).items())
    assert not (run / "request.json").exists()


def test_without_validation_a_stopped_run_leaves_its_last_weights(cache, tmp_path: Path, monkeypatch):
    run = tmp_path / "run"
    monkeypatch.setattr("dinomix.training.loop.training_step", asking(run, "stop", 3))
    train(make_cohort(tmp_path / "cases", validation=0), run, small_config("labeled-only"), make_plan())
    state = RunDirectory.open(run).checkpoints.load()
    assert state is not None and state["step"] == 3
    assert all(torch.equal(tensor, state["teacher"][name]) for name, tensor in weights_of(run).items())


def test_a_paused_run_is_ended_with_its_best_model(cohort, cache, tmp_path: Path, monkeypatch):
    run = tmp_path / "run"
    monkeypatch.setattr("dinomix.training.loop.training_step", asking(run, "pause", 8))
    with pytest.raises(RunPaused):
        train(cohort, run, small_config("dino-mix", steps=50, validate_every=6), make_plan(), cache=cache)
    monkeypatch.undo()
    model = finish(run)
    assert events_of(run, "finished")[0]["stopped"] is True and not (run / "alive.json").exists()
    record = load_model(model).record
    assert (record["steps_done"], record["validation"]["step"]) == (8, 6)
    assert record["fkd_teacher"] == small_config("dino-mix").fkd.teacher
    best = load_file(run / "checkpoints/best.safetensors")
    assert all(torch.equal(tensor, best[name]) for name, tensor in weights_of(run).items())
    assert events_of(run, "loss")[-1]["step"] == 8


def test_a_run_that_cannot_be_ended_is_refused(cohort, cache, tmp_path: Path):
    with pytest.raises(DinomixError, match="holds no run"):
        finish(tmp_path / "nowhere")
    run = tmp_path / "run"
    RunDirectory.create(run, small_config("labeled-only"), cohort, make_plan(), cache, None)
    with pytest.raises(DinomixError, match="no checkpoint yet"):
        finish(run)
    with RunDirectory.open(run).locked(), pytest.raises(DinomixError, match="Another process is training"):
        finish(run)
    assert not (run / "model").exists()


@pytest.mark.parametrize("what", ["pause", "stop"])
def test_a_request_while_cases_are_prepared_ends_cleanly(what: str, cohort, tmp_path: Path):
    run = tmp_path / "run"
    RunDirectory.create(run, small_config("labeled-only"), cohort, make_plan(), None, None)

    def emit(kind: str, **fields: object) -> None:
        if kind == "progress" and fields["stage"] == "preprocess" and fields["step"] == 0:
            request(run, what)
            time.sleep(1.1 * POLL_SECONDS)

    with pytest.raises(RunPaused, match="still being prepared"):
        resume(run, emit=emit)
    assert [event["step"] for event in events_of(run, "paused")] == [0]
    done = len(list((run / "cache").glob("*/image.npy")))
    assert done < len(cohort.cases)
    resume(run)
    assert (run / "model").is_dir()


def test_a_pause_during_a_validation_is_made_up_for(cohort, cache, tmp_path: Path, monkeypatch):
    config = small_config("labeled-only", steps=8, validate_every=4)
    run, predicted = tmp_path / "run", []

    def predict(*arguments, **named):
        predicted.append(1)
        if len(predicted) == 1:
            request(run, "pause")
            time.sleep(1.1 * POLL_SECONDS)
        return validation_predict(*arguments, **named)

    validation_predict = validation.predict_slabs
    monkeypatch.setattr(validation, "predict_slabs", predict)
    with pytest.raises(RunPaused):
        train(cohort, run, config, make_plan(), cache=cache)
    assert len(predicted) == 1 and not events_of(run, "validation")
    assert events_of(run, "paused")[0]["step"] == 4
    resume(run)
    assert [event["step"] for event in events_of(run, "validation")] == [4, 8]
    train(cohort, tmp_path / "whole", config, make_plan(), cache=cache)
    assert [e["dice"] for e in events_of(run, "validation")] == [
        e["dice"] for e in events_of(tmp_path / "whole", "validation")
    ]


def test_an_old_request_is_dropped_and_an_unknown_one_is_told(cohort, cache, tmp_path: Path):
    config = small_config("labeled-only", steps=2)
    RunDirectory.create(tmp_path / "run", config, cohort, make_plan(), cache, None)
    request(tmp_path / "run", "stop")
    resume(tmp_path / "run")
    assert not events_of(tmp_path / "run", "finished")[0]["stopped"]

    RunDirectory.create(tmp_path / "odd", config, cohort, make_plan(), cache, None)
    request(tmp_path / "odd", "dance")
    resume(tmp_path / "odd", since=0)
    assert any("dance" in event["message"] for event in events_of(tmp_path / "odd", "notice"))
    assert not (tmp_path / "odd/request.json").exists()


def test_each_validation_shows_a_case_on_its_own_grid(cohort, cache, tmp_path: Path):
    run = tmp_path / "run"
    train(cohort, run, small_config("labeled-only", validate_every=6), make_plan(), cache=cache)
    snapshots = events_of(run, "snapshot")
    assert [event["step"] for event in snapshots] == [6, 12]
    case = next(case for case in cohort.cases if case.name == snapshots[0]["case"])
    assert case.role == "validation"
    shown, names = read_label(run / snapshots[-1]["path"])
    assert names == {1: "liver", 2: "gallbladder"}
    assert shown.geometry.difference(read_geometry(case.image)) == ""
    # The last validation was of the last weights: what the teacher segments now is what was shown, but for the cache's float16.
    model = load_model(run / "model")
    state = RunDirectory.open(run).checkpoints.load()
    assert state is not None
    last = replace(model, weights=state["teacher"])
    now = segment_volume(read_image(case.image), last, device="cpu").array
    assert (now == shown.array).mean() > 0.999 and len(np.unique(now)) > 1


def test_an_image_that_is_gone_stops_the_snapshots_only(tmp_path: Path):
    cohort = make_cohort(tmp_path / "cases")
    run = tmp_path / "run"
    config = small_config("labeled-only", steps=4, validate_every=2)
    train(cohort, run, config, make_plan(), cache=tmp_path / "cache")
    cohort.with_role("validation")[0].image.unlink()
    RunDirectory.create(tmp_path / "again", config, cohort, make_plan(), tmp_path / "cache", None)
    resume(tmp_path / "again")
    assert len(events_of(tmp_path / "again", "validation")) == 2 and not events_of(tmp_path / "again", "snapshot")
    assert sum("is shown" in event["message"] for event in events_of(tmp_path / "again", "notice")) == 1


def test_pseudo_labels_tell_how_far_student_and_teacher_agree(cohort, cache, tmp_path: Path):
    run = tmp_path / "run"
    train(cohort, run, small_config("mean-teacher", steps=40, learning_rate=0.01), make_plan(), cache=cache)
    told = events_of(run, "pseudo_label")
    assert all(set(event["agreement"]) == {"liver", "gallbladder"} for event in told)
    last = [event["agreement"]["liver"] for event in told[-5:]]
    assert all(0 <= value <= 1 for value in last) and max(last) > 0.5


def test_a_full_disk_pauses_and_the_run_goes_on_later(cohort, cache, tmp_path: Path, monkeypatch):
    config = small_config("labeled-only", steps=6, checkpoint_every=2)
    train(cohort, tmp_path / "whole", config, make_plan(), cache=cache)
    run, save, saved = tmp_path / "full", torch.save, []

    def full(state, path):
        saved.append(1)
        if len(saved) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        save(state, path)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(RunPaused, match="no space left"):
        train(cohort, run, config, make_plan(), cache=cache)
    monkeypatch.undo()
    (paused,) = events_of(run, "paused")
    assert paused["step"] == 2 and "Free some space" in paused["remedy"] and not events_of(run, "error")
    resume(run)
    assert all(torch.equal(tensor, weights_of(run)[name]) for name, tensor in weights_of(tmp_path / "whole").items())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_too_full_for_an_event_still_tells_by_the_message(cohort, cache, tmp_path: Path):
    """The events go to a device that is always full, as on a disk with no byte left."""
    run = tmp_path / "run"
    RunDirectory.create(run, small_config("labeled-only"), cohort, make_plan(), cache, None)
    (run / "events.jsonl").symlink_to("/dev/full")
    done = subprocess.run(
        [sys.executable, "-m", "dinomix", "train", "--resume", str(run)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no space left on the disk" in done.stderr and "resume the run" in done.stderr
    assert "Traceback" not in done.stderr
    (run / "events.jsonl").unlink()
    resume(run)
    assert (run / "model").is_dir()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "no space left"),
        (OSError(errno.EFBIG, "File too large"), "takes no files as large"),
        (OSError(errno.ESTALE, "Stale file handle"), "Connect the disk"),
        (MemoryError(), "too little memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "too little memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "too little memory"),
        (RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed."), "workers=0"),
        (RuntimeError("CUDA error: unspecified launch failure"), "GPU does not answer"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "GPU does not answer"),
    ],
)
def test_what_pauses_a_run(error: Exception, words: str, tmp_path: Path):
    pause = pause_for(error, tmp_path)
    assert pause is not None and words in str(pause) and not pause.asked


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("shape mismatch"),
        OSError(errno.EACCES, "Permission denied"),
    ],
)
def test_what_resuming_would_not_mend_is_an_error(error: Exception, tmp_path: Path):
    assert pause_for(error, tmp_path) is None


def test_a_lost_gpu_pauses_and_a_defect_is_an_error(cohort, cache, tmp_path: Path, monkeypatch):
    def failing(error: Exception):
        def step(*arguments):
            raise error

        return step

    config = small_config("labeled-only")
    monkeypatch.setattr("dinomix.training.loop.training_step", failing(RuntimeError("CUDA error: device lost")))
    with pytest.raises(RunPaused):
        train(cohort, tmp_path / "lost", config, make_plan(), cache=cache)
    assert events_of(tmp_path / "lost", "paused") and not events_of(tmp_path / "lost", "error")
    monkeypatch.setattr("dinomix.training.loop.training_step", failing(KeyError("no such thing")))
    with pytest.raises(KeyError):
        train(cohort, tmp_path / "defect", config, make_plan(), cache=cache)
    assert "KeyError" in events_of(tmp_path / "defect", "error")[0]["message"]
    assert not (tmp_path / "defect/alive.json").exists()


def test_a_run_whose_folder_is_deleted_says_so(cohort, cache, tmp_path: Path, monkeypatch):
    import shutil

    run = tmp_path / "run"

    def step(running, batch):
        if running.state.step == 1:
            shutil.rmtree(run)
        return training_step(running, batch)

    monkeypatch.setattr("dinomix.training.loop.training_step", step)
    with pytest.raises(DinomixError, match="deleted or moved"):
        train(cohort, run, small_config("labeled-only"), make_plan(), cache=cache)


def started(run: Path) -> subprocess.Popen:
    before = len(events_of(run, "loss"))
    process = subprocess.Popen(
        [sys.executable, "-m", "dinomix", "train", "--resume", str(run)], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while len(events_of(run, "loss")) <= before + 1:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    return process


def test_a_process_shows_that_it_lives_and_obeys(cohort, cache, tmp_path: Path):
    run = tmp_path / "run"
    RunDirectory.create(run, small_config("labeled-only", steps=100_000), cohort, make_plan(), cache, None)
    process = started(run)
    first = json.loads((run / "alive.json").read_text())
    assert first["pid"] == process.pid == events_of(run, "started")[0]["pid"]
    deadline = time.monotonic() + 30
    while json.loads((run / "alive.json").read_text())["time"] <= first["time"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    request(run, "pause")
    assert process.wait(30) == 0
    assert "Paused: The run was paused as asked." in process.stderr.read()
    assert not (run / "alive.json").exists() and not (run / "request.json").exists()
    assert events_of(run, "paused")[0]["step"] > 0

    process = started(run)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 130
    assert "interrupted" in events_of(run, "paused")[-1]["message"]
    process.stderr.close()

    process = started(run)
    process.kill()
    process.wait()
    process.stderr.close()
    assert (run / "alive.json").exists()
