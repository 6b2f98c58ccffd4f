"""What a run tells of itself: losses, PIC's draws, validation."""

import math
import time
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from dinomix.cohort.cohort import Cohort
from dinomix.events import Emit
from dinomix.planning.cache import CachedCase
from dinomix.training import pic
from dinomix.training.batches import Batches
from dinomix.training.config import TrainConfig
from dinomix.training.control import Control
from dinomix.training.run_directory import RunDirectory
from dinomix.training.snapshot import Snapshots
from dinomix.training.state import State
from dinomix.training.validation import validate


def record(state: State, terms: dict[str, Any], batches: Batches, cohort: Cohort, config: TrainConfig,
            accelerator: Accelerator, emit: Emit) -> None:  # fmt: skip
    """Announce the losses of this step, a mean over processes, and every box drawn since the last record."""
    losses = {name: float(accelerator.reduce(torch.as_tensor(value, device=accelerator.device).float(), "mean"))
              for name, value in terms.items()}  # fmt: skip
    absent = {name: None for name in ("unsupervised", "fkd") if name not in losses}
    # The gradient's norm is infinite where half precision overflowed and the step was left out; JSON has no such number.
    finite = {name: value if math.isfinite(value) else None for name, value in losses.items()}
    emit("loss", step=state.step, **finite, **absent)
    if not config.pic.enabled:
        return
    progress = (state.step - 1) / config.steps
    for subset, draws, counts in (
        ("labeled", state.labeled_draws, batches.counts),
        ("unlabeled", state.unlabeled_draws, state.counts.counts),
    ):
        channels = [draw.channel for draw in draws]
        channels = gather_object(channels) if accelerator.num_processes > 1 else channels
        if channels:
            probabilities = pic.class_probabilities(counts, progress, config.pic.kappa)
            names = [cohort.labels.names[channel - 1] if channel else None for channel in channels]
            emit("pic", step=state.step, subset=subset, probabilities=by_name(cohort, probabilities), draws=names)
        draws.clear()


def record_validation(state: State, cases: list[CachedCase], directory: RunDirectory, snapshots: Snapshots,
                      accelerator: Accelerator, control: Control, emit: Emit) -> None:  # fmt: skip
    """Validate, announce it, write the first case's segmentation and keep the weights if they are the best.

    Raises:
        Asked: between two cases, where one process trains; nothing is recorded then.
    """
    began = time.monotonic()
    names = directory.cohort.labels.names
    first: list[tuple[Tensor, list[float | None]]] = []

    def seen(number: int, logits: Tensor, dice: list[float | None]) -> None:
        if number == 0:
            first.append((logits, dice))
        if accelerator.num_processes == 1 and number < len(cases) - 1:
            control.obey(emit)

    dice = validate(state.teacher, cases, directory.plan, len(names), accelerator, seen)
    known = [value for value in dice if value is not None]
    mean = sum(known) / len(known) if known else 0.0
    validation = {"step": state.step, "dice": dict(zip(names, dice, strict=True)), "mean": mean}
    emit("validation", **validation, seconds=time.monotonic() - began)
    stuck = [name for name, value in zip(names, dice, strict=True) if value == 0]
    if stuck:
        emit("stuck", step=state.step, classes=stuck)
    # On a tie, as long as nothing is right yet, the later one: it has learned more.
    if mean >= state.best:
        state.best = mean
        if accelerator.is_main_process:
            directory.checkpoints.save_best(state.teacher.state_dict(), validation)
            emit("checkpoint", step=state.step, path="checkpoints/best.safetensors", best=True)
    state.validated = state.step
    if accelerator.is_main_process:
        for logits, case_dice in first:
            snapshots.write(logits, case_dice, state.step, emit)


def by_name(cohort: Cohort, values: Any) -> dict[str, float | None]:
    numbers = [float(value) for value in values]
    return {name: None if math.isnan(n) else n for name, n in zip(cohort.labels.names, numbers, strict=True)}
