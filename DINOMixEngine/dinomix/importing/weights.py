"""Weights of strangers: read without executing anything that came with them."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dinomix.errors import DinomixError, reason_of
from dinomix.memory import gigabytes

ENDINGS = (".pt", ".pth", ".ckpt", ".safetensors")
MOST_CLAIMED = 20
"""Times a file's size that its weights may take as float32: nnU-Net lists tensors up to four times, in two bytes a number."""
_HOLDERS = ("state_dict", "network_weights", "model_state_dict", "model", "network", "net")
_MORE_THAN_WEIGHTS = ("unsupported global", "unsupported class", "is blocked", "trying to call reduce")
"""What PyTorch says where it refuses to build something."""
_PREFIXES = ("module.", "_orig_mod.")


def is_weights(path: Path) -> bool:
    """Whether a path is a file that is named like weights."""
    return path.suffix in ENDINGS and path.is_file()


def read_checkpoint(path: Path) -> Any:
    """What a weight file holds: tensors, numbers, texts, and lists and tables of them.

    PyTorch's own reader is allowed to build nothing else; numbers of NumPy, which trainers record beside the weights, are
    the one addition.

    Raises:
        DinomixError: the file is not one, is cut short, or would run code when it is read.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    _refuse_archives_that_swell(path)
    try:
        with torch.serialization.safe_globals(_numbers()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = " ".join(str(error).split())
        if any(told in reason.lower() for told in _MORE_THAN_WEIGHTS):
            raise DinomixError(
                f"{path} holds more than weights and would run code when it is read; nothing of it was run.",
                "Ask for a file that holds only the weights (a state dict, or safetensors).",
            ) from error
        if "TorchScript" in reason or "torch.jit" in reason:
            raise DinomixError(
                f"{path} is a TorchScript program, which would have to be run.", "Ask for its weights (a state dict)."
            ) from error
        raise DinomixError(
            f"{path} cannot be read as weights ({_shortened(reason) or type(error).__name__}).",
            "Get the file again: it is damaged, cut short, or something else.",
        ) from error


def state_dict_of(checkpoint: Any, path: Path) -> dict[str, Tensor]:
    """The tensors of a network, by their names in it.

    Raises:
        DinomixError: there are none, or they claim more than the file holds.
    """
    found = _find_tensors(checkpoint)
    if found is None:
        raise DinomixError(f"{path} holds no weights of a network.", "Give the file of the trained weights.")
    claimed, stored = 0, path.stat().st_size
    for name, tensor in found.items():
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
            raise DinomixError(
                f"{path}: its tensor {name} is not stored as numbers.", "Save the weights as plain tensors."
            )
        claimed += 4 * tensor.numel()
    if claimed > MOST_CLAIMED * stored:
        raise DinomixError(
            f"{path} claims weights of {gigabytes(claimed)} in a file of {gigabytes(stored)}.", "Get the file again."
        )
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in found):
            found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in found.items()}


def _find_tensors(value: Any) -> dict[str, Tensor] | None:
    if not isinstance(value, dict) or not value:
        return None
    if all(isinstance(key, str) and isinstance(tensor, Tensor) for key, tensor in value.items()):
        return dict(value)
    for holder in _HOLDERS:
        if (found := _find_tensors(value.get(holder))) is not None:
            return found
    return None


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise DinomixError(f"{path} cannot be read as weights ({reason_of(error)}).", "Get the file again.") from error


def _shortened(reason: str) -> str:
    """PyTorch's reason without its advice to read the file unsafely."""
    return (
        reason.rpartition("WeightsUnpickler error: ")[2]
        .partition(" Please file")[0]
        .partition(" Check the doc")[0][:160]
        .rstrip(". ")
    )


def _numbers() -> list[Any]:
    """The builders of NumPy's numbers, under the names that NumPy 1 and 2 wrote into files."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in ("f8", "f4", "f2", "i8", "i4", "u8", "u4", "u1", "?")]
    return [(scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"), np.dtype, *kinds]


def _refuse_archives_that_swell(path: Path) -> None:
    """PyTorch stores tensors as they are; a compressed archive could fill the memory."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            stored = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError):
        return  # PyTorch's reader says what is wrong
    if stored > 2 * path.stat().st_size + 2**20:
        raise DinomixError(f"{path} would swell to {stored / 1e9:.1f} GB.", "This is not a file that PyTorch wrote.")
