"""The segmentation loss of labeled and pseudo-labeled voxels, and the weight that pseudo-labels get over time."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def segmentation_loss(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Cross-entropy + soft Dice, each bounded below by 0; a mean over samples, so that batches can be shared out.

    The soft Dice of a sample averages over the structures that its target contains. A structure that is absent has no
    overlap to speak of: its term would be a constant near 1, and cross-entropy already punishes false positives.

    Args:
        logits: (B, C, x, y, z).
        target: (B, x, y, z), channel numbers 0..C-1.
        weight: (B, x, y, z) >= 0, or None for 1 everywhere.
    """
    logits = logits.float()
    entropy = F.cross_entropy(logits, target, reduction="none")
    one_hot = F.one_hot(target, logits.shape[1]).movedim(-1, 1).float()
    probabilities = logits.softmax(1)
    weighted = probabilities
    if weight is not None:
        entropy = entropy * weight
        one_hot, weighted = one_hot * weight[:, None], probabilities * weight[:, None]
    axes = (2, 3, 4)
    # The weight stands once in each sum, so that a perfect prediction costs nothing whatever the weights.
    overlap = (probabilities * one_hot).sum(axes)[:, 1:]
    sizes = (weighted.sum(axes) + one_hot.sum(axes))[:, 1:]
    present = (one_hot.sum(axes)[:, 1:] > 0).float()
    dice = (1 - 2 * overlap / sizes.clamp(min=1e-5)) * present
    dice_per_sample = dice.sum(1) / present.sum(1).clamp(min=1)
    return entropy.mean() + dice_per_sample.mean()


def pseudo_label_weight(step: int, steps: int, first_step: int, maximum: float) -> float:
    """lambda_u(t) = lambda_max exp(-5 (1 - t/T)^2) [relatives], 0 before ``first_step`` [ours]."""
    if step < first_step:
        return 0.0
    return maximum * math.exp(-5 * (1 - step / steps) ** 2)


def require_finite(terms: dict[str, Tensor]) -> str | None:
    """The name of the first loss term that is not finite, or None."""
    return next((name for name, value in terms.items() if not bool(torch.isfinite(value))), None)
