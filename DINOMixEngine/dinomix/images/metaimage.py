"""MetaImage files (``.mha``, ``.mhd``), read by ourselves: ITK's reader believes any header, and can be killed by one."""

import math
import re
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.images.header import Header, damaged_header, flat_image, not_in_millimeters
from dinomix.images.shear import TO_LPS
from dinomix.images.stored import DAMAGED, Stored
from dinomix.images.text_headers import (
    MOST_AXES,
    files_beside,
    files_needed,
    header_lines,
    names_of_pattern,
    numbers,
    whole_numbers,
)  # fmt: skip

_NUMBER_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
_FLAGS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


def read_metaimage_header(path: Path) -> Header:
    """Read the header of a ``.mha`` or ``.mhd`` file.

    Raises:
        DinomixError: not MetaImage; a damaged header, or one that no program reads alike; 2D; voxels that are not
            there, not as many as the header says, or in a file elsewhere.
        OSError: the file cannot be opened.
    """
    lines, end = header_lines(path, r"\s*ElementDataFile\s*[=:]")
    fields = _fields(lines, path)
    (dimension,) = whole_numbers([fields["NDims"]], "NDims", path)
    if dimension > MOST_AXES:
        raise damaged_header(path, f"NDims is {dimension}")
    sizes = whole_numbers(_words(fields, "DimSize", dimension, path), "DimSize", path)
    if dimension < 3:
        raise flat_image(path, sizes)
    _check_conventions(fields, path)
    (channels,) = whole_numbers([fields.get("ElementNumberOfChannels", "1")], "ElementNumberOfChannels", path)
    affine, notices = _affine(fields, dimension, path)
    return Header(
        size=(sizes[0], sizes[1], sizes[2]),
        frames=math.prod(sizes[3:]),
        values=channels,
        affine=affine,
        stored=_stored(fields, lines, end, sizes, channels, path),
        metadata=fields,
        notices=notices,
    )


def _fields(lines: list[str], path: Path) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in lines:
        if not line.strip():
            continue
        match = re.fullmatch(r"\s*([^=:]+?)\s*[=:]\s*(.*?)\s*", line)
        if match is None:
            raise damaged_header(path, f'a line is "{line.strip()[:80]}"')
        if fields.setdefault(match[1], match[2]) != match[2]:
            raise damaged_header(path, f"{match[1]} stands there twice")
    if missing := {"NDims", "DimSize", "ElementType", "ElementDataFile"} - set(fields):
        raise damaged_header(path, f"{sorted(missing)[0]} is missing")
    return fields


def _check_conventions(fields: dict[str, str], path: Path) -> None:
    """Raises DinomixError for what some programs heed and others do not."""
    if "CenterOfRotation" in fields:
        numbers(_words(fields, "CenterOfRotation", int(fields["NDims"]), path), "CenterOfRotation", path)
    if fields.get("ObjectType", "Image").lower() != "image":
        raise DinomixError(f"{path} holds no image but a {fields['ObjectType'][:80]}.", "Give an image.")
    if (unit := fields.get("DistanceUnits", "mm")) not in ("mm", "?", ""):
        raise not_in_millimeters(path, unit[:20])
    if fields.get("FileFormatVersion", "0") != "0":
        raise DinomixError(
            f"{path} is in version {fields['FileFormatVersion'][:20]} of its format, which is not read here.",
            "Save it as .nrrd or .nii.gz.",
        )
    for key, usual in (("ElementToIntensityFunctionSlope", 1.0), ("ElementToIntensityFunctionOffset", 0.0)):
        if numbers([fields.get(key, str(usual))], key, path) != (usual,):
            raise DinomixError(
                f"{path} scales its voxels ({key} is {fields[key][:20]}), which most programs overlook.",
                "Apply the scale and save the image without it.",
            )


def _stored(
    fields: dict[str, str], lines: list[str], end: int, sizes: tuple[int, ...], channels: int, path: Path
) -> Stored:
    kind = fields["ElementType"].removesuffix("_ARRAY")
    if kind not in _NUMBER_TYPES:
        raise damaged_header(path, f"ElementType is {fields['ElementType'][:80]}")
    big = _flag(fields, "BinaryDataByteOrderMSB", _flag(fields, "ElementByteOrderMSB", False, path), path)
    number = np.dtype((">" if big else "<") + _NUMBER_TYPES[kind])
    count = math.prod(sizes) * channels
    files = _data_files(fields, lines, sizes, path)
    own = files == (path,)
    binary = _flag(fields, "BinaryData", True, path)
    compressed = binary and _flag(fields, "CompressedData", False, path)
    encoding: Literal["raw", "zlib", "text"] = "zlib" if compressed else "raw" if binary else "text"
    (header_size,) = whole_numbers([fields.get("HeaderSize", "0")], "HeaderSize", path, low=-1)
    start = header_size or (end if own else 0)
    if header_size == -1:
        if encoding != "raw":
            raise damaged_header(path, "HeaderSize is -1, but the voxels are not stored as they are")
        start = files[0].stat().st_size - count * number.itemsize // len(files)
    if own and start < end:
        raise damaged_header(path, "its voxels begin within it")
    if compressed:
        _check_compressed_size(fields, files, own, start, path)
    return Stored(number, count, files, encoding, start)


