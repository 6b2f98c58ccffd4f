"""Image and label files read into volumes; what would mislead later is refused here, in one sentence."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.images.dicom import read_series, series_geometry
from dinomix.images.dicom_codes import codes_of_dicom
from dinomix.images.dicom_drawn import drawn_file
from dinomix.images.dicom_labels import read_dicom_label
from dinomix.images.formats import is_segmentation
from dinomix.images.header import Header
from dinomix.images.image_headers import in_words, is_dicom, read_header
from dinomix.images.lattice import lattice, on_lattice
from dinomix.images.masks import mask_files, read_masks
from dinomix.images.overlaps import Overlaps
from dinomix.images.segments import flattened, segments_of
from dinomix.images.shear import check_usable, geometry_of_affine, is_sheared, resampled
from dinomix.images.stored import read_stored
from dinomix.images.volume import Geometry, Volume

_BYTES_PER_READER = 3 << 30
"""A large CT takes about this much while it is read: the voxels, the label and the copies that are compared."""
ONE_VOLUME = "Export the one volume that you mean as a file of its own."


def read_image(
    path: str | Path, *, frame: int | None = None, resample_sheared: bool = False, keep_integers: bool = False
) -> Volume:
    """Read an image.

    Args:
        path: a NIfTI, NRRD or MetaImage file, a folder with one DICOM series, or one file of a DICOM series.
        frame: which volume to take, counted from 0, where the file holds several.
        resample_sheared: resample an image on a sheared grid onto a rectangular one instead of refusing it.
        keep_integers: leave integers that the file does not scale as they are, which often halves the memory.

    Returns:
        A float32 volume, array (k, j, i): HU for CT, else the numbers that the file's own scale gives.

    Raises:
        DinomixError: no such file; not an image; damaged or cut off; 2D, or several volumes or colors and no ``frame``;
            NaN or infinite voxels; a sheared grid; a DICOM folder without exactly one evenly spaced series; it cannot be
            opened, or does not fit into memory.
    """
    path = Path(path)
    with in_words(path):
        notices: tuple[str, ...] = ()
        if is_dicom(path):
            array, affine = read_series(path)
        else:
            header = read_header(path)
            _check_one_volume(header, frame, path)
            array = _volume(_read_voxels(path, header), header, frame)
            if not (keep_integers and array.dtype.kind in "iu"):
                with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused below
                    array = array.astype(np.float32, copy=False)
            affine, notices = header.affine, header.notices
        return _image(array, affine, notices, path, resample_sheared)


def read_frames(path: Path, count: int, *, resample_sheared: bool = False, keep_integers: bool = False) -> list[Volume]:
    """The volumes of a 4D file, or the values of one whose voxels have several, in the file's order; see ``read_image``.

    Raises:
        DinomixError: as ``read_image``; the file holds another number of volumes than ``count``.
    """
    with in_words(path):
        header = read_header(path)
        there = header.frames * header.values
        if there != count or 1 not in (header.frames, header.values):
            raise DinomixError(
                f"{path} holds {there} volumes instead of {count}.", "Export it again, with all channels."
            )
        array = _read_voxels(path, header)
        if not (keep_integers and array.dtype.kind in "iu"):
            with np.errstate(over="ignore"):
                array = array.astype(np.float32, copy=False)
        volumes = (_volume(array, header, frame) for frame in range(count))
        return [_image(volume, header.affine, header.notices, path, resample_sheared) for volume in volumes]


def _image(
    array: NDArray, affine: NDArray[np.float64], notices: tuple[str, ...], path: Path, resample_sheared: bool
) -> Volume:
    """A volume of an image's voxels (k, j, i), checked, and resampled where it may be."""
    _check_finite(array, path)
    size = (array.shape[2], array.shape[1], array.shape[0])
    check_usable(affine, path)
    if resample_sheared and is_sheared(affine, size):
        array, affine = resampled(array.astype(np.float32, copy=False), affine)
        size = (array.shape[2], array.shape[1], array.shape[0])
        notices = (*notices, "The image lay on a sheared grid and was resampled onto a rectangular one.")
    return Volume(array, geometry_of_affine(affine, size, path), notices)


