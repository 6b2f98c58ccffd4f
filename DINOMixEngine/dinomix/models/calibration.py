"""How a model's probabilities and its expected Dice are to be read, as it was measured on labeled cases; kept in its record."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

KEY, KEY_OF_BOXES = "calibration", "calibration_of_boxes"
"""In a model's ``record.json``; the second is that of a second stage."""
BINS = 15
"""Of probabilities, of equal width."""
UNSURE = 0.7
"""Predicted Dice below which a structure is one that the model is unsure of."""
MORE_THAN_USUAL = 1.5
"""So is one with so many times the usual error, 1 - predicted Dice, or more."""

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Factor = Annotated[float, Field(gt=0, le=1e4, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class Reliability(BaseModel):
    """Probabilities beside how often the labels were right, in ``BINS`` bins of the former (DeGroot and Fienberg, 1983).

    Attributes:
        probability, right: the means of each bin's voxels; 0 where it has none.
        voxels: of each bin.
    """

    model_config = ConfigDict(extra="ignore")
    probability: tuple[Share, ...]
    right: tuple[Share, ...]
    voxels: tuple[Count, ...]

    @property
    def error(self) -> float:
        """Expected calibration error (Naeini et al., 2015): the mean distance of both, each bin as often as it has voxels."""
        bins = zip(self.probability, self.right, self.voxels, strict=True)
        return sum(abs(p - r) * n for p, r, n in bins) / max(sum(self.voxels), 1)


def mended(expected: float, factor: float) -> float:
    """A Dice whose error is ``factor`` times that of the expected one."""
    return min(max(1 - factor * (1 - expected), 0.0), 1.0)


class OfStructure(BaseModel):
    """
    Attributes:
        factor: how many times larger the error of a structure, 1 - Dice, is than the network's own probabilities say.
        usual: the median of its predicted Dice in the cases.
    """

    model_config = ConfigDict(extra="ignore")
    factor: Factor
    usual: Share


class Calibration(BaseModel):
    """
    Attributes:
        temperature: what logits are divided by before they are made probabilities (Guo et al., 2017); no label changes by it.
        cases: on which all of this was measured.
        before, after: without and with the temperature; in and around the structures.
        factor: as of ``OfStructure``, of structures that none of the cases shows.
        structures: by name.
        dice_error: mean distance of predicted and true Dice, each case's predicted from the others; None with fewer than two.
        correlation: Pearson's, of the same; None where there is none.
    """

    model_config = ConfigDict(extra="ignore")
    temperature: Factor
    cases: Count
    before: Reliability
    after: Reliability
    factor: Factor = 1.0
    structures: dict[str, OfStructure] = {}
    dice_error: Share | None = None
    correlation: Annotated[float, Field(ge=-1.001, le=1.001, allow_inf_nan=False)] | None = None

    @classmethod
    def of_record(cls, record: dict[str, Any], key: str = KEY) -> "Calibration | None":
        """What a model's record says; None where the model was not calibrated."""
        try:
            return cls.model_validate(record[key])
        except (KeyError, ValidationError):
            return None

    def predicted_dice(self, name: str, expected: float) -> float:
        """From the Dice that the network's own probabilities let expect, see ``inference.expected_dice``."""
        known = self.structures.get(name)
        return mended(expected, known.factor if known else self.factor)

    def is_unsure(self, name: str, predicted: float) -> bool:
        """Whether a structure should be looked at first."""
        known = self.structures.get(name)
        usual = known.usual if known else 1.0
        return predicted < UNSURE or (known is not None and 1 - predicted > MORE_THAN_USUAL * (1 - usual) + 0.005)

    @property
    def in_words(self) -> str:
        """A sentence or two for a card and a reader."""
        text = (
            f"On {self.cases} case{'s' * (self.cases != 1)} the probabilities were off by {100 * self.before.error:.1f} "
            f"percentage points, and are by {100 * self.after.error:.1f} with the temperature {self.temperature:.2f} "
            "(expected calibration error in and around the structures)."
        )
        if self.dice_error is not None:
            text += f" The predicted Dice is off by {self.dice_error:.3f} on average"
            text += f"; correlation {self.correlation:.2f}." if self.correlation is not None else "."
        return text
