"""Image and label files read into volumes; what would mislead later is refused here."""

import os
from contextlib import contextmanager
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.images.nifti import check_whole_gzip, is_gzip, read_nifti_header
from dinomix.images.volume import Geometry, Volume

ENDINGS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
READABLE = "Give a .nii, .nii.gz, .nrrd, .nhdr, .mha or .mhd file, or a folder with one DICOM series."


def is_image_path(path: Path) -> bool:
    """Whether a path is named like an image file, or is a folder that holds DICOM files."""
    return path.name.lower().endswith(ENDINGS) and not path.name.startswith(".")


def read_image(path: Path, *, frame: int | None = None) -> Volume:
    image = _read(path)
    array = sitk.GetArrayFromImage(image).astype(np.float32)
    return Volume(array, _geometry(image))


def read_label(path: Path) -> tuple[Volume, dict[int, str] | None]:
    image = _read(path)
    array = sitk.GetArrayFromImage(image)
    return Volume(array.astype(np.uint8 if array.max() < 256 else np.uint16), _geometry(image)), None


def read_geometry(path: Path) -> Geometry:
    return _geometry(_read(path))


def _read(path):
    return sitk.ReadImage(str(path))


def _geometry(image) -> Geometry:
    return Geometry(image.GetSize(), image.GetSpacing(), image.GetOrigin(), np.array(image.GetDirection()).reshape(3, 3))
