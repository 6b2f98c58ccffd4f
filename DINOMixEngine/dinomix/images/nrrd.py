"""NRRD files (``.nrrd``, ``.nhdr``), read by ourselves: ITK's reader believes any header, and can be killed by one.

The format: https://teem.sourceforge.net/nrrd/format.html
"""

import math
import re
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.images.header import LONGEST, Header, complex_image, damaged_header, flat_image, not_in_millimeters
from dinomix.images.shear import TO_LPS
from dinomix.images.stored import Stored
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
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "signed long long int",
                     "int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"),
    "float": "f4", "double": "f8",
}  # fmt: skip
_ENCODINGS: dict[str, Literal["raw", "gzip", "text", "hex"]] = {
    "raw": "raw", "gz": "gzip", "gzip": "gzip", "txt": "text", "text": "text", "ascii": "text", "hex": "hex",
}  # fmt: skip
_FIELDS = (
    "content", "number", "type", "block size", "dimension", "space", "space dimension", "sizes", "spacings",
    "thicknesses", "axis mins", "axis maxs", "space directions", "centers", "centerings", "kinds", "labels", "units",
    "min", "max", "old min", "old max", "endian", "encoding", "line skip", "byte skip", "sample units", "space units",
    "space origin", "measurement frame", "data file",
)  # fmt: skip
_BY_WORD = {field.replace(" ", ""): field for field in _FIELDS}
"""Some writers leave the spaces out."""
# What turns the axes of a space into left, posterior, superior; other spaces have no patient, and are taken as they are.
_SPACES = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (3, 1, 1)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (3, -1, -1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (3, 1, -1)),
    **dict.fromkeys(("scanner-xyz", "3d-right-handed", "3d-left-handed"), (3, 1, 1)),
    **dict.fromkeys(("left-posterior-superior-time", "lpst"), (4, 1, 1)),
    **dict.fromkeys(("right-anterior-superior-time", "rast"), (4, -1, -1)),
    **dict.fromkeys(("left-anterior-superior-time", "last"), (4, 1, -1)),
    **dict.fromkeys(("scanner-xyz-time", "3d-right-handed-time", "3d-left-handed-time"), (4, 1, 1)),
}
_ALONG_SPACE = ("domain", "space", "time", "???", "none")
_VALUES = re.compile(
    r"list|point|vector|contravariant-vector|covariant-vector|normal|stub|scalar|complex|quaternion"
    r"|[234]-(vector|color|gradient|normal)|(rgb|rgba|hsv|xyz)(-?color)?|[23]d-(masked-)?(sym(metric)?-)?(matrix|tensor)"
)
_VECTOR = re.compile(r"\s*(?:none(?=\s|$)|\(([^()]*)\))")
_OTHER_LENGTHS = (
    "m", "cm", "dm", "um", "µm", "μm", "nm", "pm", "micron", "microns", "in", "inch", "inches",
    *(prefix + meter for prefix in ("", "centi", "micro", "nano") for meter in ("meter", "meters", "metre", "metres")),
)  # fmt: skip


def read_nrrd_header(path: Path) -> Header:
    """Read the header of a ``.nrrd`` or ``.nhdr`` file.

    Raises:
        DinomixError: not NRRD; a damaged header; 2D; complex numbers; voxels that are not there, not as many as the
            header says, or in a file elsewhere.
        OSError: the file cannot be opened.
    """
    lines, end = header_lines(path, r"$|(?i:data ?file: *list)")
    if not re.fullmatch(r"NRRD(0001|0002|0003|0004|0005|00\.01)", lines[0] if lines else ""):
        raise DinomixError(f"{path} is named like a NRRD file but is none.", "Copy or export it again.")
    fields, metadata = _fields(lines[1:], path)
    (dimension,) = whole_numbers([fields["dimension"]], "dimension", path)
    if dimension > MOST_AXES:
        raise damaged_header(path, f"dimension is {dimension}")
    sizes = whole_numbers(_words(fields, "sizes", dimension, path), "sizes", path)
    values = _axis_of_values(fields, dimension, path)
    along = [axis for axis in range(dimension) if axis != values]
    if len(along) < 3:
        raise flat_image(path, tuple(sizes[axis] for axis in along))
    affine, notices = _affine(fields, along, path)
    i, j, k, *frames = (sizes[axis] for axis in along)
    return Header(
        size=(i, j, k),
        frames=math.prod(frames),
        values=1 if values is None else sizes[values],
        affine=affine,
        stored=_stored(fields, lines, end, sizes, path),
        order=_order(values, along, path),
        metadata=metadata,
        notices=notices,
    )


