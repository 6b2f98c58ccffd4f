"""Reading a label map with its segments' names and colors from ``.seg.nrrd``, in steps short enough for Slicer's window.

Slicer's own reader does it in one go, which may take seconds for a large scan.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from slicer.i18n import tr as _

from dinomix.errors import DinomixError
from dinomix.images.gzip_streams import unpacked
from dinomix.images.header import Header
from dinomix.images.nrrd_writing import RAS_TO_LPS
from dinomix.images.segments import Segment, segments_of

TYPES = {"unsigned char": np.uint8, "uchar": np.uint8, "uint8": np.uint8, "unsigned short": np.uint16,
         "ushort": np.uint16, "uint16": np.uint16}  # fmt: skip
GRAY = (0.5, 0.5, 0.5)


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
    head, _separator, data = content.partition(b"\n\n")
    fields, keys = _parsed(head)
    try:
        size = tuple(int(side) for side in fields["sizes"].split())
        if len(size) != 3 or fields["encoding"] not in ("raw", "gzip", "gz") or fields.get("endian") == "big":
            raise ValueError("layout")
        voxels = np.empty(size[::-1], TYPES[fields["type"]])
        for _done in _filled(voxels.reshape(-1).view(np.uint8), data, fields["encoding"]):
            yield None
        header = Header(size, frames=1, values=1, affine=_affine(fields), metadata=keys)
        structures = [_structure(segment) for segment in segments_of(header, path)]
    except (KeyError, ValueError, EOFError, zlib.error, DinomixError) as error:
        raise DinomixError(_("{path} is no label map that can be shown.").format(path=path)) from error
    yield LabelFile(voxels, header.affine, structures)


def _parsed(head: bytes) -> tuple[dict[str, str], dict[str, str]]:
    """The fields of a header, and its own keys and texts; ``head`` is what comes before the first empty line."""
    fields: dict[str, str] = {}
    keys: dict[str, str] = {}
    for line in head.decode("utf-8", "replace").splitlines()[1:]:
        name, _colon, rest = line.partition(":")
        if rest.startswith("="):
            keys[name] = _unescaped(rest[1:])
        elif rest and not line.startswith("#"):
            fields[name.strip().lower()] = rest.strip()
    return fields, keys


def _affine(fields: dict[str, str]) -> Any:
    """4x4, index (i, j, k, 1) -> RAS mm, of a volume's header. Raises KeyError or ValueError where it does not say it."""
    affine = np.eye(4)
    affine[:3, :3] = np.transpose([_numbers(text) for text in fields["space directions"].split(") (")])
    affine[:3, 3] = _numbers(fields["space origin"])
    if fields["space"] in ("left-posterior-superior", "LPS"):
        return RAS_TO_LPS @ affine
    if fields["space"] not in ("right-anterior-superior", "RAS"):
        raise ValueError(fields["space"])
    return affine


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.strip(" ()").split(",")]


def _unescaped(text: str) -> str:
    return "\\".join(part.replace("\\n", "\n") for part in text.split("\\\\"))


def _filled(out: Any, data: bytes, encoding: str) -> Iterator[None]:
    """Fill ``out``, bytes, from the file's data."""
    position = 0
    for part in unpacked(io.BytesIO(data)) if encoding != "raw" else (data,):
        out[position : position + len(part)] = np.frombuffer(part, np.uint8)
        position += len(part)
        yield
    if position != len(out):
        raise ValueError("the data is cut off")


def _structure(segment: Segment) -> dict[str, Any]:
    color = [round(value * 255) for value in segment.color or GRAY]
    return {"id": segment.value, "name": segment.name, "color": color, "terminology_entry": segment.terminology}
