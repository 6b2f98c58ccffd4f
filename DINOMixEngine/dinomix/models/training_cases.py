"""What the cases of a training run were like: what an image is held against before a model is trusted with it."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dinomix.cohort.cohort import Case, Cohort
from dinomix.planning.ras_axes import size_in_ras, spacing_in_ras

KEY = "training_cases"
"""In a model's ``record.json``."""

Amount = Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)]
Range = tuple[Amount, Amount]
"""Smallest and largest of all cases."""
Intensity = Annotated[float, Field(ge=-1e12, le=1e12, allow_inf_nan=False)]
Ends = tuple[Intensity, Intensity, Intensity, Intensity]
"""Smallest and largest of all cases' percentile 0.5, and of their percentile 99.5."""


class TrainingCases(BaseModel):
    """Labeled and unlabeled cases, taken together.

    Attributes:
        spacing, extent: mm between voxels and of the whole image, along the axes nearest to right-left, back-front, and down-up.
        volume: ml of each structure, by name, in the labeled cases that show it.
        intensity: of each channel.
    """

    model_config = ConfigDict(extra="ignore")
    spacing: tuple[Range, Range, Range]
    extent: tuple[Range, Range, Range]
    volume: dict[str, Range] = {}
    intensity: tuple[Ends, ...] = ()

    @classmethod
    def of(cls, cohort: Cohort) -> "TrainingCases":
        """Of the cases that a run learns from."""
        cases = (*cohort.with_role("labeled"), *cohort.with_role("unlabeled"))
        spacings = np.array([spacing_in_ras(case) for case in cases])
        extents = spacings * np.array([size_in_ras(case) for case in cases])
        volumes = {
            structure.name: _range(
                volume for case in cohort.with_role("labeled") if (volume := _ml(case, structure.id))
            )
            for structure in cohort.labels.structures
            if any(_ml(case, structure.id) for case in cohort.with_role("labeled"))
        }
        intensity = tuple(_ends(of_channel) for of_channel in zip(*(case.intensities for case in cases), strict=True))
        return cls(spacing=_ranges(spacings), extent=_ranges(extents), volume=volumes, intensity=intensity)

    @classmethod
    def of_all(cls, several: Sequence["TrainingCases"]) -> "TrainingCases":
        """The cases of several runs taken together; of channels that one does not know, nothing is known."""
        volume: dict[str, Range] = {}
        for each in several:
            for name, known in each.volume.items():
                volume[name] = _widest([known, volume.get(name, known)])
        spacing, extent = (
            tuple(_widest(along) for along in zip(*axes, strict=True))
            for axes in ([each.spacing for each in several], [each.extent for each in several])
        )
        intensity = tuple(
            (min(e[0] for e in ends), max(e[1] for e in ends), min(e[2] for e in ends), max(e[3] for e in ends))
            for ends in zip(*(each.intensity for each in several), strict=False)
        )
        return cls.model_validate({"spacing": spacing, "extent": extent, "volume": volume, "intensity": intensity})

    def has_like(self, low: float, high: float, channel: int) -> bool:
        """Whether an image whose percentiles 0.5 and 99.5 are these is as bright as the training cases, give or take a half."""
        if channel >= len(self.intensity):
            return False
        least_low, most_low, least_high, most_high = self.intensity[channel]
        tolerance = 0.5 * (most_high - least_low)
        return (
            least_low - tolerance <= low <= most_low + tolerance
            and least_high - tolerance <= high <= most_high + tolerance
        )

    @classmethod
    def of_record(cls, record: dict[str, Any]) -> "TrainingCases | None":
        """What a model's record says of them; None for models from elsewhere, and for those of earlier versions."""
        try:
            return cls.model_validate(record[KEY])
        except (KeyError, ValidationError):
            return None


def _widest(ranges: Sequence[Range]) -> Range:
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _ends(percentiles: Iterable[tuple[float, float, float]]) -> Ends:
    lows, _, highs = zip(*percentiles, strict=True)
    return min(lows), max(lows), min(highs), max(highs)


def _ml(case: Case, structure: int) -> float:
    return case.voxels.get(structure, 0) * float(np.prod(case.spacing)) / 1000


def _range(values: Iterable[float]) -> Range:
    known = list(values)
    return round(min(known), 4), round(max(known), 4)


def _ranges(values: np.ndarray) -> tuple[Range, Range, Range]:
    x, y, z = (_range(column) for column in values.T.tolist())
    return x, y, z
