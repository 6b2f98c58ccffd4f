"""Arrays as NRRD files, block by block, so that writing can be given up and runs beside the window (teem's NRRD0004)."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dinomix.files import written_aside

BLOCK = 2**20
"""Bytes that are compressed at once; zlib lets Python's lock go meanwhile."""
QUICK = 1
"""zlib's level: higher ones take several times as long and save little of a scan's noise."""

TYPES = {
    "int8": "int8", "uint8": "uint8", "int16": "int16", "uint16": "uint16", "int32": "int32", "uint32": "uint32",
    "int64": "int64", "uint64": "uint64", "float32": "float", "float64": "double",
}  # fmt: skip
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def header(array: Any, affineRas: Any, keys: dict[str, str]) -> bytes:
    """The header of an array (k, j, i) whose index (i, j, k, 1) leads to RAS mm by ``affineRas``, 4x4; ``keys`` are added."""
    affine = RAS_TO_LPS @ np.asarray(affineRas, float)
    lines = [
        "NRRD0004",
        f"type: {TYPES[array.dtype.name]}",
        "dimension: 3",
        "space: left-posterior-superior",
        "sizes: " + " ".join(str(size) for size in reversed(array.shape)),
        "space directions: " + " ".join(_vector(affine[:3, axis]) for axis in range(3)),
        "kinds: domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: {_vector(affine[:3, 3])}",
        *(f"{key}:={_escaped(value)}" for key, value in keys.items()),
    ]
    return ("\n".join(lines) + "\n\n").encode("utf-8")


def digest(array: Any, head: bytes, checkStop: Callable[[], None]) -> str:
    """A hash of a file's header and voxels."""
    hash = hashlib.blake2b(head, digest_size=32)
    for block in _blocks(array):
        checkStop()
        hash.update(block)
    return hash.hexdigest()


def write(path: Path, array: Any, head: bytes, checkStop: Callable[[], None]) -> None:
    """Write an array with its header, aside at first.

    Raises:
        OSError: the file cannot be written; one that was there is as it was.
    """
    packer = zlib.compressobj(QUICK, zlib.DEFLATED, 31)  # 31: with the head and foot of gzip
    with written_aside(path) as aside, open(aside, "wb") as file:
        file.write(head)
        for block in _blocks(array):
            checkStop()
            file.write(packer.compress(block))
        file.write(packer.flush())


def _blocks(array: Any) -> Iterator[memoryview]:
    plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    view: memoryview = plain.reshape(-1).view(np.uint8).data
    for start in range(0, len(view), BLOCK):
        yield view[start : start + BLOCK]


def _vector(values: Any) -> str:
    return "(" + ",".join(repr(float(value)) for value in values) + ")"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n")