def _data_files(fields: dict[str, str], lines: list[str], sizes: tuple[int, ...], path: Path) -> tuple[Path, ...]:
    place = fields["ElementDataFile"]
    if place.upper() == "LOCAL":
        return (path,)
    if list_ := re.fullmatch(r"LIST(?:\s+(\d+))?", place):
        count = files_needed(sizes, int(list_[1] or len(sizes) - 1), path)
        all_lines, _ = header_lines(path, r"(?!)")
        names = [line.strip() for line in all_lines[len(lines) :] if line.strip()]
        if len(names) != count:
            raise damaged_header(path, f"it names {len(names)} data files where {count} are needed")
        return files_beside(names, path)
    if "%" in place:
        match = re.fullmatch(r"(.*?)\s+(\d{1,9})\s+(\d{1,9})\s+(\d{1,9})", place)
        if match is None:
            raise damaged_header(path, f"ElementDataFile is {place[:80]}")
        low, high, step = (int(match[n]) for n in (2, 3, 4))
        return files_beside(names_of_pattern(match[1], low, high, step, sizes[-1], path), path)
    return files_beside([place], path)


def _check_compressed_size(fields: dict[str, str], files: tuple[Path, ...], own: bool, start: int, path: Path) -> None:
    """The stream must take the rest of its file, and the header must say so where voxels and header share a file."""
    if len(files) > 1:
        raise DinomixError(f"{path} has compressed voxels in several files, which is not read here.", "Save it as one.")
    if "CompressedDataSize" not in fields:
        if own:
            raise damaged_header(path, "CompressedDataSize is missing")
        return
    (size,) = whole_numbers([fields["CompressedDataSize"]], "CompressedDataSize", path)
    there = files[0].stat().st_size - start
    if there < size:
        raise DinomixError(f"{path} is cut off: {there} of {size} bytes of compressed voxels are there.", DAMAGED)
    if there > size:
        raise damaged_header(path, f"CompressedDataSize is {size}, but {there} bytes are there")


def _affine(fields: dict[str, str], dimension: int, path: Path) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Index -> RAS mm (4x4), and notices. In the file each row of the matrix is the direction of an axis, in LPS."""
    notices: tuple[str, ...] = ()
    spacing_key = next((key for key in ("ElementSpacing", "ElementSize") if key in fields), None)
    if spacing_key is None:
        notices = ("The file does not say how large its voxels are; 1 mm is taken.",)
        spacing: tuple[float, ...] = (1.0,) * dimension
    else:
        spacing = numbers(_words(fields, spacing_key, dimension, path), spacing_key, path)
        if min(spacing[:3]) <= 0:
            raise damaged_header(path, f"{spacing_key} is {fields[spacing_key][:80]}")
    matrix, origin = np.eye(dimension), np.zeros(dimension)
    for key in ("Orientation", "Rotation", "TransformMatrix"):  # the last one counts, as in ITK
        if key in fields:
            matrix = np.array(numbers(_words(fields, key, dimension**2, path), key, path)).reshape(matrix.shape)
    for key in ("ImagePosition", "Offset", "Position", "Origin"):
        if key in fields:
            origin = np.array(numbers(_words(fields, key, dimension, path), key, path))
    affine = np.eye(4)
    affine[:3, :3] = matrix[:3, :3].T * np.array(spacing[:3])
    affine[:3, 3] = origin[:3]
    return TO_LPS @ affine, notices


def _words(fields: dict[str, str], key: str, count: int, path: Path) -> list[str]:
    words = fields[key].split()
    if len(words) != count:
        raise damaged_header(path, f"{key} has {len(words)} numbers where {count} are needed")
    return words


def _flag(fields: dict[str, str], key: str, default: bool, path: Path) -> bool:
    text = fields.get(key, str(default)).lower()
    if text not in _FLAGS:
        raise damaged_header(path, f"{key} is {text[:80]}")
    return _FLAGS[text]
