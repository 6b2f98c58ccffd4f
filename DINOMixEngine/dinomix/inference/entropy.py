"""How undecided a network is in and around each structure: the entropy of its probabilities."""

import math

import torch

from dinomix.inference.expected_dice import FLOOR, PLANES


class Entropies:
    """The mean entropy of voxels, weighted by how likely they are a structure's; the logits may come in slabs.

    Voxels that are a structure's with a probability below ``FLOOR`` do not count for it: of an image there are so many that
    they would outweigh all others. Entropies are divided by that of equal probabilities, so that they are 0 to 1.

    Attributes:
        likely: (1 + structures,) the sum of the probabilities of all structures together, and of each.
        undecided: the sum of the same times the voxel's entropy.
    """

    def __init__(self, channels: int) -> None:
        self._sums = torch.zeros((2, channels), dtype=torch.float64)
        self.likely, self.undecided = self._sums

    @torch.inference_mode()
    def add(self, logits: torch.Tensor) -> None:
        """Take some planes (channels, x, y, z) of logits; channel 0 is the background."""
        for part in logits.split(PLANES, 1):
            probabilities = torch.softmax(part.float(), 0)
            entropy = torch.special.entr(probabilities).sum(0) / math.log(len(part))
            probabilities[0] = 1 - probabilities[0]
            probabilities[probabilities < FLOOR] = 0
            self.likely += probabilities.flatten(1).sum(1, dtype=torch.float64).cpu()
            self.undecided += (probabilities * entropy).flatten(1).sum(1, dtype=torch.float64).cpu()

    def means(self) -> list[float | None]:
        """Of all structures together and of each; None where nothing is likely, or the logits are not finite."""
        return [
            undecided / likely if likely and math.isfinite(undecided) else None
            for likely, undecided in self._sums.T.tolist()
        ]
