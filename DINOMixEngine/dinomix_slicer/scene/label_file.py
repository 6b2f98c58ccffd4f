"""Reading a label map with its segments' names and colors from ``.seg.nrrd``, in steps short enough for Slicer's window.

Slicer's own reader does it in one go, which may take seconds for a large scan.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from slicer.i18n import tr as _

from dinomix.errors import DinomixError

STEP_BYTES = 2**21
TYPES = {"unsigned char": np.uint8, "uchar": np.uint8, "uint8": np.uint8, "unsigned short": np.uint16,
         "ushort": np.uint16, "uint16": np.uint16}  # fmt: skip


@dataclass(frozen=True)
class LabelFile:
    """A label map.

    Attributes:
        labels: (k, j, i), uint8 or uint16, structure ids.
        affineRas: 4x4, index (i, j, k, 1) -> RAS mm.
        structures: dicts of id, name, color (0..255), terminology_entry.
    """

    labels: Any
    affineRas: Any
    structures: list[dict[str, Any]]


def labelFileSteps(path: Path) -> Iterator[LabelFile | None]:
    """Read the file; yields None between steps, and the label map last.

    Raises:
        DinomixError: it cannot be read, or is no label map of one layer as the engine writes it.
    """
    try:
        # At once, since a file that is open cannot be replaced on Windows; compressed labels are small.
        content = path.read_bytes()
    except OSError as error:
        raise DinomixError(_("{path} cannot be read ({reason}).").format(path=path, reason=error.strerror)) from error
    head, separator, data = content.partition(b"\n\n")
    try:
        header = _fields(head.decode("utf-8"))
        sizes = [int(size) for size in header["sizes"].split()]
        kind = np.dtype(TYPES[header["type"]])
        if not separator or len(sizes) != 3 or header.get("endian", "little") != "little":
            raise ValueError("layout")
        voxels = np.empty(sizes[0] * sizes[1] * sizes[2], kind)
        for _done in _filled(voxels.view(np.uint8), data, header["encoding"]):
            yield None
        affine = _affine(header)
        structures = _structures(header)
    except (KeyError, ValueError, IndexError, zlib.error) as error:
        raise DinomixError(_("{path} is no label map that can be shown.").format(path=path)) from error
    yield LabelFile(voxels.reshape(sizes[::-1]), affine, structures)


def _fields(head: str) -> dict[str, str]:
    """Fields and keys of a NRRD header alike."""
    fields = {}
    for line in head.splitlines()[1:]:
        if line.startswith("#"):
            continue
        name, separator, value = line.partition(":")
        if separator:
            fields[name.strip()] = value.removeprefix("=").strip()
    return fields


def _filled(out: Any, data: bytes, encoding: str) -> Iterator[None]:
    """Fill ``out``, bytes, from the file's data."""
    if encoding == "raw":
        out[:] = np.frombuffer(data, np.uint8)
        return
    if encoding not in ("gzip", "gz"):
        raise ValueError(encoding)
    decoder = zlib.decompressobj(wbits=31)
    position, rest = 0, data
    while rest and not decoder.eof:
        part = decoder.decompress(rest, STEP_BYTES)
        rest = decoder.unconsumed_tail
        out[position : position + len(part)] = np.frombuffer(part, np.uint8)
        position += len(part)
        yield
    if position != len(out):
        raise ValueError("the data is cut off")


def _affine(header: dict[str, str]) -> Any:
    columns = [_vector(text) for text in header["space directions"].split(") (")]
    affine = np.eye(4)
    affine[:3, :3] = np.transpose(columns)
    affine[:3, 3] = _vector(header["space origin"])
    if header["space"] in ("left-posterior-superior", "LPS"):
        affine[:2] *= -1
    elif header["space"] not in ("right-anterior-superior", "RAS"):
        raise ValueError(header["space"])
    return affine


def _vector(text: str) -> list[float]:
    return [float(number) for number in text.strip(" ()").split(",")]


def _structures(header: dict[str, str]) -> list[dict[str, Any]]:
    structures: list[dict[str, Any]] = []
    while f"Segment{len(structures)}_ID" in header:
        prefix = f"Segment{len(structures)}_"
        tags = header.get(prefix + "Tags", "").split("|")
        entry = next((tag for tag in tags if tag.startswith("TerminologyEntry:")), "")
        structures.append({
            "id": int(header[prefix + "LabelValue"]),
            "name": header[prefix + "Name"],
            "color": [round(float(value) * 255) for value in header[prefix + "Color"].split()],
            "terminology_entry": entry.removeprefix("TerminologyEntry:"),
        })  # fmt: skip
    return structures
