"""A network's weights in a model folder, read only where PyTorch computes with them."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from dinomix.errors import DinomixError, reason_of
from dinomix.models.manifest import COPY_AGAIN

if TYPE_CHECKING:
    from torch import Tensor


class WeightsFile(Mapping[str, "Tensor"]):
    """The tensors in a file of safetensors, by name. Only values are read late: a damaged table of them is found at once.

    Attributes:
        nbytes: of all tensors.

    Raises:
        DinomixError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with safe_open(path, framework="numpy") as file:
                self._names = list(file.keys())
            with path.open("rb") as content:
                table = int.from_bytes(content.read(8), "little")
            self.nbytes = path.stat().st_size - 8 - table
            self._seen = _state_of(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise self._unreadable(error) from error

    def __getitem__(self, name: str) -> "Tensor":
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def unmap(self) -> None:
        """Let go of the file, which is mapped again when a tensor is asked for: Windows renames no folder with such a file."""
        self.__dict__.pop("_tensors", None)

    @cached_property
    def _tensors(self) -> dict[str, "Tensor"]:
        """Mapped, so that the weights of an ensemble take memory only once they are used."""
        from safetensors.torch import load_file

        try:
            if _state_of(self._path) != self._seen:  # another model may lie there by now
                raise ValueError("it has changed since it was compared with the manifest")
            return load_file(self._path)
        except (SafetensorError, OSError, ValueError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> DinomixError:
        return DinomixError(f"{self._path} cannot be read ({reason_of(error)}).", COPY_AGAIN)


def _state_of(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def bytes_of(weights: Mapping[str, "Tensor"]) -> int:
    """Of all tensors; those in a file are not read for it."""
    return weights.nbytes if isinstance(weights, WeightsFile) else sum(tensor.nbytes for tensor in weights.values())
