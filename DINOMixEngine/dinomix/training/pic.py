"""PIC, Progressive Imbalance-aware CutMix: boxes around rare structures first, around all structures alike in the end.

Rarity of structure c of C (foreground only) with n_c voxels [relatives: DHC's DistDW]:

    w_c = log(n_max / n_c) / max_k log(n_max / n_k)

Curriculum over the step t of T, tail first, then uniform [paper; formula ours]:

    p_c(t) = (1 - b) w_c / sum(w) + b / C,    b = (t / T)^kappa

A class is drawn from p(t), a donor that contains it is found, a box is centered on one of its voxels, and image and label
are pasted at the same coordinates into the receiver. No donor: draw again, then a random box from any donor. A case is never
its own donor.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Box = tuple[slice, slice, slice]


def class_probabilities(counts: NDArray[np.float64], progress: float, kappa: float) -> NDArray[np.float64]:
    """p(t) of the module's docstring.

    Args:
        counts: (C,) voxels per structure, foreground only; a structure without any is not drawn.
        progress: t/T in 0..1.

    Returns:
        (C,) probabilities that sum to 1.
    """
    seen = counts > 0
    if not seen.any():
        return np.full(len(counts), 1 / len(counts))
    rarity = np.log(counts.max() / np.where(seen, counts, counts.max()))
    uniform = seen / seen.sum()
    total = rarity.sum()
    if total <= 0:
        return uniform
    blend = min(max(progress, 0.0), 1.0) ** kappa
    probabilities: NDArray[np.float64] = (1 - blend) * (rarity / total) + blend * uniform
    return probabilities


def random_box(patch: Sequence[int], fractions: tuple[float, float], rng: np.random.Generator,
               center: Sequence[int] | None = None) -> Box:  # fmt: skip
    """A box inside the patch, side a random fraction of the patch per axis, centered on ``center`` as far as it fits.

    Args:
        patch: voxels along (x, y, z).
        center: a voxel (x, y, z) of the patch, or None for a random place; it always lies inside the box.
    """
    slices = []
    for axis, extent in enumerate(patch):
        side = min(max(round(rng.uniform(*fractions) * extent), 1), extent)
        middle = int(rng.integers(extent)) if center is None else int(center[axis])
        start = min(max(middle - side // 2, 0), extent - side)
        slices.append(slice(start, start + side))
    return slices[0], slices[1], slices[2]


@dataclass(frozen=True)
class Draw:
    """One box as it was pasted: ``channel`` is the class drawn (1..C), None where a random box had to do; ``donor`` is
    the labeled case's number, of an unlabeled donor that of its patch, ``receiver`` the number of the patch it went into."""

    channel: int | None
    donor: int
    receiver: int
    box: Box


def draw_donor(channels: Mapping[int, Set[int]], probabilities: NDArray[np.float64], tries: int,
               rng: np.random.Generator) -> tuple[int | None, int]:  # fmt: skip
    """Draw a class from ``probabilities`` and a donor that contains it; after ``tries`` failures any donor and no class.

    Args:
        channels: donor's number -> the channels (1..C) that the donor contains; not empty.
        probabilities: (C,) of ``class_probabilities``.
    """
    for _ in range(tries):
        channel = 1 + int(rng.choice(len(probabilities), p=probabilities))
        holding = [number for number, present in channels.items() if channel in present]
        if holding:
            return channel, int(rng.choice(holding))
    return None, int(rng.choice(list(channels)))


def draw_box(labels: Tensor, channel: int | None, fractions: tuple[float, float],
             rng: np.random.Generator) -> tuple[int | None, Box]:  # fmt: skip
    """A box around a random voxel of ``channel`` in ``labels`` (x, y, z); a random box, and no class, where it has none."""
    voxels = torch.nonzero(labels == channel) if channel is not None else labels.new_zeros((0, 3))
    if len(voxels) == 0:
        return None, random_box(labels.shape, fractions, rng)
    center = voxels[int(rng.integers(len(voxels)))].tolist()
    return channel, random_box(labels.shape, fractions, rng, center)


def feature_mask(box: Box, patch: Sequence[int], grid: Sequence[int]) -> Tensor:
    """The share of each feature cell that ``box`` covers, (x, y, z) of ``grid``: cached features are mixed with it."""
    mask = torch.zeros(1, 1, *patch)
    mask[(0, 0, *box)] = 1
    return F.adaptive_avg_pool3d(mask, (grid[0], grid[1], grid[2]))[0, 0]


def channels_in(labels: Tensor, channels: int) -> list[set[int]]:
    """The foreground channels (1..C) that each label patch of (B, x, y, z) contains; waits for the device once.

    Args:
        channels: C + 1, with the background.
    """
    present = torch.zeros(len(labels), channels, dtype=torch.bool, device=labels.device)
    present.scatter_(1, labels.flatten(1), True)
    return [{channel for channel, there in enumerate(row) if there and channel} for row in present.tolist()]


def with_prior(counts: NDArray[np.float64], labeled: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Counts of pseudo-labels, a ``share`` of them spread as the labeled voxels are; those alone where there are none.

    So a structure that the teacher never predicts is rare, but not rarer without end.

    Args:
        counts, labeled: (C,) voxels of each structure.
    """
    total = counts.sum()
    return (1 - share) * counts + share * total * labeled / labeled.sum() if total else labeled


def rarest(counts: NDArray[np.float64]) -> set[int]:
    """The channels (1..C) of the third of the structures with the fewest voxels, at least one; those without any left out."""
    seen = [int(channel) for channel in np.argsort(counts, kind="stable") if counts[channel] > 0]
    return {1 + channel for channel in seen[: max(len(seen) // 3, 1)]}
