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
from accelerate.state import PartialState
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from dinomix.cohort.cohort import Cohort
from dinomix.errors import DinomixError
from dinomix.events import Emit, EventFile, Progress, silent
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
        DinomixError: no labeled case, a run is there already, the teacher's weights are missing, or as ``resume``.
        KeyboardInterrupt: after SIGINT or SIGTERM, once the state is saved.
    """
    if not cohort.with_role("labeled"):
        raise DinomixError("The cohort has no labeled case.", "Give at least one with `dinomix check --labeled`.")
    if config.uses_unlabeled and not cohort.with_role("unlabeled"):
        raise DinomixError(
            f"The cohort has no unlabeled case, and {config.method} needs some.",
            "Give them with `dinomix check --unlabeled`, or train with --method labeled-only.",
        )
    processes = PartialState(cpu=config.device == "cpu")
    if processes.is_main_process:
        RunDirectory.create(run, config, cohort, plan, cache, start)
    processes.wait_for_everyone()
    return resume(run, emit=emit)


def resume(run: Path, *, emit: Emit = silent) -> Path:
    """Train a run from its last checkpoint, or its beginning, to its end.

    Returns:
        The model folder.

    Raises:
        DinomixError: no run there, another process writes it, the loss is not finite any more, or memory ran out.
        KeyboardInterrupt: after SIGINT or SIGTERM, once the state is saved.
    """
    directory = RunDirectory.open(run)
    accelerator = make_accelerator(directory.config)
    if not accelerator.is_main_process:
        return _train(directory, accelerator, silent)
    with directory.locked():
        try:
            return _train(directory, accelerator, EventFile(directory.events, emit))
        except torch.OutOfMemoryError as error:
            raise DinomixError(
                "The GPU has too little memory for a step of this run.",
                "Begin a run with a smaller patch (--set plan.patch=96,96,48) or batch (--set batch_unlabeled=...).",
            ) from error
        except DinomixError as error:
            EventFile(directory.events)("error", message=error.problem, remedy=error.remedy)
            raise


def _train(directory: RunDirectory, accelerator: Accelerator, emit: Emit) -> Path:
    config, cohort, plan = directory.config, directory.cohort, directory.plan
    began = time.monotonic()
    torch.backends.cudnn.deterministic = True
    frozen = load_teacher(config.fkd).to(accelerator.device) if config.fkd.mode != "off" else None
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
        write_result(directory, best or state.teacher.state_dict(), frozen.name if frozen else None, emit)
        emit("finished", path=str(directory.model), seconds=time.monotonic() - began)
    accelerator.wait_for_everyone()
    return directory.model


def _cached_features(state: State, frozen: FrozenTeacher, cohort: Cohort, cached: dict[str, CachedCase],
                     config: TrainConfig, accelerator: Accelerator, emit: Emit) -> FeatureSource:  # fmt: skip
    """Compute what is missing of the cached teacher features of all labeled and unlabeled cases."""
    grid = accelerator.unwrap_model(state.student).grid
    made_from = f"{frozen.name} {frozen.fingerprint()} {config.fkd.slice_stride} {config.fkd.scale}"
    key = hashlib.sha256(made_from.encode()).hexdigest()[:16]
    cases = [cached[case.name] for case in cohort.cases if case.role in ("labeled", "unlabeled")]

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
    """SIGINT and SIGTERM ask the loop to save and leave at the end of the step; a second one leaves at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        print("Stopping after this step; a second interrupt stops at once.", file=sys.stderr)

    previous = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _ignore_interrupts(worker: int) -> None:
    """Workers get the terminal's Ctrl-C too; only the main process decides when to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
