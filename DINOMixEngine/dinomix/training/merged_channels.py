"""Structures that the EMA teacher does not find, taken as one with what it takes them for.

A pseudo-label that calls a tumor "liver", as the teacher has not learned to see it, would teach the student to overlook it. Where
the two are one, the label says "liver or tumor", and the student learns the rest from it: the probabilities of both together are
what the loss sees [ours; that what has no label is one with the background: X. Fang, P. Yan, Multi-organ Segmentation over
Partially Labeled Datasets with Multi-scale Feature Abstraction, IEEE TMI 39, 2020].
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dinomix.training.reliability import Reliability


@dataclass(frozen=True)
class MergedChannels:
    """
    Attributes:
        into: channel -> the one that it is part of; only of what is not found.
        channels: with the background.
    """

    into: Mapping[int, int]
    channels: int

    @classmethod
    def of(cls, reliability: Reliability) -> "MergedChannels":
        """What is hopeless by now, each in the channel that its voxels are called most often."""
        into = reliability.taken_for()
        return cls({channel: int(whole) for channel, whole in enumerate(into) if channel != whole}, len(into))

    def logits(self, logits: Tensor, dimension: int = 1) -> Tensor:
        """Logits whose softmax has the probabilities of what is one together; channels along ``dimension``."""
        if not self.into:
            return logits
        channels = list(logits.float().unbind(dimension))
        for channel, whole in self.into.items():
            channels[whole] = torch.logaddexp(channels[whole], channels[channel])
            channels[channel] = torch.full_like(channels[channel], -torch.inf)
        return torch.stack(channels, dimension)

    def weight(self, logits: Tensor, weight: Tensor) -> Tensor:
        """A weight (B, x, y, z) without the voxels that a teacher calls by the name of what it does not find.

        Args:
            logits: (B, C + 1, x, y, z) of the teacher.
        """
        return weight * ~self._is_merged(weight)[logits.argmax(1)] if self.into else weight

    def labels(self, labels: Tensor, weight: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """Labels and weights (B, x, y, z) in which channels are merged; what may be a merged one or another does not count.

        Args:
            labels: channel numbers or numbers of candidates.
            table: (N, C + 1) bool, the run's candidates.
        """
        if not self.into:
            return labels, weight
        numbers = torch.arange(len(table), device=labels.device)
        may_be = (table & self._is_merged(labels)).any(1) & (numbers >= self.channels)
        for channel, whole in self.into.items():
            numbers[channel] = whole
        return numbers[labels], weight * ~may_be[labels]

    def leaves_open(self, labels: Tensor, table: Tensor) -> Tensor:
        """(B, x, y, z) bool: whether a voxel may be a merged channel; arguments as ``labels`` takes them."""
        return (table & self._is_merged(labels)).any(1)[labels]

    def _is_merged(self, like: Tensor) -> Tensor:
        """(C + 1,) bool, on the device of another tensor."""
        return torch.tensor([channel in self.into for channel in range(self.channels)], device=like.device)
