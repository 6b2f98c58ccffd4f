"""NIfTI files, read by ourselves, since ITK hides what must be refused.

It takes the qform where the sform is sheared, turns NaN into 0, and reads a file that is cut off as zeros.
"""

import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.images.gzip_streams import unpacked
from dinomix.images.header import DAMAGED, Header, flat_image
from dinomix.images.shear import is_sheared

_NUMBER_TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
_OTHER_TYPES = {
    **dict.fromkeys((128, 2304), "a color image"),
    **dict.fromkeys((32, 1792, 2048), "an image of complex numbers"),
}


@dataclass(frozen=True)
class _Nifti:
    """The part of a NIfTI-1 or NIfTI-2 header that matters here.

    Attributes:
        shape: ``dim[1..dim[0]]``, axis order (i, j, k, ...).
        stored: the number type of the voxels in the file.
        offset: bytes of the file, decompressed, before the first voxel.
        slope, inter: a voxel's value is ``slope * stored + inter``.
        pixdim: mm along (i, j, k).
        sform: 4x4, index -> RAS mm, or None where ``sform_code`` is 0.
        qform: 4x4, index -> RAS mm, or None where ``qform_code`` is 0.
    """

    shape: tuple[int, ...]
    stored: np.dtype
    offset: int
    slope: float
    inter: float
    pixdim: tuple[float, float, float]
    sform: NDArray[np.float64] | None
    qform: NDArray[np.float64] | None


def read_nifti_header(path: Path) -> Header:
    """Read the header of a ``.nii`` or ``.nii.gz`` file.

    Raises:
        DinomixError: not NIfTI; a damaged header; 2D; colors or complex numbers.
        OSError: the file cannot be opened.
    """
    nifti = _parsed(path)
    if len(nifti.shape) < 3:
        raise flat_image(path, nifti.shape)
    i, j, k, frames, *values = (*nifti.shape, 1, 1)
    affine, notices = _affine(nifti)
    return Header((i, j, k), frames, math.prod(values), affine, notices=notices)


def read_nifti_voxels(path: Path) -> NDArray[np.generic]:
    """The voxels, through to the end of the file and the checksum of a compressed one.

    Axis order (frame, k, j, i, value); the first and the last axis are there where there are several. float32 where the
    header scales them, else the stored number type. Scaling is done in double precision: ``scl_slope * stored +
    scl_inter``, a slope of 0 meaning none (nifti1.h).

    Raises:
        DinomixError: the file is cut off or damaged.
    """
    nifti = _parsed(path)
    stored = np.empty(nifti.shape[::-1], nifti.stored)
    into = stored.reshape(-1).view(np.uint8).data
    try:
        done = _read_voxels(path, nifti.offset, into)
    except (EOFError, zlib.error) as error:
        raise DinomixError(f"{path} is damaged or cut off ({error}).", DAMAGED) from error
    if done < len(into):
        raise DinomixError(f"{path} is cut off: {done} of {len(into)} bytes of voxels are there.", DAMAGED)
    k_j_i = nifti.shape[2::-1]
    voxels = _scaled(stored, nifti).reshape((-1, *nifti.shape[3:4], *k_j_i))
    frames = nifti.shape[3:4] if nifti.shape[3:4] != (1,) else ()
    return np.moveaxis(voxels, 0, -1).reshape((*frames, *k_j_i, *((len(voxels),) if len(voxels) > 1 else ())))


def _read_voxels(path: Path, offset: int, into: memoryview) -> int:
    """Fill ``into`` with the file's bytes from ``offset`` on, and read what follows; how many bytes there were."""
    if not _is_gzip(path):
        with open(path, "rb") as file:
            file.seek(offset)
            done = 0
            while count := file.readinto(into[done:]):
                done += count
            return done
    position = -offset
    with open(path, "rb") as file:
        for block in unpacked(file):
            voxels = block[max(-position, 0) : len(into) - position] if position < len(into) else b""
            start = max(position, 0)
            into[start : start + len(voxels)] = voxels
            position += len(block)
    return min(max(position, 0), len(into))


def _scaled(stored: NDArray, nifti: _Nifti) -> NDArray:
    if (nifti.slope, nifti.inter) == (1.0, 0.0):
        return stored.astype(stored.dtype.newbyteorder("="), copy=False)
    scaled = np.empty(stored.shape, np.float32)
    for index in range(stored.shape[0]):
        scaled[index] = stored[index].astype(np.float64) * nifti.slope + nifti.inter
    return scaled


