"""What a NIfTI header says, read by ourselves: ITK hides a sheared sform behind the qform."""

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.images.shear import is_sheared

DAMAGED = "Copy or export it again."


@dataclass(frozen=True)
class NiftiHeader:
    """The part of a NIfTI-1 or NIfTI-2 header that places voxels in space.

    Attributes:
        shape: ``dim[1..dim[0]]``, axis order (i, j, k, ...).
        datatype: the NIfTI code of the stored number type.
        end: bytes of the file, decompressed, up to the last voxel.
        pixdim: mm along (i, j, k).
        sform: 4x4, index -> RAS mm, or None where ``sform_code`` is 0.
        qform: 4x4, index -> RAS mm, or None where ``qform_code`` is 0.
    """

    shape: tuple[int, ...]
    datatype: int
    end: int
    pixdim: tuple[float, float, float]
    sform: NDArray[np.float64] | None
    qform: NDArray[np.float64] | None

    def affine(self) -> tuple[NDArray[np.float64], tuple[str, ...]]:
        """Index -> RAS mm (4x4) and notices: the sform where there is one, else the qform, else the voxel sizes alone.

        This is the rule of nifti1.h, which nibabel and MONAI follow. ITK takes the qform where the sform is sheared.
        """
        if self.sform is None and self.qform is None:
            notice = "The file does not say how the image lies in the patient; its axes are taken as right, anterior,"
            return np.diag([*self.pixdim, 1.0]), (f"{notice} superior.",)
        if self.sform is None or self.qform is None:
            chosen = self.sform if self.qform is None else self.qform
            assert chosen is not None
            return chosen, ()
        size = np.array(self.shape[:3]) - 1
        apart = np.abs((self.sform - self.qform)[:3] @ np.array([*size, 1.0])).max()
        if apart > 1.0 and not is_sheared(self.sform, (self.shape[0], self.shape[1], self.shape[2])):
            return self.sform, (
                f"The file's sform and qform differ, by {apart:.1f} mm at its far corner; the sform is used.",
            )
        return self.sform, ()


def read_nifti_header(path: Path) -> NiftiHeader:
    """Read the header of a ``.nii`` or ``.nii.gz`` file.

    Raises:
        DinomixError: the file is not NIfTI or is cut off.
        OSError: the file cannot be opened.
    """
    start = _first_bytes(path, 540)
    for order in "<>":
        if (
            len(start) >= 348
            and struct.unpack_from(order + "i", start)[0] == 348
            and start[344:347] in (b"n+1", b"ni1")
        ):
            return _nifti1(start, order, path)
        if len(start) >= 540 and struct.unpack_from(order + "i", start)[0] == 540 and start[4:7] in (b"n+2", b"ni2"):
            return _nifti2(start, order, path)
    raise DinomixError(f"{path} is named like a NIfTI file but is none.", DAMAGED)


def check_whole(path: Path, header: NiftiHeader) -> None:
    """Read a NIfTI file through to its end and, if it is compressed, its checksum.

    ITK stops before the checksum and takes what is missing for zeros.

    Raises:
        DinomixError: the file is cut off or damaged.
    """
    length = 0
    try:
        with gzip.open(path, "rb") if is_gzip(path) else open(path, "rb") as file:
            while block := file.read(1 << 20):
                length += len(block)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DinomixError(f"{path} is damaged or cut off ({error}).", DAMAGED) from error
    if length < header.end:
        raise DinomixError(f"{path} is cut off: {length} of {header.end} bytes are there.", DAMAGED)


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


def _nifti1(start: bytes, order: str, path: Path) -> NiftiHeader:
    dim = struct.unpack_from(order + "8h", start, 40)
    datatype, bits = struct.unpack_from(order + "2h", start, 70)
    pixdim = struct.unpack_from(order + "8f", start, 76)
    (offset,) = struct.unpack_from(order + "f", start, 108)
    codes = struct.unpack_from(order + "2h", start, 252)
    forms = struct.unpack_from(order + "18f", start, 256)
    return _header(path, dim, datatype, bits, int(offset), pixdim, codes, forms)


def _nifti2(start: bytes, order: str, path: Path) -> NiftiHeader:
    datatype, bits = struct.unpack_from(order + "2h", start, 12)
    dim = struct.unpack_from(order + "8q", start, 16)
    pixdim = struct.unpack_from(order + "8d", start, 104)
    (offset,) = struct.unpack_from(order + "q", start, 168)
    codes = struct.unpack_from(order + "2i", start, 344)
    forms = struct.unpack_from(order + "18d", start, 352)
    return _header(path, dim, datatype, bits, offset, pixdim, codes, forms)


def _header(
    path: Path,
    dim: tuple[int, ...],
    datatype: int,
    bits: int,
    offset: int,
    pixdim: tuple[float, ...],
    codes: tuple[int, ...],
    forms: tuple[float, ...],
) -> NiftiHeader:
    if not 1 <= dim[0] <= 7 or min(dim[1 : dim[0] + 1]) < 1:
        raise DinomixError(f"{path} has a damaged NIfTI header (dimensions {dim}).", DAMAGED)
    shape = tuple(dim[1 : dim[0] + 1])
    qform_code, sform_code = codes
    return NiftiHeader(
        shape=shape,
        datatype=datatype,
        end=offset + math.prod(shape) * bits // 8,
        pixdim=(pixdim[1], pixdim[2], pixdim[3]),
        sform=np.vstack([np.array(forms[6:]).reshape(3, 4), [0, 0, 0, 1]]) if sform_code > 0 else None,
        qform=_affine_of_quaternion(forms[:6], pixdim) if qform_code > 0 else None,
    )


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
