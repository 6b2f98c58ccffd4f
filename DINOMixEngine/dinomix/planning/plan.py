"""The plan: how an image becomes what the network sees. Computed once, written down, obeyed by training and inference."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from dinomix.errors import DinomixError
from dinomix.files import write_json

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Overlap = Annotated[float, Field(ge=0, lt=1)]


class RangeWindow(BaseModel):
    """CT: clip to [low, high] HU, scale to [0, 1]."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["range"] = "range"
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> "RangeWindow":
        if not self.low < self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        return self


class PercentileWindow(BaseModel):
    """MR: clip to two percentiles (0..100) of the volume itself, scale to [0, 1]; blind to the scale of the scanner."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["percentiles"] = "percentiles"
    lower: float = Field(0.5, ge=0, le=100)
    upper: float = Field(99.5, ge=0, le=100)

    @model_validator(mode="after")
    def _ordered(self) -> "PercentileWindow":
        if not self.lower < self.upper:
            raise ValueError(f"lower {self.lower} is not below upper {self.upper}")
        return self


class SpacingGrid(BaseModel):
    """Reorient to RAS axes, then resample to ``spacing`` (mm along x, y, z)."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["spacing"] = "spacing"
    spacing: tuple[Positive, Positive, Positive]


class SizeGrid(BaseModel):
    """No reorientation; resize the whole volume to ``size`` (voxels along i, j, k). Only for protocol `dhc-compat`."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["size"] = "size"
    size: tuple[PositiveInt, PositiveInt, PositiveInt]


class Plan(BaseModel):
    """Everything between a file and the network.

    Attributes:
        grid: the grid that the network works on.
        window: intensities to [0, 1].
        patch: voxels along (x, y, z) of the network's grid; multiples of 16.
        overlap: of the sliding window, as a fraction of the patch per axis (x, y, z).
        blend: how overlapping windows are averaged.
        network: a MONAI network as MONAI's bundle configuration names it: {"_target_": ..., arguments}.
        fkd_stage: dotted name of the student's module whose output is distilled.
        reasons: for the reader, why each value was chosen.
    """

    model_config = ConfigDict(extra="forbid")
    version: Literal[1] = 1
    modality: Literal["CT", "MR"]
    grid: Annotated[SpacingGrid | SizeGrid, Field(discriminator="kind")]
    window: Annotated[RangeWindow | PercentileWindow, Field(discriminator="kind")]
    patch: tuple[int, int, int]
    overlap: tuple[Overlap, Overlap, Overlap] = (0.5, 0.5, 0.5)
    blend: Literal["gaussian", "constant"] = "gaussian"
    network: dict[str, Any]
    fkd_stage: str
    reasons: dict[str, str] = {}

    @model_validator(mode="after")
    def _patch_fits_network(self) -> "Plan":
        if any(side < 16 or side % 16 for side in self.patch):
            raise ValueError(f"patch {self.patch}: each side must be a multiple of 16")
        return self

    @classmethod
    def read(cls, path: Path) -> "Plan":
        try:
            return cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, ValidationError) as error:
            reason = str(error).splitlines()[0]
            raise DinomixError(f"{path} is not a plan ({reason}).", "Let `dinomix train` write a new one.") from error

    def write(self, path: Path) -> None:
        write_json(path, self.model_dump(mode="json"))