def is_placed(path: Path) -> bool:
    """Whether a label is put on its image's grid when it is read, or refused then: Slicer's segmentations, which are cropped,
    DICOM, and folders of masks. In any other file, a shift is a mistake.
    """
    return is_segmentation(path) or path.is_dir() or drawn_file(path) is not None


def read_label(
    path: Path, *, like: Geometry | None = None, order: Sequence[str] = ()
) -> tuple[Volume, dict[int, str] | None]:
    """Read a label map.

    Args:
        path: a NIfTI, NRRD or MetaImage file; ``.seg.nrrd`` of 3D Slicer too; a folder with a mask for each structure; a DICOM
            segmentation (SEG) or structure set (RTSTRUCT), or a folder that holds one of these alone.
        like: the image's grid. 3D Slicer crops segmentations; one on the voxels of ``like`` is put back in its place. DICOM is
            read onto it; a structure set cannot be read without.
        order: names of structures; where some overlap, the later one in it wins.

    Returns:
        A uint8 or uint16 volume, array (k, j, i), and id -> name if the file carries names (``.seg.nrrd``, DICOM, or the names
        of masks), else None.

    Raises:
        DinomixError: as ``read_image``; also numbers that are negative, above 65535 or not whole; labels outside of ``like``;
            masks that are none, or lie on another grid than ``like``.
        OverlapError: structures overlap, and the order does not settle it.
    """
    with in_words(path):
        if mask_files(path):
            return read_masks(path, _read_mask, like, order)
        if is_dicom(path):
            return read_dicom_label(path, like, order)
        header = read_header(path)
        names, notices = None, header.notices
        overlaps: Overlaps = ()
        if segments := segments_of(header, path):
            array, names, more, overlaps = flattened(
                _whole_numbers(_read_voxels(path, header), path), segments, path, order
            )
            notices += more
        else:
            _check_one_volume(header, None, path)
            array = _whole_numbers(_read_voxels(path, header), path)
        volume = Volume(array, geometry_of_affine(header.affine, header.size, path), notices, overlaps)
        return (volume if like is None else _placed(volume, like, path)), names


def _read_mask(path: Path) -> tuple[NDArray[np.generic], Geometry]:
    header = read_header(path)
    _check_one_volume(header, None, path)
    return _read_voxels(path, header), geometry_of_affine(header.affine, header.size, path)


def read_codes(path: Path) -> dict[str, str]:
    """Name of a structure -> terminology entry as Slicer has it, where a label file says it (``.seg.nrrd``, DICOM).

    Raises DinomixError as ``read_label`` does for what a header shows.
    """
    with in_words(path):
        if (file := drawn_file(path)) is not None:
            return codes_of_dicom(file)
        if not is_segmentation(path):
            return {}
        return {segment.name: segment.terminology for segment in segments_of(read_header(path), path)}


def read_geometry(path: Path) -> Geometry:
    """The grid of an image or label file, from its header alone; for DICOM, from the headers of all slices.

    Raises DinomixError as ``read_image`` does for what a header shows.
    """
    with in_words(path):
        if is_dicom(path):
            return series_geometry(path)
        header = read_header(path)
        return geometry_of_affine(header.affine, header.size, path)


def check_header(path: Path) -> None:
    """Raises DinomixError for what ``read_image`` would find in the header of a file, without reading a voxel."""
    with in_words(path):
        if not is_dicom(path):
            _check_one_volume(read_header(path), None, path)


