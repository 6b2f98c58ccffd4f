"""Sliding-window prediction that gets by with the memory there is."""

from dataclasses import dataclass

import torch
from monai.inferers import sliding_window_inference

from dinomix.errors import DinomixError
from dinomix.events import Emit, Progress, silent
from dinomix.inference.devices import describe
from dinomix.planning.plan import Plan

GPU_BATCH = 4
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Way:
    """Where windows are computed and where they are put together, and how many windows are computed at once."""

    device: torch.device
    buffers: torch.device
    batch: int


def predict_logits(
    network: torch.nn.Module,
    tensor: torch.Tensor,
    plan: Plan,
    device: torch.device | str,
    emit: Emit = silent,
    *,
    half_buffers: bool = False,
    ways: tuple[Way, ...] | None = None,
) -> torch.Tensor:
    """Predict one preprocessed volume window by window, blending overlaps as the plan says.

    When the GPU's memory does not suffice, fewer windows are computed at once and put together in main memory; when
    that does not suffice either, the CPU computes. Each step down is announced by a ``warning`` event. The network is
    in evaluation mode while it predicts, and is afterwards on the device and in the mode in which it came.

    Args:
        tensor: (1, x, y, z) float32.
        device: where to begin; see ``ways_to_compute`` for what comes after it.
        half_buffers: add up in float16, for half the memory and three decimal digits.
        ways: in this order instead of ``ways_to_compute(device)``.

    Returns:
        (channels, x, y, z) on the CPU, float32, or float16 with ``half_buffers``.

    Raises:
        DinomixError: the main memory does not suffice.
    """
    ways = ways or ways_to_compute(torch.device(device))
    home, training = _home(network), network.training
    network.eval()
    try:
        for way, next_way in zip(ways, (*ways[1:], None), strict=True):
            try:
                network.to(way.device)
                return _predict(network, tensor, plan, way, emit, half_buffers)
            except (RuntimeError, NotImplementedError) as error:
                if not _can_step_down(error, way):
                    raise
                if next_way is None:
                    raise DinomixError(
                        "The main memory does not suffice to segment this image.",
                        "Close other programs, or use a computer with more memory.",
                    ) from error
                emit("warning", message=_step_down(way, next_way, error))
            # Outside of the except block, since the exception's traceback keeps the tensors alive.
            if way.device.type == "cuda":
                torch.cuda.empty_cache()
        raise AssertionError("the last way returns or raises")
    finally:
        network.to(home).train(training)


def ways_to_compute(device: torch.device) -> tuple[Way, ...]:
    """The ways to use a device, the fastest first and the most frugal last."""
    frugal = Way(CPU, CPU, 1)
    if device.type == "cpu":
        return (frugal,)
    return Way(device, device, GPU_BATCH), Way(device, device, 1), Way(device, CPU, 1), frugal


def count_windows(size: tuple[int, ...], plan: Plan) -> int:
    """How many windows MONAI's sliding window visits on a volume of ``size`` (x, y, z)."""
    windows = 1
    for voxels, patch, overlap in zip(size, plan.patch, plan.overlap, strict=True):
        if voxels > patch:
            interval = max(int(patch * (1 - overlap)), 1)
            windows *= -(-(voxels - patch) // interval) + 1
    return windows


def _predict(
    network: torch.nn.Module, tensor: torch.Tensor, plan: Plan, way: Way, emit: Emit, half_buffers: bool
) -> torch.Tensor:
    progress = Progress(emit, "segmenting", count_windows(tuple(tensor.shape[1:]), plan))
    done = 0

    def predictor(windows: torch.Tensor) -> torch.Tensor:
        nonlocal done
        logits: torch.Tensor = network(windows.float()).to(tensor_in.dtype)
        done += len(windows)
        progress(done)
        return logits

    tensor_in = tensor.to(way.buffers, torch.float16 if half_buffers else torch.float32)
    with torch.inference_mode():
        logits = sliding_window_inference(
            tensor_in[None],
            plan.patch,
            way.batch,
            predictor,
            overlap=plan.overlap,
            mode=plan.blend,
            sw_device=way.device,
            device=way.buffers,
        )
    assert isinstance(logits, torch.Tensor)
    return logits[0].to(CPU)


def _home(network: torch.nn.Module) -> torch.device:
    parameter = next(network.parameters(), None)
    return CPU if parameter is None else parameter.device


def _can_step_down(error: Exception, way: Way) -> bool:
    # MPS lacks operations that the CPU has, and says so in several ways.
    return way.device.type == "mps" or is_out_of_memory(error)


def is_out_of_memory(error: Exception) -> bool:
    """Whether PyTorch ran out of memory, on the GPU or beside it."""
    text = str(error).lower()
    return isinstance(error, torch.cuda.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text


def _step_down(failed: Way, next_way: Way, error: Exception) -> str:
    why = "does not have enough free memory" if is_out_of_memory(error) else f"cannot run this network ({error})"
    where = describe(failed.device)
    if next_way.device != failed.device:
        return f"{where[0].upper()}{where[1:]} {why}; the CPU computes instead, which takes longer."
    if next_way.buffers != failed.buffers:
        return f"{where[0].upper()}{where[1:]} {why}; the result is put together in main memory."
    return f"{where[0].upper()}{where[1:]} {why}; windows are computed one at a time."
