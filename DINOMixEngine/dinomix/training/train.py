"""Training a run from its beginning or its last checkpoint to its end, whatever the method."""

import os
import socket
import time
from pathlib import Path
from time import monotonic

from accelerate import Accelerator
from torch import Tensor

from dinomix import __version__
from dinomix.cohort.cohort import Cohort
from dinomix.errors import DinomixError
from dinomix.events import Emit, EventFile, silent
from dinomix.models.network import build_network
from dinomix.names import listed, normalized_name
from dinomix.planning.plan import Plan
from dinomix.training import fkd
from dinomix.training.asking_start import ask_start, watch_kept
from dinomix.training.config import TrainConfig
from dinomix.training.control import Asked, Control, RunPaused, Wish, terminated_like_interrupted
from dinomix.training.disk import cached_size, cases_with_features
from dinomix.training.failures import failures_as_pauses
from dinomix.training.finish import write_result
from dinomix.training.forgetting import Forgetting
from dinomix.training.foundation import FoundationModel
from dinomix.training.heartbeat import NAME as ALIVE
from dinomix.training.heartbeat import heartbeat
from dinomix.training.methods import method_class
from dinomix.training.run import Run
from dinomix.training.run_directory import RunDirectory
from dinomix.training.stage import Trained, paused_in_preparation, take_all_steps
from dinomix.training.state import choose_algorithms, device_reason, make_accelerator
from dinomix.training.trial import try_network
from dinomix.training.two_stages import train_two_stages


