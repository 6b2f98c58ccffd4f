"""Training: one loop for labeled-only, mean-teacher and DINO-Mix; what differs between them is in the configuration."""

import os
import socket
import time
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from dinomix import __version__
from dinomix.cohort.cohort import Cohort
from dinomix.errors import DinomixError
from dinomix.events import Emit, EventFile, Progress, silent
from dinomix.models.network import build_network
from dinomix.planning.cache import CachedCase, cache_cases, cache_features
from dinomix.planning.intensities import usual_range
from dinomix.planning.plan import Plan
from dinomix.training import fkd
from dinomix.training.batches import Batches, FeatureSource, in_order
from dinomix.training.config import TrainConfig
from dinomix.training.control import Asked, Control, RunPaused, Wish, terminated_like_interrupted
from dinomix.training.disk import bytes_of_weights, cached_size, cases_with_features, needed, tell_needed
from dinomix.training.failures import failures_as_pauses
from dinomix.training.finish import write_result
from dinomix.training.foundation import FoundationModel, load_foundation
from dinomix.training.heartbeat import NAME as ALIVE
from dinomix.training.heartbeat import heartbeat
from dinomix.training.recording import record, record_validation
from dinomix.training.run_directory import RunDirectory
from dinomix.training.snapshot import Snapshots, shown_first
from dinomix.training.state import State, device_reason, initial_state, make_accelerator, save_state
from dinomix.training.step import training_step
from dinomix.training.trial import try_network


def train(cohort: Cohort, run: Path, config: TrainConfig, plan: Plan, *, cache: Path | None = None,
          start: dict[str, Tensor] | None = None, start_model: Path | None = None, emit: Emit = silent,
          since: float | None = None) -> Path:  # fmt: skip
    """Begin a run and train it to its end.

    Args:
        run: a new folder; see ``training/run_directory.py`` for what it will hold.
        cache: where preprocessed cases are kept, for runs that share them; by default inside ``run``.
        start: weights of the network to begin with, e.g. of ``models.matching.matched_weights``.
        start_model: the model folder that they are from, for the record.
        since: as ``resume`` takes it.

    Returns:
        The model folder.

    Raises:
        DinomixError: no labeled case, a plan for another modality or that its network does not fit, a run is there
            already, the teacher's weights are missing or it gives no feature maps (nothing is written then), or as
            ``resume``.
        RunPaused, KeyboardInterrupt: as ``resume``.
    """
    if not cohort.with_role("labeled"):
        raise DinomixError(
            "The cohort has no labeled case.", "Give at least one with `dinomix check --labeled`.", code="no-labeled"
        )
    if config.uses_unlabeled and not cohort.with_role("unlabeled"):
        raise DinomixError(
            f"The cohort has no unlabeled case, and {config.method} needs some.",
            "Give them with `dinomix check --unlabeled`, or train with --method labeled-only.",
            code="no-unlabeled",
        )
    if plan.modality != cohort.modality:
        raise DinomixError(
            f"The plan is for {plan.modality}, the cohort is {cohort.modality}.",
            "Give a plan or a start model of the same modality.",
        )
    since = time.time() if since is None else since
    accelerator = make_accelerator(config)
    foundation = load_foundation(config.fkd) if config.fkd.mode != "off" else None
    if accelerator.is_main_process:
        channels = cohort.labels.channels
        try_network(build_network(plan, channels), plan.patch, channels, plan.fkd_stage if foundation else None)
        if foundation is not None:
            foundation.try_slices(*_largest_slice(cohort, config, plan))
        RunDirectory.create(run, config, cohort, plan, cache, start, start_model)
    accelerator.wait_for_everyone()
    return _run(run, emit, foundation, since)


def _largest_slice(cohort: Cohort, config: TrainConfig, plan: Plan) -> tuple[int, int]:
    """Voxels along (x, y) that the teacher will see at once: a patch's, or with cached features whole slices."""
    if config.fkd.mode == "on-the-fly":
        return plan.patch[:2]
    sizes = [cached_size(case, plan) for case in cases_with_features(cohort, config)]
    return max(size[0] for size in sizes), max(size[1] for size in sizes)


