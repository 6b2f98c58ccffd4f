"""The demonstration: from generated scans to a trained, evaluated model and a report, in minutes on a laptop's CPU."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dinomix.cohort.checking import check_cohort
from dinomix.cohort.cohort import Cohort
from dinomix.demo.cohort_folders import write_phantom_cohort
from dinomix.errors import DinomixError
from dinomix.evaluation.evaluate import evaluate_folders
from dinomix.events import Emit, silent
from dinomix.files import read_json, write_json
from dinomix.inference.batch import segment_files
from dinomix.inference.devices import choose_device
from dinomix.inference.options import Options
from dinomix.models.folder import load_model
from dinomix.planning.planning import make_plan
from dinomix.report.overlays import read_overlays, write_overlay_picture
from dinomix.report.report import write_report
from dinomix.report.run_files import read_run
from dinomix.training import train as training
from dinomix.training.config import TrainConfig, make_config
from dinomix.training.memory import training_memory

LABELED, UNLABELED, VALIDATION, TEST = 4, 8, 1, 2
TEACHER = "random:vit_small_patch16_dinov3"
STEPS, SECONDS = 560, 240.0
"""Of training, where the user does not say how many steps: so many, or as many as fit into the time."""
PLAN = {
    "grid.spacing": [6.0, 6.0, 6.0],
    "patch": [48, 48, 32],
    "window.low": -160,
    "window.high": 240,
    "network": {
        "_target_": "monai.networks.nets.UNet",
        "spatial_dims": 3,
        "channels": [32, 64, 128, 256],
        "strides": [2, 2, 2],
        "num_res_units": 1,
        "norm": "batch",
    },
}
"""Patches that hold half of the body make large organs appear within the first minute; soft tissue fills the window; batch
normalization finds rare organs in few steps (docs/results.md)."""


@dataclass(frozen=True)
class DemoResult:
    """What the demonstration leaves; ``metrics`` is the content of ``metrics.json``."""

    model: Path
    report: Path
    segmented: Path
    cohort: Cohort
    metrics: dict[str, Any]


def run_demo(
    out: Path, *, seed: int = 0, steps: int | None = None, device: str = "auto", emit: Emit = silent
) -> DemoResult:
    """Generate phantoms, check them, train dino-mix, segment and evaluate held-out cases, write the report.

    What an interrupted call finished is kept: the same call goes on from there.

    Args:
        out: the folder for all of it: data/, cohort.json, run/, segmented/, report.html.
        steps: of training, however long they take; by default 560, or as many as fit into four minutes on this computer.
        device: as `dinomix train --device` takes it.

    Raises:
        DinomixError: ``out`` holds a demonstration with another seed or number of steps, or something else.
    """
    _claim(out, {"demo": 1, "seed": seed, "steps": steps})
    data, run, segmented = out / "data", out / "run", out / "segmented"
    write_phantom_cohort(data, labeled=LABELED + VALIDATION, unlabeled=UNLABELED, test=TEST, seed=seed, emit=emit)
    cohort = _checked_cohort(data, out / "cohort.json", seed, emit)
    model_folder = _trained_model(cohort, run, seed, steps, device, emit)
    model = load_model(model_folder)
    segment_files(model, [data / "test" / "images"], segmented, Options(device=device), emit=emit)
    metrics = evaluate_folders(
        segmented, data / "test" / "labels", cohort.labels, out=run / "metrics.json", tolerance=4.5, emit=emit
    )
    report = out / "report.html"
    overlays = read_overlays(read_run(run), segmented, data / "test" / "labels")
    write_report(run, report, metrics=metrics, overlays=overlays)
    dice = {name: values["dice"] for name, values in metrics["cases"][overlays[0].name].items()}
    title = "A phantom that training never saw, segmented by DINO-Mix"
    write_overlay_picture(overlays[0], cohort.labels, out / "overlay.png", dice, title)
    return DemoResult(model_folder, report, segmented, cohort, metrics)


def _claim(out: Path, settings: dict[str, int | None]) -> None:
    """Make ``out`` this demonstration's folder, or find that it is already."""
    marker = out / "demo.json"
    if not marker.exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise DinomixError(f"{out} is not empty.", "Name a new folder with --out.")
        write_json(marker, settings)
        return
    try:
        found = read_json(marker)
    except (OSError, ValueError):
        found = None
    if found != settings:
        raise DinomixError(
            f"{out} holds a demonstration with other settings ({found}).",
            "Name another folder with --out, or repeat the settings to continue it.",
        )


def _checked_cohort(data: Path, file: Path, seed: int, emit: Emit) -> Cohort:
    if file.exists():
        return Cohort.read(file)
    return check_cohort(
        [data / "labeled"], [data / "unlabeled"], [data / "test"], validation=VALIDATION, seed=seed, out=file, emit=emit
    )


def _trained_model(cohort: Cohort, run: Path, seed: int, steps: int | None, device: str, emit: Emit) -> Path:
    if (run / "model").is_dir():
        return run / "model"
    if (run / "config.json").exists():
        return training.resume(run, emit=emit)
    if run.exists():
        shutil.rmtree(run)
    config = demo_config(seed, steps, device)
    chosen, _ = choose_device(device)
    plan = make_plan(
        cohort,
        device_kind="cpu" if chosen.type == "cpu" else "gpu",
        memory_bytes=training_memory(chosen),
        batch=config.batch_labeled + config.batch_unlabeled,
        overrides=PLAN,
    )
    return training.train(cohort, run, config, plan, emit=emit)


def demo_config(seed: int, steps: int | None, device: str) -> TrainConfig:
    """dino-mix for a few hundred steps; its FKD teacher has DINOv3's architecture and random weights.

    Args:
        steps: None for those that fit into the time.
    """
    settings: dict[str, Any] = {
        "seed": seed,
        "steps": steps or STEPS,
        "time": None if steps else SECONDS,
        "device": device,
        "fkd.teacher": TEACHER,
        "fkd.slice_stride": 4,
        "foreground_fraction": 0.6,
        # Averages over fewer steps and later pseudo-labels suit a run this short.
        "ema_decay": 0.95,
        "pseudo_label_start": 0.6,
        "validate_every": max(steps // 5, 1) if steps else None,
        "checkpoint_every": 25 if steps else None,
        "record_every": 5,
    }
    return make_config("dino-mix", fkd="cached", **settings)
