"""Training: one loop for labeled-only, mean-teacher and DINO-Mix; what differs between them is in the configuration."""

import hashlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dinomix.cohort.cohort import Cohort
from dinomix.errors import DinomixError
from dinomix.events import Emit, EventFile, Progress, silent
from dinomix.models.network import build_network
from dinomix.planning.cache import CachedCase, cache_cases, cache_features
from dinomix.planning.plan import Plan
from dinomix.training import fkd, pic
from dinomix.training.batches import Batch, Batches, FeatureSource
from dinomix.training.config import TrainConfig
from dinomix.training.ema import make_teacher, update_teacher
from dinomix.training.finish import write_result
from dinomix.training.losses import pseudo_label_weight, require_finite, segmentation_loss
from dinomix.training.mixing import mix_unlabeled, pseudo_label, voxel_counts
from dinomix.training.patches import augmented_intensities
from dinomix.training.randomness import integer_seed
from dinomix.training.run_directory import RunDirectory
from dinomix.training.teacher import FrozenTeacher, load_teacher
from dinomix.training.validation import validate


@dataclass
class State:
    """What a step changes."""

    student: Any
    network: nn.Module
    teacher: nn.Module
    optimizer: Any
    counts: pic.PseudoLabelCounts
    step: int = 0
    best: float = -1.0
    labeled_draws: list[pic.Draw] = field(default_factory=list)
    unlabeled_draws: list[pic.Draw] = field(default_factory=list)


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
    if PartialState().is_main_process:
        RunDirectory.create(run, config, cohort, plan, cache, start)
    PartialState().wait_for_everyone()
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


def make_accelerator(config: TrainConfig) -> Accelerator:
    """Device and precision of the run: CUDA, MPS or CPU; bf16 where the processor computes in it."""
    if PartialState().num_processes == 1:
        # Accelerate keeps one state per process; a second run in the same process may want another device.
        AcceleratorState._reset_state(reset_partial_state=True)
    if config.device.startswith("cuda:"):
        torch.cuda.set_device(config.device)
    on_cpu = config.device == "cpu"
    precision = {"fp32": "no", "auto": ""}.get(config.precision, config.precision)
    if not precision:
        has_cuda = torch.cuda.is_available() and not on_cpu
        native = torch.cuda.is_bf16_supported() if has_cuda else torch.cpu._is_avx512_bf16_supported()
        precision = "bf16" if native else "no"
    return Accelerator(cpu=on_cpu, mixed_precision=precision)


def _train(directory: RunDirectory, accelerator: Accelerator, emit: Emit) -> Path:
    config, cohort, plan = directory.config, directory.cohort, directory.plan
    began = time.monotonic()
    torch.backends.cudnn.deterministic = True
    frozen = load_teacher(config.fkd).to(accelerator.device) if config.fkd.mode != "off" else None
    with _one_process_first(accelerator):
        cached = cache_cases(cohort, plan, directory.cache, emit)
    validation_cases = [cached[case.name] for case in cohort.with_role("validation")]

    torch.manual_seed(config.seed)
    network = build_network(plan, cohort.labels.channels)
    state = _initial_state(directory, network, frozen, accelerator)
    if accelerator.is_main_process:
        directory.forget_events_after(state.step)
    features = None
    if frozen is not None and config.fkd.mode == "cached":
        features = _cached_features(state, frozen, cohort, cached, config, accelerator, emit)
    batches = Batches(
        cohort, cached, plan, config, rank=accelerator.process_index, first_step=state.step, features=features
    )
    loader = DataLoader(batches, batch_size=None, num_workers=config.workers, worker_init_fn=_ignore_interrupts)

    progress = Progress(emit, "train", config.steps, state.step)
    with _stop_requests() as stop:
        for batch in loader:
            terms = _step(state, batch.to(accelerator.device), frozen, batches, cohort, config, accelerator, emit)
            state.step += 1
            ending = state.step == config.steps or stop.is_set()
            saving = ending or state.step % config.checkpoint_every == 0
            if saving or state.step % config.record_every == 0:
                _record(state, terms, batches, cohort, config, accelerator, emit)
                progress(state.step)
            if validation_cases and (state.step % config.validate_every == 0 or state.step == config.steps):
                _validate(state, validation_cases, directory, accelerator, emit)
            if saving:
                _save(state, directory, accelerator, emit)
            if stop.is_set():
                raise KeyboardInterrupt

    if accelerator.is_main_process:
        best = directory.load_best()
        write_result(directory, best or state.teacher.state_dict(), frozen.name if frozen else None, emit)
        emit("finished", path=str(directory.model), seconds=time.monotonic() - began)
    accelerator.wait_for_everyone()
    return directory.model


