"""The headers of NIfTI files, read by ourselves, since ITK hides what must be refused.

It takes the qform where the sform is sheared, turns NaN into 0, and reads a file that is cut off as zeros.
"""

import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.images.gzip_streams import unpacked
from dinomix.images.header import Header, complex_image, damaged_header, flat_image, not_in_millimeters
from dinomix.images.shear import check_usable, is_sheared
from dinomix.images.stored import DAMAGED, Stored

_NUMBER_TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
_COLORS = (128, 2304)
_COMPLEX = (32, 1792, 2048)
_UNITS = {1: "meters", 3: "micrometers"}
"""The lowest three bits of ``xyzt_units``; 2 is millimeters, and 0 says nothing."""
_FORM_CODES = set(range(6))
# A rotation by 180 degrees whose quaternion has four digits is off by this much.
_NORM_TOLERANCE = 1e-3


class _Fields(NamedTuple):
    """What matters here of the header as it is stored, NIfTI-1 or NIfTI-2; names as in nifti1.h."""

    sizeof_hdr: int
    order: str
    datatype: int
    bitpix: int
    dim: tuple[int, ...]
    pixdim: tuple[float, ...]
    vox_offset: float
    scl_slope: float
    scl_inter: float
    qform_code: int
    sform_code: int
    quatern: tuple[float, ...]
    qoffset: tuple[float, ...]
    srow: tuple[float, ...]
    xyzt_units: int


@dataclass(frozen=True)
class _Grid:
    """What the header says about the place of the voxels.

    Attributes:
        pixdim: mm along (i, j, k).
        sform: 4x4, index -> RAS mm, or None where ``sform_code`` is 0.
        qform: 4x4, index -> RAS mm, or None where ``qform_code`` is 0.
    """

    pixdim: tuple[float, ...]
    sform: NDArray[np.float64] | None
    qform: NDArray[np.float64] | None


def read_nifti_header(path: Path) -> Header:
    """Read the header of a ``.nii`` or ``.nii.gz`` file.

    Scaling is ``scl_slope * stored + scl_inter``, a slope of 0 (or NaN, as some write it) meaning none (nifti1.h).

    Raises:
        DinomixError: not NIfTI; a damaged header; 2D; colors or complex numbers; other units than millimeters; voxels
            that are not there, or not as many as the header says.
        OSError: the file cannot be opened.
    """
    packed = _is_gzip(path)
    start = _first_bytes(path, packed, 544)
    fields = _fields(start, path)
    shape = _shape(fields, path)
    number = _number_type(fields, path)
    if len(shape) < 3:
        raise flat_image(path, shape)
    offset = _offset(fields, path)
    _check_extensions(fields, path, packed, offset)
    i, j, k, frames, *values = (*shape, 1, 1)
    affine, notices = _affine(_grid(fields, path), (i, j, k), path)
    stored = Stored(number, math.prod(shape), (path,), "gzip" if packed else "raw", 0, offset)
    return Header(
        size=(i, j, k),
        frames=frames,
        values=math.prod(values),
        affine=affine,
        stored=stored,
        order="vfkji",
        scale=_scale(fields, path),
        notices=notices,
    )


def _is_gzip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _first_bytes(path: Path, packed: bool, count: int) -> bytes:
    with open(path, "rb") as file:
        if not packed:
            return file.read(count)
        start = b""
        try:
            for block in unpacked(file):
                start += block
                if len(start) >= count:
                    break
        except (EOFError, zlib.error) as error:
            raise DinomixError(f"{path} is damaged or cut off ({error}).", DAMAGED) from error
    return start[:count]


