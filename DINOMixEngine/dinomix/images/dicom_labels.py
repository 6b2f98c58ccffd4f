"""DICOM segmentations and structure sets read as label maps."""

from collections.abc import Sequence
from pathlib import Path

from dinomix.errors import DinomixError
from dinomix.images.dicom_drawn import drawn_file, is_structure_set, opened
from dinomix.images.dicom_segmentation import read_segmentation
from dinomix.images.dicom_structures import read_structures
from dinomix.images.volume import Geometry, Volume


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
    file = drawn_file(path) if path.is_dir() else path
    if file is None:
        raise DinomixError(
            f"{path} is a folder in which not exactly one DICOM segmentation or structure set lies.",
            "Give the file with the labels: DICOM SEG, RTSTRUCT, .seg.nrrd or .nii.gz.",
        )
    with opened(file) as dataset:
        read = read_structures if is_structure_set(dataset) else read_segmentation
        return read(dataset, like, order, path)
