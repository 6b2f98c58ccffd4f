"""How far the teacher can be trusted, structure by structure: measured where the truth is known, on labeled patches.

Pseudo-labels teach what the teacher believes. A teacher that has not found a structure yet calls it background, and a student
that learns this from many unlabeled patches never finds it. So each pseudo-label counts as much as the same label was right on
labeled patches, which are cut and deformed anew for every step and are judged before the student learns from them.

With n_tp the voxels of true class t that the teacher calls p, running sums over the steps, channels 0..C with 0 the background:

    precision of a structure p   r_p = n_pp / sum over t of n_tp
    of the background            r_0 = mean over structures t of  1 - n_t0 / sum over p of n_tp

The background's is how much of each structure is *not* called background, a mean over structures: it is trusted as far as
nothing is overlooked. A label's weight rises from 0 at r = LEAST to 1 at r = FULL [ours].
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

LEAST, FULL = 0.5, 0.8
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

    def right(self) -> NDArray[np.float64]:
        """(C+1,) r of the module's docstring; 0 for what the teacher has not called and for structures not seen yet."""
        by_truth, by_teacher = self.confusion.sum(1), self.confusion.sum(0)
        right = np.divide(self.confusion.diagonal(), by_teacher, out=np.zeros(len(by_truth)), where=by_teacher > 0)
        overlooked = self.confusion[1:, 0][by_truth[1:] > 0] / by_truth[1:][by_truth[1:] > 0]
        right[0] = 1 - overlooked.mean() if len(overlooked) else 0.0
        return right

    def weights(self) -> NDArray[np.float64]:
        """(C+1,) how much a pseudo-label of each channel counts, 0 to 1."""
        return ((self.right() - LEAST) / (FULL - LEAST)).clip(0, 1)


@torch.no_grad()
def judged(teacher: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """(C+1, C+1) voxels, rows the truth and columns the teacher, of labeled patches.

    Args:
        images: (B, 1, x, y, z) as the teacher sees unlabeled ones, without changes of intensity.
        labels: (B, x, y, z) channel numbers.
    """
    logits = teacher(images)
    classes = logits.shape[1]
    pairs = labels.flatten() * classes + logits.argmax(1).flatten()
    return torch.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
