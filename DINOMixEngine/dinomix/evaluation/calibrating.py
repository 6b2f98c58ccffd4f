"""Calibrating a model on labeled cases: how its probabilities and its expected Dice are to be read.

The logits are those of the sliding window in use, on the network's grid and in float32. One temperature divides them all (Guo,
Pleiss, Sun and Weinberger, 2017): it is fitted to the likelihood of the labels, and changes none that the model gives. One for
each structure measured no better (docs/results.md). Counted is what lies in and around structures: air far from them is right in
any model, and would make every error look small.
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from statistics import correlation, fmean, median

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation
from scipy.optimize import minimize_scalar

from dinomix.errors import DinomixError
from dinomix.events import Emit, Progress
from dinomix.inference.expected_dice import ExpectedDice
from dinomix.inference.sliding_window import predict_slabs
from dinomix.models.calibration import BINS, Calibration, OfStructure, Reliability, mended
from dinomix.models.folder import Model
from dinomix.planning.cache import AnyCase
from dinomix.planning.connected_components import remove_stray_pieces
from dinomix.planning.whereabouts import on_grid
from dinomix.training.validation import dice_per_class

AROUND = 3
"""Voxels of the network's grid around a drawn structure that count."""
MOST_LOGITS = 5 * 10**7
"""Of all cases together that are kept to fit the temperature, 200 MB; of more voxels, a part is drawn."""
HOTTEST = 20.0
PRIOR = 4
"""Cases' worth of the factor of all structures in that of each, which few cases tell badly."""
LEAST_ERROR = 1e-3
"""1 - Dice below which two errors are not divided by each other."""


@dataclass(frozen=True)
class LabeledCase:
    """
    Attributes:
        case: on the grid of the model's plan, its label with the model's channel numbers, see ``CachedCase.label``.
        not_drawn: channels of the structures that are not drawn completely, or that these cases know nothing of. Voxels that the
            model calls so do not count.
    """

    case: AnyCase
    not_drawn: Set[int] = frozenset()


@dataclass
class _Seen:
    """What was seen of all cases.

    Attributes:
        logits, truth: of the voxels that count, (channels, n) float32 and (n,) channel numbers, one of each case.
        dice: of each case, by channel: expected and true Dice.
    """

    logits: list[torch.Tensor] = field(default_factory=list)
    truth: list[torch.Tensor] = field(default_factory=list)
    dice: list[dict[int, tuple[float, float]]] = field(default_factory=list)


@torch.inference_mode()
def calibrated(model: Model, cases: Iterable[LabeledCase], count: int, device: torch.device, emit: Emit) -> Calibration:
    """Measure one stage of a model on labeled cases that it has not learned from.

    Args:
        model: one whose plan has one stage, or a stage of it.
        cases: read one after the other, ``count`` of them.
        emit: gets ``progress``.

    Raises:
        DinomixError: none of the cases shows a structure that the model knows; or what ``cases`` raises.
    """
    seen, channels = _Seen(), model.labels.channels
    progress = Progress(emit, "calibrate", count)
    for number, labeled in enumerate(cases, 1):
        _see(model, labeled, MOST_LOGITS // (channels * count), device, seen, number)
        progress(number)
    if not sum(map(len, seen.truth)):
        raise DinomixError(
            "None of the cases shows a structure that the model knows.", "Give labeled cases of its structures."
        )
    logits, truth = torch.cat(seen.logits, 1), torch.cat(seen.truth)
    seen.logits.clear()
    temperature = _temperature(logits, truth)
    factors = _factors(seen.dice)
    error, r = _error_of_dice(seen.dice)
    names, pooled = model.labels.names, factors.get(0, 1.0)
    return Calibration(
        temperature=temperature,
        cases=count,
        before=_reliability(logits, truth, 1.0),
        after=_reliability(logits, truth, temperature),
        factor=pooled,
        structures={
            names[channel - 1]: OfStructure(factor=factor, usual=_usual(channel, factor, seen.dice))
            for channel, factor in factors.items()
            if channel
        },
        dice_error=error,
        correlation=r,
    )


def _see(model: Model, labeled: LabeledCase, most: int, device: torch.device, seen: _Seen, number: int) -> None:
    """Segment a case, and keep the logits of up to ``most`` voxels in and around its structures, about."""
    channels = model.labels.channels
    reference = np.asarray(labeled.case.label)
    structures = (reference > 0) & (reference < channels)
    near = binary_dilation(structures, np.ones((3, 3, 3), bool), AROUND) & (reference < channels)
    share = most / max(int(near.sum()), 1)
    drawn = np.random.default_rng(number).random(near.shape, np.float32) < share
    image = torch.from_numpy(np.array(labeled.case.image, dtype=np.float32))
    expected, labels, start = ExpectedDice(channels), np.empty(reference.shape, np.int16), 0
    for slab in predict_slabs(model.warm_network, image, model.plan, device):
        part = slice(start, start + slab.shape[1])
        start = part.stop
        winner = slab.argmax(0)
        labels[part] = winner.to(torch.int16).cpu().numpy()
        counts = (near[part] | ((labels[part] > 0) & (reference[part] < channels))) & drawn[part]
        counts &= ~np.isin(labels[part], list(labeled.not_drawn))
        seen.logits.append(slab[:, torch.from_numpy(counts).to(slab.device)].float().cpu())
        seen.truth.append(torch.from_numpy(reference[part][counts].astype(np.int64)))
        expected.add(slab)
    rule = model.plan.one_piece
    remove_stray_pieces(labels, rule, nearness=on_grid(rule.whereabouts, labels.shape, model.plan))
    true = dice_per_class(labels, reference, channels - 1, labeled.not_drawn)
    pairs = zip(expected.dice(), true, strict=True)
    seen.dice.append({c: (e, t) for c, (e, t) in enumerate(pairs, 1) if e is not None and t is not None})


def _temperature(logits: torch.Tensor, truth: torch.Tensor) -> float:
    """That of the highest likelihood of the labels."""

    def loss(log_temperature: float) -> float:
        return float(torch.nn.functional.cross_entropy(logits.T / float(np.exp(log_temperature)), truth))

    ends = (-np.log(HOTTEST), np.log(HOTTEST))
    return float(np.exp(minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 0.01}).x))


