"""The formats of image files by the endings of their names: one list for engine and bridge. Needs nothing installed."""

from pathlib import Path
from typing import Literal, get_args

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
"""Of files that are read, beside DICOM."""
SEGMENTATION = ".seg.nrrd"
"""Slicer's own format for segmentations, as it is written."""
SEGMENTATIONS = (SEGMENTATION, ".seg.nhdr")
Format = Literal["nii.gz", "nrrd", "seg.nrrd"]
FORMATS: tuple[Format, ...] = get_args(Format)
"""Of label maps that are written for a user, the usual one first."""


def case_name(path: Path) -> str:
    """A file's name without its image ending: ``liver 1.seg.nrrd`` -> ``liver 1``."""
    ending = next((ending for ending in (*SEGMENTATIONS, *ENDINGS, ".dcm") if path.name.lower().endswith(ending)), "")
    return path.name[: len(path.name) - len(ending)]


def format_of(path: Path) -> Format | None:
    """The one of ``FORMATS`` that a file's name ends in; None where it ends otherwise."""
    return next((format for format in reversed(FORMATS) if path.name.lower().endswith("." + format)), None)


def is_segmentation(path: Path) -> bool:
    """Whether a file is named like a segmentation of Slicer's."""
    return path.name.lower().endswith(SEGMENTATIONS)