def resume(run: str | Path, *, emit: Emit = silent, since: float | None = None) -> Path:
    """Train a run from its last checkpoint, or its beginning, to its end.

    Args:
        since: a RUN/request.json older than this (seconds since the epoch) is dropped unread; by default any that is there.

    Returns:
        The model folder; that of a run that was stopped is made from its best weights by then.

    Raises:
        RunPaused: the run was asked to pause, or the disk was full, memory ran out or the device was lost; it can go on.
        DinomixError: no run there, another process writes it, or the loss is not finite any more.
        KeyboardInterrupt: after SIGINT or SIGTERM, once the state is saved.
    """
    return _run(Path(run), emit, None, time.time() if since is None else since)


def _run(run: Path, emit: Emit, foundation: FoundationModel | None, since: float) -> Path:
    directory = RunDirectory.open(run)
    if int(os.environ.get("RANK", "0")) > 0:
        with failures_as_pauses(run):
            return _train(directory, silent, foundation, Control(None))
    with directory.locked(), heartbeat(run):
        events, control = EventFile(directory.events, emit), Control(run, since)
        try:
            with terminated_like_interrupted(), failures_as_pauses(run):
                return _train(directory, events, foundation, control)
        except RunPaused as pause:
            _tell(events, "paused", step=control.saved_step, **pause.fields)
            raise
        except KeyboardInterrupt:
            interrupted = RunPaused("The run was interrupted.", "Resume it; it goes on from its last checkpoint.")
            _tell(events, "paused", step=control.saved_step, **interrupted.fields)
            raise
        except DinomixError as error:
            _tell(EventFile(directory.events), "error", **error.fields)
            raise
        except FileNotFoundError as error:
            if run.is_dir():
                raise
            raise DinomixError(f"{run} was deleted or moved while it was trained.", "Begin a new run.") from error
        except Exception as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            failure = DinomixError(
                f"Training failed ({reason}).",
                "The messages of the process say where; resume the run, and report it if it comes back.",
            )
            _tell(EventFile(directory.events), "error", **failure.fields)
            raise


def _tell(events: EventFile, kind: str, **fields: object) -> None:
    """Announce the end of a run, also on a full disk as far as that goes: the sign of life makes room for a line."""
    try:
        events(kind, **fields)
    except OSError:
        (events.path.parent / ALIVE).unlink(missing_ok=True)
        try:
            events(kind, **fields)
        except OSError:
            events.also(kind, **fields)


def _train(directory: RunDirectory, emit: Emit, foundation: FoundationModel | None, control: Control) -> Path:
    config = directory.config
    began = time.monotonic()
    accelerator = _accelerator(config)
    torch.backends.cudnn.deterministic = True
    emit("started", pid=os.getpid(), host=socket.gethostname(), device=str(accelerator.device),
         reason=device_reason(accelerator.device), steps=config.steps, version=__version__)  # fmt: skip
    if config.fkd.mode != "off":
        foundation = (foundation or load_foundation(config.fkd)).on(
            accelerator.device, config.precision, usual_range(directory.plan.window)
        )
    try:
        state, cached, batches = _prepare(directory, foundation, accelerator, control, emit)
        wish = _steps(state, batches, cached, foundation, directory, accelerator, control, emit)
    except Asked:
        control.obeyed()
        raise RunPaused(
            "The run was ended while its cases were still being prepared, so no model was written.",
            "Resume it to train it; the cases that are done are kept.",
            asked=True,
        ) from None
    if wish is Wish.INTERRUPT:
        raise KeyboardInterrupt
    if wish is Wish.PAUSE:
        control.obeyed()
        raise RunPaused("The run was paused as asked.", "Resume it when you like.", asked=True)

    if accelerator.is_main_process:
        write_result(
            directory, state.teacher.state_dict(), foundation.name if foundation else None, cached, state.step, emit
        )
        control.obeyed()
        emit("finished", path=str(directory.model), seconds=time.monotonic() - began, stopped=wish is Wish.STOP)
    accelerator.wait_for_everyone()
    return directory.model


