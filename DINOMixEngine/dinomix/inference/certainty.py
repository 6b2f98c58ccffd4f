"""Whether an image's labels in bfloat16 are those of float32, reckoned from how far the highest logits lead."""

import math

import torch

from dinomix.inference.cells import two_highest

LEAST_DICE = 0.995
"""Between the labels of a structure in bfloat16 and in float32."""
NO_VOXEL = 0.5
"""A structure that is expected to lose and to gain no more than this many voxels of the network's grid stays as it is."""
PLANES = 4
"""Of a slab that are looked at together: where nothing is sure, the logits of all their voxels are copied."""
REACH = 5
"""In multiples of the noise: a label whose logit leads by more never changes (3e-7)."""


class LabelChanges:
    """How many voxels of each structure would have another label in float32; the logits may come in slabs.

    The errors of bfloat16 are taken to be normally distributed, so that a label whose logit leads by m is the next one with a
    probability of erfc(m / (noise sqrt 2)) / 2.

    Args:
        noise: standard deviation of a lead's error, in the logits' unit; see ``precision.border_noise``.
        channels: of the logits, with the background.

    Attributes:
        all: (channels,) voxels of each so far.
        left, gained: (channels,) voxels of it that are expected to have another label, and of others to have its label.
    """

    def __init__(self, noise: float, channels: int) -> None:
        self._noise = max(noise, torch.finfo(torch.float32).tiny)
        self._sums = torch.zeros((3, channels), dtype=torch.float64)
        self.all, self.left, self.gained = self._sums

    @torch.inference_mode()
    def add(self, logits: torch.Tensor) -> None:
        """Take some planes (channels, x, y, z) of logits computed in bfloat16, on any device."""
        added = torch.zeros_like(self._sums)
        for part in logits.split(PLANES, 1):
            best, second, winner = two_highest(part)
            lead = best - second
            # Comparing this way round also finds NaN, which makes the sums NaN.
            near = ~(lead > REACH * self._noise)
            probability = (torch.special.erfc(lead[near] / (self._noise * math.sqrt(2))) / 2).double().cpu()
            leaving = winner[near].long()
            gaining = part[:, near].scatter(0, leaving[None], -torch.inf).argmax(0)
            added[0] += torch.bincount(winner.flatten(), minlength=len(self.all)).cpu()
            added[1].index_add_(0, leaving.cpu(), probability)
            added[2].index_add_(0, gaining.cpu(), probability)
        # Not before all was computed, so that it can be tried again on another device.
        self._sums += added

    def dice(self) -> torch.Tensor:
        """(channels,) the Dice of each that is expected between both labels; NaN where neither is expected to hold it."""
        return 2 * (self.all - self.left) / (2 * self.all - self.left + self.gained)

    def structures(self) -> list[int]:
        """The channels of structures whose labels would change, in ascending order."""
        same = (self.dice() >= LEAST_DICE) | ((self.left <= NO_VOXEL) & (self.gained <= NO_VOXEL))
        if self.left.isnan().any():  # NaN among the logits, which hides what is highest
            same[:] = False
        return [channel for channel in (~same).nonzero().flatten().tolist() if channel > 0]
