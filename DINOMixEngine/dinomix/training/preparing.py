"""What comes before a run's first step: its cases in the cache, its state, the foundation model's features."""

import numpy as np
import torch
from numpy.typing import NDArray

from dinomix.events import Emit
from dinomix.models.network import build_network
from dinomix.planning.cache import CachedCase, cache_cases, cache_features
from dinomix.training import fkd
from dinomix.training.batches import Batches, FeatureSource
from dinomix.training.disk import bytes_of_weights, cases_with_features, needed, tell_needed
from dinomix.training.foundation import FoundationModel
from dinomix.training.run import Run
from dinomix.training.schedule import schedule_of_steps
from dinomix.training.state import initial_state


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
    torch.manual_seed(config.seed)
    schedule = schedule_of_steps(config, config.steps)
    run.state = initial_state(run, build_network(plan, cohort.labels.channels), schedule)
    run.control.saved_step = run.state.step
    if accelerator.is_main_process:
        directory.forget_events_after(run.state.step)
    features = None
    if run.foundation is not None and config.fkd.mode == "cached":
        wanted = [cases[case.name] for case in cases_with_features(cohort, config)]
        features = _cached_features(run, run.foundation, wanted, emit_cases)
    run.batches = Batches(cohort, cases, plan, config, run.schedule, rank=accelerator.process_index,
                          first_step=run.state.step, features=features, sightings=run.method.sightings)  # fmt: skip


def _cached_features(run: Run, foundation: FoundationModel, cases: list[CachedCase], emit: Emit) -> FeatureSource:
    """Compute what is missing of the cached features of the cases that this run draws from."""
    accelerator, stride = run.accelerator, run.config.fkd.slice_stride
    key = fkd.features_key(foundation, run.config.fkd)

    def features_of(image: NDArray[np.float16]) -> NDArray[np.float16]:
        volume = torch.from_numpy(np.array(image, dtype=np.float32)).to(accelerator.device)
        with accelerator.autocast():
            return fkd.features_of_volume(foundation, volume, stride)

    cache_features(cases, key, features_of, emit, share=(accelerator.process_index, accelerator.num_processes))
    accelerator.wait_for_everyone()
    return FeatureSource(key, stride, accelerator.unwrap_model(run.state.student).grid)
