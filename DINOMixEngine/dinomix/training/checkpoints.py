"""The checkpoints of a run: its state twice, so that a damaged file costs some steps and not the run, and its best weights."""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from dinomix.errors import DinomixError
from dinomix.events import Emit, silent
from dinomix.files import replace, written_aside

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Best:
    """The weights with the best validation by now; ``validation`` is its ``step``, ``dice`` and ``mean``."""

    weights: Weights
    validation: dict[str, Any] | None


class Checkpoints:
    """The folder RUN/checkpoints: ``last.pt``, ``before.pt`` (the one before it) and ``best.safetensors``."""

    def __init__(self, folder: Path) -> None:
        self.last, self.before = folder / "last.pt", folder / "before.pt"
        self.best = folder / "best.safetensors"

    @property
    def exist(self) -> bool:
        """Whether a run goes on from one."""
        return self.last.exists() or self.before.exists()

    def save(self, state: dict[str, Any]) -> None:
        """Write the last checkpoint; the one that was the last stays beside it.

        Args:
            state: tensors and plain Python only, so that reading it back executes nothing.
        """
        with written_aside(self.last) as aside:
            torch.save(state, aside)
            # A damaged one must not take the place of the one that the run has gone on from.
            if _is_whole(self.last):
                replace(self.last, self.before)

    def load(self, emit: Emit = silent) -> dict[str, Any] | None:
        """The last state on the CPU; where it is damaged that before it, which is told; None before the first.

        Raises:
            DinomixError: neither can be read.
        """
        problems: list[DinomixError] = []
        for path in (self.last, self.before):
            if not path.exists():
                continue
            try:
                state = _read_state(path)
            except DinomixError as error:
                problems.append(error)
                continue
            if problems:
                emit("notice", message=f"{problems[0].problem} The one before it is taken, of step {state['step']}.")
            return state
        if problems:
            raise problems[0]
        return None

    def save_best(self, weights: Weights, validation: dict[str, Any]) -> None:
        """Keep the best weights, with what tells later whether they are still those."""
        # Clones: DynUNet holds its tensors under two names, which safetensors refuses.
        weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
        with written_aside(self.best) as aside:
            save_file(weights, aside, {"sha256": digest_of(weights), "validation": json.dumps(validation)})

    def load_best(self) -> Best | None:
        """The best weights on the CPU; None where there are none.

        Raises:
            DinomixError: the file is damaged.
        """
        if not self.best.exists():
            return None
        try:
            weights = load_file(self.best)
            with safe_open(self.best, framework="pt") as file:
                notes = file.metadata() or {}
            if notes.get("sha256", "") != digest_of(weights):
                raise ValueError("its contents have changed")
            return Best(weights, json.loads(notes["validation"]))
        except (SafetensorError, ValueError, KeyError, RecursionError) as error:
            raise DinomixError(
                f"{self.best} is damaged.", "Delete it and end the run; its model is then made of the last weights."
            ) from error


def digest_of(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of names and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _is_whole(path: Path) -> bool:
    """Whether a checkpoint's bytes are those that were written: it is a zip file with check sums, which torch passes over."""
    if not path.is_file():
        return False
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError):
        return False


def _read_state(path: Path) -> dict[str, Any]:
    if not _is_whole(path):
        raise DinomixError(
            f"{path} is damaged.", "Delete the folder checkpoints to begin the run again from its start."
        )
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:
        raise _no_state(path) from error
    if not _is_state(state):
        raise _no_state(path)
    return state


def _no_state(path: Path) -> DinomixError:
    return DinomixError(
        f"{path} is no checkpoint of a run.", "Put the run's own file back, or delete it to go on from the one before."
    )


def _is_state(state: Any) -> bool:
    """Whether it has what a run goes on from; whether it fits the run's network is seen when it is put in."""
    if not isinstance(state, dict):
        return False
    steps = [state.get("step"), state.get("validated", 0)]
    return (
        all(type(step) is int and step >= 0 for step in steps)
        and isinstance(state.get("best"), float)
        and all(isinstance(state.get(part), dict) for part in ("method", "schedule", "budget"))
        and all(_are_weights(state.get(name)) for name in ("student", "teacher"))
        and isinstance(state.get("optimizer"), dict)
        and isinstance(state.get("scaler", {}), dict)
    )


def _are_weights(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items()
    )