def _fields(lines: list[str], path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The fields of the format by their names, and the file's own keys."""
    fields: dict[str, str] = {}
    metadata: dict[str, str] = {}
    for line in lines:
        if not line or line.startswith("#"):
            continue
        name, colon, text = line.partition(": ")
        if colon and (field := _BY_WORD.get(name.lower().replace(" ", ""))):
            if field in fields:
                raise damaged_header(path, f"{field} stands there twice")
            fields[field] = text.strip()
            continue
        key, equals, text = line.partition(":=")
        if not equals or ": " in key:
            raise damaged_header(path, f'a line is "{line[:80]}"')
        metadata[_unescaped(key)] = _unescaped(text)
    for field in ("type", "dimension", "sizes", "encoding"):
        if field not in fields:
            raise damaged_header(path, f"{field} is missing")
    return fields, metadata


def _unescaped(text: str) -> str:
    return re.sub(r"\\([n\\])", lambda match: "\n" if match[1] == "n" else "\\", text)


def _axis_of_values(fields: dict[str, str], dimension: int, path: Path) -> int | None:
    """Which axis counts the numbers of a voxel, or None where each voxel is one number."""
    if "kinds" not in fields:
        return None
    kinds = [kind.lower() for kind in _words(fields, "kinds", dimension, path)]
    values = [axis for axis, kind in enumerate(kinds) if kind not in _ALONG_SPACE]
    if len(values) > 1 or not all(_VALUES.fullmatch(kinds[axis]) for axis in values):
        raise damaged_header(path, f"kinds is {fields['kinds'][:80]}")
    if values and kinds[values[0]] == "complex":
        raise complex_image(path)
    if "time" in [kind for axis, kind in enumerate(kinds) if axis not in values][:3]:
        raise DinomixError(f"{path} has time as one of its first three axes.", "Save it with time as the last axis.")
    return values[0] if values else None


def _order(values: int | None, along: list[int], path: Path) -> str:
    """The axes as ``Header.order`` names them; the file names the fastest first."""
    axes = sorted([*along, *([] if values is None else [values])])
    letters = "".join("v" if axis == values else "ijkf"[min(along.index(axis), 3)] for axis in axes)
    letters = re.sub("f+", "f", letters)
    if letters.count("f") > 1:
        raise damaged_header(path, "the numbers of a voxel lie between two axes of volumes")
    return (("" if "v" in letters else "v") + letters + ("" if "f" in letters else "f"))[::-1]


def _affine(fields: dict[str, str], along: list[int], path: Path) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Index -> RAS mm (4x4), and notices."""
    _check_units(fields, path)
    space = fields.get("space", "").lower()
    if "space" in fields and space not in _SPACES:
        raise damaged_header(path, f"space is {space[:80]}")
    dimension, x, y = _SPACES.get(space, (0, 1, 1))
    if "space dimension" in fields:
        (given,) = whole_numbers([fields["space dimension"]], "space dimension", path)
        if space and given != dimension:
            raise damaged_header(path, f"space dimension is {given}")
        dimension = given
    if dimension and dimension != len(along):
        raise damaged_header(path, f"{len(along)} axes in a space of {dimension} dimensions")
    if not dimension and ("space directions" in fields or "space origin" in fields):
        raise damaged_header(path, "it gives directions, but not the space that they are in")
    affine = np.eye(4)
    if not dimension or "space directions" not in fields:
        sizes, notices = _spacings(fields, along, bool(dimension), path)
        affine[:3, :3] = np.diag(sizes)
    else:
        notices = ()
        directions = _vectors(fields, "space directions", dimension, path)
        if len(directions) != int(fields["dimension"]) or any(directions[axis] is None for axis in along):
            raise damaged_header(path, f"space directions is {fields['space directions'][:80]}")
        affine[:3, :3] = np.array([directions[axis] for axis in along[:3]])[:, :3].T
    if dimension and "space origin" in fields:
        origin = _vectors(fields, "space origin", dimension, path)
        if len(origin) != 1:
            raise damaged_header(path, f"space origin is {fields['space origin'][:80]}")
        affine[:3, 3] = 0 if origin[0] is None else origin[0][:3]
    return TO_LPS @ np.diag([x, y, 1.0, 1.0]) @ affine, notices


def _spacings(
    fields: dict[str, str], along: list[int], in_space: bool, path: Path
) -> tuple[list[float], tuple[str, ...]]:
    """mm along (i, j, k) where the header gives no directions, and notices."""
    if "axis mins" in fields or "axis maxs" in fields or (in_space and "spacings" in fields):
        raise DinomixError(
            f"{path} says in an old way where it lies (axis mins and maxs, or spacings in a space).",
            "Save it again, for example with 3D Slicer.",
        )
    words = _words(fields, "spacings", int(fields["dimension"]), path) if "spacings" in fields else []
    given = [words[axis] for axis in along[:3] if words and words[axis].lower() != "nan"]
    spacings = list(numbers(given, "spacings", path))
    if min(spacings, default=1.0) <= 0:
        raise damaged_header(path, f"spacings is {fields['spacings'][:80]}")
    if len(spacings) == 3:
        return spacings, ()
    if spacings:
        raise damaged_header(path, f"spacings is {fields['spacings'][:80]}")
    return [1.0, 1.0, 1.0], ("The file does not say how large its voxels are; 1 mm is taken.",)


def _vectors(fields: dict[str, str], field: str, dimension: int, path: Path) -> list[tuple[float, ...] | None]:
    """The vectors of a field; None stands for "none", and for a vector of NaN."""
    found: list[tuple[float, ...] | None] = []
    text, at = fields[field], 0
    while at < len(text):
        match = _VECTOR.match(text, at)
        if match is None:
            raise damaged_header(path, f"{field} is {text[:80]}")
        at = match.end()
        words = (match[1] or "").replace(",", " ").split()
        if not words or all(word.lower() == "nan" for word in words):
            found.append(None)
            continue
        found.append(numbers(words, field, path))
        if len(words) != dimension:
            raise damaged_header(path, f"{field} is {text[:80]}")
    return found


def _check_units(fields: dict[str, str], path: Path) -> None:
    """Raises DinomixError when lengths are not in millimeters; readers take them so, whatever stands there."""
    for field in ("space units", "units"):
        for unit in re.findall(r'"([^"]*)"', fields.get(field, ""))[: 3 if field == "space units" else None]:
            if unit.strip().lower() in _OTHER_LENGTHS:
                raise not_in_millimeters(path, unit.strip())


def _stored(fields: dict[str, str], lines: list[str], end: int, sizes: tuple[int, ...], path: Path) -> Stored:
    kind, encoding = fields["type"].lower(), _ENCODINGS.get(fields["encoding"].lower())
    if kind not in _NUMBER_TYPES:
        raise damaged_header(path, f"type is {kind[:80]}")
    if encoding is None:
        raise DinomixError(
            f"{path} is encoded as {fields['encoding'][:80]}, which is not read here.", "Save it as gzip or raw."
        )
    number = np.dtype("=" + _NUMBER_TYPES[kind])
    matters = number.itemsize > 1 and encoding != "text"
    endian = fields.get("endian", "missing" if matters else "little").lower()
    if endian not in ("little", "big"):
        raise damaged_header(path, f"endian is {endian[:80]}")
    if matters:
        number = number.newbyteorder(endian)  # type: ignore[arg-type]
    count = math.prod(sizes)
    files = _data_files(fields, lines, sizes, path)
    start = 0
    if not files:
        if lines[-1]:
            raise damaged_header(path, "it does not end, and names no data file")
        files, start = (path,), end
    (skip,) = whole_numbers([fields.get("byte skip", "0")], "byte skip", path, low=-1)
    (line_skip,) = whole_numbers([fields.get("line skip", "0")], "line skip", path, low=0)
    if (line_skip and len(files) > 1) or (skip == -1 and encoding != "raw") or (skip and encoding == "text"):
        raise damaged_header(path, f"line skip is {line_skip} and byte skip is {skip} with data as {encoding}")
    start = _after_lines(files[0], start, line_skip, path)
    if skip == -1:
        skip = files[0].stat().st_size - start - count * number.itemsize // len(files)
    return Stored(number, count, files, encoding, start, max(skip, 0))


def _data_files(fields: dict[str, str], lines: list[str], sizes: tuple[int, ...], path: Path) -> tuple[Path, ...]:
    """The files beside the header that hold the voxels; none where they follow it."""
    place = fields.get("data file")
    if place is None:
        return ()
    if list_ := re.fullmatch(r"LIST(?:\s+(\d+))?", place, re.IGNORECASE):
        names = header_lines(path, r"(?!)")[0][len(lines) :]
        names = names[: names.index("")] if "" in names else names
        needed = files_needed(sizes, int(list_[1] or len(sizes) - 1), path)
        if len(names) != needed:
            raise damaged_header(path, f"it names {len(names)} data files where {needed} are needed")
        return files_beside(names, path)
    if "%" in place:
        match = re.fullmatch(r"(\S+)\s+(\d{1,9})\s+(\d{1,9})\s+(-?\d{1,9})(?:\s+(\d{1,2}))?", place)
        if match is None:
            raise damaged_header(path, f"data file is {place[:80]}")
        needed = files_needed(sizes, int(match[5] or len(sizes) - 1), path)
        low, high, step = (int(match[n]) for n in (2, 3, 4))
        return files_beside(names_of_pattern(match[1], low, high, step, needed, path), path)
    return files_beside([place], path)


def _after_lines(file: Path, start: int, count: int, path: Path) -> int:
    """The place after ``count`` lines from ``start`` on."""
    with open(file, "rb") as opened:
        opened.seek(start)
        for _ in range(count):
            if not (line := opened.readline(LONGEST)):
                raise damaged_header(path, f"line skip is {count}")
            start += len(line)
    return start


def _words(fields: dict[str, str], field: str, count: int, path: Path) -> list[str]:
    words = fields[field].split()
    if len(words) != count:
        raise damaged_header(path, f"{field} is {fields[field][:80]}, but dimension is {count}")
    return words
