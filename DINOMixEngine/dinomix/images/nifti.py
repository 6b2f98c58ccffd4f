"""What a NIfTI header says, read by ourselves: ITK hides a sheared sform behind the qform."""

import gzip
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dinomix.errors import DinomixError

DAMAGED = "Copy or export it again."


@dataclass(frozen=True)
class NiftiHeader:
    """The part of a NIfTI-1 or NIfTI-2 header that places voxels in space.

    Attributes:
        shape: ``dim[1..dim[0]]``, axis order (i, j, k, ...).
        datatype: the NIfTI code of the stored number type.
        sform: 4x4, index -> RAS mm, or None where ``sform_code`` is 0.
        qform: 4x4, index -> RAS mm, or None where ``qform_code`` is 0.
    """

    shape: tuple[int, ...]
    datatype: int
    sform: NDArray[np.float64] | None
    qform: NDArray[np.float64] | None


def read_nifti_header(path: Path) -> NiftiHeader:
    """Read the header of a ``.nii`` or ``.nii.gz`` file.

    Raises:
        DinomixError: the file is not NIfTI or is cut off.
        OSError: the file cannot be opened.
    """
    start = _first_bytes(path, 540)
    for order in "<>":
        if len(start) >= 348 and struct.unpack_from(order + "i", start)[0] == 348 and start[344:347] in (b"n+1", b"ni1"):
            return _nifti1(start, order)
        if len(start) >= 540 and struct.unpack_from(order + "i", start)[0] == 540 and start[4:7] in (b"n+2", b"ni2"):
            return _nifti2(start, order)
    raise DinomixError(f"{path} is named like a NIfTI file but is none.", DAMAGED)


def check_whole_gzip(path: Path) -> None:
    """Read a gzip file through to its checksum: image readers stop before it, and take damaged bytes for voxels.

    Raises DinomixError when the file is cut off or damaged.
    """
    try:
        with gzip.open(path, "rb") as file:
            while file.read(1 << 20):
                pass
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DinomixError(f"{path} is damaged or cut off ({error}).", DAMAGED) from error


def is_gzip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _first_bytes(path: Path, count: int) -> bytes:
    if not is_gzip(path):
        with open(path, "rb") as file:
            return file.read(count)
    try:
        with gzip.open(path, "rb") as file:
            return file.read(count)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DinomixError(f"{path} is damaged or cut off ({error}).", DAMAGED) from error


def _nifti1(start: bytes, order: str) -> NiftiHeader:
    dim = struct.unpack_from(order + "8h", start, 40)
    pixdim = struct.unpack_from(order + "8f", start, 76)
    qform_code, sform_code = struct.unpack_from(order + "2h", start, 252)
    quaternion = struct.unpack_from(order + "6f", start, 256)
    rows = struct.unpack_from(order + "12f", start, 280)
    (datatype,) = struct.unpack_from(order + "h", start, 70)
    return _header(dim, datatype, pixdim, qform_code, quaternion, sform_code, rows)


def _nifti2(start: bytes, order: str) -> NiftiHeader:
    dim = struct.unpack_from(order + "8q", start, 16)
    pixdim = struct.unpack_from(order + "8d", start, 104)
    qform_code, sform_code = struct.unpack_from(order + "2i", start, 344)
    quaternion = struct.unpack_from(order + "6d", start, 352)
    rows = struct.unpack_from(order + "12d", start, 400)
    (datatype,) = struct.unpack_from(order + "h", start, 12)
    return _header(dim, datatype, pixdim, qform_code, quaternion, sform_code, rows)


def _header(
    dim: tuple[int, ...],
    datatype: int,
    pixdim: tuple[float, ...],
    qform_code: int,
    quaternion: tuple[float, ...],
    sform_code: int,
    rows: tuple[float, ...],
) -> NiftiHeader:
    sform = qform = None
    if sform_code > 0:
        sform = np.vstack([np.array(rows).reshape(3, 4), [0, 0, 0, 1]])
    if qform_code > 0:
        qform = _affine_of_quaternion(quaternion, pixdim)
    return NiftiHeader(tuple(dim[1 : dim[0] + 1]), datatype, sform, qform)


def _affine_of_quaternion(quaternion: tuple[float, ...], pixdim: tuple[float, ...]) -> NDArray[np.float64]:
    """The qform, method 2 of nifti1.h: rotation from (b, c, d), handedness from the sign of ``pixdim[0]``."""
    b, c, d, *offset = quaternion
    a = np.sqrt(max(0.0, 1.0 - (b * b + c * c + d * d)))
    rotation = np.array([
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ])  # fmt: skip
    handedness = -1.0 if pixdim[0] < 0 else 1.0
    affine = np.eye(4)
    affine[:3, :3] = rotation * np.array([pixdim[1], pixdim[2], handedness * pixdim[3]])
    affine[:3, 3] = offset
    return affine
