"""NRRD files written without ITK, block by block, by the engine and beside Slicer's window (teem's NRRD0004).

Needs nothing installed but numpy.
"""

import hashlib
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dinomix.files import written_aside
from dinomix.images.gzip_streams import GZIP

BLOCK = 2**20
"""Bytes that are compressed at once; zlib lets Python's lock go meanwhile."""
QUICK = 1
"""zlib's level: higher ones take several times as long and save little of a scan's noise."""
TYPES = {
    "int8": "int8", "uint8": "uint8", "int16": "int16", "uint16": "uint16", "int32": "int32", "uint32": "uint32",
    "int64": "int64", "uint64": "uint64", "float32": "float", "float64": "double",
}  # fmt: skip
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def nrrd_header(array: NDArray[np.generic], affine_ras: NDArray[np.float64], keys: Mapping[str, str]) -> bytes:
    """The header of a volume whose voxels follow it, compressed by gzip, in little-endian order.

    Args:
        array: (k, j, i).
        affine_ras: 4x4, index (i, j, k, 1) -> RAS mm.
        keys: keys and texts of one's own.
    """
    affine = RAS_TO_LPS @ affine_ras
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
        *(f"{key}:={_escaped(text)}" for key, text in keys.items()),
    ]
    return ("\n".join(lines) + "\n\n").encode("utf-8")


def write_nrrd(path: Path, array: NDArray[np.generic], header: bytes, check_stop: Callable[[], None]) -> None:
    """Write a volume with its header, aside at first; ``check_stop`` is called between blocks and may raise.

    Raises:
        OSError: the file cannot be written; one that was there is as it was.
    """
    packer = zlib.compressobj(QUICK, zlib.DEFLATED, GZIP)
    with written_aside(path) as aside, open(aside, "wb") as file:
        file.write(header)
        for block in _blocks(array):
            check_stop()
            file.write(packer.compress(block))
        file.write(packer.flush())


def digest(array: NDArray[np.generic], header: bytes, check_stop: Callable[[], None]) -> str:
    """A hash of what ``write_nrrd`` writes."""
    hash = hashlib.blake2b(header, digest_size=32)
    for block in _blocks(array):
        check_stop()
        hash.update(block)
    return hash.hexdigest()


def _blocks(array: NDArray[np.generic]) -> Iterator[memoryview]:
    plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    view: memoryview = plain.reshape(-1).view(np.uint8).data
    for start in range(0, len(view), BLOCK):
        yield view[start : start + BLOCK]


def _vector(values: NDArray[np.float64]) -> str:
    return "(" + ",".join(repr(float(value)) for value in values) + ")"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
