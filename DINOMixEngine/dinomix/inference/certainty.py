"""Whether an image's labels in bfloat16 are those of float32, reckoned from how far the highest logits lead."""

import math

import numpy as np
from numpy.typing import NDArray

from dinomix.arrays import Array, as_numpy, like, namespace, without_gradients
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
        self._noise = max(noise, float(np.finfo(np.float32).tiny))
        self._sums = np.zeros((3, channels))
        self.all, self.left, self.gained = self._sums

    @without_gradients
    def add(self, logits: Array) -> None:
        """Take some planes (channels, x, y, z) of logits computed in bfloat16, on any device."""
        from scipy.special import erfc  # here, since importing it takes a while

        xp, channels = namespace(logits), len(self.all)
        numbers = like(np.arange(channels, dtype=np.int16), logits)[:, None]
        added = np.zeros_like(self._sums)
        for x in range(0, logits.shape[1], PLANES):
            part = logits[:, x : x + PLANES]
            best, second, winner = two_highest(part)
            lead = best - second
            # Comparing this way round also finds NaN, which makes the sums NaN.
            near = ~(lead > REACH * self._noise)
            probability = erfc(as_numpy(lead[near]) / (self._noise * math.sqrt(2))).astype(np.float64) / 2
            leaving = winner[near]
            others = part[:, near]
            others[numbers == leaving] = -xp.inf
            added[0] += np.bincount(as_numpy(winner).reshape(-1), minlength=channels)
            added[1] += np.bincount(as_numpy(leaving), probability, channels)
            added[2] += np.bincount(as_numpy(xp.argmax(others, axis=0)), probability, channels)
        # Not before all was computed, so that it can be tried again on another device.
        self._sums += added

    def dice(self) -> NDArray[np.float64]:
        """(channels,) the Dice of each that is expected between both labels; NaN where neither is expected to hold it."""
        with np.errstate(invalid="ignore"):
            return 2 * (self.all - self.left) / (2 * self.all - self.left + self.gained)

    def structures(self) -> list[int]:
        """The channels of structures whose labels would change, in ascending order."""
        same = (self.dice() >= LEAST_DICE) | ((self.left <= NO_VOXEL) & (self.gained <= NO_VOXEL))
        if np.isnan(self.left).any():  # NaN among the logits, which hides what is highest
            same[:] = False
        return [channel for channel in np.flatnonzero(~same).tolist() if channel > 0]
