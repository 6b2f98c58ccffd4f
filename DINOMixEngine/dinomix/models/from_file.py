"""Networks of PyTorch's that are in memory only while they compute: where not all of an ensemble fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

Change = Callable[[nn.Module], nn.Module]


class FromFile(nn.Module):
    """A network whose weights lie in a file.

    Reading them takes a small part of the time that a window does: the system keeps the file at hand while it has room.
    """

    def __init__(self, skeleton: nn.Module, file: Path, prepare: Change | None = None) -> None:
        """
        Args:
            skeleton: the network without values, see ``network_on_paper``.
            file: safetensors.
            prepare: what is done with the network before it computes.
        """
        super().__init__()
        self._skeleton = (skeleton.eval().requires_grad_(False),)  # not a part of this module, which has no values
        self._file, self._prepare = file, prepare or (lambda network: network)

    def forward(self, windows: Tensor) -> Tensor:
        """Logits (batch, channels, x, y, z) of windows (batch, images, x, y, z)."""
        skeleton = self._skeleton[0]
        skeleton.load_state_dict(load_file(self._file), assign=True)
        try:
            logits: Tensor = self._prepare(skeleton)(windows)
        finally:
            skeleton.to("meta")
        return logits

    def then(self, change: Change) -> "FromFile":
        """The same, with one more thing to be done before it computes."""
        prepare = self._prepare
        return FromFile(self._skeleton[0], self._file, lambda network: change(prepare(network)))


def changed(network: Any, change: Change) -> nn.Module:
    """A changed network; one that is read from a file will be, whenever it is."""
    return network.then(change) if isinstance(network, FromFile) else change(network)
