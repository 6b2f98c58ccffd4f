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
        into: channel -> the one that it is part of, the background or one that is not hopeless; only of what is.
    """

    into: Mapping[int, int]

    @classmethod
    def of(cls, reliability: Reliability) -> "MergedChannels":
        """What is hopeless by now, each in the channel that its voxels are called most often."""
        into = enumerate(reliability.taken_for().tolist())
        return cls({channel: whole for channel, whole in into if channel != whole})

    def logits(self, logits: Tensor, dimension: int = 1, apart: Tensor | None = None) -> Tensor:
        """Logits whose softmax has the probabilities of what is one together.

        Args:
            logits: channels along ``dimension``.
            apart: bool, voxels in which nothing is merged, in the shape of a channel of ``logits`` or one that grows to it.
        """
        if not self.into:
            return logits
        channels = list(logits.float().unbind(dimension))
        for channel, whole in self.into.items():
            part, rest = channels[channel], channels[whole]
            both, none = torch.logaddexp(rest, part), torch.full_like(part, -torch.inf)
            channels[whole] = both if apart is None else torch.where(apart, rest, both)
            channels[channel] = none if apart is None else torch.where(apart, part, none)
        return torch.stack(channels, dimension)

    def calls(self, logits: Tensor) -> Tensor:
        """(B, x, y, z) bool: whether a teacher, by its logits (B, C + 1, x, y, z), calls a voxel what it does not find."""
        return torch.isin(logits.argmax(1), torch.tensor(list(self.into), device=logits.device))

    def may_be(self, labels: Tensor, table: Tensor) -> Tensor:
        """(B, x, y, z) bool: whether a label leaves open a merged channel but not the one that it is part of.

        Args:
            labels: channel numbers or numbers of candidates.
            table: (N, C + 1) bool, the run's candidates.
        """
        rows = torch.zeros_like(table[:, 0])
        for channel, whole in self.into.items():
            rows |= table[:, channel] & ~table[:, whole]
        return rows[labels]
