"""Compressed NIfTI and NRRD files. ITK packs slowly; its NIfTI header is taken over."""

import gzip
import struct
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.images.gzip_streams import pack
from dinomix.images.nrrd_writing import nrrd_header
from dinomix.images.quiet import itk_warnings_off
from dinomix.images.volume import Geometry

NIFTI_HEADER = 352
LARGEST_NIFTI_SIDE = 2**15 - 1


def write_packed(array: NDArray[np.generic], geometry: Geometry, keys: dict[str, str], path: Path) -> None:
    """Write a volume (k, j, i) to ``path``, which ends in ``.nii.gz`` or ``.nrrd``.

    Args:
        keys: the keys and texts of a NRRD file's header.

    Raises:
        DinomixError: the volume is too long for NIfTI.
        OSError: the file cannot be written, or not all of it.
        RuntimeError: ITK could not write the header, and does not say why.
    """
    voxels = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8).data
    if path.name.lower().endswith(".nii.gz"):
        header = _nifti_header(array.dtype, geometry, path)
        with open(path, "wb") as file:
            pack(header, voxels, file)
    else:
        with open(path, "wb") as file:
            file.write(nrrd_header(array, geometry.affine_ras, keys))
            pack(b"", voxels, file)


def _nifti_header(dtype: np.dtype, geometry: Geometry, path: Path) -> bytes:
    """What ITK writes for 2x2x2 voxels on a grid that begins and runs like this one, with the grid's own size.

    The size is ``dim[1..3]``, int16 at byte 42 (nifti1.h).
    """
    if max(geometry.size) > LARGEST_NIFTI_SIDE:
        raise DinomixError(
            f"NIfTI holds at most {LARGEST_NIFTI_SIDE} voxels along a side, and this volume has {max(geometry.size)}.",
            "Write a .nrrd or .seg.nrrd file.",
        )
    with itk_warnings_off():
        sitk.WriteImage(itk_image(np.zeros((2, 2, 2), dtype), geometry), str(path), useCompression=False)
    written = path.read_bytes()
    header = bytearray((gzip.decompress(written) if written.startswith(b"\x1f\x8b") else written)[:NIFTI_HEADER])
    if len(header) < NIFTI_HEADER or struct.unpack_from("<4h", header, 40) != (3, 2, 2, 2):
        raise RuntimeError("the header is not as it should be")
    struct.pack_into("<3h", header, 42, *geometry.size)
    return bytes(header)


def itk_image(array: NDArray[np.generic], geometry: Geometry) -> sitk.Image:
    """An array (k, j, i) as an image of ITK that begins and runs like a grid."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection([float(value) for value in geometry.direction.ravel()])
    return image
