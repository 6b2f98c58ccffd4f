"""A model on a cohort's cases: its labels under the cohort's ids, and its Dice, whatever it calls the structures."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

import numpy as np

from dinomix.cohort.case_label import UNLABELED
from dinomix.cohort.cohort import Case, Cohort
from dinomix.evaluation.metrics import dice
from dinomix.evaluation.references import with_references
from dinomix.events import Emit
from dinomix.images.volume import Volume
from dinomix.inference.options import Precision, RuntimeName
from dinomix.inference.segment import segment_volume
from dinomix.labels import LabelSet
from dinomix.models.folder import Model
from dinomix.models.matching import images_for, matched_channels

Dice = dict[str, float | None]
"""Structure -> Dice; None where there is none."""


@dataclass
class MatchedModel:
    """A model, and the label set of the cohort by which its labels are told.

    ``channels`` are the names of the cohort's images, see ``Plan.channels``; ``precision`` and ``runtime`` as of ``Options``.
    """

    model: Model
    labels: LabelSet
    channels: tuple[str, ...] = ("",)
    precision: Precision = "float32"
    runtime: RuntimeName = "pytorch"

    @cached_property
    def known(self) -> dict[int, int]:
        """Channel of the cohort -> channel of the model, as a run that starts from it matches them."""
        return matched_channels(self.labels, self.model.labels)

    def segment(self, images: Sequence[Volume], device: str) -> Volume:
        """Labels on the images' grid, with the cohort's ids; structures that the cohort lacks are background.

        Args:
            images: of the cohort's channels, of which the model may see some.

        Raises:
            DinomixError: it sees one that the cohort lacks; or as ``segment_volume``.
        """
        network, seen = self.model.warm_network, images_for(self.model, self.channels, images)
        return self.renamed(
            segment_volume(
                seen, self.model, device=device, precision=self.precision, runtime=self.runtime, network=network
            )
        )

    def renamed(self, own: Volume) -> Volume:
        """Labels of the model with the cohort's ids; structures that the cohort lacks are background."""
        table = np.zeros(max(self.model.labels.ids) + 1, np.uint16)
        for channel, known in self.known.items():
            table[self.model.labels.ids[known - 1]] = self.labels.ids[channel - 1]
        return Volume(table[own.array], own.geometry)

    def dice(self, predicted: Volume, reference: Volume, case: Case) -> Dice:
        """Per structure, on the native grid; None where the case lacks the structure or the model does not know it.

        What was not drawn completely in the case is None too, and what nobody labeled is left out.
        """
        values: Dice = {}
        labeled = True if case.is_whole else reference.array != UNLABELED
        for channel, structure in enumerate(self.labels.structures, 1):
            expected = reference.array == structure.id
            scored = channel in self.known and case.has_drawn(structure.id) and expected.any()
            values[structure.name] = dice((predicted.array == structure.id) & labeled, expected) if scored else None
        return values


def mean_dice(
    matched: MatchedModel, cohort: Cohort, cases: Sequence[Case], device: str, stage: str, emit: Emit
) -> Dice:
    """The mean Dice of each structure over some cases of a cohort; progress is told as ``stage``.

    Raises:
        DinomixError, OSError: a case cannot be read any more, or has changed.
    """
    found = [
        matched.dice(matched.segment(images, device), reference, case)
        for case, images, reference in with_references(cases, cohort, stage, emit)
    ]
    return means(cohort.labels.names, found)


def means(names: tuple[str, ...], cases: Sequence[Dice]) -> Dice:
    """The mean of each structure over the cases that have a value; None where none has."""
    columns = {name: [case[name] for case in cases] for name in names}
    known = {name: [value for value in column if value is not None] for name, column in columns.items()}
    return {name: fmean(column) if column else None for name, column in known.items()}
