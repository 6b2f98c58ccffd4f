"""Whether an image's labels in bfloat16 are those of float32, reckoned from how far the highest logits lead."""

import math

import torch

from dinomix.inference.cells import two_highest

LEAST_DICE = 0.995
"""Between the labels of a structure in bfloat16 and in float32."""
NO_VOXEL = 0.5
"""A structure that is expected to lose less than this many voxels of the network's grid keeps all of them."""
REACH = 5
"""In multiples of the noise: a label whose logit leads by more never changes (3e-7)."""


class LabelChanges:
    """How many voxels of each structure would have another label in float32; the logits may come in slabs.

    The errors of bfloat16 are taken to be normally distributed, so that a label whose logit leads by m is another one with a
    probability of erfc(m / (noise sqrt 2)) / 2. As many voxels come to a structure as leave it, so its Dice is 1 - left / all.

    Args:
        noise: standard deviation of a lead's error, in the logits' unit; see ``precision.border_noise``.
        channels: of the logits, with the background.

    Attributes:
        all: (channels,) voxels of each so far.
        left: (channels,) voxels that are expected to have another label.
    """

    def __init__(self, noise: float, channels: int) -> None:
        self._noise = noise
        self.all, self.left = torch.zeros((2, channels), dtype=torch.float64)

    @torch.inference_mode()
    def add(self, logits: torch.Tensor) -> None:
        """Take some planes (channels, x, y, z) of logits computed in bfloat16, on any device."""
        best, second, winner = two_highest(logits)
        lead = best - second
        self.all += torch.bincount(winner.flatten(), minlength=len(self.all)).cpu()
        # Comparing this way round also finds NaN, which makes the sum NaN.
        near = ~(lead > REACH * self._noise)
        probability = torch.special.erfc(lead[near] / (self._noise * math.sqrt(2))) / 2
        self.left.index_add_(0, winner[near].cpu().long(), probability.double().cpu())

    def structures(self) -> list[int]:
        """The channels of structures whose labels would change, in ascending order."""
        if self.left.isnan().any():  # NaN among the logits, which hides what is highest
            return list(range(1, len(self.all)))
        certain = self.left <= ((1 - LEAST_DICE) * self.all).clamp(min=NO_VOXEL)
        return [channel for channel in (~certain).nonzero().flatten().tolist() if channel > 0]
