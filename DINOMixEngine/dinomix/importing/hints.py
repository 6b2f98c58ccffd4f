"""What a user or the catalog adds to the files of a model of elsewhere."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Hints:
    """
    Attributes:
        changes: values of a MONAI bundle's configuration to change.
        weights: the file of weights within a MONAI bundle.
        orientation: the axes of the scans that an nnU-Net was trained on.
        fold: which fold of an nnU-Net is taken: its number, or "all".
        plan, labels: files that say what a bare network is.
    """

    changes: dict[str, Any] | None = None
    weights: str | None = None
    orientation: str | None = None
    fold: str | None = None
    plan: Path | None = None
    labels: Path | None = None
