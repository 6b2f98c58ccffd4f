"""How long until an answer: the command line's help, a worker's first and second job, a cancel, and the end of a worker.

    python Testing/benchmarks/answers.py [--turns 5]

The network is that of the inference benchmark, with random weights: a SegResNet of 14 classes in windows of 96 voxels. The volume
is large enough for a cancel to come in the midst of the windows. Given are the median and the range over the turns, in seconds by
the clock; each turn has workers of its own.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
TESTING = HERE.parent
sys.path[:0] = [str(TESTING.parent / "DINOMixEngine"), str(TESTING / "engine"), str(HERE)]

import numpy as np  # noqa: E402
from inference import machine  # noqa: E402
from inference_work import PLAN  # noqa: E402
from worker_process import PATIENCE, WorkerProcess  # noqa: E402

from random_models import labels_with_ids, random_model  # noqa: E402

AFFINE = np.diag([-3.0, -3.0, 3.0, 1.0])
SMALL, LARGE = (60, 80, 90), (400, 300, 300)
THREADS: dict[str, str] = {"OMP_NUM_THREADS": ""}
"""As many as the machine has, unlike in tests."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    turns = parser.parse_args().turns
    seconds: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        model = random_model(Path(folder) / "model", PLAN, labels_with_ids(*range(1, 14))).path
        for _turn in range(turns):
            command_line(seconds)
            one_worker(model, Path(folder), seconds)
            ended(seconds, "a worker's end after that of its input, while it computes", model, close_input)
            ended(seconds, "a worker's end after a signal, while it computes", model, lambda w: w.process.terminate())
    print(f"Measured on {machine()}, {turns} turns.\n\n| until | seconds, median (range) |\n|---|---|")
    for name, taken in seconds.items():
        print(f"| {name} | {median(taken):.2f} ({min(taken):.2f} to {max(taken):.2f}) |")


def command_line(seconds: dict[str, list[float]]) -> None:
    for verb in ([], ["segment"], ["train"]):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "dinomix", *verb, "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds[f"`{' '.join(['dinomix', *verb, '--help'])}` has ended"].append(time.perf_counter() - began)


def one_worker(model: Path, folder: Path, seconds: dict[str, list[float]]) -> None:
    """A worker's life: hello, a first job, a second, one that is cancelled."""
    small, large = (np.zeros(shape, np.int16) for shape in (SMALL, LARGE))
    began = time.perf_counter()
    with WorkerProcess(environment=THREADS) as worker:
        worker.hello()
        seconds["a new worker has said what is there"].append(time.perf_counter() - began)
        for name in ("first", "second"):
            began = time.perf_counter()
            worker.segment_by_file(name, model, small, AFFINE, folder)
            worker.wait_for_event(name, "segmenting")
            seconds[f"the {name} job's network begins"].append(time.perf_counter() - began)
            worker.answer()
        worker.segment_by_file("long", model, large, AFFINE, folder)
        worker.wait_for_event("long", "segmenting")
        time.sleep(0.5)
        began = time.perf_counter()
        worker.send("cancel", job="long")
        assert worker.answer()["type"] == "cancelled"
        seconds["a cancel is answered, while the network computes"].append(time.perf_counter() - began)


def close_input(worker: WorkerProcess) -> None:
    assert worker.process.stdin is not None
    worker.process.stdin.close()


def ended(seconds: dict[str, list[float]], name: str, model: Path, end: Callable[[WorkerProcess], None]) -> None:
    with WorkerProcess(environment=THREADS) as worker:
        worker.hello()
        worker.segment_by_frames("long", model, np.zeros(LARGE, np.int16), AFFINE)
        worker.wait_for_event("long", "segmenting")
        time.sleep(0.5)
        began = time.perf_counter()
        end(worker)
        worker.process.wait(timeout=PATIENCE)
        seconds[name].append(time.perf_counter() - began)


if __name__ == "__main__":
    main()
