"""Several networks, or several mirror images of a window, as one network: the mean of their probabilities."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from dinomix.arrays import Array, namespace

Flip = tuple[int, ...]
"""Axes of (batch, channels, x, y, z) that are reversed before the network sees a window, and in what it gives back."""
AS_IT_IS: Flip = ()


class Averaged:
    """Gives the logarithm of the mean of the probabilities of all networks and flips, which are logits like any other.

    One network that sees each window once gives its own logits, unchanged. The networks may also be functions that compute
    windows, see ``with_each``.
    """

    def __init__(self, networks: Iterable[Any], flips: tuple[Flip, ...] = (AS_IT_IS,)) -> None:
        self.networks = tuple(networks)
        self.flips = flips

    def __call__(self, windows: Array) -> Array:
        """Logits (batch, channels, x, y, z) of windows (batch, images, x, y, z)."""
        xp = namespace(windows)
        if len(self.networks) == len(self.flips) == 1:
            return _seen(self.networks[0], windows, self.flips[0])
        total = None
        for network in self.networks:
            for flip in self.flips:
                each = _log_softmax(_seen(network, windows, flip))
                total = each if total is None else xp.logaddexp(total, each)
        assert total is not None
        return total - math.log(len(self.networks) * len(self.flips))

    def with_each(self, change: Callable[[Any], Any]) -> "Averaged":
        """The same of changed networks, such as on another device."""
        return Averaged(map(change, self.networks), self.flips)


def _seen(network: Callable[[Array], Array], windows: Array, flip: Flip) -> Array:
    xp = namespace(windows)
    return xp.flip(network(xp.flip(windows, axis=flip)), axis=flip)


def _log_softmax(logits: Array) -> Array:
    """The logarithms of probabilities; PyTorch's own function for its tensors, which adds up in another order."""
    if isinstance(logits, np.ndarray):
        from scipy.special import log_softmax  # here, since importing it takes a while

        return log_softmax(logits, 1)
    import torch

    return torch.log_softmax(logits.float(), 1)
