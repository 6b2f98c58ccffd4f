"""Volumes written to files, exactly on the grid they were computed on, and never half."""

import errno
import os
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.files import written_aside
from dinomix.images.formats import is_segmentation
from dinomix.images.packed import itk_image, write_packed
from dinomix.images.quiet import itk_warnings_off
from dinomix.images.segments import Segment, segment_keys
from dinomix.images.volume import Geometry, Volume
from dinomix.labels import LabelSet
from dinomix.terminology import terminology_entry

WRITABLE = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".mha")


def write_labels(array: NDArray[np.generic], geometry: Geometry, labels: LabelSet, path: str | Path) -> None:
    """Write a label map; as ``.seg.nrrd`` with each structure's name, color and terminology, as 3D Slicer writes them.

    Args:
        array: (k, j, i), unsigned integers: ids of ``labels``, and 0.
        geometry: the grid of ``array``; the file has exactly this one.
        labels: all of these become segments, those without a voxel too.
        path: ends in one of ``WRITABLE``. An existing file is replaced once the new one is whole.

    Raises:
        DinomixError: the ending is unknown.
        OSError: the file cannot be written (disk full, folder read-only); nothing is left behind.
        ValueError: ``array`` holds an id that ``labels`` lacks.
    """
    path = Path(path)
    _check_known(array, labels)
    array = array.astype(np.uint8 if max(labels.ids) < 256 else np.uint16, copy=False)
    keys = segment_keys(array, _segments(labels)) if is_segmentation(path) else {}
    _write(array, geometry, keys, path)


def write_image(volume: Volume, path: str | Path) -> None:
    """Write an image or label volume in the number type that it has. Raises as ``write_labels``."""
    _write(volume.array, volume.geometry, {}, Path(path))


def _segments(labels: LabelSet) -> list[Segment]:
    return [
        Segment(
            name=structure.name,
            value=structure.id,
            color=(structure.color[0] / 255, structure.color[1] / 255, structure.color[2] / 255),
            terminology=terminology_entry(structure.terminology),
        )
        for structure in labels.structures
    ]


def _check_known(array: NDArray[np.generic], labels: LabelSet) -> None:
    known = np.zeros(65536, bool)
    known[[0, *labels.ids]] = True
    if not all(known[slab].all() for slab in array):
        unknown = sorted(set(np.unique(array).tolist()) - {0, *labels.ids})
        raise ValueError(f"labels {unknown} are not in the label set {labels.ids}")


def _write(array: NDArray[np.generic], geometry: Geometry, keys: dict[str, str], path: Path) -> None:
    if not path.name.lower().endswith(WRITABLE):
        raise DinomixError(f"{path} has an ending that is not written here.", f"Choose one of {', '.join(WRITABLE)}.")
    is_packed = path.name.lower().endswith((".nii.gz", ".nrrd"))
    with written_aside(path) as aside:
        try:
            if is_packed:
                write_packed(array, geometry, keys, aside)
            else:
                _write_by_itk(array, geometry, aside)
        except RuntimeError as error:
            raise _system_error(array.nbytes, aside, path) from error


def _write_by_itk(array: NDArray[np.generic], geometry: Geometry, aside: Path) -> None:
    """Raises RuntimeError where the file is not whole: ITK does not notice that a disk was full."""
    with itk_warnings_off():
        sitk.WriteImage(itk_image(array, geometry), str(aside), useCompression=True)
        again = sitk.ReadImage(str(aside))
    if not np.array_equal(sitk.GetArrayViewFromImage(again), array):
        raise RuntimeError("the file was not written whole")


def _system_error(size: int, aside: Path, path: Path) -> OSError:
    """Why the system refuses to write: ITK's messages do not say it, so as many bytes are written to learn it."""
    block = bytes(1 << 20)
    try:
        with open(aside, "wb") as file:
            for _ in range(size // len(block) + 1):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return OSError(error.errno, os.strerror(error.errno or errno.EIO), str(path))
    return OSError(errno.EIO, "The file could not be written whole", str(path))
