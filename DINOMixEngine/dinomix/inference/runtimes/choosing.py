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
from typing import Any

from dinomix.arrays import Array, without_gradients
from dinomix.errors import DinomixError, printable, reason_of
from dinomix.events import Emit
from dinomix.files import read_table, write_json
from dinomix.inference.devices import INSTALL, Device, cpu, threads
from dinomix.inference.memory import MemoryUse
from dinomix.inference.options import Numbers, RuntimeName
from dinomix.inference.pieces import Forward, piece_with_borders, pieces_of
from dinomix.inference.runtimes.agreement import differing, is_same
from dinomix.inference.runtimes.compiled import OPENVINO, is_compiled
from dinomix.inference.runtimes.graphics import GRAPHICS, check_graphics, refusal, takes
from dinomix.inference.runtimes.graphs import carries_eight_bits, folder_of
from dinomix.inference.runtimes.runtime import PYTORCH, Runtime
from dinomix.inference.windows import Layout
from dinomix.memory import gigabytes
from dinomix.models.networks import Network, bytes_of_network, each_of, is_graph
from dinomix.models.silence import is_installed
from dinomix.planning.plan import Plan, sides_of_a_piece

LEAST_SECONDS = 3.0
"""Of the windows of an image in PyTorch, for which a trial is worth its time: it takes some seconds, once for a model."""
LEAST_GAIN = 1.1
TURNS, LONGEST_TURNS = 3, 2.0
"""How often both are timed, the best of which counts; and the seconds after which no further turn begins."""
NEEDS_PYTORCH = f"It needs PyTorch. {INSTALL}"
OF_THE_COMPUTER = (ImportError, OSError, MemoryError)
"""Errors that may be gone tomorrow: a full disk, a library that is not whole."""


@dataclass(frozen=True)
class Verdict:
    """What a trial came to.

    Attributes:
        runtime: "pytorch" or "openvino".
        reason: why, a full sentence.
    """

    runtime: str
    reason: str


_VERDICTS = weakref.WeakKeyDictionary[Any, dict[str, Verdict]]()


@dataclass(frozen=True)
class Work:
    """An image that is to be computed on some device with some numbers.

    Attributes:
        network: in evaluation mode, on the CPU.
        tensor: (channels, x, y, z) float32.
        use: the memory that is planned for it.
        limit: bytes that this process may take in all; None where nobody has said.
    """

    network: Network
    tensor: Array
    plan: Plan
    device: Device
    numbers: Numbers
    use: MemoryUse
    limit: int | None = None


def choose_runtime(requested: RuntimeName, work: Work, emit: Emit) -> Runtime:
    """The runtime that computes an image, which is told by a ``runtime`` event where there is more than one.

    Raises:
        DinomixError: the requested one is not installed, or not for this device.
    """
    if work.numbers == "int8":
        return _in_eight_bits(requested, work, emit)
    if requested == GRAPHICS.name:
        return _on_graphics(work, emit)
    if is_graph(work.network):
        return _only_openvino(requested, work, emit)
    if requested == "openvino":
        _check_usable(work.device)
    if requested == "pytorch" or work.device != cpu() or not is_installed() or _is_read_again(work.network):
        return PYTORCH
    verdict = _verdict(requested, work, emit)
    if verdict is None:
        return PYTORCH
    emit("runtime", runtime=verdict.runtime, reason=verdict.reason)
    return OPENVINO if verdict.runtime == "openvino" else PYTORCH


def _on_graphics(work: Work, emit: Emit) -> Runtime:
    """Intel graphics, where they compute a piece of the image as the CPU does; else what computes without being asked for."""
    check_graphics(work.device)
    if _is_read_again(work.network) or (not is_compiled(work.network, GRAPHICS.place) and _too_large(work)):
        why = "would take more memory than there is"
    else:
        why = refusal(work.network, work.tensor, work.plan, work.device, work.numbers)
    if why:
        emit("notice", message=f"Intel graphics {why}; the CPU computes instead.")
        return choose_runtime("auto", work, emit)
    emit("runtime", runtime=GRAPHICS.name, reason="OpenVINO computes on Intel graphics, as requested.")
    return GRAPHICS


def _in_eight_bits(requested: RuntimeName, work: Work, emit: Emit) -> Runtime:
    """For the graph of 8 bits that a model carries."""
    _check_eight_bits(requested, work.network, work.device)
    _require_openvino(work, "the model with 8 bits here", "Give --precision auto.", "eight-bits")
    emit(
        "runtime",
        runtime="openvino",
        reason="OpenVINO computes with 8 bits: the model's validation cases lose nothing by it.",
    )
    return OPENVINO


def _check_eight_bits(requested: RuntimeName, network: Network, device: Device) -> None:
    if requested in ("pytorch", GRAPHICS.name):
        what = "PyTorch does" if requested == "pytorch" else "Intel graphics do"
        raise DinomixError(
            f"{what} not compute with 8 bits here.", "Give --runtime auto, or another --precision.", "eight-bits"
        )
    _check_usable(device)
    if not is_graph(network) and _is_read_again(network):
        raise DinomixError(
            "8 bits take all networks of the model in memory at once, for which it does not suffice.",
            "Raise the memory limit (--max-memory), or give another --precision.",
            "memory-limit",
        )
    if not carries_eight_bits(network):
        raise DinomixError(
            "The model carries no graph of 8 bits.",
            "Run `dinomix models quantize` on it, or give another --precision.",
            "eight-bits",
        )


