"""Groups of unlabeled patches that PIC mixes with each other: of which cases they are, and what they are cut around.

A group is planned where the run trains, before its patches are cut, so that it can go by what the steps before have seen
(``sightings.py``): a class is drawn, then a case in which the EMA teacher has predicted it; that case's patch is cut around a
voxel so predicted, the others at the same place of their volumes. Where no unlabeled case has the class, a labeled case gives.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dinomix.training import pic
from dinomix.training.config import TrainConfig
from dinomix.training.randomness import generator
from dinomix.training.schedule import Schedule
from dinomix.training.sightings import Seen, Sightings


@dataclass(frozen=True)
class Group:
    """Patches that mix among each other.

    Attributes:
        cases: the number of the unlabeled case of each patch, each another one as far as there are so many.
        channel: the class that the patches are cut around; None for a place drawn at random.
        donor: the place in the group of the patch that shows the class, cut around ``voxel`` of its case.
        labeled: the number of the labeled case that gives the class instead.
    """

    cases: tuple[int, ...]
    channel: int | None = None
    donor: int | None = None
    voxel: tuple[int, ...] | None = None
    labeled: int | None = None


def rng_of_receiver(config: TrainConfig, step: int, number: int) -> np.random.Generator | None:
    """The generator that draws the box of an unlabeled patch; None for a patch that receives none.

    Args:
        number: of the patch, over all processes.
    """
    rng = generator(config.seed, "pic unlabeled", step, number)
    return rng if config.pic.enabled and rng.random() < config.pic.probability else None


class Groups:
    """Plans the groups of a step, the same in a process that trains alone and in one of several."""

    def __init__(self, unlabeled: int, labeled: Mapping[int, Set[int]], labeled_counts: NDArray[np.float64],
                 config: TrainConfig, schedule: Schedule, sightings: Sightings | None) -> None:  # fmt: skip
        """
        Args:
            unlabeled: number of unlabeled cases.
            labeled: number of a labeled case -> the channels that it contains.
            labeled_counts: (C,) voxels of each structure in the labeled cases.
            sightings: None for a method that keeps none; groups then lie anywhere.
        """
        self.unlabeled, self.labeled, self.labeled_counts = unlabeled, labeled, labeled_counts
        self.config, self.schedule, self.sightings = config, schedule, sightings
        self.size = config.pic.group if config.pic.enabled and not config.pic.across else 1

    def of(self, step: int, rank: int) -> tuple[Group, ...]:
        """The groups of one process."""
        count = self.config.batch_unlabeled // self.size
        return tuple(self._group(step, rank * count + i) for i in range(count))

    def probabilities(self, step: int) -> NDArray[np.float64]:
        """(C,) of the classes drawn among unlabeled patches."""
        counts, config = self.labeled_counts, self.config.pic
        if self.sightings is not None:
            counts = pic.with_prior(self.sightings.at(step).counts, counts, config.prior)
        return pic.class_probabilities(counts, config.progress(self.schedule.progress(step)), config.kappa)

    def _group(self, step: int, number: int) -> Group:
        config = self.config
        rng = generator(config.seed, "unlabeled group", step, number)
        cases = tuple(rng.permutation(self.unlabeled)[: self.size].tolist())
        if len(cases) < self.size:
            cases = tuple(rng.integers(self.unlabeled, size=self.size).tolist())
        numbers = range(number * self.size, (number + 1) * self.size)
        receivers = [i for i, n in enumerate(numbers) if rng_of_receiver(config, step, n) is not None]
        guided = config.pic.across or config.pic.places
        if self.sightings is None or not guided or not receivers or step < self.schedule.teaching_from:
            return Group(cases)
        probabilities = self.probabilities(step)
        for _ in range(config.pic.tries):
            channel = 1 + int(rng.choice(len(probabilities), p=probabilities))
            if not config.pic.across and len(set(cases)) > 1:
                group = self._around_a_sighting(cases, channel, receivers, self.sightings.at(step), rng)
                if group is not None:
                    return group
            if holding := [case for case, channels in self.labeled.items() if channel in channels]:
                return Group(cases, channel, labeled=int(rng.choice(holding)))
        return Group(cases)

    def _around_a_sighting(self, cases: tuple[int, ...], channel: int, receivers: list[int], seen: Seen,
                           rng: np.random.Generator) -> Group | None:  # fmt: skip
        """A group in which a case that shows the class takes the place of one of ``cases``."""
        if not (holding := seen.cases_with(channel)):
            return None
        case = int(rng.choice(holding))
        # Another patch than the donor's must receive something.
        donor = int(rng.choice([i for i in range(self.size) if set(receivers) - {i}]))
        others = list(cases)
        if case in others:
            others[others.index(case)] = others[donor]
        others[donor] = case
        places = seen.places(case, channel)
        voxel = tuple(places[int(rng.integers(len(places)))].tolist())
        return Group(tuple(others), channel, donor=donor, voxel=voxel)
