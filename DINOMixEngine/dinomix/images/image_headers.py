"""What an image file is, by its name and header: without its voxels, and with nothing installed but numpy."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dinomix.errors import DinomixError
from dinomix.images.dicom_header import is_dicom_file, is_dicom_image
from dinomix.images.formats import ENDINGS
from dinomix.images.header import Header
from dinomix.images.metaimage import read_metaimage_header
from dinomix.images.nifti import read_nifti_header
from dinomix.images.nrrd import read_nrrd_header
from dinomix.images.shear import check_usable
from dinomix.images.stored import check_plausible

READABLE = "Give a .nii, .nii.gz, .nrrd, .nhdr, .mha or .mhd file, or a folder with one DICOM series."


def is_image_path(path: Path) -> bool:
    """Whether a path is named like an image file, or is a folder that holds DICOM images; what is drawn on them is none."""
    if path.name.startswith("."):
        return False
    if path.is_dir():
        # What is named like another format is not opened: a folder may hold a hundred masks.
        files = (file for file in path.iterdir() if file.is_file() and not file.name.lower().endswith(ENDINGS))
        return any(map(is_dicom_image, files))
    return path.name.lower().endswith((*ENDINGS, ".dcm"))


def count_volumes(path: Path) -> int:
    """How many volumes, or values for each voxel, an image file holds by its header; 1 for DICOM and what cannot be read."""
    try:
        with in_words(path):
            if is_dicom(path):
                return 1
            header = read_header(path)
            return header.frames * header.values
    except DinomixError:
        return 1  # reading the image will say why


def is_dicom(path: Path) -> bool:
    """Whether a path is a folder or a DICOM file; False for the other files that are read. Raises DinomixError for others."""
    if path.is_dir() or path.suffix.lower() == ".dcm":
        return True
    if path.name.lower().endswith(ENDINGS):
        return False
    if is_dicom_file(path):
        return True
    raise DinomixError(f"{path} is not an image file that is read here.", READABLE)


def read_header(path: Path) -> Header:
    """Of a NIfTI, NRRD or MetaImage file. Raises DinomixError where it cannot be true."""
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        header = read_nifti_header(path)
    else:
        header = read_nrrd_header(path) if name.endswith((".nrrd", ".nhdr")) else read_metaimage_header(path)
    check_plausible(header.stored, path)
    check_usable(header.affine, path)
    return header


@contextmanager
def in_words(path: Path) -> Iterator[None]:
    """Raises DinomixError also for what the system refuses: no such file, a pipe, no permission, no memory."""
    try:
        if not path.exists():
            raise DinomixError(f"There is no file or folder {path}.", "Check the path.")
        if not (path.is_file() or path.is_dir()):
            raise DinomixError(f"{path} is no file but a pipe or a device.", READABLE)
        yield
    except OSError as error:
        where = error.filename if str(path) in str(error.filename) else path
        raise DinomixError(f"{where} cannot be opened ({error.strerror}).", "Check the file.") from error
    except MemoryError as error:
        raise DinomixError(
            f"{path} does not fit into the memory that is free.", "Close other programs, or crop the image."
        ) from error
