"""The state of a run: what a step changes, how it begins, and how it comes back from a checkpoint."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dinomix.errors import DinomixError
from dinomix.inference.devices import choose_device, describe
from dinomix.inference.sliding_window import is_out_of_memory
from dinomix.training import pic
from dinomix.training.config import TrainConfig
from dinomix.training.ema import make_teacher
from dinomix.training.schedule import Schedule

if TYPE_CHECKING:
    from dinomix.training.run import Run

PATIENCE = timedelta(hours=12)
"""How long processes wait for each other: while one preprocesses a large cohort, the others have nothing to do."""


@dataclass
class State:
    """What a step changes, but for what the method keeps.

    Attributes:
        student: all that is trained, a ``fkd.StudentWithProjector`` as Accelerate has wrapped it.
        network: the first student itself, whose moving average ``teacher`` becomes the model.
        schedule: what is to come; the same for all processes.
        best: the best mean Dice of a validation; -1 before the first.
        validated: the last step that was validated: a pause may come before.
        skipped: steps in a row that half precision's scaler has left out, up to the last one.
        labeled_draws: PIC's boxes among labeled patches since they were told.
    """

    student: Any
    network: nn.Module
    teacher: nn.Module
    optimizer: Any
    schedule: Schedule
    step: int = 0
    best: float = -1.0
    validated: int = 0
    skipped: int = 0
    labeled_draws: list[pic.Draw] = field(default_factory=list)


def make_accelerator(config: TrainConfig) -> Accelerator:
    """Device and precision of the run: CUDA, MPS or CPU; by default as ``fitting_precision`` says.

    Raises:
        DinomixError: the device is not there, or does not compute in the precision wanted.
    """
    on_cpu = config.device == "cpu"
    alone = PartialState(cpu=on_cpu, timeout=PATIENCE).num_processes == 1
    if alone:
        # Accelerate keeps one state per process; a second run in the same process may want another device.
        AcceleratorState._reset_state(reset_partial_state=True)
    if config.device not in ("auto", "cpu"):
        choose_device(config.device)
    if alone and config.device.startswith("cuda:"):
        torch.cuda.set_device(config.device)
    wanted = fitting_precision(on_cpu) if config.precision == "auto" else config.precision
    try:
        return Accelerator(cpu=on_cpu, mixed_precision={"fp32": "no"}.get(wanted, wanted))
    except ValueError as error:
        raise DinomixError(
            f"precision={config.precision} cannot be had on this device ({error}).",
            "Train with --set precision=fp32.",
            code="precision",
        ) from error


def fitting_precision(on_cpu: bool) -> Literal["fp32", "bf16", "fp16"]:
    """What a run computes in that says nothing: half precision on GPUs that are made for it.

    Not on the CPU: PyTorch's bf16 gradients of small convolutions there are now and then off by orders of magnitude, and differ
    from run to run (seen with 2.15 on AVX512-BF16). GPUs older than compute capability 8 only emulate bf16, slower than float32;
    since 7 they multiply fp16, whose small range a scaler of the loss makes up for. The GTX 16 series has no units for it.
    """
    if on_cpu or not torch.cuda.is_available():
        return "fp32"
    capability = torch.cuda.get_device_capability()
    if capability >= (8, 0):
        return "bf16"
    return "fp16" if capability >= (7, 0) and "GTX 16" not in torch.cuda.get_device_name() else "fp32"


def choose_algorithms(accelerator: Accelerator) -> None:
    """How cuDNN convolves: the same way in each process where float32 is to give the same bits, else the fastest way.

    It finds that by trying, so that two processes may differ; in half precision on a GPU no bits are promised.
    """
    exact = accelerator.mixed_precision == "no"
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = exact, not exact


def layout_of(network: nn.Module, device: torch.device) -> torch.memory_format:
    """How maps lie in memory: channels last, but where a GPU would copy each there and back for instance normalization."""
    by_instance = any(isinstance(module, nn.InstanceNorm3d) for module in network.modules())
    return torch.contiguous_format if by_instance and device.type != "cpu" else torch.channels_last_3d


def device_reason(device: torch.device) -> str:
    """A sentence about the device of a run, for the one who waits for it."""
    if device.type == "cpu" and not (torch.cuda.is_available() or torch.backends.mps.is_available()):
        return choose_device("auto")[1]
    return f"Computing on {describe(device)}."


def initial_state(run: "Run", network: nn.Module, schedule: Schedule) -> State:
    """The state of the last checkpoint; before the first, the start model's weights or those of ``network``.

    What the method keeps comes back with it.

    Args:
        schedule: that of a run without a checkpoint; with one, its own comes back.

    Raises:
        DinomixError: checkpoint or start weights are damaged, or do not fit the run's plan and cohort.
    """
    directory, accelerator, config = run.directory, run.accelerator, run.config
    saved = directory.checkpoints.load(run.emit)
    if saved is not None:
        with fitting(directory.checkpoints.last):
            schedule = Schedule(**saved["schedule"])
            if run.budget is not None:
                run.budget.restore(saved["budget"])
    if saved is None and directory.start.exists():
        with fitting(directory.start):
            network.load_state_dict(load_file(directory.start))
    layout = layout_of(network, accelerator.device)
    network.to(memory_format=layout)  # type: ignore[call-overload]
    # Before the student taps the network: the teacher's copy needs no tap.
    teacher = make_teacher(network)
    student = run.method.student(network, directory, run.foundation.width if run.foundation else None)
    student.to(memory_format=layout)  # type: ignore[call-overload]
    student.layout = layout
    if config.optimizer == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(
            student.parameters(), config.learning_rate, config.momentum, weight_decay=config.weight_decay, nesterov=True
        )
    else:
        optimizer = torch.optim.AdamW(student.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    teacher.to(accelerator.device)
    prepared, optimizer = accelerator.prepare(student, optimizer)
    state = State(prepared, student.network, teacher, optimizer, schedule)
    if saved is not None:
        with fitting(directory.checkpoints.last):
            _restore(state, saved, accelerator)
            run.method.restore(saved["method"])
        _check_best(state, run)
    return state


def _restore(state: State, saved: dict[str, Any], accelerator: Accelerator) -> None:
    accelerator.unwrap_model(state.student).load_state_dict(saved["student"])
    state.teacher.load_state_dict(saved["teacher"])
    state.optimizer.load_state_dict(saved["optimizer"])
    for parameter, moments in state.optimizer.state.items():
        if any(isinstance(moment, Tensor) and moment.ndim and moment.shape != parameter.shape
               for moment in moments.values()):  # fmt: skip
            raise ValueError("an optimizer of other weights")
    if accelerator.scaler is not None and saved.get("scaler"):
        accelerator.scaler.load_state_dict(saved["scaler"])
    state.step, state.best = saved["step"], saved["best"]
    state.validated = saved.get("validated", state.step)


def _check_best(state: State, run: "Run") -> None:
    """Where the best weights are gone or damaged, the best of the validations to come are kept."""
    try:
        best = run.directory.checkpoints.load_best()
    except DinomixError as error:
        best = None
        run.emit("notice", message=f"{error.problem} The best weights are now looked for from step {state.step} on.")
    if best is None:
        state.best = -1.0


@contextmanager
def fitting(file: Path) -> Iterator[None]:
    """Says of weights that they are damaged or of another network, in one sentence."""
    try:
        yield
    except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:200]
        raise DinomixError(
            f"{file} does not fit the run's plan.json and cohort.json, or is damaged ({reason}).",
            "Put the run's own files back as they were, or begin a new run.",
        ) from error


def save_state(run: "Run") -> None:
    """Write the last checkpoint; ``initial_state`` reads it."""
    state, accelerator = run.state, run.accelerator
    if not accelerator.is_main_process:
        return
    run.directory.checkpoints.save({
        "step": state.step, "best": state.best, "validated": state.validated, "method": run.method.saved(),
        "schedule": state.schedule.saved(), "budget": run.budget.saved() if run.budget is not None else {},
        "student": accelerator.unwrap_model(state.student).state_dict(), "teacher": state.teacher.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "scaler": accelerator.scaler.state_dict() if accelerator.scaler is not None else {},
    })  # fmt: skip
    run.emit("checkpoint", step=state.step, path="checkpoints/last.pt", best=False)