def _prepare(directory: RunDirectory, foundation: FoundationModel | None, accelerator: Accelerator, control: Control,
             emit: Emit) -> tuple[State, dict[str, CachedCase], Batches]:  # fmt: skip
    """The state to go on from, the cached cases and the batches that are left. Raises Asked between two cases."""
    config, cohort, plan = directory.config, directory.cohort, directory.plan
    # Where several processes prepare a run, one that left would keep the others waiting.
    emit_cases = control.obeying(emit) if accelerator.num_processes == 1 else emit
    network = build_network(plan, cohort.labels.channels)
    if accelerator.is_main_process:
        cache = needed(cohort, config, plan, directory.cache, foundation)
        on_same_disk = directory.path.resolve() in directory.cache.resolve().parents
        weights = bytes_of_weights(network, config) if on_same_disk else 0
        tell_needed(cache, directory.cache, weights, emit)
    with accelerator.main_process_first():
        cached = cache_cases(cohort, plan, directory.cache, emit_cases)
    torch.manual_seed(config.seed)
    network = build_network(plan, cohort.labels.channels)
    state = initial_state(directory, network, foundation, accelerator, emit)
    control.saved_step = state.step
    if accelerator.is_main_process:
        directory.forget_events_after(state.step)
    features = None
    if foundation is not None and config.fkd.mode == "cached":
        features = _cached_features(state, foundation, cohort, cached, config, accelerator, emit_cases)
    batches = Batches(
        cohort, cached, plan, config, rank=accelerator.process_index, first_step=state.step, features=features
    )
    return state, cached, batches


def _steps(state: State, batches: Batches, cached: dict[str, CachedCase], foundation: FoundationModel | None,
           directory: RunDirectory, accelerator: Accelerator, control: Control, emit: Emit) -> Wish:  # fmt: skip
    """Train to the last step, or to the end of the step in which something was asked for; the state is saved then.

    Returns:
        Why training ended: GO at the last step, else what was asked for.
    """
    config, cohort = directory.config, directory.cohort
    cases = shown_first(cohort.with_role("validation"))
    snapshots = Snapshots(directory, cases[0]) if cases else None

    def validate_if_due() -> Wish:
        due = state.step > state.validated and (state.step % config.validate_every == 0 or state.step == config.steps)
        if snapshots is None or not due:
            return Wish.GO
        try:
            record_validation(
                state, [cached[case.name] for case in cases], directory, snapshots, accelerator, control, emit
            )
        except Asked as asked:
            return asked.wish
        return Wish.GO

    with control.listening():
        # A pause that came during a validation left it out.
        if wish := validate_if_due():
            return wish
        progress = Progress(emit, "train", config.steps, state.step)
        for batch in in_order(batches):
            terms = training_step(
                state, batch.to(accelerator.device), foundation, batches, cohort, config, accelerator, emit
            )
            state.step += 1
            recording = state.step % config.record_every == 0
            wish = control.wish(emit) if accelerator.num_processes == 1 else _agreed(control, recording, accelerator)
            last = state.step == config.steps
            if last and wish is Wish.STOP:
                wish = Wish.GO  # it ends here anyway, with its last validation
            saving = wish or last or state.step % config.checkpoint_every == 0
            if saving or recording:
                record(state, terms, batches, cohort, config, accelerator, emit)
                progress(state.step)
            wish = wish or validate_if_due()
            if saving or wish:
                save_state(state, directory, accelerator, emit)
                control.saved_step = state.step
            if wish:
                return wish
    return Wish.GO


def _accelerator(config: TrainConfig) -> Accelerator:
    try:
        return make_accelerator(config)
    except DinomixError as error:
        raise RunPaused(error.problem, "Resume the run when that device is free and working again.") from error


def _cached_features(state: State, foundation: FoundationModel, cohort: Cohort, cached: dict[str, CachedCase],
                     config: TrainConfig, accelerator: Accelerator, emit: Emit) -> FeatureSource:  # fmt: skip
    """Compute what is missing of the cached teacher features of all cases that this run draws from."""
    grid = accelerator.unwrap_model(state.student).grid
    key = fkd.features_key(foundation, config.fkd)
    cases = [cached[case.name] for case in cases_with_features(cohort, config)]

    def features_of(image: NDArray[np.float16]) -> NDArray[np.float16]:
        volume = torch.from_numpy(np.array(image, dtype=np.float32)).to(accelerator.device)
        with accelerator.autocast():
            return fkd.features_of_volume(foundation, volume, config.fkd.slice_stride)

    cache_features(cases, key, features_of, emit, share=(accelerator.process_index, accelerator.num_processes))
    accelerator.wait_for_everyone()
    return FeatureSource(key, config.fkd.slice_stride, grid)


def _agreed(control: Control, ask: bool, accelerator: Accelerator) -> Wish:
    """What any process was asked for; all hear of it at the same step."""
    if not ask:
        return Wish.GO
    mine = torch.tensor([control.wish(silent)], device=accelerator.device)
    return Wish(int(accelerator.gather(mine).max()))
