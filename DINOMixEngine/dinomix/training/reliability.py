"""Whether the teacher may teach: how right it is, measured where the truth is known, on labeled patches.

Pseudo-labels teach what the teacher believes. A teacher that has not found a structure yet calls it background, and a student
that learns this from many unlabeled patches never finds it: on a trunk CT, adrenal glands that labeled patches alone teach in
800 steps were never found. And while labels still teach much, a step with pseudo-labels teaches no more than one without, and
takes more than twice its time. So pseudo-labels wait until the teacher's Dice is at least ``FOUND`` for each structure, and
until their mean has come to a stand, on labeled patches that are cut and deformed anew for every step and are judged before
the student learns from them. Where a structure falls below ``LOST``, they wait until it is found again. What is still far from
found by then, as a tumor that few labels do not teach, holds up no other: pseudo-labels leave it open (``merged_channels.py``)
[ours].
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

FOUND, LOST = 0.7, 0.6
"""Dice from which a structure counts as found, and below which as lost again: one near a single border would come and go."""
HOPELESS = 0.5
"""Dice below which a structure is not waited for any longer once labels teach little more. Each that came to be found was above
it by then, on all data sets (docs/results.md)."""
SEEN = 0.25
"""Share of a structure's voxels that are called so, from which it is learned like all others. Its Dice would say less: what
weighs more is called too often, and a low Dice for that is no reason to call it still more often."""
UNEQUAL = 4.0
"""How many times the voxels of the smallest structure the largest one has at least, for weights to be worth their measuring."""
WEIGHED_UNTIL = 0.75
"""Share of the steps after which all count alike: what was not seen by then would only be called too often in the end."""
STAND = 0.015
"""Gain of the mean Dice from one half of ``MEMORY`` to the next below which it stands still (docs/results.md)."""
MEMORY = 0.2
"""Share of the steps over which the mean Dice is looked at."""
DECAY = 0.64
"""Of the running sums, at each measurement."""
MEASURED_EVERY = 16
"""Most steps between measurements: each costs the teacher's forward of the labeled patches, about a third of a step."""
MEASUREMENTS = 6
"""Least in ``MEMORY``, so that a short run measures more often."""


