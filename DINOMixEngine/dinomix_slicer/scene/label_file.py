"""Reading a label map with its segments' names and colors from ``.seg.nrrd``, in steps short enough for Slicer's window.

Slicer's own reader does it in one go, which may take seconds for a large scan.
"""

from __future__ import annotations

import io
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from slicer.i18n import tr as _

from dinomix.errors import DinomixError
from dinomix.images.nrrd import read_nrrd_header
from dinomix.images.segments import Segment, segments_of
from dinomix.images.stored import check_plausible, fill_steps

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


def labelFileSteps(path: Path) -> Generator[None, None, LabelFile]:
    """Read the file in steps.

    Raises:
        DinomixError: it cannot be read, or is no label map of one layer as the engine writes it.
    """
    try:
        # At once, since a file that is open cannot be replaced on Windows; compressed labels are small.
        content = path.read_bytes()
    except OSError as error:
        raise DinomixError(_("{path} cannot be read ({reason}).").format(path=path, reason=error.strerror)) from error
    try:
        header = read_nrrd_header(path)
        stored = header.stored
        kind = stored.number.name
        if kind not in ("uint8", "uint16") or header.frames * header.values > 1 or stored.files != (path,):
            raise ValueError("layout")
        check_plausible(stored, path)
        numbers = np.empty(stored.count, stored.number)
        yield from fill_steps(numbers, io.BytesIO(content), stored, "", path)
        structures = [_structure(segment) for segment in segments_of(header, path)]
    except (OSError, ValueError, DinomixError) as error:
        raise DinomixError(_("{path} is no label map that can be shown.").format(path=path)) from error
    labels = numbers.astype(kind, copy=False).reshape(header.size[::-1])
    return LabelFile(labels, header.affine, structures)


def structuresIn(path: Path) -> list[dict[str, Any]]:
    """The structures of a ``.seg.nrrd``, from its header alone; none where it cannot be read."""
    try:
        return [_structure(segment) for segment in segments_of(read_nrrd_header(path), path)]
    except (OSError, DinomixError):
        return []


def _structure(segment: Segment) -> dict[str, Any]:
    color = [round(value * 255) for value in segment.color or GRAY]
    return {"id": segment.value, "name": segment.name, "color": color, "terminology_entry": segment.terminology}
