"""The Dice that a network's own probabilities let expect of the labels that it gives, without any label of an expert.

With p(v) the probability that a voxel v is a structure's, and Y the voxels that were labeled as it, the expectation of the Dice
with a truth drawn from p is about 2 sum over Y of p / (|Y| + sum of p): the numerator and the mean of the denominator are exact,
and the latter varies little. Borges, Pacheco and Silva call it Soft Dice Confidence, and bound how far it is from the exact
expectation (arXiv 2402.10665). Voxels are not independent given p, and p is too sure: ``Calibration`` mends both by a factor.
"""

import math

import torch

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
        self._sums = torch.zeros((3, channels), dtype=torch.float64)
        self.labeled, self.agreeing, self.expected = self._sums

    @torch.inference_mode()
    def add(self, logits: torch.Tensor) -> None:
        """Take some planes (channels, x, y, z) of logits, on any device."""
        if logits.device.type == "mps":  # which has no float64
            logits = logits.cpu()
        added = torch.zeros_like(self._sums)
        for part in logits.split(PLANES, 1):
            part = part.float()
            best, winner = part.max(0)
            total = torch.zeros_like(best)
            for channel in part:
                total += torch.exp(channel - best)
            for number, channel in enumerate(part):
                lead = channel - best
                if lead.max() < math.log(FLOOR):  # its probability is lower still
                    continue
                probability = torch.exp(lead) / total
                own = winner == number
                added[0, number] += int(own.sum())
                added[1, number] += float(probability[own].double().sum())
                added[2, number] += float(probability[probability >= FLOOR].double().sum())
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
