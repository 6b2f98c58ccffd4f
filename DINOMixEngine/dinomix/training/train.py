"""Training: one loop for labeled-only, mean-teacher and DINO-Mix; what differs between them is in the configuration."""

import hashlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from dinomix.cohort.cohort import Cohort
from dinomix.errors import DinomixError
from dinomix.events import Emit, EventFile, Progress, silent
from dinomix.inference.sliding_window import is_out_of_memory
from dinomix.models.network import build_network
from dinomix.planning.cache import CachedCase, cache_cases, cache_features
from dinomix.planning.plan import Plan
from dinomix.training import fkd
from dinomix.training.batches import Batches, FeatureSource
from dinomix.training.config import TrainConfig
from dinomix.training.finish import write_result
from dinomix.training.recording import record, record_validation
from dinomix.training.run_directory import RunDirectory
from dinomix.training.state import State, initial_state, make_accelerator, save_state
from dinomix.training.step import training_step
from dinomix.training.teacher import FrozenTeacher, load_teacher
from dinomix.training.trial import try_network


def train(cohort: Cohort, run: Path, config: TrainConfig, plan: Plan, *, cache: Path | None = None,
          start: dict[str, Tensor] | None = None, emit: Emit = silent) -> Path:  # fmt: skip
    """Begin a run and train it to its end.

    Args:
        run: a new folder; see ``training/run_directory.py`` for what it will hold.
        cache: where preprocessed cases are kept, for runs that share them; by default inside ``run``.
        start: weights of the network to begin with, e.g. of ``finish.matched_weights``.

    Returns:
        The model folder.

    Raises:
        DinomixError: no labeled case, a plan for another modality or that its network does not fit, a run is there
            already, the teacher's weights are missing, or as ``resume``. Nothing is written then.
        KeyboardInterrupt: after SIGINT or SIGTERM, once the state is saved.
    """
    if not cohort.with_role("labeled"):
        raise DinomixError("The cohort has no labeled case.", "Give at least one with `dinomix check --labeled`.")
    if config.uses_unlabeled and not cohort.with_role("unlabeled"):
        raise DinomixError(
            f"The cohort has no unlabeled case, and {config.method} needs some.",
            "Give them with `dinomix check --unlabeled`, or train with --method labeled-only.",
        )
    if plan.modality != cohort.modality:
        raise DinomixError(
            f"The plan is for {plan.modality}, the cohort is {cohort.modality}.",
            "Give a plan or a start model of the same modality.",
        )
    accelerator = make_accelerator(config)
    frozen = load_teacher(config.fkd) if config.fkd.mode != "off" else None
    if accelerator.is_main_process:
        channels = cohort.labels.channels
        try_network(build_network(plan, channels), plan.patch, channels, plan.fkd_stage if frozen else None)
        RunDirectory.create(run, config, cohort, plan, cache, start)
    accelerator.wait_for_everyone()
    return _run(run, emit, frozen)


def resume(run: Path, *, emit: Emit = silent) -> Path:
    """Train a run from its last checkpoint, or its beginning, to its end.

    Returns:
        The model folder.

    Raises:
        DinomixError: no run there, another process writes it, the loss is not finite any more, or memory ran out.
        KeyboardInterrupt: after SIGINT or SIGTERM, once the state is saved.
    """
    return _run(run, emit, None)


def _run(run: Path, emit: Emit, frozen: FrozenTeacher | None) -> Path:
    directory = RunDirectory.open(run)
    accelerator = make_accelerator(directory.config)
    if not accelerator.is_main_process:
        with _memory_told():
            return _train(directory, accelerator, silent, frozen)
    with directory.locked():
        try:
            with _memory_told():
                return _train(directory, accelerator, EventFile(directory.events, emit), frozen)
        except DinomixError as error:
            EventFile(directory.events)("error", message=error.problem, remedy=error.remedy)
            raise


