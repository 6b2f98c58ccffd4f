"""How fast this computer trains a run, measured by a few of its real steps."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import TypeVar

import numpy as np
import torch

from dinomix.planning.cache import AnyCase
from dinomix.training.batches import Batches, FeatureSource
from dinomix.training.budget import MOST_SECONDS, Pace
from dinomix.training.run import Run
from dinomix.training.step import training_step
from dinomix.training.validation import validate

T = TypeVar("T")
STEPS = 5
"""Timed steps of each phase; one more step goes before them and is not counted."""


def measure(trial: Run, features: FeatureSource | None, most_seconds: float = MOST_SECONDS) -> Pace:
    """Take a few steps of each phase, and validate the case of middle size; ``trial`` is of no use afterwards.

    Steps in which pseudo-labels count are not taken where there is no time for any: they are given the others' pace.

    Args:
        trial: a run with its cases and state, at its beginning.
        most_seconds: after which a phase ends, with two steps at least.
    """
    schedule, alone = trial.schedule, trial.labels_alone
    trial.method.wait_no_more()
    trial.state.schedule = replace(schedule, waits=True)
    before = after = _seconds_per_step(trial, 0, features, most_seconds)
    trial.state.schedule = schedule
    count = trial.budget is None or alone * before < trial.budget.seconds
    if count and schedule.pseudo_labels_from < schedule.steps:
        after = _seconds_per_step(trial, schedule.pseudo_labels_from, features, most_seconds)
    return Pace(before, after, _seconds_of_validation(trial))


def _seconds_per_step(trial: Run, first: int, features: FeatureSource | None, most_seconds: float) -> float:
    """Of a few steps from step ``first`` on, the batch's preparation included as far as the step has to wait for it."""
    config, device, accelerator = trial.config, trial.accelerator.device, trial.accelerator
    trial.batches = Batches(trial.cohort, trial.cases, trial.plan, config, trial.schedule,
                            rank=accelerator.process_index, first_step=first, features=features,
                            sightings=trial.method.sightings)  # fmt: skip
    preparing, stepping = [], []
    began = time.perf_counter()
    for index in range(min(STEPS + 1, len(trial.batches))):
        trial.state.step = first + index
        batch, taken = timed(lambda index=index: trial.batches[trial.batches.wanted(first + index)], device)  # type: ignore[misc]
        _, taken_by_step = timed(lambda batch=batch: training_step(trial, batch.to(device)), device)  # type: ignore[misc]
        preparing.append(taken)
        stepping.append(taken_by_step)
        # Several processes step together, so all take the same number of steps.
        if index and accelerator.num_processes == 1 and time.perf_counter() - began > most_seconds:
            break
    counted = slice(1, None) if len(stepping) > 1 else slice(None)
    prepare, step = float(np.mean(preparing[counted])), float(np.mean(stepping[counted]))
    if device.type == "cpu":
        return prepare + step  # what prepares batches takes the step's own cores
    return max(prepare / max(config.workers, 1), step)


def _seconds_of_validation(trial: Run) -> float:
    """Of one validation of all cases, reckoned from that of one case; 0 where there are none."""
    cases = [trial.cases[case.name] for case in trial.cohort.with_role("validation")]
    if not cases:
        return 0.0
    middle = sorted(cases, key=lambda case: prod(case.size))[len(cases) // 2]
    _, taken = timed(
        lambda: validate(
            trial.state.teacher,
            [middle],
            [frozenset()],
            trial.plan,
            trial.one_piece,
            trial.cohort.labels,
            trial.accelerator,
            lambda *_: None,
        ),
        trial.accelerator.device,
    )
    return taken * _voxels(cases) / _voxels([middle])


def _voxels(cases: Sequence[AnyCase]) -> int:
    return sum(prod(case.size) for case in cases)


def timed(work: Callable[[], T], device: torch.device) -> tuple[T, float]:
    """What ``work`` gives, and the seconds that it takes."""
    began = time.perf_counter()
    done = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return done, time.perf_counter() - began
