"""Several processes train what one process with the whole batch trains."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dinomix.events import read_events
from dinomix.training.run_directory import RunDirectory
from dinomix.training.train import resume
from tiny_cohort import make_cohort, make_plan, small_config


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def launch(*arguments: str) -> subprocess.CompletedProcess:
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
        "--mixed_precision", "no", "--dynamo_backend", "no", "--num_cpu_threads_per_process", "1",
        "--main_process_port", str(free_port()), "-m", "dinomix", *arguments,
    ]  # fmt: skip
    # --multi_gpu is how accelerate says several processes; on the CPU it needs this variable beside it.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    return subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, timeout=400, check=False)


@pytest.mark.slow
def test_two_processes_train_like_one_with_twice_the_batch(tmp_path: Path):
    cohort, plan = make_cohort(tmp_path / "cases", labeled=3, unlabeled=4, validation=2), make_plan()
    # In bfloat16 the frozen teacher's tokens would depend on how many slices it is shown at once. Sums are in another order,
    # and AdamW, which divides small gradients by their own size, would make much of their last digits; SGD does not.
    settings = {"steps": 10, "record_every": 1, "validate_every": 5, "fkd": "on-the-fly", "precision": "fp32",
                "optimizer": "sgd", "learning_rate": 0.003}  # fmt: skip
    whole = small_config("dino-mix", batch_labeled=4, batch_unlabeled=4, **settings)
    half = small_config("dino-mix", batch_labeled=2, batch_unlabeled=2, **settings)
    RunDirectory.create(tmp_path / "one", whole, cohort, plan, tmp_path / "cache", None)
    RunDirectory.create(tmp_path / "two", half, cohort, plan, tmp_path / "cache", None)
    resume(tmp_path / "one")
    done = launch("train", "--resume", str(tmp_path / "two"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("The model is in") == 1

    def curve(run: str, kind: str) -> list[dict]:
        return [event for event in read_events(tmp_path / run / "events.jsonl") if event["kind"] == kind]

    one, two = curve("one", "loss"), curve("two", "loss")
    assert len(one) == len(two) == 10
    # Pseudo-labels count from the third step on. Sooner or later a voxel between two classes gets another label by the last digit
    # of a sum, and what PIC cuts and mixes differs from there; what is learned from labels hardly does.
    for left, right in zip(one, two, strict=True):
        for term in ("total", "supervised", "fkd", "gradient_norm"):
            is_alike = left["step"] <= 5 or term == "supervised"
            near = pytest.approx(left[term], rel=2e-3 if is_alike else 0.1, abs=1e-5)
            assert right[term] == near, (left["step"], term)
    for left, right in zip(curve("one", "pic"), curve("two", "pic"), strict=True):
        assert left["probabilities"] == pytest.approx(right["probabilities"], abs=1e-3)
        assert left["draws"] == right["draws"] or left["step"] > 5
    assert json.loads((tmp_path / "two/model/record.json").read_text())["steps"] == 10
    assert curve("two", "validation")[-1]["mean"] == pytest.approx(curve("one", "validation")[-1]["mean"], abs=0.02)
