"""What a strategy is asked: in which order to label the unlabeled cases, from what the networks of a run made of them."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

OfStructures = Mapping[str, float | None]
"""By structure's name; None of one that was not found."""


@dataclass(frozen=True)
class Seen:
    """An unlabeled case as the networks see it, on the network's grid.

    Attributes:
        patient: whom else its cases are of, see ``Case.patient``.
        voxels: of each structure.
        predicted_dice: of each structure, see ``inference.expected_dice``, mended where the model is calibrated.
        entropy, entropies: in and around all structures and each, 0 to 1; see ``inference.entropy``. None where nothing is.
        disagreement: of each structure, 1 - Dice of teacher and student; empty for strategies that do not need the student.
    """

    name: str
    patient: str
    voxels: Mapping[str, int]
    predicted_dice: OfStructures
    entropy: float | None
    entropies: OfStructures
    disagreement: OfStructures = field(default_factory=dict)


@dataclass(frozen=True)
class Pool:
    """All that may be labeled next, and what is labeled already.

    Attributes:
        labeled: how many labeled cases each patient has.
        everywhere: structures that each labeled case shows.
    """

    cases: Sequence[Seen]
    labeled: Counter[str] = field(default_factory=Counter)
    everywhere: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Ranked:
    """A case in its place.

    Attributes:
        score: what the strategy goes by; None of one that goes by chance.
        classes: the same of each structure.
    """

    case: Seen
    score: float | None
    classes: OfStructures


Order = Callable[[Pool, np.random.Generator], list[Ranked]]
"""All cases of a pool, the one to label first at the beginning; what is left to chance, the generator decides."""


@dataclass(frozen=True)
class Strategy:
    """
    Attributes:
        needs_student: whether ``Seen.disagreement`` is needed, for which each case is segmented twice.
    """

    order: Order
    needs_student: bool = False

    def rank(self, pool: Pool, seed: int) -> list[Ranked]:
        """The cases in their order, those of one patient apart; the same for the same pool and seed."""
        return patients_apart(self.order(pool, np.random.default_rng(seed)), pool.labeled)


def patients_apart(ranked: Sequence[Ranked], labeled: Counter[str]) -> list[Ranked]:
    """Every patient's first case, in the order given, before any patient's second, and so on; labeled ones count.

    Scans of one patient resemble each other, so that a second one teaches less than its score says.
    """
    count = Counter(labeled)
    laps = []
    for place in ranked:
        laps.append(count[place.case.patient])
        count[place.case.patient] += 1
    return [ranked[number] for number in np.argsort(laps, kind="stable")]


def mean(values: OfStructures) -> float | None:
    """Over the structures that have a value."""
    known = [value for value in values.values() if value is not None]
    return fmean(known) if known else None
