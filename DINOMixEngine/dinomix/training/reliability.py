"""Whether the teacher has found all structures: measured where the truth is known, on labeled patches.

Pseudo-labels teach what the teacher believes. A teacher that has not found a structure yet calls it background, and a student
that learns this from many unlabeled patches never finds it: on a trunk CT, adrenal glands that labeled patches alone teach in 800
steps were never found. So pseudo-labels wait until the teacher's Dice is at least ``FOUND`` for each structure, on labeled
patches that are cut and deformed anew for every step and are judged before the student learns from them. Where it falls below
again, they wait again [ours].
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

FOUND = 0.5
SEEN = 0.25
"""Dice from which a structure is learned like all others. So low, since what weighs more is called too often at first, and might
never come to ``FOUND`` for that."""
UNEQUAL = 4.0
"""How many times the voxels of the smallest structure the largest one has at least, for weights to be worth their measuring."""
WEIGHED_UNTIL = 0.75
"""Share of the steps after which all count alike: what was not seen by then would only be called too often in the end."""
DECAY = 0.8
"""Of the running sums, at each measurement."""
MEASURED_EVERY = 8
"""Steps between measurements: each costs the teacher's forward of the labeled patches."""


class Reliability:
    """Running confusion of the teacher on labeled patches.

    Attributes:
        confusion: (C+1, C+1) voxels, rows the truth, columns the teacher.
    """

    def __init__(self, classes: int) -> None:
        """``classes``: with the background."""
        self.confusion = np.zeros((classes, classes))

    def update(self, confusion: NDArray[np.float64]) -> None:
        self.confusion = DECAY * self.confusion + (1 - DECAY) * confusion

    def dice(self) -> NDArray[np.float64]:
        """(C,) of the structures; 0 for those that no patch has shown yet."""
        both = self.confusion.sum(0) + self.confusion.sum(1)
        dice = np.divide(2 * self.confusion.diagonal(), both, out=np.zeros(len(both)), where=both > 0)
        return dice[1:]

    def weights(self, counts: NDArray[np.float64], most: float) -> NDArray[np.float64]:
        """(C+1,) how much a voxel of each class counts, by whether the teacher sees its structure [ours; by difficulty: DHC].

        Up to as much as makes its voxels together count like those of the largest structure; 1 for what it has seen, for what no
        measured patch has shown, and for the background.

        Args:
            counts: (C,) voxels of each structure in the labeled cases; 0 for one that is not to be weighed.
            most: the largest weight, at least 1.
        """
        rarity = counts.max() / np.where(counts > 0, counts, counts.max())
        missing = np.where(self.confusion.sum(1)[1:] > 0, np.clip(1 - self.dice() / SEEN, 0, 1), 0)
        return np.array([1.0, *(1 + (np.minimum(rarity, most) - 1) * missing)])

    def all_found(self, labeled: NDArray[np.bool_]) -> bool:
        """Whether the teacher finds each structure of ``labeled`` (C,), those that the labeled cases have."""
        return bool((self.dice()[labeled] >= FOUND).all())


@torch.no_grad()
def judged(teacher: nn.Module, images: Tensor, labels: Tensor, candidates: Tensor | None = None) -> Tensor:
    """(C+1, C+1) voxels, rows the truth and columns the teacher, of labeled patches.

    Args:
        images: (B, 1, x, y, z) as the teacher sees unlabeled ones, without changes of intensity.
        labels: (B, x, y, z) channel numbers.
        candidates: the table of ``Candidates``; None where each voxel is known. Voxels of which the teacher says what they may be
            are left out; those of which it says another thing are false positives, counted as background.
    """
    logits = teacher(images)
    classes = logits.shape[1]
    truth, said = labels.flatten(), logits.argmax(1).flatten()
    if candidates is not None:
        counts = (truth < classes) | ~candidates[truth, said]
        truth, said = torch.where(truth < classes, truth, 0)[counts], said[counts]
    pairs = truth * classes + said
    return torch.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