def _reliability(logits: torch.Tensor, truth: torch.Tensor, temperature: float) -> Reliability:
    probability, label = torch.softmax(logits / temperature, 0).max(0)
    return reliability(probability.numpy(), (label == truth).numpy())


def reliability(probability: NDArray[np.floating], right: NDArray[np.bool_]) -> Reliability:
    """Of voxels (n,): how likely their labels were said to be right, and whether they are."""
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    voxels = np.bincount(bins, minlength=BINS)
    means = [
        (np.bincount(bins, values, minlength=BINS) / np.maximum(voxels, 1)).clip(0, 1).tolist()
        for values in (probability, right)
    ]
    return Reliability(probability=tuple(means[0]), right=tuple(means[1]), voxels=tuple(voxels.tolist()))


def _factors(cases: list[dict[int, tuple[float, float]]]) -> dict[int, float]:
    """By channel, how many times larger the errors are than expected; 0 is that of all structures together.

    Ratios of sums, of which each structure's is drawn to that of all: with few cases neither a line nor a curve is to be had, and
    the ratio of all structures of a model is much the same, see docs/results.md.
    """
    by_channel: dict[int, list[tuple[float, float]]] = {}
    for case in cases:
        for channel, pair in case.items():
            by_channel.setdefault(channel, []).append(pair)
    if not by_channel:
        return {}
    pooled = _ratio([pair for pairs in by_channel.values() for pair in pairs])
    return {0: pooled} | {
        channel: (len(pairs) * _ratio(pairs) + PRIOR * pooled) / (len(pairs) + PRIOR)
        for channel, pairs in by_channel.items()
    }


def _ratio(pairs: list[tuple[float, float]]) -> float:
    expected, true = (fmean(1 - dice for dice in column) for column in zip(*pairs, strict=True))
    return max(true, LEAST_ERROR) / max(expected, LEAST_ERROR)


def _usual(channel: int, factor: float, cases: list[dict[int, tuple[float, float]]]) -> float:
    return median(mended(case[channel][0], factor) for case in cases if channel in case)


def _error_of_dice(cases: list[dict[int, tuple[float, float]]]) -> tuple[float | None, float | None]:
    """Mean error and correlation of the predicted Dice, where each case's is predicted from the others."""
    pairs = []
    for number, case in enumerate(cases):
        factors = _factors(cases[:number] + cases[number + 1 :])
        if factors:
            pairs += [(mended(e, factors.get(channel, factors[0])), t) for channel, (e, t) in case.items()]
    if not pairs:
        return None, None
    predicted, true = zip(*pairs, strict=True)
    varies = len(pairs) > 2 and len(set(predicted)) > 1 and len(set(true)) > 1
    return fmean(abs(p - t) for p, t in pairs), correlation(predicted, true) if varies else None