def _fields(start: bytes, path: Path) -> _Fields:
    for order in "<>":
        if len(start) >= 348 and struct.unpack_from(order + "i", start)[0] == 348 and start[344:348] == b"n+1\0":
            return _fields_at(_NIFTI_1, start, order)
        if len(start) >= 540 and struct.unpack_from(order + "i", start)[0] == 540 and start[4:8] == b"n+2\0":
            if start[8:12] not in (b"\r\n\x1a\n", bytes(4)):
                raise damaged_header(path, "it was sent as text, which changes bytes of it")
            return _fields_at(_NIFTI_2, start, order)
    raise DinomixError(f"{path} is named like a NIfTI file but is none.", DAMAGED)


class _Places(NamedTuple):
    """Where the fields lie in a header, in bytes, and how they are stored (``struct``)."""

    size: int
    types: tuple[int, str]
    dim: tuple[int, str]
    pixdim: tuple[int, str]
    offset_and_scale: tuple[int, str]
    codes: tuple[int, str]
    forms: tuple[int, str]
    units: tuple[int, str]


_NIFTI_1 = _Places(348, (70, "2h"), (40, "8h"), (76, "8f"), (108, "3f"), (252, "2h"), (256, "18f"), (123, "B"))
_NIFTI_2 = _Places(540, (12, "2h"), (16, "8q"), (104, "8d"), (168, "q2d"), (344, "2i"), (352, "18d"), (500, "i"))


def _fields_at(places: _Places, start: bytes, order: str) -> _Fields:
    (datatype, bitpix), dim, pixdim, (offset, slope, inter), (qform, sform), forms, (units,) = (
        struct.unpack_from(order + kind, start, place) for place, kind in places[1:]
    )
    return _Fields(
        places.size, order, datatype, bitpix, dim, pixdim, offset, slope, inter, qform, sform,
        forms[:3], forms[3:6], forms[6:], units,
    )  # fmt: skip


def _shape(fields: _Fields, path: Path) -> tuple[int, ...]:
    """``dim[1..dim[0]]``, axis order (i, j, k, ...)."""
    dimension = fields.dim[0]
    if not 1 <= dimension <= 7 or min(fields.dim[1 : dimension + 1]) < 1:
        raise damaged_header(path, f"dimensions {fields.dim}")
    return fields.dim[1 : dimension + 1]


def _number_type(fields: _Fields, path: Path) -> np.dtype:
    code = fields.datatype
    if code in _COMPLEX:
        raise complex_image(path)
    if code in _COLORS:
        raise DinomixError(f"{path} is a color image.", "Export it with a single number per voxel.")
    if code not in _NUMBER_TYPES:
        raise damaged_header(path, f"the number type is {code}")
    number = np.dtype(fields.order + _NUMBER_TYPES[code])
    if fields.bitpix not in (0, 8 * number.itemsize):
        raise damaged_header(path, f"numbers of {8 * number.itemsize} bits are said to have {fields.bitpix}")
    return number


def _offset(fields: _Fields, path: Path) -> int:
    """Bytes before the first voxel: after the header, and after the four bytes that say whether it is extended."""
    offset, least = fields.vox_offset, fields.sizeof_hdr + 4
    if not math.isfinite(offset) or offset != int(offset) or not least <= offset < 2**40:
        raise damaged_header(path, f"its voxels begin at byte {offset:g}; the header has {least} bytes")
    return int(offset)


def _check_extensions(fields: _Fields, path: Path, packed: bool, offset: int) -> None:
    """Raises DinomixError when the extensions of the header run on into the voxels."""
    place = fields.sizeof_hdr + 4
    if place == offset:
        return
    start = _first_bytes(path, packed, min(offset, 2**24))
    if not start[fields.sizeof_hdr : fields.sizeof_hdr + 1].strip(b"\0"):
        return
    while place + 8 <= min(offset, len(start)):
        (size,) = struct.unpack_from(fields.order + "i", start, place)
        if size < 8 or place + size > offset:
            raise damaged_header(
                path, f"an extension of {size} bytes, where {offset - place} are left before the voxels"
            )
        place += size


