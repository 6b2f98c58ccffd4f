"""Which runtime computes a network here: the fastest whose labels agree, found by a trial that is remembered."""

import json
import platform
import time
import weakref
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import torch

from dinomix.errors import DinomixError, printable
from dinomix.events import Emit
from dinomix.files import read_table, write_json
from dinomix.inference.memory import MemoryUse
from dinomix.inference.options import RuntimeName
from dinomix.inference.pieces import Forward, piece_with_borders, pieces_of
from dinomix.inference.precision import AGREEMENT
from dinomix.inference.runtimes.compiled import OPENVINO, is_compiled
from dinomix.inference.runtimes.graphs import folder_of
from dinomix.inference.runtimes.runtime import PYTORCH, Runtime
from dinomix.inference.windows import Layout
from dinomix.models.averaged import FromFile
from dinomix.models.silence import is_installed
from dinomix.planning.plan import Plan, sides_of_a_piece

LEAST_SECONDS = 3.0
"""Of the windows of an image in PyTorch, for which a trial is worth its time: it takes some seconds, once for a model."""
LEAST_GAIN = 1.1
SAME = {torch.float32: 0.999, torch.bfloat16: AGREEMENT}
"""Least share of the structures' voxels of the piece with the labels of PyTorch in float32. In bfloat16 each image is looked at
again, see ``certainty``."""
ONE_VOXEL = 1
"""May differ in any piece, however small its structures are."""
TURNS, LONGEST_TURNS = 3, 2.0
"""How often both are timed, the best of which counts; and the seconds after which no further turn begins."""
OF_THE_COMPUTER = (ImportError, OSError, MemoryError)
"""Errors that may be gone tomorrow: a full disk, a library that is not whole."""
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Verdict:
    """What a trial came to.

    Attributes:
        runtime: "pytorch" or "openvino".
        reason: why, a full sentence.
    """

    runtime: str
    reason: str


_VERDICTS = weakref.WeakKeyDictionary[torch.nn.Module, dict[str, Verdict]]()


@dataclass(frozen=True)
class Work:
    """An image that is to be computed on some device with some numbers.

    Attributes:
        network: in evaluation mode, on the CPU.
        tensor: (channels, x, y, z) float32.
        use: the memory that is planned for it.
    """

    network: torch.nn.Module
    tensor: torch.Tensor
    plan: Plan
    device: torch.device
    dtype: torch.dtype
    use: MemoryUse


def choose_runtime(requested: RuntimeName, work: Work, emit: Emit) -> Runtime:
    """The runtime that computes an image, which is told by a ``runtime`` event where there is more than one.

    Raises:
        DinomixError: the requested one is not installed, or not for this device.
    """
    if requested == "openvino":
        _check_usable(work.device)
    if requested == "pytorch" or work.device != CPU or not is_installed() or _is_read_again(work.network):
        return PYTORCH
    verdict = _verdict(requested, work, emit)
    if verdict is None:
        return PYTORCH
    emit("runtime", runtime=verdict.runtime, reason=verdict.reason)
    return OPENVINO if verdict.runtime == "openvino" else PYTORCH


def _verdict(requested: RuntimeName, work: Work, emit: Emit) -> Verdict | None:
    if not is_compiled(work.network) and _too_large(work):
        return Verdict("pytorch", "PyTorch computes: OpenVINO would take more memory than there is.")
    if requested == "openvino":
        return _requested(work)
    return remembered(work.network, work.plan, work.dtype) or _tried(work, emit)


def expected_runtime(
    requested: RuntimeName, network: torch.nn.Module, plan: Plan, device: torch.device, dtype: torch.dtype
) -> Runtime:
    """What will compute as far as that is known without an image; PyTorch until a trial was made."""
    if requested == "pytorch" or device != CPU or not is_installed() or _is_read_again(network):
        return PYTORCH
    verdict = remembered(network, plan, dtype)
    has_won = verdict.runtime == "openvino" if verdict is not None else requested == "openvino"
    return OPENVINO if has_won else PYTORCH


def remembered(network: torch.nn.Module, plan: Plan, dtype: torch.dtype) -> Verdict | None:
    """What an earlier trial of this network came to on this computer, with as many threads; None where there was none."""
    known = _VERDICTS.setdefault(network, {})
    file = _file_of(network, plan, dtype)
    if file.name not in known:
        try:
            table = read_table(file)
            known[file.name] = Verdict(str(table["runtime"]), str(table["reason"]))
        except (OSError, ValueError, KeyError):
            return None
    return known[file.name]


def _remember(work: Work, verdict: Verdict) -> None:
    file = _file_of(work.network, work.plan, work.dtype)
    _VERDICTS.setdefault(work.network, {})[file.name] = verdict
    try:
        write_json(file, {**asdict(verdict), **_circumstances(work.dtype)})
    except OSError:
        return  # tried again by the next process