class Reliability:
    """Running confusion of the teacher on labeled patches.

    Attributes:
        confusion: (C+1, C+1) voxels, rows the truth, columns the teacher.
        curve: the Dice (C,) of the last measurements.
        stands: whether it has come to a stand with nothing left to wait for, once and for all: what pseudo-labels gain later is
            no sign that labels teach more.
        found: (C,) the structures that are, and are not lost since.
        hopeless: (C,) those that are not waited for.
    """

    def __init__(self, classes: int) -> None:
        """``classes``: with the background."""
        self.confusion = np.zeros((classes, classes))
        self.curve: list[NDArray[np.float64]] = []
        self.stands = False
        self.found, self.hopeless = np.zeros((2, classes - 1), bool)

    def update(self, confusion: NDArray[np.float64]) -> None:
        """Take one measurement."""
        self.confusion = DECAY * self.confusion + (1 - DECAY) * confusion

    def judge(self, labeled: NDArray[np.bool_], taught: NDArray[np.bool_], memory: int) -> None:
        """Look at what the last measurement has made of the Dice.

        Args:
            labeled: (C,) the structures that the labeled cases have and the teacher can find.
            taught: (C,) those of them that labels teach; of the others there is always hope.
            memory: of how many measurements at most the mean Dice is looked at.
        """
        if not labeled.any() or (self.confusion.sum(1)[1:][labeled] == 0).any():
            return  # What no patch has shown yet is no structure that is not learned.
        dice, memory = self.dice(), max(memory, 1)
        self.found = labeled & (dice >= np.where(self.found, LOST, FOUND))
        self.curve = [*self.curve, dice][-memory:]
        gain = self._gain()
        # Half of them are enough: a run that begins to wait has more steps from then on, of which a fifth is longer.
        seen = labeled & (dice >= HOPELESS)
        stands = len(self.curve) >= memory / 2 and float(gain[seen if seen.any() else labeled].mean()) < STAND
        # From one measurement nobody knows whether labels still teach much.
        no_hope = (dice < HOPELESS) & (gain < STAND) & (stands and len(self.curve) > 1)
        self.hopeless = taught & ~self.found & (self.hopeless | no_hope)
        self.stands |= stands and not self.awaited(labeled).any()

    def awaited(self, labeled: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(C,) what holds up pseudo-labels; all of it where nothing is found."""
        return labeled & ~self.found & (~self.hopeless | ~self.found.any())

    def _gain(self) -> NDArray[np.float64]:
        """(C,) of the Dice, from the earlier half of the curve to the later one; 0 where a short run looks at one measurement.

        Of the medians, since a single bad measurement looks like a stand.
        """
        half = len(self.curve) // 2
        return np.median(self.curve[half:], 0) - np.median(self.curve[:half], 0) if half else np.zeros(len(self.found))

    def dice(self) -> NDArray[np.float64]:
        """(C,) of the structures; 0 for those that no patch has shown yet."""
        both = self.confusion.sum(0) + self.confusion.sum(1)
        dice = np.divide(2 * self.confusion.diagonal(), both, out=np.zeros(len(both)), where=both > 0)
        return dice[1:]

    def weights(self, counts: NDArray[np.float64], most: float) -> NDArray[np.float64]:
        """(C+1,) how much a voxel of each class counts, by whether the teacher sees its structure [ours; by difficulty: DHC].

        Up to as much as makes its voxels together count like those of the largest structure; 1 for what it has seen, for what no
        measured patch has shown, for what is hopeless, which would only be called too often, and for the background.

        Args:
            counts: (C,) voxels of each structure in the labeled cases; 0 for one that is not to be weighed.
            most: the largest weight, at least 1.
        """
        rarity = counts.max() / np.where(counts > 0, counts, counts.max())
        voxels = self.confusion.sum(1)[1:]
        recall = np.divide(self.confusion.diagonal()[1:], voxels, out=np.ones(len(voxels)), where=voxels > 0)
        missing = np.where(self.hopeless, 0, np.clip(1 - recall / SEEN, 0, 1))
        return np.array([1.0, *(1 + (np.minimum(rarity, most) - 1) * missing)])

    def may_teach(self, labeled: NDArray[np.bool_]) -> bool:
        """Whether the teacher finds what there is hope for of ``labeled`` (C,), and labels alone teach it little more."""
        return not labeled.any() or (self.stands and not self.awaited(labeled).any())

    def taken_for(self) -> NDArray[np.int64]:
        """(C+1,) of each channel itself; of a hopeless structure the one that most of its voxels that are overlooked are called.

        That is the background or a structure that is not hopeless.
        """
        hopeless = np.array([False, *self.hopeless])
        called = np.where(hopeless, -1.0, self.confusion)
        return np.where(hopeless, called.argmax(1), np.arange(len(called)))

    def state(self) -> dict[str, Tensor]:
        """All of it, for a checkpoint."""
        return {
            "confusion": torch.from_numpy(np.array(self.confusion)),
            "curve": torch.from_numpy(np.array(self.curve)),
            "stands": torch.tensor(self.stands),
            "found": torch.from_numpy(self.found),
            "hopeless": torch.from_numpy(self.hopeless),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Raises ValueError for the state of other classes."""
        confusion = state["confusion"].numpy()
        if confusion.shape != self.confusion.shape:
            raise ValueError(f"a confusion of {len(confusion)} classes")
        self.confusion, self.curve, self.stands = confusion, list(state["curve"].numpy()), bool(state["stands"])
        self.found, self.hopeless = state["found"].numpy(), state["hopeless"].numpy()


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
