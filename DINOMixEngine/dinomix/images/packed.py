"""Compressed NIfTI and NRRD files, packed on all cores. The headers are ITK's own; ITK packs on one core, slowly."""

import gzip
import struct
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from dinomix.images.gzip_streams import pack
from dinomix.images.quiet import itk_warnings_off
from dinomix.images.volume import Geometry

NIFTI_HEADER = 352
LARGEST_NIFTI_SIDE = 2**15 - 1


def write_packed(array: NDArray[np.generic], geometry: Geometry, keys: dict[str, str], path: Path) -> None:
    """Write a volume (k, j, i) to ``path``, which ends in ``.nii.gz`` or ``.nrrd``.

    Args:
        keys: the keys and texts of a NRRD file's header.

    Raises:
        OSError: the file cannot be written, or not all of it.
        RuntimeError: ITK could not write the header, and does not say why.
    """
    is_nifti = path.name.lower().endswith(".nii.gz")
    written = _small_file(array.dtype, geometry, keys, path)
    header = _nifti_header(written, geometry) if is_nifti else _nrrd_header(written, geometry)
    voxels = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    with open(path, "wb") as file:
        if not is_nifti:
            file.write(header)
            header = b""
        pack(header, voxels.reshape(-1).view(np.uint8).data, file)


def _small_file(dtype: np.dtype, geometry: Geometry, keys: dict[str, str], path: Path) -> bytes:
    """What ITK writes for 2x2x2 voxels on a grid that begins and runs like this one, uncompressed."""
    image = sitk.GetImageFromArray(np.zeros((2, 2, 2), dtype))
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection([float(value) for value in geometry.direction.ravel()])
    for key, text in keys.items():
        image.SetMetaData(key, text)
    with itk_warnings_off():
        sitk.WriteImage(image, str(path), useCompression=False)
    written = path.read_bytes()
    return gzip.decompress(written) if written.startswith(b"\x1f\x8b") else written


def _nifti_header(written: bytes, geometry: Geometry) -> bytes:
    """The header with the grid's own size: ``dim[1..3]``, int16 at byte 42 (nifti1.h)."""
    header = bytearray(written[:NIFTI_HEADER])
    if len(header) < NIFTI_HEADER or struct.unpack_from("<4h", header, 40) != (3, 2, 2, 2):
        raise RuntimeError("the header is not as it should be")
    struct.pack_into("<3h", header, 42, *geometry.size)
    return bytes(header)


def _nrrd_header(written: bytes, geometry: Geometry) -> bytes:
    """The header with the grid's own size, and the word for compressed voxels; the header ends at the first empty line."""
    if b"\n\n" not in written:
        raise RuntimeError("the header was cut off")
    lines = written[: written.index(b"\n\n") + 2].split(b"\n")
    own = {b"sizes": b"%d %d %d" % geometry.size, b"encoding": b"gzip"}
    return b"\n".join(
        line.split(b":")[0] + b": " + own[line.split(b":")[0]] if line.split(b":")[0] in own else line for line in lines
    )
