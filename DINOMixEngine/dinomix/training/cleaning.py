"""Whether removing pieces of a structure from results is right: decided by the Dice of the validation cases.

The model is asked as `dinomix segment` asks it, and of each structure the pieces of the prediction and what of them is right are
counted; from that follows the Dice under each rule. A rule is taken where it raises the mean and lowers no case.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from dinomix.cohort.cohort import Case, Cohort
from dinomix.evaluation.matched_model import MatchedModel
from dinomix.evaluation.references import with_references
from dinomix.events import Emit
from dinomix.images.volume import Volume
from dinomix.models.folder import Model
from dinomix.planning.connected_components import pieces_of, too_small
from dinomix.planning.plan import CleanUp
from dinomix.planning.runs import Runs

SIZES = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
"""ml; least sizes of a piece that are tried, beside the largest piece alone."""
FEWEST = 2
"""Validation cases that show a structure; one alone decides nothing."""
GAIN = 0.001
"""Of the mean Dice, below which a rule is not worth to be one."""


@dataclass(frozen=True)
class Pieces:
    """A structure in one case.

    Attributes:
        sizes: voxels of each piece of the prediction, by its number; of number 0, which none has, 0.
        right: those of them that the reference has.
        expected: voxels of the reference.
        voxel: ml of a voxel.
    """

    sizes: np.ndarray
    right: np.ndarray
    expected: int
    voxel: float

    @classmethod
    def of(cls, predicted: Volume, reference: Volume, structure: int) -> "Pieces":
        """Of two label maps (k, j, i) on one grid."""
        found, expected = predicted.array == structure, reference.array == structure
        runs = Runs.of(found)
        numbers, sizes, _ = pieces_of(runs)
        of_voxels = np.repeat(numbers, runs.sizes)
        right = np.bincount(of_voxels[expected[found]], minlength=len(sizes))
        return cls(sizes, right, int(expected.sum()), float(np.prod(predicted.geometry.spacing)) / 1000)

    def dice(self, smallest: float | None = 0.0) -> float:
        """With pieces of at least ``smallest`` ml, or with None the largest alone."""
        kept = ~too_small(self.sizes, smallest, self.voxel)
        return float(2 * self.right[kept].sum() / (self.sizes[kept].sum() + self.expected))


@dataclass(frozen=True)
class Chosen:
    """A rule for a structure, and the mean Dice over the validation cases without and with it."""

    structure: str
    rule: CleanUp
    before: float
    after: float

    @property
    def as_data(self) -> dict[str, Any]:
        """For a record."""
        kept = "largest" if self.rule.smallest is None else f"{self.rule.smallest:g} ml"
        return {"kept": kept, "dice": {"before": self.before, "after": self.after}}


def is_decided(cohort: Cohort) -> bool:
    """Whether there are as many validation cases as it takes."""
    return len(cohort.with_role("validation")) >= FEWEST


def chosen_clean_up(model: Model, cohort: Cohort, device: str, emit: Emit) -> list[Chosen]:
    """The rules that the validation cases of a cohort ask for; none for most structures.

    Raises:
        DinomixError, OSError: a case cannot be read any more, or has changed.
    """
    if not is_decided(cohort):
        return []
    matched = MatchedModel(model, cohort.labels, cohort.channel_names)
    found: dict[int, list[Pieces]] = {}
    for case, images, reference in with_references(cohort.with_role("validation"), cohort, "try the clean-up", emit):
        predicted = matched.segment(images, device)
        for id in cohort.labels.ids:
            if _is_all_drawn(case, id) and (reference.array == id).any():
                found.setdefault(id, []).append(Pieces.of(predicted, reference, id))
    chosen = []
    for channel, structure in enumerate(cohort.labels.structures, 1):
        best = best_rule(found.get(structure.id, []))
        if best is not None:
            smallest, before, after = best
            chosen.append(Chosen(structure.name, CleanUp(channel=channel, smallest=smallest), before, after))
    return chosen


def best_rule(cases: Sequence[Pieces]) -> tuple[float | None, float, float] | None:
    """The rule that raises the mean Dice most and lowers that of no case, with the mean before and after; None without any.

    Of rules that are as good, the one that removes least.
    """
    if len(cases) < FEWEST:
        return None
    before = [pieces.dice() for pieces in cases]
    best, most = None, fmean(before) + GAIN
    for smallest in (*SIZES, None):
        after = [pieces.dice(smallest) for pieces in cases]
        if all(new >= old for new, old in zip(after, before, strict=True)) and fmean(after) > most:
            best, most = (smallest, fmean(before), fmean(after)), fmean(after)
    return best


def _is_all_drawn(case: Case, structure: int) -> bool:
    """Whether all of a structure was drawn in all of a case, so that what a prediction has beside it is wrong."""
    return case.has_drawn(structure) and case.labeled_slices is None and not case.ignored
