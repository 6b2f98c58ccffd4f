"""Which files an image or a label is read from, and one hash over them: voxels lie beside a header, slices beside one another."""

import hashlib
from pathlib import Path

from dinomix.errors import DinomixError
from dinomix.files import sha256
from dinomix.images.dicom import series_headers
from dinomix.images.dicom_header import is_dicom_file, read_dicom_header
from dinomix.images.formats import ENDINGS
from dinomix.images.image_headers import read_header

_IN_ONE_FILE = (".nii.gz", ".nii")


def files_of(path: Path) -> tuple[Path, ...]:
    """All files that an image or a label is read from.

    Args:
        path: as ``read_image`` and ``read_label`` take it.

    Returns:
        Of a folder, all files in it, at any depth; of a header, itself and then the files of its voxels, in their order; of one
        file of a DICOM series, those of the series, by name. Else the file alone, also where it is damaged: reading it will say
        what is wrong.
    """
    if path.is_dir():
        return tuple(sorted(file for file in path.rglob("*") if file.is_file()))
    if not path.is_file() or path.name.lower().endswith(_IN_ONE_FILE):
        return (path,)
    try:
        return _files_of_header(path) if path.name.lower().endswith(ENDINGS) else _files_of_series(path)
    except (DinomixError, OSError):
        return (path,)


def image_sha256(path: Path) -> str:
    """SHA-256 of all that an image or a label is read from; of one file or of a folder, as ``files.sha256`` has it.

    Raises OSError where a file cannot be opened.
    """
    files = (path,) if path.is_dir() else files_of(path)
    if len(files) == 1:
        return sha256(path)
    return hashlib.sha256("".join(map(sha256, files)).encode()).hexdigest()


def _files_of_header(path: Path) -> tuple[Path, ...]:
    files = read_header(path).stored.files
    return files if files == (path,) else (path, *files)


def _files_of_series(path: Path) -> tuple[Path, ...]:
    if not is_dicom_file(path) or not read_dicom_header(path).is_image:
        return (path,)
    return tuple(header.path for header in series_headers(path))
