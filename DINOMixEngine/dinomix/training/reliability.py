"""Whether the teacher may teach: how right it is, measured where the truth is known, on labeled patches.

Pseudo-labels teach what the teacher believes. A teacher that has not found a structure yet calls it background, and a student
that learns this from many unlabeled patches never finds it: on a trunk CT, adrenal glands that labeled patches alone teach in 800
steps were never found. And while labels still teach much, a step with pseudo-labels teaches no more than one without, and takes
twice its time. So pseudo-labels wait until the teacher's Dice is at least ``FOUND`` for each structure, and until their mean has
come to a stand, on labeled patches that are cut and deformed anew for every step and are judged before the student learns from
them. Where a structure falls below again, they wait again [ours].
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

FOUND = 0.5
STAND = 0.03
"""Mean Dice above its running mean of ``MEMORY`` below which it stands still (docs/results.md has curves)."""
MEMORY = 0.2
"""Share of the steps that the running mean remembers."""
PATIENCE = 3
"""Measurements one after another that have to stand still, so that a single low one decides nothing."""
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
        mean, weight: sum of the mean Dice of all measurements, each weighing less the older it is, and of their weights.
        still: how many of the last measurements stood still, with all structures found; from ``PATIENCE`` on it stays. One is
            more than one where less is remembered than that.
    """

    def __init__(self, classes: int) -> None:
        """``classes``: with the background."""
        self.confusion = np.zeros((classes, classes))
        self.mean, self.weight, self.still = 0.0, 0.0, 0.0

    def update(self, confusion: NDArray[np.float64], labeled: NDArray[np.bool_], memory: float) -> None:
        """Take one measurement.

        Args:
            labeled: (C,) the structures that the labeled cases have and the teacher can find.
            memory: measurements that the running mean of the Dice remembers.
        """
        self.confusion = DECAY * self.confusion + (1 - DECAY) * confusion
        if (self.confusion.sum(1)[1:][labeled] == 0).any():
            return  # What no patch has shown yet is no structure that is not learned.
        now, memory = float(self.dice()[labeled].mean()) if labeled.any() else 1.0, max(memory, 1.0)
        self.mean = (1 - 1 / memory) * self.mean + now
        self.weight = (1 - 1 / memory) * self.weight + 1
        lasts = self.weight >= memory / 2 and self._has_found(labeled) and now < self.mean / self.weight + STAND
        if self.still < PATIENCE:
            self.still = self.still + max(1.0, PATIENCE / memory) if lasts else 0.0

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

    def may_teach(self, labeled: NDArray[np.bool_]) -> bool:
        """Whether the teacher finds each structure of ``labeled`` (C,) and labels alone teach it little more."""
        return not labeled.any() or (self.still >= PATIENCE and self._has_found(labeled))

    def _has_found(self, labeled: NDArray[np.bool_]) -> bool:
        return bool((self.dice()[labeled] >= FOUND).all())

    def state(self) -> dict[str, Tensor]:
        """All of it, for a checkpoint."""
        curve = torch.tensor([self.mean, self.weight, self.still], dtype=torch.float64)
        return {"confusion": torch.from_numpy(np.array(self.confusion)), "curve": curve}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Raises ValueError for the state of other classes."""
        confusion = state["confusion"].numpy()
        if confusion.shape != self.confusion.shape:
            raise ValueError(f"a confusion of {len(confusion)} classes")
        self.confusion = confusion
        self.mean, self.weight, self.still = state["curve"].tolist()


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