def _initial_state(directory: RunDirectory, network: nn.Module, frozen: FrozenTeacher | None,
                   accelerator: Accelerator) -> State:  # fmt: skip
    """The state of the last checkpoint; before the first, the start model's weights or the seed's."""
    from safetensors.torch import load_file

    config, plan = directory.config, directory.plan
    if directory.start.exists():
        network.load_state_dict(load_file(directory.start))
    student = fkd.StudentWithProjector(network, plan.fkd_stage, plan.patch, frozen.width if frozen else None)
    teacher = make_teacher(network)
    counts = pic.PseudoLabelCounts(len(directory.cohort.labels.structures), config.pic.count_decay)
    if config.optimizer == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(
            student.parameters(), config.learning_rate, config.momentum, weight_decay=config.weight_decay, nesterov=True
        )
    else:
        optimizer = torch.optim.AdamW(student.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    saved = directory.load_checkpoint()
    if saved is not None:
        student.load_state_dict(saved["student"])
        teacher.load_state_dict(saved["teacher"])
        counts.counts = saved["counts"].numpy()
    teacher.to(accelerator.device)
    prepared, optimizer = accelerator.prepare(student, optimizer)
    if saved is not None:
        optimizer.load_state_dict(saved["optimizer"])
    state = State(prepared, student.network, teacher, optimizer, counts)
    if saved is not None:
        state.step, state.best = saved["step"], saved["best"]
    return state


def _step(state: State, batch: Batch, frozen: FrozenTeacher | None, batches: Batches, cohort: Cohort, config: TrainConfig,
          accelerator: Accelerator, emit: Emit) -> dict[str, float]:  # fmt: skip
    """One optimization step: L = L_sup + lambda_u(t) L_u + lambda_f L_FKD.

    Raises:
        DinomixError: a term is not finite; the step is not taken.
    """
    step = state.step
    first_unlabeled = accelerator.process_index * config.batch_unlabeled
    rate = config.learning_rate * (1 - step / config.steps) ** config.poly
    for group in state.optimizer.param_groups:
        group["lr"] = rate

    lambda_u = 0.0
    images, target_features, unlabeled = batch.labeled, batch.labeled_features, None
    if len(batch.unlabeled):
        shown, features = batch.unlabeled, batch.unlabeled_features
        if config.uses_unlabeled and step >= config.first_pseudo_label_step:
            lambda_u = pseudo_label_weight(step, config.steps, config.first_pseudo_label_step, config.lambda_max)
            with accelerator.autocast():
                unlabeled, certainty = pseudo_label(state.teacher, batch, config.confidence)
            counts = accelerator.reduce(voxel_counts(unlabeled.labels, len(state.counts.counts)), "sum")
            state.counts.update(counts.cpu().numpy())
            if step % config.record_every == 0:
                emit("pseudo_label", step=step, voxels=_named(cohort, counts), confidence=_named(cohort, certainty))
            if config.pic.enabled:
                probabilities = pic.class_probabilities(state.counts.counts, step / config.steps, config.pic.kappa)
                unlabeled, draws = mix_unlabeled(unlabeled, batch, probabilities, config, step, first_unlabeled)
                state.unlabeled_draws += draws
            shown, features = unlabeled.images, unlabeled.features
        if config.augment:
            seeds = [
                integer_seed(config.seed, "intensity unlabeled", step, first_unlabeled + i) for i in range(len(shown))
            ]
            shown = augmented_intensities(shown, seeds)
        images = torch.cat([images, shown])
        if target_features is not None and features is not None:
            target_features = torch.cat([target_features, features])
    state.labeled_draws += batch.draws

    with accelerator.autocast():
        logits, projected = state.student(images)
    labeled = len(batch.labeled)
    terms = {"supervised": segmentation_loss(logits[:labeled], batch.labels)}
    if unlabeled is not None:
        terms["unsupervised"] = segmentation_loss(logits[labeled:], unlabeled.labels, unlabeled.weight)
    if projected is not None and frozen is not None:
        if target_features is None:
            grid = batches.features.grid if batches.features else tuple(projected.shape[2:])
            with accelerator.autocast():
                target_features = fkd.features_on_the_fly(frozen, images, grid, config.fkd.slice_stride)
        terms["fkd"] = fkd.distillation_loss(projected, target_features, config.fkd.uniqueness)
    weights = {"supervised": 1.0, "unsupervised": lambda_u, "fkd": config.fkd.weight}
    total = torch.stack([weights[name] * value for name, value in terms.items()]).sum()
    if not bool(torch.isfinite(total)):
        raise DinomixError(
            f"The loss is not finite any more at step {step + 1} (term: {require_finite(terms) or 'total'}).",
            "The last checkpoint is kept. Begin again with a lower --set learning_rate, or with --set precision=fp32.",
        )
    state.optimizer.zero_grad()
    accelerator.backward(total)
    norm = accelerator.clip_grad_norm_(state.student.parameters(), config.clip)
    state.optimizer.step()
    update_teacher(state.teacher, state.network, step, config.ema_decay)
    return {
        "total": total.detach(), **{name: value.detach() for name, value in terms.items()}, "lambda_u": lambda_u,
        "learning_rate": rate, "gradient_norm": norm,
    }  # fmt: skip


def _record(state: State, terms: dict[str, Any], batches: Batches, cohort: Cohort, config: TrainConfig,
            accelerator: Accelerator, emit: Emit) -> None:  # fmt: skip
    """Announce the losses of this step, a mean over processes, and every box drawn since the last record."""
    losses = {name: float(accelerator.reduce(torch.as_tensor(value, device=accelerator.device).float(), "mean"))
              for name, value in terms.items()}  # fmt: skip
    absent = {name: None for name in ("unsupervised", "fkd") if name not in losses}
    emit("loss", step=state.step, **losses, **absent)
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
            emit("pic", step=state.step, subset=subset, probabilities=_named(cohort, probabilities), draws=names)
        draws.clear()


def _validate(state: State, cases: list[CachedCase], directory: RunDirectory, accelerator: Accelerator,
              emit: Emit) -> None:  # fmt: skip
    began = time.monotonic()
    names = directory.cohort.labels.names
    dice = validate(state.teacher, cases, directory.plan, len(names), accelerator)
    known = [value for value in dice if value is not None]
    mean = sum(known) / len(known) if known else 0.0
    emit("validation", step=state.step, dice=dict(zip(names, dice, strict=True)), mean=mean,
         seconds=time.monotonic() - began)  # fmt: skip
    stuck = [name for name, value in zip(names, dice, strict=True) if value == 0]
    if stuck:
        emit("stuck", step=state.step, classes=stuck)
    if mean > state.best:
        state.best = mean
        if accelerator.is_main_process:
            directory.save_best(state.teacher.state_dict())
            emit("checkpoint", step=state.step, path="checkpoints/best.safetensors", best=True)


def _save(state: State, directory: RunDirectory, accelerator: Accelerator, emit: Emit) -> None:
    if not accelerator.is_main_process:
        return
    directory.save_checkpoint({
        "step": state.step, "best": state.best, "counts": torch.from_numpy(np.array(state.counts.counts)),
        "student": accelerator.unwrap_model(state.student).state_dict(), "teacher": state.teacher.state_dict(),
        "optimizer": state.optimizer.state_dict(),
    })  # fmt: skip
    emit("checkpoint", step=state.step, path="checkpoints/last.pt", best=False)


def _cached_features(state: State, frozen: FrozenTeacher, cohort: Cohort, cached: dict[str, CachedCase],
                     config: TrainConfig, accelerator: Accelerator, emit: Emit) -> FeatureSource:  # fmt: skip
    """Compute what is missing of the cached teacher features of all labeled and unlabeled cases."""
    grid = accelerator.unwrap_model(state.student).grid
    made_from = f"{frozen.name} {frozen.fingerprint()} {config.fkd.slice_stride} {config.fkd.scale}"
    key = hashlib.sha256(made_from.encode()).hexdigest()[:16]
    cases = [cached[case.name] for case in cohort.cases if case.role in ("labeled", "unlabeled")]

    def features_of(image: np.ndarray) -> np.ndarray:
        volume = torch.from_numpy(np.array(image, dtype=np.float32)).to(accelerator.device)
        with accelerator.autocast():
            return fkd.features_of_volume(frozen, volume, config.fkd.slice_stride).numpy()

    with _one_process_first(accelerator):
        cache_features(cases, key, features_of, emit)
    return FeatureSource(key, config.fkd.slice_stride, grid)


def _named(cohort: Cohort, values: Any) -> dict[str, float | None]:
    numbers = [float(value) for value in values]
    return {name: None if np.isnan(n) else n for name, n in zip(cohort.labels.names, numbers, strict=True)}


@contextmanager
def _one_process_first(accelerator: Accelerator) -> Iterator[None]:
    """The main process writes what the others then find written."""
    with accelerator.main_process_first():
        yield


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
