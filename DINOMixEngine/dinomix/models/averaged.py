"""Several networks, or several mirror images of a window, as one network: the mean of their probabilities."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

Flip = tuple[int, ...]
"""Axes of (batch, channels, x, y, z) that are reversed before the network sees a window, and in what it gives back."""
AS_IT_IS: Flip = ()


class Averaged(nn.Module):
    """Gives the logarithm of the mean of the probabilities of all networks and flips, which are logits like any other.

    One network that sees each window once gives its own logits, unchanged.
    """

    def __init__(self, networks: Iterable[nn.Module], flips: tuple[Flip, ...] = (AS_IT_IS,)) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.flips = flips

    def forward(self, windows: Tensor) -> Tensor:
        """Logits (batch, channels, x, y, z) of windows (batch, images, x, y, z)."""
        if len(self.networks) == len(self.flips) == 1:
            logits: Tensor = self.networks[0](windows.flip(self.flips[0])).flip(self.flips[0])
            return logits
        total = None
        for network in self.networks:
            for each in _seen(network, windows, self.flips):
                total = each if total is None else torch.logaddexp(total, each)
        assert total is not None
        return total - math.log(len(self.networks) * len(self.flips))

    def with_each(self, change: Callable[[nn.Module], nn.Module]) -> "Averaged":
        """The same of changed networks, such as on another device."""
        changed = (n.then(change) if isinstance(n, FromFile) else change(n) for n in self.networks)
        return Averaged(changed, self.flips)


class FromFile(nn.Module):
    """A network whose weights lie in a file, and are in memory only while it computes: where not all of an ensemble fit.

    Reading them takes a small part of the time that a window does: the system keeps the file at hand while it has room.
    """

    def __init__(
        self, skeleton: nn.Module, file: Path, prepare: Callable[[nn.Module], nn.Module] | None = None
    ) -> None:
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

    def then(self, change: Callable[[nn.Module], nn.Module]) -> "FromFile":
        """The same, with one more thing to be done before it computes."""
        prepare = self._prepare
        return FromFile(self._skeleton[0], self._file, lambda network: change(prepare(network)))


def _seen(network: nn.Module, windows: Tensor, flips: tuple[Flip, ...]) -> Iterable[Tensor]:
    """The logarithms of a network's probabilities for each flip."""
    for flip in flips:
        logits: Tensor = network(windows.flip(flip)).flip(flip)
        yield torch.log_softmax(logits.float(), 1)