def _only_openvino(requested: RuntimeName, work: Work, emit: Emit) -> Runtime:
    """For the graph of a network, of which there is nothing else."""
    if requested == "pytorch":
        raise DinomixError("PyTorch is not installed.", f"{INSTALL} Or give --runtime auto.", "runtime")
    _require_openvino(work, "the model's graph", NEEDS_PYTORCH, "pytorch")
    emit("runtime", runtime="openvino", reason="OpenVINO computes, since PyTorch is not installed.")
    return OPENVINO


def _require_openvino(work: Work, what: str, remedy: str, code: str) -> None:
    """Raises DinomixError where only OpenVINO could compute, and cannot, or would take more memory than is allowed."""
    if work.limit is not None and not is_compiled(work.network) and _too_large(work):
        raise DinomixError(
            f"OpenVINO takes more for this model than the {gigabytes(work.limit)} that are allowed.",
            "Raise the memory limit (--max-memory), or crop the image to the region of interest.",
            "memory-limit",
        )
    try:
        _ready(OPENVINO, work, work.plan.patch)
    except Exception as error:  # of many kinds: what a library says of a graph that it does not know
        raise DinomixError(f"OpenVINO cannot compute {what} ({reason_of(error)}).", remedy, code) from error


def _verdict(requested: RuntimeName, work: Work, emit: Emit) -> Verdict | None:
    if not is_compiled(work.network) and _too_large(work):
        return Verdict("pytorch", "PyTorch computes: OpenVINO would take more memory than there is.")
    if requested == "openvino":
        return _requested(work)
    return remembered(work.network, work.plan, work.numbers) or _tried(work, emit)


def expected_runtime(requested: RuntimeName, network: Network, plan: Plan, device: Device, numbers: Numbers) -> Runtime:
    """What will compute as far as that is known without an image; PyTorch until a trial was made.

    Raises:
        DinomixError: the model, or what is requested, does not go with 8 bits; or there are no graphics.
    """
    if numbers == "int8":
        _check_eight_bits(requested, network, device)
        return OPENVINO
    if requested == GRAPHICS.name:
        check_graphics(device)
        if not _is_read_again(network) and takes(network, plan, device, numbers):
            return GRAPHICS
    if is_graph(network):
        return OPENVINO
    if requested == "pytorch" or device != cpu() or not is_installed() or _is_read_again(network):
        return PYTORCH
    verdict = remembered(network, plan, numbers)
    has_won = verdict.runtime == "openvino" if verdict is not None else requested == "openvino"
    return OPENVINO if has_won else PYTORCH


def remembered(network: Network, plan: Plan, numbers: Numbers) -> Verdict | None:
    """What an earlier trial of this network came to on this computer, with as many threads; None where there was none."""
    known = _VERDICTS.setdefault(network, {})
    file = _file_of(network, plan, numbers)
    if file.name not in known:
        try:
            table = read_table(file)
            known[file.name] = Verdict(str(table["runtime"]), str(table["reason"]))
        except (OSError, ValueError, KeyError):
            return None
    return known[file.name]


def _remember(work: Work, verdict: Verdict) -> None:
    file = _file_of(work.network, work.plan, work.numbers)
    _VERDICTS.setdefault(work.network, {})[file.name] = verdict
    try:
        write_json(file, {**asdict(verdict), **_circumstances(work.numbers)})
    except OSError:
        return  # tried again by the next process


def _file_of(network: Network, plan: Plan, numbers: Numbers) -> Path:
    name = sha256(json.dumps(_circumstances(numbers)).encode()).hexdigest()[:16]
    return folder_of(network, plan) / f"trial-{name}.json"


def _circumstances(numbers: Numbers) -> dict[str, str | int]:
    """What a trial holds for, beside the network."""
    return {
        "dtype": numbers,
        "threads": threads(),
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


def _is_read_again(network: Network) -> bool:
    """Whether weights are read for every window, since the memory does not hold all; compiled, they would have to stay."""
    from dinomix.models.from_file import FromFile

    return any(isinstance(each, FromFile) for each in each_of(network))


def _check_usable(device: Device) -> None:
    if not is_installed():
        raise DinomixError(
            "OpenVINO is not installed.", "Install it (pip install openvino), or give --runtime auto.", "runtime"
        )
    if device != cpu():
        raise DinomixError(
            f"OpenVINO computes on the CPU, and the device is {device}.",
            "Give --device cpu as well, or --runtime auto.",
            "runtime",
        )


def _too_large(work: Work) -> bool:
    return OPENVINO.more_bytes(bytes_of_network(work.network), work.use.window) > work.use.spare


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


@without_gradients
def _compared(work: Work, slow: Forward, fast: Forward) -> Verdict | None:
    found = piece_with_borders(fast, work.tensor, work.plan, work.device)
    if found is None:
        return None
    window, logits = found
    exact = PYTORCH.ready(work.network, work.plan, work.device, "float32", sides_of_a_piece(work.plan))(window)[0]
    other, structures = differing(logits, exact)
    if not is_same(other, structures, work.numbers):
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
    return runtime.ready(work.network, work.plan, work.device, work.numbers, sides)


def _cannot(error: Exception) -> str:
    told = printable(" ".join(str(error).split()))[:200]
    what = "be used here" if isinstance(error, OF_THE_COMPUTER) else "take this network"
    return f"PyTorch computes: OpenVINO cannot {what} ({told or type(error).__name__})."


@without_gradients
def _seconds(forward: Forward, window: Array) -> float:
    began = time.perf_counter()
    forward(window)
    return time.perf_counter() - began


def _voxels(sides: tuple[int, ...]) -> int:
    x, y, z = sides
    return x * y * z
