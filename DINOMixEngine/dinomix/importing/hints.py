"""What a user or the catalog adds to the files of a model of elsewhere."""

from collections.abc import Mapping, Sequence
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
        images: what the images of a case are called, in the network's order; of nnU-Net its own names are taken.
        regions: where a network gives a sigmoid for each of several regions: name -> its structures, counted from 1, in the
            order of the network's channels.
        structures: names of the structures that the regions are made of, in their order.
        all_folds: whether the folds of an nnU-Net become an ensemble.
        plan, labels: files that say what a bare network is.
    """

    changes: dict[str, Any] | None = None
    weights: str | None = None
    orientation: str | None = None
    fold: str | None = None
    images: Sequence[str] = ()
    regions: Mapping[str, Sequence[int]] | None = None
    structures: Sequence[str] = ()
    all_folds: bool = False
    plan: Path | None = None
    labels: Path | None = None
