"""The segmentation loss of labeled and pseudo-labeled voxels, and the weight that pseudo-labels get over time."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def loss_of_heads(
    heads: Tensor, target: Tensor, weight: Tensor | None = None, candidates: Tensor | None = None
) -> Tensor:
    """The segmentation loss of a network with deep supervision: each coarser head counts half as much [nnU-Net].

    Args:
        heads: (B, H, C, x, y, z) logits, the network's result first, then coarser levels brought to its size; H is 1 without
            deep supervision.
        target, weight, candidates: as ``segmentation_loss`` takes them.
    """
    return mean_of_heads(heads, lambda head: segmentation_loss(head, target, weight, candidates))


def mean_of_heads(heads: Tensor, loss_of: Callable[[Tensor], Tensor]) -> Tensor:
    """The loss of heads (B, H, C, x, y, z) by that of one, (B, C, x, y, z)."""
    shares = 0.5 ** torch.arange(heads.shape[1], device=heads.device)
    losses = [loss_of(head) for head in heads.unbind(1)]
    return (torch.stack(losses) * shares / shares.sum()).sum()


def segmentation_loss(
    logits: Tensor, target: Tensor, weight: Tensor | None = None, candidates: Tensor | None = None
) -> Tensor:
    """Cross-entropy + soft Dice, each bounded below by 0; a mean over samples, so that batches can be shared out.

    The soft Dice of a sample averages over the structures that its target contains. A structure that is absent has no
    overlap to speak of: its term would be a constant near 1, and cross-entropy already punishes false positives.

    With candidates both are marginal [G. Shi et al., Marginal loss and exclusion loss for partially supervised multi-organ
    segmentation, Medical Image Analysis 70, 2021]: that of a voxel is of its candidates' probabilities together,
    the Dice of a structure is over the voxels of which is known whether they are it. What may be anything does not count.

    Args:
        logits: (B, C, x, y, z).
        target: (B, x, y, z), channel numbers 0..C-1; with candidates up to C+S-1.
        weight: (B, x, y, z) >= 0, or None for 1 everywhere.
        candidates: (C+S, C) bool, see ``candidates.Candidates.table``; None where each voxel is known.
    """
    # A loss of all voxels of all classes costs as much as convolutions where classes are many; hence sums by hand.
    logits, target = logits.float().flatten(2), target.flatten(1)
    weight = torch.ones_like(target, dtype=torch.float32) if weight is None else weight.flatten(1)
    if candidates is None:
        entropy, overlap, predicted = _Sums.apply(logits, target, weight)
        entropy = entropy.mean() / target.shape[1]
    else:
        entropy, overlap, predicted = _MarginalSums.apply(logits, target, weight, candidates)
        # Of the voxels that tell something: of a few labeled slices, each counts as much as in a case that was labeled wholly.
        entropy = (entropy / (~candidates.all(1))[target].sum(1).clamp(min=1)).mean()
    # The weight stands once in each sum, so that a perfect prediction costs nothing whatever the weights.
    true = _sums_by_class(weight, target, logits.shape[1])
    present = (true[:, 1:] > 0).float()
    dice = (1 - 2 * overlap / (predicted + true).clamp(min=1e-5))[:, 1:] * present
    dice_per_sample = dice.sum(1) / present.sum(1).clamp(min=1)
    return entropy + dice_per_sample.mean()


class _Sums(torch.autograd.Function):
    """Sums over the voxels of each sample, w(v) being the voxel's weight, t(v) its class and p its probabilities:

    entropy (B,): -w log p_t; overlap (B, C): w p_c where t = c; predicted (B, C): w p_c.

    Automatic derivatives of the same would keep and pass five arrays of all voxels of all classes instead of one.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C, V), (B, V), (B, V)."""
        probabilities = logits.log_softmax(1)
        log_true = probabilities.gather(1, target[:, None])[:, 0]
        probabilities.exp_()
        true = log_true.exp()
        ctx.save_for_backward(probabilities, true, target, weight)
        overlap = _sums_by_class(weight * true, target, logits.shape[1])
        return -(weight * log_true).sum(1), overlap, torch.bmm(probabilities, weight[..., None])[..., 0]

    @staticmethod
    def backward(ctx: Any, *by: Tensor) -> tuple[Tensor, None, None]:
        """With g_c = dL/dp_c: dL/dlogit_c = p_c (g_c - sum over k of p_k g_k), and w (p_c - [c = t]) of the entropy."""
        probabilities, true, target, weight = ctx.saved_tensors
        by_entropy, by_overlap, by_predicted = by
        of_true = weight * true * by_overlap.gather(1, target)
        of_all = weight * torch.bmm(by_predicted[:, None], probabilities)[:, 0]
        entropy = weight * by_entropy[:, None]
        gradient = torch.baddbmm((entropy - of_true - of_all)[:, None], by_predicted[..., None], weight[:, None])
        gradient *= probabilities
        return gradient.scatter_add_(1, target[:, None], (of_true - entropy)[:, None]), None, None


class _MarginalSums(torch.autograd.Function):
    """As ``_Sums``, where K(v) are the channels that a voxel may be and p_K their probability together:

    entropy (B,): -w log p_K; overlap (B, C): w p_c where K = {c}; predicted (B, C): w p_c, but where K holds c and others.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, target: Tensor, weight: Tensor, candidates: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C, V), (B, V), (B, V), (C + S, C)."""
        classes = logits.shape[1]
        logarithms = logits.log_softmax(1)
        possible = candidates[target].movedim(-1, 1)
        log_together = logarithms.masked_fill(~possible, -torch.inf).logsumexp(1)
        probabilities = logarithms.exp()
        is_open = target >= classes
        known = ~(possible & is_open[:, None])
        of_known = torch.where(is_open, 0, weight * log_together.exp())
        overlap = _sums_by_class(of_known, target, classes)
        predicted = torch.bmm(probabilities * known, weight[..., None])[..., 0]
        within = torch.where(possible, (logarithms - log_together[:, None]).exp(), 0)
        ctx.save_for_backward(probabilities, within, known, target, weight)
        return -(weight * log_together).sum(1), overlap, predicted

    @staticmethod
    def backward(ctx: Any, *by: Tensor) -> tuple[Tensor, None, None, None]:
        """As of ``_Sums``; w (p_c - p_c / p_K [c in K]) of the entropy."""
        probabilities, within, known, target, weight = ctx.saved_tensors
        by_entropy, by_overlap, by_predicted = by
        classes = probabilities.shape[1]
        of_channel = by_predicted[..., None] * known
        certain = (target < classes)[:, None]
        place = target.clamp(max=classes - 1)
        of_channel.scatter_add_(1, place[:, None], (by_overlap.gather(1, place)[:, None] * certain))
        gradient = probabilities * (of_channel - (probabilities * of_channel).sum(1, keepdim=True))
        gradient += by_entropy[:, None, None] * (probabilities - within)
        return gradient * weight[:, None], None, None, None


def _sums_by_class(values: Tensor, target: Tensor, classes: int) -> Tensor:
    """(B, V) -> (B, C); as a product, whose order of summing does not change from run to run on any device."""
    of_class = target[:, None] == torch.arange(classes, device=target.device)[:, None]
    return torch.bmm(of_class.to(values.dtype), values[..., None])[..., 0]


def pseudo_label_weight(progress: float, maximum: float) -> float:
    """lambda_u(t) = lambda_max exp(-5 (1 - t/T)^2) [relatives]; ``progress`` is t/T in 0..1."""
    return maximum * math.exp(-5 * (1 - progress) ** 2)


def require_finite(terms: dict[str, Tensor]) -> str | None:
    """The name of the first scalar that is not finite, or None; waits for the device once."""
    finite = torch.stack([value.float() for value in terms.values()]).isfinite().tolist()
    return next((name for name, is_finite in zip(terms, finite, strict=True) if not is_finite), None)