@contextmanager
def _memory_told() -> Iterator[None]:
    """Memory that ran out, on the GPU or beside it, as one clear line."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and not is_out_of_memory(error):
            raise
        raise DinomixError(
            "There is too little memory for a step of this run.",
            "Begin a run with a smaller patch (--set plan.patch=96,96,48) or batch (--set batch_unlabeled=...).",
        ) from error


def _train(directory: RunDirectory, accelerator: Accelerator, emit: Emit, frozen: FrozenTeacher | None) -> Path:
    config, cohort, plan = directory.config, directory.cohort, directory.plan
    began = time.monotonic()
    torch.backends.cudnn.deterministic = True
    if config.fkd.mode != "off":
        frozen = (frozen or load_teacher(config.fkd)).to(accelerator.device)
    with accelerator.main_process_first():
        cached = cache_cases(cohort, plan, directory.cache, emit)
    validation_cases = [cached[case.name] for case in cohort.with_role("validation")]

    torch.manual_seed(config.seed)
    network = build_network(plan, cohort.labels.channels)
    state = initial_state(directory, network, frozen, accelerator)
    if accelerator.is_main_process:
        directory.forget_events_after(state.step)
    features = None
    if frozen is not None and config.fkd.mode == "cached":
        features = _cached_features(state, frozen, cohort, cached, config, accelerator, emit)
    batches = Batches(
        cohort, cached, plan, config, rank=accelerator.process_index, first_step=state.step, features=features
    )
    loader = DataLoader(batches, batch_size=None, num_workers=config.workers, worker_init_fn=_ignore_interrupts)

    alone = accelerator.num_processes == 1
    progress = Progress(emit, "train", config.steps, state.step)
    with _stop_requests() as stop:
        for batch in loader:
            terms = training_step(
                state, batch.to(accelerator.device), frozen, batches, cohort, config, accelerator, emit
            )
            state.step += 1
            stopping = stop.is_set() if alone else _agreed(stop, state.step % config.record_every == 0, accelerator)
            saving = stopping or state.step == config.steps or state.step % config.checkpoint_every == 0
            if saving or state.step % config.record_every == 0:
                record(state, terms, batches, cohort, config, accelerator, emit)
                progress(state.step)
            if validation_cases and (state.step % config.validate_every == 0 or state.step == config.steps):
                record_validation(state, validation_cases, directory, accelerator, emit)
            if saving:
                save_state(state, directory, accelerator, emit)
            if stopping:
                raise KeyboardInterrupt

    if accelerator.is_main_process:
        best = directory.load_best()
        write_result(directory, best or state.teacher.state_dict(), frozen.name if frozen else None, cached, emit)
        emit("finished", path=str(directory.model), seconds=time.monotonic() - began)
    accelerator.wait_for_everyone()
    return directory.model


def _cached_features(state: State, frozen: FrozenTeacher, cohort: Cohort, cached: dict[str, CachedCase],
                     config: TrainConfig, accelerator: Accelerator, emit: Emit) -> FeatureSource:  # fmt: skip
    """Compute what is missing of the cached teacher features of all cases that this run draws from."""
    grid = accelerator.unwrap_model(state.student).grid
    made_from = f"{frozen.name} {frozen.fingerprint()} {config.fkd.slice_stride} {config.fkd.scale}"
    key = hashlib.sha256(made_from.encode()).hexdigest()[:16]
    roles = ("labeled", "unlabeled") if config.uses_unlabeled else ("labeled",)
    cases = [cached[case.name] for case in cohort.cases if case.role in roles]

    def features_of(image: NDArray[np.float16]) -> NDArray[np.float16]:
        volume = torch.from_numpy(np.array(image, dtype=np.float32)).to(accelerator.device)
        with accelerator.autocast():
            return fkd.features_of_volume(frozen, volume, config.fkd.slice_stride)

    with accelerator.main_process_first():
        cache_features(cases, key, features_of, emit)
    return FeatureSource(key, config.fkd.slice_stride, grid)


def _agreed(stop: threading.Event, ask: bool, accelerator: Accelerator) -> bool:
    """Whether any process was asked to stop; all hear of it at the same step."""
    if not ask:
        return False
    if stop.is_set():
        accelerator.set_trigger()
    return bool(accelerator.check_trigger())


@contextmanager
def _stop_requests() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM ask the loop to save and leave at the end of the step; a second one leaves at once.

    One that follows within a second is the first again: a launcher passes on the Ctrl-C that the terminal has sent already.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    asked = 0.0

    def request(number: int, frame: object) -> None:
        nonlocal asked
        if stop.is_set():
            if time.monotonic() - asked > 1:
                raise KeyboardInterrupt
            return
        asked = time.monotonic()
        stop.set()
        print("Stopping after this step; a second interrupt stops at once.", file=sys.stderr)

    previous = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _ignore_interrupts(worker: int) -> None:
    """Workers get the terminal's Ctrl-C and a job's end too; only the process that trains decides when to stop."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
