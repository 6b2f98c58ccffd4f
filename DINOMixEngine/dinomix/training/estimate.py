"""What a run will cost on this computer, from a few of its real steps; all stays in memory, so that a kill leaves nothing."""

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import psutil
import torch

from dinomix.cohort.cohort import Case, Cohort
from dinomix.events import Emit, Progress, silent
from dinomix.images.reading import readers
from dinomix.models.folder import load_model
from dinomix.models.matching import can_see
from dinomix.models.network import build_network
from dinomix.planning.cache import PreparedCase, is_cached, prepared_case
from dinomix.planning.in_words import in_words
from dinomix.planning.plan import Plan
from dinomix.training import fkd
from dinomix.training.batches import FeatureSource
from dinomix.training.budget import PROVISIONAL, Budget
from dinomix.training.candidates import not_drawn
from dinomix.training.config import TrainConfig
from dinomix.training.control import Control
from dinomix.training.disk import bytes_of_weights, cases_with_features, needed
from dinomix.training.keeping import Keeping
from dinomix.training.methods import method_class
from dinomix.training.pace import measure
from dinomix.training.preparing import feature_source, features_of_image
from dinomix.training.run import Run, asks_at_end
from dinomix.training.run_directory import RunDirectory
from dinomix.training.schedule import schedule_of_steps
from dinomix.training.start_model import StartModel
from dinomix.training.state import device_reason, initial_state, make_accelerator
from dinomix.training.trial import try_network


def estimate(cohort: Cohort, config: TrainConfig, plan: Plan, *, cache: Path | None = None, start_model: Path | None = None,
             emit: Emit = silent) -> dict[str, Any]:  # fmt: skip
    """Time a few real steps, a case's preparation and a validation, and reckon with the numbers of the whole run.

    Args:
        cache: where the run would keep its cases; those that are there already cost nothing more.
        start_model: the folder that the run would start from, which it asks about cases before its first step.

    Returns:
        ``steps``; ``seconds_per_step``, a mean over the whole run; ``seconds`` of all, cases, validations and what is asked at
        the end too; ``memory_bytes``, the peak on the GPU, or of this process on the CPU; ``disk_bytes`` that the run will add,
        ``cache_bytes`` the part of its ``cases`` and of the teacher's ``features``;
        ``device`` and ``reason``, a sentence about it; ``fkd``, its mode; ``pseudo_labels``, a sentence about when they count,
        or "", as with two stages, each of which has its own; ``plan``, in words.

    Raises:
        DinomixError: as ``train.train`` before its first step.
    """
    accelerator = make_accelerator(config)
    foundation = None
    if config.fkd.mode != "off":
        foundation = fkd.teacher_of(config.fkd, plan, cohort).on(accelerator.device, config.precision)
    channels = cohort.labels.channels
    try_network(build_network(plan, channels), plan.patch, channels, len(plan.channels))
    read = cohort.only(*config.roles)
    few, validation = _few(read), read.with_role("validation")
    progress = Progress(emit, "estimate", 4)

    began = time.perf_counter()
    with ThreadPoolExecutor(readers()) as pool:  # as a run prepares its cases
        prepared = list(pool.map(lambda case: prepared_case(case, few, plan), few.cases))
    seconds = time.perf_counter() - began
    cases = {case.name: case for case in prepared}
    missing = [case for case in read.cases if not (cache and is_cached(case, cohort, plan, cache))]
    seconds *= _voxels(missing) / _voxels(few.cases)
    add = needed(cohort, config, plan, cache, foundation)
    disk = add.cases + add.features
    if start_model is not None and start_model.is_dir():
        start = StartModel(load_model(start_model), cohort, cache or Path("never written"), str(accelerator.device))
        seconds += _seconds_of_asking(start, config, few)
    progress(1)

    torch.manual_seed(config.seed)
    directory = RunDirectory(Path("never written"), config, few, plan, Path("never written"))
    trial = Run(directory, accelerator, foundation, Control(None), silent)
    trial.cases = cases
    if config.keeps_by_patches:
        never = set.intersection(*(not_drawn(case, cohort.labels) for case in cohort.with_role("labeled")))
        trial.keeping = Keeping.of(
            build_network(plan, channels).to(accelerator.device), sorted(never), trial.table_of_labels
        )
    schedule = schedule_of_steps(config, config.steps or PROVISIONAL)
    trial.state = initial_state(trial, build_network(plan, channels), schedule)
    features = None
    if foundation is not None and config.fkd.mode == "cached":
        features, taken = _add_features(trial, cases)
        seconds += taken * add.features / needed(few, config, plan, None, foundation).features
    progress(2)

    pace = measure(trial, features)
    if validation:
        of_all = pace.validation * _voxels(validation) / _voxels(few.with_role("validation"))
        pace = replace(pace, validation=of_all)
    asks = asks_at_end(config, plan, read, start_model)
    stages = 1 if plan.second is None else 2
    alone = stages * method_class(config.method)(config, cohort).labels_alone(accelerator.num_processes)
    if config.time is not None:
        budget = Budget(config, config.time, asks_at_end=asks, labels_alone=alone)
        budget.spent_before = seconds
        schedule, _ = budget.fit(pace)
    else:
        schedule = schedule_of_steps(config, schedule.steps, alone)
    progress(3)

    of_steps = pace.of_steps(0, schedule.steps, schedule.pseudo_labels_from)
    seconds += of_steps + (schedule.validations_after(0) + asks) * pace.validation
    disk += bytes_of_weights(trial.state.teacher, config)
    progress(4)
    return {
        "steps": schedule.steps,
        "seconds_per_step": of_steps / schedule.steps,
        "seconds": seconds,
        "memory_bytes": _peak_memory(accelerator.device),
        "disk_bytes": disk,
        "cache_bytes": {"cases": add.cases, "features": add.features},
        "device": str(accelerator.device),
        "reason": device_reason(accelerator.device),
        "fkd": config.fkd.mode,
        "pseudo_labels": schedule.about_pseudo_labels(config, alone) if stages == 1 else "",
        "plan": in_words(plan),
    }


