"""DICOM segmentations and structure sets read as label maps."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dinomix.errors import DinomixError
from dinomix.images.dicom_drawn import drawn_file, is_structure_set, opened
from dinomix.images.dicom_segmentation import own_grid, read_segmentation
from dinomix.images.dicom_structures import reaching_grid, read_structures
from dinomix.images.volume import Geometry, Volume

if TYPE_CHECKING:
    from pydicom import Dataset


def read_dicom_label(path: Path, like: Geometry | None, order: Sequence[str] = ()) -> tuple[Volume, dict[int, str]]:
    """Read a DICOM segmentation (SEG) or structure set (RTSTRUCT).

    Args:
        path: the file, or a folder that holds it alone.
        like: the image's grid, on which the labels are then.
        order: names of structures; where some overlap, the later one wins.

    Returns:
        A uint8 or uint16 volume, array (k, j, i), and number -> name.

    Raises:
        DinomixError: it is neither; see ``read_segmentation`` and ``read_structures`` for the rest.
    """
    with _opened(path) as dataset:
        read = read_structures if is_structure_set(dataset) else read_segmentation
        return read(dataset, like, order, path)


def grid_of_dicom_label(path: Path, like: Geometry | None = None) -> Geometry | None:
    """A grid that holds all that is drawn: of a structure set, ``like`` enlarged as far as it reaches; a segmentation's own.

    Args:
        path: as of ``read_dicom_label``.

    Returns:
        ``like`` where the frames of a segmentation make no grid of their own; None for a structure set without ``like``.

    Raises:
        DinomixError: as ``read_dicom_label``.
    """
    with _opened(path) as dataset:
        if is_structure_set(dataset):
            return reaching_grid(dataset, like) if like is not None else None
        try:
            return own_grid(dataset, path)
        except DinomixError:
            return like


@contextmanager
def _opened(path: Path) -> Iterator["Dataset"]:
    file = drawn_file(path) if path.is_dir() else path
    if file is None:
        raise DinomixError(
            f"{path} is a folder in which not exactly one DICOM segmentation or structure set lies.",
            "Give the file with the labels: DICOM SEG, RTSTRUCT, .seg.nrrd or .nii.gz.",
        )
    with opened(file) as dataset:
        yield dataset