def _file_of(network: torch.nn.Module, plan: Plan, dtype: torch.dtype) -> Path:
    name = sha256(json.dumps(_circumstances(dtype)).encode()).hexdigest()[:16]
    return folder_of(network, plan) / f"trial-{name}.json"


def _circumstances(dtype: torch.dtype) -> dict[str, str | int]:
    """What a trial holds for, beside the network."""
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "processor": _processor(),
        "torch": version("torch"),
        "openvino": version("openvino"),
    }


@cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _is_read_again(network: torch.nn.Module) -> bool:
    """Whether weights are read for every window, since the memory does not hold all; compiled, they would have to stay."""
    return any(isinstance(module, FromFile) for module in network.modules())


def _check_usable(device: torch.device) -> None:
    if not is_installed():
        raise DinomixError(
            "OpenVINO is not installed.", "Install it (pip install openvino), or give --runtime auto.", "runtime"
        )
    if device != CPU:
        raise DinomixError(
            f"OpenVINO computes on the CPU, and the device is {device}.",
            "Give --device cpu as well, or --runtime auto.",
            "runtime",
        )


def _too_large(work: Work) -> bool:
    weights = sum(weight.nbytes for weight in work.network.parameters())
    return OPENVINO.more_bytes(weights, work.use.window) > work.use.spare


def _requested(work: Work) -> Verdict:
    try:
        _ready(OPENVINO, work, work.plan.patch)
    except Exception as error:
        return Verdict("pytorch", _cannot(error))
    return Verdict("openvino", "OpenVINO computes, as requested.")


def _tried(work: Work, emit: Emit) -> Verdict | None:
    """Both compute a piece of the image; None where that is not worth the time, or where too little is seen in the piece."""
    piece = next(pieces_of(work.tensor, work.plan))[None]
    slow = _ready(PYTORCH, work, sides_of_a_piece(work.plan))
    windows = (
        len(Layout.of(tuple(work.tensor.shape[1:]), work.plan)) * _voxels(work.plan.patch) / _voxels(piece.shape[2:])
    )
    if windows * min(_seconds(slow, piece) for _ in range(2)) < LEAST_SECONDS:
        return None
    emit("progress", stage="trying OpenVINO", step=0, total=1, eta=None)
    try:
        verdict = _compared(work, slow, _ready(OPENVINO, work, sides_of_a_piece(work.plan)))
        if verdict is not None and verdict.runtime == "openvino":
            _ready(OPENVINO, work, work.plan.patch)
        lasts = True
    except Exception as error:  # of many kinds: what a library says of a network that it does not know
        verdict = Verdict("pytorch", _cannot(error))
        lasts = not isinstance(error, OF_THE_COMPUTER)
    emit("progress", stage="trying OpenVINO", step=1, total=1, eta=0.0)
    if verdict is not None and lasts:
        _remember(work, verdict)
    return verdict


@torch.inference_mode()
def _compared(work: Work, slow: Forward, fast: Forward) -> Verdict | None:
    found = piece_with_borders(fast, work.tensor, work.plan, CPU)
    if found is None:
        return None
    window, logits = found
    exact = PYTORCH.ready(work.network, work.plan, CPU, torch.float32, sides_of_a_piece(work.plan))(window)[0].argmax(0)
    labels = logits.argmax(0)
    structures = int(((labels > 0) | (exact > 0)).sum())
    other = int((labels != exact).sum())
    if other > max(ONE_VOXEL, (1 - SAME[work.dtype]) * structures):
        return Verdict("pytorch", f"PyTorch computes: OpenVINO gave {other} of {structures} voxels other labels here.")
    turns: list[tuple[float, float]] = []
    while len(turns) < TURNS and sum(map(sum, turns)) < LONGEST_TURNS:
        turns.append((_seconds(slow, window), _seconds(fast, window)))
    gain = min(turn[0] for turn in turns) / min(turn[1] for turn in turns)
    if gain < LEAST_GAIN:
        return Verdict("pytorch", f"PyTorch computes: OpenVINO was {gain:.1f} times as fast on this processor.")
    reason = f"OpenVINO computes: it was {gain:.1f} times as fast as PyTorch on this processor, and its labels agree."
    return Verdict("openvino", reason)


def _ready(runtime: Runtime, work: Work, sides: tuple[int, int, int]) -> Forward:
    return runtime.ready(work.network, work.plan, CPU, work.dtype, sides)


def _cannot(error: Exception) -> str:
    told = printable(" ".join(str(error).split()))[:200]
    what = "be used here" if isinstance(error, OF_THE_COMPUTER) else "take this network"
    return f"PyTorch computes: OpenVINO cannot {what} ({told or type(error).__name__})."


@torch.inference_mode()
def _seconds(forward: Forward, window: torch.Tensor) -> float:
    began = time.perf_counter()
    forward(window)
    return time.perf_counter() - began


def _voxels(sides: tuple[int, ...]) -> int:
    x, y, z = sides
    return x * y * z
