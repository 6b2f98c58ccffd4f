"""The Dice that a network's own probabilities let expect of the labels that it gives, without any label of an expert.

With p(v) the probability that a voxel v is a structure's, and Y the voxels that were labeled as it, the expectation of the Dice
with a truth drawn from p is about 2 sum over Y of p / (|Y| + sum of p): the numerator and the mean of the denominator are exact,
and the latter varies little. Borges, Pacheco and Silva call it Soft Dice Confidence, and bound how far it is from the exact
expectation (arXiv 2402.10665). Voxels are not independent given p, and p is too sure: ``Calibration`` mends both by a factor.
"""

import math

import numpy as np

from dinomix.arrays import Array, namespace, place_of, without_gradients

FLOOR = 0.1
"""Probabilities below it count as none: they are wrong by large factors, and those of all voxels of an image together would
outweigh a small structure."""
PLANES = 4
"""Of a slab that are looked at together, so that they stay in the processor's cache."""


class ExpectedDice:
    """Of each structure; the logits may come in slabs, of one image or of several parts of one.

    Attributes:
        labeled: (channels,) voxels of the network's grid that were labeled as each so far.
        agreeing: the sum of the probabilities that these are right.
        expected: the sum of the probabilities of all voxels.
    """

    def __init__(self, channels: int) -> None:
        self._sums = np.zeros((3, channels))
        self.labeled, self.agreeing, self.expected = self._sums

    @without_gradients
    def add(self, logits: Array) -> None:
        """Take some planes (channels, x, y, z) of logits, on any device."""
        xp = namespace(logits)
        if str(place_of(logits)).startswith("mps"):  # which has no float64
            logits = logits.cpu()
        added = np.zeros_like(self._sums)
        for x in range(0, logits.shape[1], PLANES):
            part = xp.astype(logits[:, x : x + PLANES], xp.float32, copy=False)
            best, winner = xp.max(part, axis=0), xp.argmax(part, axis=0)
            total = xp.zeros_like(best)
            for number in range(len(part)):
                total += xp.exp(part[number] - best)
            for number in range(len(part)):
                lead = part[number] - best
                if xp.max(lead) < math.log(FLOOR):  # its probability is lower still
                    continue
                probability = xp.exp(lead) / total
                own = winner == number
                added[0, number] += int(xp.count_nonzero(own))
                added[1, number] += float(xp.sum(probability[own], dtype=xp.float64))
                added[2, number] += float(xp.sum(probability[probability >= FLOOR], dtype=xp.float64))
        # Not before all was computed, so that it can be tried again on another device.
        self._sums += added

    def take_over(self, others: list["ExpectedDice"], channels: list[int]) -> None:
        """What ``others`` have seen of some channels, in place of what is known of them."""
        self._sums[:, channels] = sum(other._sums[:, channels] for other in others)

    def dice(self) -> list[float | None]:
        """Of channels 1, 2, ...; None where nothing was labeled as it, or the logits are not finite."""
        return [
            2 * agreeing / (labeled + expected) if labeled and math.isfinite(expected) else None
            for labeled, agreeing, expected in self._sums.T[1:].tolist()
        ]
