"""What a run tells of itself: losses, PIC's draws, validation."""

import math
import time
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from numpy.typing import NDArray

from dinomix.cohort.cohort import Case, Cohort
from dinomix.training import pic
from dinomix.training.candidates import not_drawn
from dinomix.training.run import Run
from dinomix.training.schedule import Schedule
from dinomix.training.snapshot import Snapshots
from dinomix.training.validation import validate


def record(run: Run, terms: dict[str, Any]) -> None:
    """Announce the losses of this step, a mean over processes, and every box drawn since the last record."""
    state, accelerator = run.state, run.accelerator
    values = torch.stack([torch.as_tensor(value, device=accelerator.device).float() for value in terms.values()])
    losses = dict(zip(terms, accelerator.reduce(values, "mean").tolist(), strict=True))
    absent = {name: None for name in ("unsupervised", "fkd") if name not in losses}
    # The gradient's norm is infinite where half precision overflowed and the step was left out; JSON has no such number.
    finite = {name: value if math.isfinite(value) else None for name, value in losses.items()}
    run.emit("loss", step=state.step, **finite, **absent)
    progress = run.config.pic.progress(run.schedule.progress(state.step - 1))
    probabilities = pic.class_probabilities(run.batches.counts, progress, run.config.pic.kappa)
    record_draws(run, "labeled", state.labeled_draws, probabilities)
    run.method.record(run)


def tell_schedule(run: Run, schedule: Schedule, step: int, message: str) -> None:
    """Announce how many steps a run with a budget of time takes; ``message`` says why, in full sentences."""
    assert run.budget is not None
    run.emit(
        "schedule",
        step=step,
        steps=schedule.steps,
        seconds=run.budget.seconds,
        spent=run.budget.spent,
        prepared=run.budget.prepared,
        message=message,
    )


def record_draws(run: Run, subset: str, draws: list[pic.Draw], probabilities: NDArray) -> None:
    """Announce PIC's boxes in one subset, of all processes, and forget them.

    Args:
        probabilities: (C,) of the classes in this step.
    """
    if not run.config.pic.enabled:
        return
    channels = [draw.channel for draw in draws]
    channels = gather_object(channels) if run.accelerator.num_processes > 1 else channels
    if channels:
        rare = pic.rarest(run.batches.counts)
        names = [run.cohort.labels.names[channel - 1] if channel else None for channel in channels]
        run.emit(
            "pic",
            step=run.state.step,
            subset=subset,
            probabilities=by_name(run.cohort, probabilities),
            draws=names,
            random=sum(channel is None for channel in channels) / len(channels),
            rare=sum(channel in rare for channel in channels) / len(channels),
        )
    draws.clear()


def record_validation(run: Run, cases: list[Case], snapshots: Snapshots) -> None:
    """Validate, announce it, write the first case's segmentation and keep the weights if they are the best.

    Raises:
        Asked: between two cases, where one process trains; nothing is recorded then.
    """
    began = time.monotonic()
    state, accelerator, emit = run.state, run.accelerator, run.emit
    names = run.cohort.labels.names
    cached, unknown = [run.cases[case.name] for case in cases], [not_drawn(case, run.cohort.labels) for case in cases]
    shown = snapshots.begun(cached[0].size, emit) if accelerator.is_main_process else None
    dice_of_first: list[float | None] = []

    def seen(number: int, labels: NDArray[np.int16], dice: list[float | None]) -> None:
        if run.forgetting is not None:
            run.forgetting.compare(number, labels)
        if number == 0:
            dice_of_first[:] = dice
        if accelerator.num_processes == 1 and number < len(cases) - 1:
            run.control.obey(emit)

    dice = validate(state.teacher, cached, unknown, run.plan, run.one_piece, run.cohort.labels, accelerator, seen,
                    shown.add if shown is not None else None)  # fmt: skip
    known = [value for value in dice if value is not None]
    mean = sum(known) / len(known) if known else 0.0
    validation = {"step": state.step, "dice": dict(zip(names, dice, strict=True)), "mean": mean}
    emit("validation", **validation, seconds=time.monotonic() - began)
    if run.forgetting is not None:
        emit("kept", step=state.step, agreement=run.forgetting.agreement(accelerator))
    stuck = [name for name, value in zip(names, dice, strict=True) if value == 0]
    if stuck:
        emit("stuck", step=state.step, classes=stuck)
    # On a tie, as long as nothing is right yet, the later one: it has learned more.
    if mean >= state.best:
        state.best = mean
        if accelerator.is_main_process:
            run.directory.checkpoints.save_best(state.teacher.state_dict(), validation)
            emit("checkpoint", step=state.step, path="checkpoints/best.safetensors", best=True)
    state.validated = state.step
    if shown is not None:
        snapshots.write(shown, run.one_piece, dice_of_first, state.step, emit)


def by_name(cohort: Cohort, values: Any) -> dict[str, float | None]:
    numbers = torch.as_tensor(values).cpu().double().tolist()  # Apple's GPUs have no float64
    return {name: None if math.isnan(n) else n for name, n in zip(cohort.labels.names, numbers, strict=True)}
