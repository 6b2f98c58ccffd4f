"""What comes before a run's first step: its cases in the cache, its state, the foundation model's features."""

from functools import partial

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from numpy.typing import NDArray

from dinomix.events import Emit, silent
from dinomix.models.network import build_network
from dinomix.planning.cache import CachedCase, cache_cases, cache_features
from dinomix.training import fkd
from dinomix.training.batches import Batches, FeatureSource
from dinomix.training.budget import PROVISIONAL, Budget
from dinomix.training.disk import bytes_of_weights, cases_with_features, needed, tell_needed
from dinomix.training.pace import measure
from dinomix.training.recording import tell_schedule
from dinomix.training.run import Run
from dinomix.training.schedule import Schedule, schedule_of_steps
from dinomix.training.state import State, initial_state, save_state


def prepare(run: Run) -> None:
    """Give ``run`` its cases, the state to go on from and the batches that are left.

    Raises:
        Asked: between two cases, where one process prepares them.
        RunPaused: the disk is too small for what the cache would take.
    """
    config, cohort, plan, directory, accelerator = run.config, run.cohort, run.plan, run.directory, run.accelerator
    # Where several processes prepare a run, one that left would keep the others waiting.
    emit_cases = run.control.obeying(run.emit) if accelerator.num_processes == 1 else run.emit
    network = build_network(plan, cohort.labels.channels)
    if accelerator.is_main_process:
        cache = needed(cohort, config, plan, directory.cache, run.foundation)
        on_same_disk = directory.path.resolve() in directory.cache.resolve().parents
        weights = bytes_of_weights(network, config) if on_same_disk else 0
        tell_needed(cache, directory.cache, weights, run.emit)
    with accelerator.main_process_first():
        run.cases = cases = cache_cases(cohort, plan, directory.cache, emit_cases)
    with_features = []
    if run.foundation is not None and config.fkd.mode == "cached":
        with_features = [cases[case.name] for case in cases_with_features(cohort, config)]
    is_new = not directory.checkpoints.exist
    if run.budget is not None and is_new:
        schedule = _schedule_in_time(run, run.budget, with_features, emit_cases)
    else:
        schedule = schedule_of_steps(config, config.steps or PROVISIONAL, run.labels_alone)
        if is_new and config.uses_unlabeled and schedule.pseudo_labels_from == schedule.steps:
            run.emit("notice", message=schedule.about_pseudo_labels(config, run.labels_alone))
    run.state = _initial_state(run, schedule)
    run.control.saved_step = run.state.step
    if accelerator.is_main_process:
        directory.forget_events_after(run.state.step)
    if run.budget is not None and is_new:
        save_state(run)  # with the schedule: a measurement is never repeated
    run.batches = Batches(cohort, cases, plan, config, run.schedule, rank=accelerator.process_index,
                          first_step=run.state.step, features=_features(run, with_features, emit_cases),
                          sightings=run.method.sightings)  # fmt: skip


def _initial_state(run: Run, schedule: Schedule) -> State:
    torch.manual_seed(run.config.seed)
    return initial_state(run, build_network(run.plan, run.cohort.labels.channels), schedule)


def _schedule_in_time(run: Run, budget: Budget, with_features: list[CachedCase], emit_cases: Emit) -> Schedule:
    """What fits into the run's time, measured by steps that are forgotten again."""
    accelerator = run.accelerator
    run.emit("progress", stage="measure a few steps", step=0, total=1, eta=None)
    scaler = accelerator.scaler.state_dict() if accelerator.scaler is not None else {}
    trial = Run(run.directory, accelerator, run.foundation, run.control, silent)
    trial.cases = run.cases
    trial.state = _initial_state(trial, schedule_of_steps(run.config, run.config.steps or PROVISIONAL))
    pace = measure(trial, _features(trial, with_features, emit_cases), budget.seconds_to_measure)
    if accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(scaler)
    accelerator.free_memory()
    run.emit("progress", stage="measure a few steps", step=1, total=1, eta=0.0)
    decided = [budget.fit(pace)]
    if accelerator.num_processes > 1:
        broadcast_object_list(decided)
    schedule, text = decided[0]
    tell_schedule(run, schedule, 0, text)
    return schedule


def _features(run: Run, cases: list[CachedCase], emit: Emit) -> FeatureSource | None:
    """The cached features of ``cases``, of which what is missing is computed; None where there are no cases."""
    if not cases:
        return None
    assert run.foundation is not None
    accelerator, foundation = run.accelerator, run.foundation
    key = fkd.features_key(foundation, run.config.fkd)
    share = (accelerator.process_index, accelerator.num_processes)
    # One size of slices after the other, since a teacher may be compiled for each.
    cases = sorted(cases, key=lambda case: foundation.tokens_of(*case.size[:2]))
    cache_features(cases, key, partial(features_of_image, run), emit, share=share)
    accelerator.wait_for_everyone()
    return feature_source(run, key)


def features_of_image(run: Run, image: NDArray[np.float16]) -> NDArray[np.float16]:
    """What the run's foundation model says of a prepared image (channels, x, y, z); see ``fkd.features_of_volume``."""
    assert run.foundation is not None
    volume = torch.from_numpy(np.array(image, dtype=np.float32)).to(run.accelerator.device)
    with run.accelerator.autocast():
        return fkd.features_of_volume(run.foundation, volume, run.config.fkd.slice_stride)


def feature_source(run: Run, key: str) -> FeatureSource:
    """Where batches find the features that are kept under ``key``, and the grid of the run's student."""
    return FeatureSource(key, run.config.fkd.slice_stride, run.accelerator.unwrap_model(run.state.student).grid)
