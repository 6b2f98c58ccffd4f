"""The formats of image files by the endings of their names: one list for engine and bridge. Needs nothing installed."""

from pathlib import Path
from typing import Literal, get_args

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
"""Of files that are read, beside DICOM."""
SEGMENTATION = ".seg.nrrd"
"""Slicer's own format for segmentations, as it is written."""
SEGMENTATIONS = (SEGMENTATION, ".seg.nhdr")
DICOM_RESULTS = {"dicom-seg": ".seg.dcm", "rtstruct": ".rtstruct.dcm"}
"""Formats of results that are DICOM, and what their files' names end in; where a user gives the name, .dcm will do."""
Format = Literal["nii.gz", "nrrd", "seg.nrrd", "dicom-seg", "rtstruct"]
FORMATS: tuple[Format, ...] = get_args(Format)
"""Of labels that are written for a user, the usual one first."""

REGIONS = "_regions"
"""How a folder with a mask for each region is called, behind the name of the case."""


def case_name(path: Path) -> str:
    """A file's name without its image ending: ``liver 1.seg.nrrd`` -> ``liver 1``."""
    endings = (*SEGMENTATIONS, *ENDINGS, *DICOM_RESULTS.values(), ".dcm")
    ending = next((ending for ending in endings if path.name.lower().endswith(ending)), "")
    return path.name[: len(path.name) - len(ending)]


def ending_of(format: Format) -> str:
    """What the names of files of a format end in: ``nii.gz`` -> ``.nii.gz``, ``dicom-seg`` -> ``.seg.dcm``."""
    return DICOM_RESULTS.get(format, f".{format}")


def format_of(path: Path) -> Format | None:
    """The one of ``FORMATS`` whose ending a file's name has; None where it ends otherwise."""
    return next((format for format in reversed(FORMATS) if path.name.lower().endswith(ending_of(format))), None)


def is_dicom_result(path: Path) -> bool:
    """Whether a file is named like a result in DICOM, which is no image although it may lie among series."""
    return path.name.lower().endswith(tuple(DICOM_RESULTS.values()))


def is_segmentation(path: Path) -> bool:
    """Whether a file is named like a segmentation of Slicer's."""
    return path.name.lower().endswith(SEGMENTATIONS)