def _scale(fields: _Fields, path: Path) -> tuple[float, float]:
    slope, inter = fields.scl_slope, fields.scl_inter
    if slope == 0 or math.isnan(slope):
        return 1.0, 0.0
    if not (math.isfinite(slope) and math.isfinite(inter)):
        raise damaged_header(path, f"voxels are to be scaled by {slope:g} and moved by {inter:g}")
    return slope, inter


def _grid(fields: _Fields, path: Path) -> _Grid:
    unit = fields.xyzt_units & 7
    if unit in _UNITS:
        raise not_in_millimeters(path, _UNITS[unit])
    if unit not in (0, 2):
        raise damaged_header(path, f"its unit of length is number {unit}")
    if not {fields.sform_code, fields.qform_code} <= _FORM_CODES:
        raise damaged_header(path, f"sform_code {fields.sform_code} and qform_code {fields.qform_code}")
    pixdim = fields.pixdim[1:4]
    if fields.sform_code == 0 and not all(math.isfinite(mm) and mm > 0 for mm in pixdim):
        raise damaged_header(path, "voxels of {:g} x {:g} x {:g} mm".format(*pixdim))
    sform = np.vstack([np.array(fields.srow).reshape(3, 4), [0, 0, 0, 1]]) if fields.sform_code else None
    qform = _affine_of_quaternion(fields, path) if fields.qform_code else None
    return _Grid(pixdim, sform, qform)


def _affine_of_quaternion(fields: _Fields, path: Path) -> NDArray[np.float64]:
    """The qform, method 2 of nifti1.h: rotation from (b, c, d), handedness from the sign of ``pixdim[0]``."""
    b, c, d = fields.quatern
    square = b * b + c * c + d * d
    if not square <= 1 + _NORM_TOLERANCE or not np.isfinite(fields.qoffset).all():
        raise damaged_header(path, f"its quaternion ({b:g}, {c:g}, {d:g}) is no rotation")
    # Of half a turn a is 0; the root of what rounding leaves of it would tilt the image. nibabel takes it for 0 too.
    rounding = 3 * float(np.finfo(np.float32 if fields.sizeof_hdr == 348 else np.float64).eps)
    a = math.sqrt(1.0 - square) if 1.0 - square > rounding else 0.0
    b, c, d = (number / (math.sqrt(square) if a == 0 else 1.0) for number in (b, c, d))
    rotation = np.array([
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ])  # fmt: skip
    handedness = -1.0 if fields.pixdim[0] < 0 else 1.0
    affine = np.eye(4)
    with np.errstate(all="ignore"):  # where there is an sform too, pixdim may be anything
        affine[:3, :3] = rotation * np.array([fields.pixdim[1], fields.pixdim[2], handedness * fields.pixdim[3]])
    affine[:3, 3] = fields.qoffset
    return affine


def _affine(grid: _Grid, size: tuple[int, int, int], path: Path) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Index -> RAS mm (4x4) and notices: the sform where there is one, else the qform, else the voxel sizes alone.

    This is the rule of nifti1.h, which nibabel and MONAI follow.
    """
    if grid.sform is None and grid.qform is None:
        notice = (
            "The file does not say how the image lies in the patient; its axes are taken as right, anterior, superior."
        )
        return np.diag([*grid.pixdim, 1.0]), (notice,)
    if grid.sform is None or grid.qform is None:
        only = grid.qform if grid.sform is None else grid.sform
        return np.asarray(only), ()
    check_usable(grid.sform, path)
    i, j, k = size
    with np.errstate(all="ignore"):  # where the qform holds anything at all
        apart = float(np.abs((grid.sform - grid.qform)[:3] @ [i - 1, j - 1, k - 1, 1]).max())
    if apart < 1.0 or is_sheared(grid.sform, size):
        return grid.sform, ()
    return grid.sform, (f"The sform and qform of the file differ, by {apart:.1f} mm in a corner; the sform is used.",)