def _few(cohort: Cohort) -> Cohort:
    """A cohort of the cases of middle size: one labeled, one unlabeled and one to validate on, where there are such."""
    chosen = []
    for role in ("labeled", "unlabeled", "validation"):
        by_size = sorted(cohort.with_role(role), key=lambda case: prod(case.size))  # type: ignore[arg-type]
        chosen += by_size[len(by_size) // 2 :][:1]
    return cohort.model_copy(update={"cases": tuple(chosen)})


def _seconds_of_asking(start: StartModel, config: TrainConfig, few: Cohort) -> float:
    """Of what a run lets its start model predict before the first step, by one of the cases."""
    if not can_see(start.model.plan, start.cohort):
        return 0.0
    asked = [
        *start.cohort.with_role("validation"),
        *(start.cohort.with_role("labeled") if config.keep_structures else ()),
    ]
    unknown = [case for case in asked if not start.knows(case)]
    if not unknown:
        return 0.0
    case, began = few.with_role("labeled")[0], time.perf_counter()
    start.predicted(case)
    return (time.perf_counter() - began) * _voxels(unknown) / _voxels([case])


def _voxels(cases: Sequence[Case]) -> int:
    return sum(prod(case.size) for case in cases)


def _add_features(trial: Run, cases: dict[str, PreparedCase]) -> tuple[FeatureSource, float]:
    """Compute the teacher's features of the cases that have some; where they are, and seconds that it took."""
    began, key = time.perf_counter(), "estimate"
    for case in (cases[case.name] for case in cases_with_features(trial.cohort, trial.config)):
        case.teacher[key] = features_of_image(trial, case.image)
    return feature_source(trial, key), time.perf_counter() - began


def _peak_memory(device: torch.device) -> int:
    """Bytes that this process held at most: of the GPU's memory, else of the main memory."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
