"""Files of ``numpy.save`` and ``numpy.savez`` opened without Python's parser, since batches are cut in a thread.

NumPy reads their headers by ``ast.literal_eval``, whose depth CPython 3.11 counts for all threads together
(https://github.com/python/cpython/issues/106905): where the collector of garbage lets another thread in meanwhile, both end by a
SystemError, and the run with them.
"""

import re
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

_HEADER = re.compile(rb"\{'descr': '([<>|][biuf]\d+)', 'fortran_order': (True|False), 'shape': \(([\d, ]*)\), \}")


def mapped(path: Path) -> NDArray[Any]:
    """The array of a file, memory-mapped to be read.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is cut off, or no file of an array of plain numbers.
    """
    with open(path, "rb") as file:
        number, shape, order = _read_header(file)
        start = file.tell()
    return np.memmap(path, number, mode="r", offset=start, shape=shape, order=order)


def stored(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an archive by their names.

    Raises:
        OSError: it cannot be opened.
        ValueError, EOFError, zipfile.BadZipFile: it is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        return {name.removesuffix(".npy"): _read(archive, name) for name in archive.namelist()}


def _read(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(name) as file:
        number, shape, order = _read_header(file)  # type: ignore[arg-type]
        return np.frombuffer(file.read(), number).reshape(shape, order=order)


def _read_header(file: BinaryIO) -> tuple[np.dtype, tuple[int, ...], Literal["C", "F"]]:
    """The numbers' type, the shape and the order of an array, which begins where the file is read next."""
    version, _ = np.lib.format.read_magic(file)
    length = int.from_bytes(file.read(2 if version == 1 else 4), "little")
    found = _HEADER.fullmatch(file.read(length).strip())
    if found is None:
        raise ValueError("its header is not that of an array of plain numbers")
    number, is_fortran, sides = found.groups()
    shape = tuple(int(side) for side in sides.split(b",") if side.strip())
    return np.dtype(number.decode("ascii")), shape, "F" if is_fortran == b"True" else "C"