def _affine(nifti: _Nifti) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Index -> RAS mm (4x4) and notices: the sform where there is one, else the qform, else the voxel sizes alone.

    This is the rule of nifti1.h, which nibabel and MONAI follow.
    """
    if nifti.sform is None and nifti.qform is None:
        notice = (
            "The file does not say how the image lies in the patient; its axes are taken as right, anterior, superior."
        )
        return np.diag([*nifti.pixdim, 1.0]), (notice,)
    if nifti.sform is None or nifti.qform is None:
        only = nifti.qform if nifti.sform is None else nifti.sform
        return np.asarray(only), ()
    i, j, k = nifti.shape[:3]
    apart = float(np.abs((nifti.sform - nifti.qform)[:3] @ [i - 1, j - 1, k - 1, 1]).max())
    if apart < 1.0 or is_sheared(nifti.sform, (i, j, k)):
        return nifti.sform, ()
    return nifti.sform, (f"The sform and qform of the file differ, by {apart:.1f} mm in a corner; the sform is used.",)


def _parsed(path: Path) -> _Nifti:
    start = _first_bytes(path, 540)
    for order in "<>":
        if len(start) >= 348 and struct.unpack_from(order + "i", start)[0] == 348 and start[344:347] == b"n+1":
            return _nifti1(start, order, path)
        if len(start) >= 540 and struct.unpack_from(order + "i", start)[0] == 540 and start[4:7] == b"n+2":
            return _nifti2(start, order, path)
    raise DinomixError(f"{path} is named like a NIfTI file but is none.", DAMAGED)


def _is_gzip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _first_bytes(path: Path, count: int) -> bytes:
    if not _is_gzip(path):
        with open(path, "rb") as file:
            return file.read(count)
    start = b""
    try:
        with open(path, "rb") as file:
            for block in unpacked(file):
                start += block
                if len(start) >= count:
                    break
        return start[:count]
    except (EOFError, zlib.error) as error:
        raise DinomixError(f"{path} is damaged or cut off ({error}).", DAMAGED) from error


def _nifti1(start: bytes, order: str, path: Path) -> _Nifti:
    dim = struct.unpack_from(order + "8h", start, 40)
    (code,) = struct.unpack_from(order + "h", start, 70)
    pixdim = struct.unpack_from(order + "8f", start, 76)
    scale = struct.unpack_from(order + "3f", start, 108)
    form_codes = struct.unpack_from(order + "2h", start, 252)
    forms = struct.unpack_from(order + "18f", start, 256)
    return _header(path, dim, _number_type(code, order, path), scale, pixdim, form_codes, forms)


def _nifti2(start: bytes, order: str, path: Path) -> _Nifti:
    (code,) = struct.unpack_from(order + "h", start, 12)
    dim = struct.unpack_from(order + "8q", start, 16)
    pixdim = struct.unpack_from(order + "8d", start, 104)
    scale = struct.unpack_from(order + "q2d", start, 168)
    form_codes = struct.unpack_from(order + "2i", start, 344)
    forms = struct.unpack_from(order + "18d", start, 352)
    return _header(path, dim, _number_type(code, order, path), scale, pixdim, form_codes, forms)


def _number_type(code: int, order: str, path: Path) -> np.dtype:
    if code in _NUMBER_TYPES:
        return np.dtype(order + _NUMBER_TYPES[code])
    kind = _OTHER_TYPES.get(code, f"an image of an unknown number type ({code})")
    raise DinomixError(f"{path} is {kind}.", "Export it with a single integer or floating-point number per voxel.")


def _header(
    path: Path,
    dim: tuple[int, ...],
    stored: np.dtype,
    scale: tuple[float, ...],
    pixdim: tuple[float, ...],
    form_codes: tuple[int, ...],
    forms: tuple[float, ...],
) -> _Nifti:
    if not 1 <= dim[0] <= 7 or min(dim[1 : dim[0] + 1]) < 1:
        raise DinomixError(f"{path} has a damaged NIfTI header (dimensions {dim}).", DAMAGED)
    offset, slope, inter = scale
    scaled = np.isfinite(slope) and np.isfinite(inter) and slope != 0
    qform_code, sform_code = form_codes
    return _Nifti(
        shape=tuple(dim[1 : dim[0] + 1]),
        stored=stored,
        offset=int(offset),
        slope=slope if scaled else 1.0,
        inter=inter if scaled else 0.0,
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