def train(cohort: Cohort, run: Path, config: TrainConfig, plan: Plan, *, cache: Path | None = None,
          start: dict[str, Tensor] | None = None, start_model: Path | None = None,
          second_start: dict[str, Tensor] | None = None, emit: Emit = silent,
          since: float | None = None) -> Path:  # fmt: skip
    """Begin a run and train it to its end.

    Args:
        run: a new folder; see ``training/run_directory.py`` for what it will hold.
        cache: where preprocessed cases are kept, for runs that share them; by default inside ``run``.
        start: weights of the network to begin with, e.g. of ``models.matching.matched_weights``.
        start_model: the model folder that they are from, for the record.
        second_start: likewise of the second stage's network.
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
    if config.uses_unlabeled and not cohort.with_role("unlabeled") and not _has_something_to_fill_in(cohort, config):
        raise DinomixError(
            f"The cohort has no unlabeled case, and {config.method} needs some.",
            "Give them with `dinomix check --unlabeled`, or train with --method labeled-only.",
            code="no-unlabeled",
        )
    if plan.modalities != cohort.modalities and len(plan.channels) == len(cohort.channel_names):
        raise DinomixError(
            f"The plan is for {' and '.join(plan.modalities)}, the cohort is {' and '.join(cohort.modalities)}.",
            "Give a plan or a start model of the same modality.",
        )
    names, of_cohort = ([normalized_name(name) for name in told] for told in (plan.channels, cohort.channel_names))
    if names != of_cohort and (len(names) > 1 or len(of_cohort) > 1):
        raise DinomixError(
            f"The plan is for the images {', '.join(plan.channels) or 'of one kind'}, the cohort has "
            f"{', '.join(cohort.channels) or 'one image of each case'}.",
            "Give a plan for the same channels in the same order, or none.",
        )
    if plan.second is not None and (unknown := set(plan.second.structures) - set(cohort.labels.names)):
        raise DinomixError(
            f"The plan refines {listed(sorted(unknown))}, which the cohort does not have.",
            f"Correct --set plan.second.structures; it has {', '.join(cohort.labels.names)}.",
            code="plan",
        )
    since = time.time() if since is None else since
    accelerator = make_accelerator(config)
    foundation = fkd.teacher_of(config.fkd, plan, cohort) if config.fkd.mode != "off" else None
    if accelerator.is_main_process:
        channels = cohort.labels.channels
        for stage in (plan, plan.second.plan) if plan.second is not None else (plan,):
            try_network(build_network(stage, channels), stage.patch, channels, len(stage.channels))
        if foundation is not None:
            foundation.try_slices(*_largest_slice(cohort, config, plan))
        RunDirectory.create(run, config, cohort, plan, cache, start, start_model, second_start=second_start)
    accelerator.wait_for_everyone()
    return _run(run, emit, foundation, since)


def _has_something_to_fill_in(cohort: Cohort, config: TrainConfig) -> bool:
    """Whether labels leave something open that the method learns from pseudo-labels, as it does from unlabeled cases."""
    return method_class(config.method).fills_in and any(not case.is_whole for case in cohort.with_role("labeled"))


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


def _run(path: Path, emit: Emit, foundation: FoundationModel | None, since: float) -> Path:
    directory = RunDirectory.open(path)
    if int(os.environ.get("RANK", "0")) > 0:
        with failures_as_pauses(path):
            return _train(directory, silent, foundation, Control(None))
    with directory.locked(), heartbeat(path):
        events, control = EventFile(directory.events, emit), Control(path, since)
        try:
            with terminated_like_interrupted(), failures_as_pauses(path):
                return _train(directory, events, foundation, control)
        except RunPaused as pause:
            _tell(events, "paused", step=control.steps_before + control.saved_step, **pause.fields)
            raise
        except KeyboardInterrupt:
            interrupted = RunPaused("The run was interrupted.", "Resume it; it goes on from its last checkpoint.")
            _tell(events, "paused", step=control.steps_before + control.saved_step, **interrupted.fields)
            raise
        except DinomixError as error:
            _tell(EventFile(directory.events), "error", **error.fields)
            raise
        except FileNotFoundError as error:
            if path.is_dir():
                lost = RunPaused(
                    f"A file that the run needs is gone ({error.filename}).",
                    "Connect its disk again where it lay on one, then resume the run; prepared cases are made again.",
                )
                _tell(events, "paused", step=control.steps_before + control.saved_step, **lost.fields)
                raise lost from error
            raise DinomixError(f"{path} was deleted or moved while it was trained.", "Begin a new run.") from error
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
    began = monotonic()
    accelerator = _accelerator(config)
    choose_algorithms(accelerator)
    emit("started", pid=os.getpid(), host=socket.gethostname(), device=str(accelerator.device),
         reason=device_reason(accelerator.device), steps=config.steps, version=__version__)  # fmt: skip
    if config.fkd.mode != "off":
        foundation = foundation or fkd.teacher_of(config.fkd, directory.plan, directory.cohort)
        foundation.on(accelerator.device, config.precision, emit)
    directory, forgetting = _with_start(directory, accelerator, control, emit)
    run = Run(directory, accelerator, foundation, control, emit, began, forgetting)
    try:
        if directory.plan.second is None:
            wish = take_all_steps(run)
            stages = [Trained.of_run(run)]
        else:
            wish, stages = train_two_stages(run)
    except Asked:
        raise paused_in_preparation(control) from None
    if accelerator.is_main_process:
        write_result(directory, foundation.name if foundation else None, stages, str(accelerator.device), emit)
        control.obeyed()
        emit("finished", path=str(directory.model), seconds=monotonic() - began, stopped=wish is Wish.STOP)
    accelerator.wait_for_everyone()
    return directory.model


def _with_start(
    directory: RunDirectory, accelerator: Accelerator, control: Control, emit: Emit
) -> tuple[RunDirectory, Forgetting | None]:
    """What the model that a run starts from says of its cases, before the first step: labels to keep, and how good it is."""
    try:
        if accelerator.is_main_process:
            # Where several processes prepare a run, one that left would keep the others waiting.
            obedient = control if accelerator.num_processes == 1 else Control(None)
            ask_start(directory, str(accelerator.device), obedient, emit)
    except Asked:
        raise paused_in_preparation(control) from None
    accelerator.wait_for_everyone()
    if directory.config.keep_structures:
        directory = RunDirectory.open(directory.path)  # its labels have been merged
    return directory, watch_kept(directory, str(accelerator.device))


def _accelerator(config: TrainConfig) -> Accelerator:
    try:
        return make_accelerator(config)
    except DinomixError as error:
        raise RunPaused(error.problem, "Resume the run when that device is free and working again.") from error
