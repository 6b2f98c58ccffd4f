"""How sure a model is of the labels that it gives, for who asks."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dinomix.inference.boxes import Box
from dinomix.inference.expected_dice import ExpectedDice

PredictedDice = dict[str, float | None]
"""By structure; None of one that was not found."""


@dataclass
class Sureness:
    """What is asked beside the labels of an image, and filled in while they are computed.

    Attributes:
        wants_map: a map of uncertainty, see ``NativeUncertainty``.
        wants_dice: the Dice of each structure that is to be expected.
        uncertainty: (k, j, i) percent, uint8, how likely each label is wrong; of what is removed afterwards, as a stray piece
            or since nobody wants it, that of the label before.
        predicted_dice: nothing of structures of models that are not calibrated.
    """

    wants_map: bool = False
    wants_dice: bool = False
    uncertainty: NDArray[np.uint8] | None = None
    predicted_dice: PredictedDice = field(default_factory=dict)

    def of_another_model(self) -> "Sureness":
        """The same questions, not yet answered."""
        return Sureness(self.wants_map, self.wants_dice)

    def join(self, other: "Sureness", before: NDArray[Any], after: NDArray[Any]) -> None:
        """Take over what a later model says of the labels that it has added to ``before``: ``after``, both (k, j, i).

        Where neither found anything it is as unsure as the one that is more so.
        """
        if other.uncertainty is None:
            return
        if self.uncertainty is None:
            self.uncertainty = np.zeros(after.shape, np.uint8)
        for own, its, old, new in zip(self.uncertainty, other.uncertainty, before, after, strict=True):
            np.maximum(own, its, out=own, where=new == 0)
            np.copyto(own, its, where=(old == 0) & (new != 0))


@dataclass
class Found:
    """What is found by one network, or by both stages of a model.

    Attributes:
        array: structure ids (k, j, i).
        uncertainty: (k, j, i) percent; None where nobody wants it.
        expected: None where nobody wants it.
    """

    array: NDArray[Any]
    uncertainty: NDArray[Any] | None = None
    expected: ExpectedDice | None = None

    def refine(self, box: Box, by: "Found") -> None:
        """Take over what a second stage has found in a box."""
        self.array[box.refined] = by.array[box.refined_in_seen]
        if self.uncertainty is not None and by.uncertainty is not None:
            self.uncertainty[box.refined] = by.uncertainty[box.refined_in_seen]
