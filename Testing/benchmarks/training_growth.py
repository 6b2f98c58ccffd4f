"""How a step's time grows with the patch, the classes and the processes; a part of Testing/benchmarks/training.py."""

import os
import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from training_turns import Contender, take_turns
from training_work import CLASSES, DEFAULT_PATCH, plan_for

from dinomix.cohort.cohort import Cohort
from dinomix.events import read_events

TITLES = {
    "patches": "voxels along a side of the patch",
    "classes": "classes",
    "processes": "processes, one thread each",
}
POINTS = {"patches": (32, 48, 64), "classes": (3, 14, 100), "processes": (1, 2)}
SHOWN = {"mean-teacher": "#2a6f97", "DINO-Mix, FKD cached": "#bc6c25"}
TURNS, STEPS, STEPS_OF_RUN = 2, 2, 16


def measure(part: str, work: Path) -> dict[str, dict[str, float]]:
    """{method: {point: median seconds a step}}; of "processes" patches a second."""
    lines: dict[str, dict[str, float]] = {}
    for point in POINTS[part]:
        if part == "processes":
            values = {"mean-teacher": _patches_per_second(work, point)}
        else:
            values = _in_turns(work, *((point, CLASSES) if part == "patches" else (DEFAULT_PATCH, point)))
        for name, value in values.items():
            lines.setdefault(name, {})[str(point)] = value
    return lines


def _in_turns(work: Path, patch: int, classes: int) -> dict[str, float]:
    contenders = [Contender(name, work, "cpu", patch, classes) for name in SHOWN]
    times = take_turns(contenders, TURNS, STEPS)
    for contender in contenders:
        contender.end()
    return {name: median(whole for turn in taken for _, whole in turn) for name, taken in times.items()}


def _patches_per_second(work: Path, processes: int) -> float:
    """Of a run with the engine's command line, each process on one thread with 2 labeled and 2 unlabeled patches."""
    run = work / f"run-{processes}-processes"
    subprocess.run(["rm", "-rf", str(run)], check=True)
    cohort = Cohort.read(work / "cohort.json")
    plan_for(cohort, "cpu").write(work / "plan.json")
    command = [
        "-m", "dinomix", "train", "--cohort", str(work / "cohort.json"), "--plan", str(work / "plan.json"), "--out", str(run),
        "--cache", str(work / "cache"), "--method", "mean-teacher", "--steps", str(STEPS_OF_RUN), "--device", "cpu",
        "--set", "record_every=1", "--set", "pseudo_label_start=0", "--set", "wait_until_found=false", "--set", "pic.start=0",
    ]  # fmt: skip
    if processes > 1:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        # --multi_gpu is how accelerate says several processes; on the CPU it needs the variable below beside it.
        command = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes), "--num_machines", "1",
                   "--mixed_precision", "no", "--dynamo_backend", "no", "--num_cpu_threads_per_process", "1",
                   "--main_process_port", str(port), *command]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    subprocess.run([sys.executable, "-W", "ignore", *command], check=True, env=environment, capture_output=True)
    times = [event["time"] for event in read_events(run / "events.jsonl") if event["kind"] == "loss"]
    assert len(times) == STEPS_OF_RUN
    return 4 * processes / median(later - earlier for earlier, later in pairwise(times[2:]))


def reported(results: dict[str, Any]) -> list[str]:
    """Tables in Markdown, of the parts that were measured."""
    lines: list[str] = []
    for part in ("patches", "classes"):
        if part not in results:
            continue
        points = [str(point) for point in POINTS[part]]
        lines += [f"| {TITLES[part]} | " + " | ".join(points) + " |", "|---" * (len(points) + 1) + "|"]
        for name, values in results[part].items():
            lines.append(f"| {name}, seconds a step | " + " | ".join(f"{values[p]:.2f}" for p in points) + " |")
        lines.append("")
    if "processes" in results:
        one, two = (results["processes"]["mean-teacher"][str(count)] for count in POINTS["processes"])
        lines.append(
            f"Processes of one thread each, 4 patches a step and process: {one:.2f} patches a second in one, {two:.2f} in two "
            f"({two / one:.2f} times as many).\n"
        )
    return lines


def plot(results: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    titles = {part: title for part, title in TITLES.items() if part in results}
    figure, axes = plt.subplots(1, len(titles), figsize=(3.4 * len(titles), 2.8), layout="constrained", squeeze=False)
    for axis, (part, title) in zip(axes[0], titles.items(), strict=True):
        for name, values in results[part].items():
            axis.plot(
                [int(point) for point in values], list(values.values()), marker="o", label=name, color=SHOWN[name]
            )
        axis.set_xticks(POINTS[part])
        axis.set_xlabel(title)
        axis.set_ylabel("patches a second" if part == "processes" else "seconds a step")
        axis.set_ylim(bottom=0)
    axes[0][0].legend()
    figure.savefig(path, dpi=120)
