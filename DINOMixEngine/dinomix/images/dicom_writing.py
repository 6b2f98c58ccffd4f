"""Labels of a DICOM series written as DICOM, on that series' own slices and under its patient's and study's name."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from dinomix.files import written_aside
from dinomix.images.dicom_results import Maker
from dinomix.images.dicom_segmentation_writing import write_segmentation
from dinomix.images.dicom_source import read_source_series
from dinomix.images.dicom_structures_writing import write_structures
from dinomix.images.formats import Format
from dinomix.images.volume import Geometry
from dinomix.labels import LabelSet


def write_dicom_labels(
    array: NDArray[Any], geometry: Geometry, labels: LabelSet, image: Path, maker: Maker, format: Format, path: Path
) -> None:
    """Write labels as a DICOM segmentation or structure set. An existing file is replaced once the new one is whole.

    Args:
        array: (k, j, i): ids of ``labels``, and 0.
        geometry: the grid of ``array``, on which the series is read.
        labels: all of these are named in the file, those without a voxel too; regions lie over their structures.
        image: the series: a folder, or one of its files.
        format: "dicom-seg" or "rtstruct".

    Raises:
        DinomixError: the image is no DICOM series that a result can refer to; a name cannot stand in DICOM.
        OSError: the file cannot be written; nothing is left behind.
    """
    source = read_source_series(image)
    write = write_segmentation if format == "dicom-seg" else write_structures
    with written_aside(path) as aside:
        write(source.on_slices(array, geometry), labels, source, maker, aside)