def _read_voxels(path: Path, header: Header) -> NDArray[np.generic]:
    """The voxels, axis order (frame, k, j, i, value); the first and the last axis are there where there are several.

    float32 where the header scales them, else the stored number type.
    """
    i, j, k = header.size
    lengths = {"f": header.frames, "k": k, "j": j, "i": i, "v": header.values}
    voxels = _scaled(read_stored(header.stored, path), header.scale)
    voxels = voxels.reshape([lengths[axis] for axis in header.order])
    voxels = voxels.transpose([header.order.index(axis) for axis in lengths])
    return voxels.squeeze(tuple(axis for axis, count in ((0, header.frames), (4, header.values)) if count == 1))


def _scaled(numbers: NDArray[np.generic], scale: tuple[float, float]) -> NDArray[np.generic]:
    """``slope * number + intercept``, computed in double precision a part at a time."""
    slope, intercept = scale
    if (slope, intercept) == (1.0, 0.0):
        return numbers
    scaled = np.empty(numbers.size, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what is no finite number is refused later
        for start in range(0, numbers.size, 2**20):
            part = slice(start, start + 2**20)
            scaled[part] = numbers[part].astype(np.float64) * slope + intercept
    return scaled


def _check_one_volume(header: Header, frame: int | None, path: Path) -> None:
    """Raises DinomixError when a file holds several volumes and ``frame`` does not say which."""
    count = header.frames * header.values
    if count == 1:
        return
    if frame is not None and 1 in (header.values, header.frames):
        if not 0 <= frame < count:
            raise DinomixError(f"{path} has no volume {frame}.", f"It has the volumes 0 to {count - 1}.")
        return
    if header.values > 1:
        raise DinomixError(f"{path} holds {header.values} numbers per voxel (colors or vectors).", ONE_VOLUME)
    raise DinomixError(f"{path} is 4D: it holds {header.frames} volumes.", ONE_VOLUME)


def _volume(array: NDArray, header: Header, frame: int | None) -> NDArray:
    """(k, j, i) of the volume or value ``frame``."""
    if header.frames * header.values == 1:
        return array
    return np.ascontiguousarray(array[frame] if header.values == 1 else array[..., frame])


def _check_finite(array: NDArray, path: Path) -> None:
    if array.dtype.kind != "f":
        return
    bad = sum(slab.size - int(np.count_nonzero(np.isfinite(slab))) for slab in array)
    if bad:
        raise DinomixError(
            f"{path} holds {bad} voxels that are no numbers (NaN or infinite).",
            "Replace them, for example by the value of air, and save the image again.",
        )


def _whole_numbers(array: NDArray, path: Path) -> NDArray:
    """The array as uint8, or uint16 where 255 is exceeded."""
    remedy = "Give a label map, in which every voxel holds the number of its structure."
    if array.dtype.kind == "f":
        _check_finite(array, path)
        whole = np.rint(array)
        # Scales in headers leave labels a little beside the whole numbers that they are.
        if np.abs(whole - array).max() > 1e-3:
            raise DinomixError(f"{path} holds numbers that are not whole, so it is not a label map.", remedy)
        array = whole
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > 65535:
        raise DinomixError(f"{path} holds labels from {low:g} to {high:g}; 0 to 65535 are possible.", remedy)
    return array.astype(np.uint8 if high < 256 else np.uint16)


def _placed(label: Volume, like: Geometry, path: Path) -> Volume:
    """The label map on ``like``'s grid where both lie on the same voxels, else as it is."""
    if label.geometry.size == like.size and not label.geometry.difference(like):
        return label
    way = lattice(label.geometry, like)
    if way is None or way.is_turned or not way.coincides:
        return label
    array, lost = on_lattice(label.array, way, like.size)
    if lost:
        raise DinomixError(
            f"{path} has {lost} labeled voxels outside of its image.", "Check that the label map belongs to the image."
        )
    moved = "The label map was cropped or padded and was put on its image's grid."
    return Volume(array, like, (*label.notices, moved), label.overlaps)


def readers() -> int:
    """How many large volumes may be read and worked on at once, by the processors and the memory at hand."""
    return max(1, min(4, os.cpu_count() or 1, int(psutil.virtual_memory().available // _BYTES_PER_READER)))
