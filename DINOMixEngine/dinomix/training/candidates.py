"""What a voxel may be whose label leaves that open: nothing there is drawn in a case in which not all structures were, or nobody
labeled it at all.

A label of a patch is one of the C channels, or C + s, where s numbers a set of candidates. Nothing that is open is ever taken for
background: the loss merges the probabilities of the candidates (``losses.py``), and what counts voxels leaves them out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dinomix.cohort.cohort import Case, Cohort
from dinomix.labels import LabelSet


@dataclass(frozen=True)
class Candidates:
    """
    Attributes:
        table: (C + S, C) bool: row n has the channels that a voxel of the label n may be; of n < C this is n itself.
        numbers: name of a case that is not whole -> (C + 2,) the labels in patches of those in its cached label.
    """

    table: Tensor
    numbers: Mapping[str, Tensor]

    @classmethod
    def of_cohort(cls, cohort: Cohort) -> "Candidates | None":
        """Of the cases that patches with labels are cut from; None where all of them are whole."""
        cases = [case for case in cohort.with_role("labeled") if not case.is_whole]
        if not cases:
            return None
        classes = cohort.labels.channels
        everything = frozenset(range(classes))
        taught = _taught(cohort)
        sets = {case.name: frozenset({0, *(not_drawn(case, cohort.labels) & taught)}) for case in cases}
        # In an order that does not depend on that of the cases.
        rows = sorted({*sets.values(), everything} - {frozenset({0})}, key=sorted)
        number = {row: classes + s for s, row in enumerate(rows)} | {frozenset({0}): 0}
        table = torch.eye(classes + len(rows), classes, dtype=torch.bool)
        for s, row in enumerate(rows):
            table[classes + s, sorted(row)] = True
        of_channels = torch.arange(classes)
        return cls(
            table,
            {
                name: torch.cat([of_channels, torch.tensor([number[row], number[everything]])])
                for name, row in sets.items()
            },
        )


def _taught(cohort: Cohort) -> set[int]:
    """The channels of the structures that some labeled case has drawn completely.

    Only these are candidates elsewhere: the others are taught by nothing but what is background, and without that a network would
    see them everywhere.
    """
    training = cohort.with_role("labeled")
    return {
        channel
        for id, channel in cohort.labels.channel_of.items()
        if any(case.voxels.get(id) and case.has_drawn(id) for case in training)
    }


def not_drawn(case: Case, labels: LabelSet) -> set[int]:
    """The channels of the structures that are not drawn, or not completely, in a case."""
    return {channel for id, channel in labels.channel_of.items() if not case.has_drawn(id)}
