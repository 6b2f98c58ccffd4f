"""How the voxels of a file are stored, and how they are read: as many bytes as the header says, or a refusal."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.images.gzip_streams import ZLIB, unpacked

DAMAGED = "Copy or export it again."
MOST_UNPACKED = 1040
"""No byte of a deflated stream becomes more than 1032 bytes."""
BLOCK = 2**20
LONGEST_WORD = 64
"""Characters of a number in text; doubles are written with at most 25."""
NO_NUMBER = "a word that is no number of the type that the header names"


@dataclass(frozen=True)
class Stored:
    """The numbers of an image as they are in its files.

    Attributes:
        number: the number type, with its byte order.
        count: numbers in all.
        files: where they are; each file holds an equal share, in this order.
        encoding: raw bytes; a stream of gzip's or of zlib's own; text with numbers; text with hexadecimal bytes.
        start: bytes of each file before the encoded data.
        skip: bytes of the decoded data before the first number.
    """

    number: np.dtype
    count: int
    files: tuple[Path, ...]
    encoding: Literal["raw", "gzip", "zlib", "text", "hex"] = "raw"
    start: int = 0
    skip: int = 0

    @property
    def share(self) -> int:
        """Bytes of numbers in each file."""
        return self.count * self.number.itemsize // len(self.files)


def check_plausible(stored: Stored, path: Path) -> None:
    """Hold what the header says against the sizes of the files; nothing is read or allocated.

    Raises DinomixError when the files cannot hold the numbers, or hold more.
    """
    for file in stored.files:
        where = "" if file == path else f" in {file.name}"
        there = file.stat().st_size - stored.start
        if stored.encoding == "raw":
            _check_count(there - stored.skip, stored.share, where, path)
            continue
        packed = (stored.share + stored.skip) // MOST_UNPACKED
        least = {
            "gzip": packed,
            "zlib": packed,
            "hex": 2 * (stored.share + stored.skip),
            "text": 2 * (stored.share // stored.number.itemsize) - 1,
        }[stored.encoding]
        if there < least:
            raise DinomixError(
                f"{path} is damaged or cut off: {max(there, 0)} bytes{where} cannot hold {stored.share} bytes of voxels.",
                DAMAGED,
            )


def read_stored(stored: Stored, path: Path) -> NDArray[np.generic]:
    """Read all numbers, in the machine's byte order, one-dimensional, and through to the end of the files.

    Raises:
        DinomixError: there are fewer or more of them, a stream is damaged, or the computer has too little memory.
    """
    check_plausible(stored, path)
    check_memory(stored.count * (stored.number.itemsize + 4), path)  # the numbers, and the float32 that they become
    numbers = np.empty(stored.count, stored.number)
    for index, file in enumerate(stored.files):
        where = "" if file == path else f" in {file.name}"
        with open(file, "rb") as opened:
            each = stored.count // len(stored.files)
            for _ in fill_steps(numbers[index * each : (index + 1) * each], opened, stored, where, path):
                pass
    return numbers if numbers.dtype.isnative else numbers.byteswap(inplace=True).view(numbers.dtype.newbyteorder())


def fill_steps(numbers: NDArray[np.generic], file: BinaryIO, stored: Stored, where: str, path: Path) -> Iterator[None]:
    """Fill ``numbers`` from an opened file, about a megabyte between yields, and read it to its end.

    Args:
        numbers: one-dimensional, of the type ``stored.number``.
        where: words that name the file in messages, where it is not ``path`` itself.

    Raises DinomixError: there are fewer or more of them, or a stream is damaged.
    """
    into = numbers.view(np.uint8).data
    position = -stored.skip
    try:
        file.seek(stored.start)
        for block in _DECODED[stored.encoding](file, stored.number):
            voxels = block[max(-position, 0) :]
            start = max(position, 0)
            position += len(block)
            if position > len(into):
                break
            into[start : start + len(voxels)] = voxels
            yield
    except (EOFError, zlib.error, ValueError) as error:
        raise DinomixError(f"{path} is damaged or cut off{where} ({error}).", DAMAGED) from error
    _check_count(position, len(into), where, path)


def _check_count(there: int, expected: int, where: str, path: Path) -> None:
    if there < expected:
        raise DinomixError(
            f"{path} is cut off: {max(there, 0)} of {expected} bytes of voxels are there{where}.", DAMAGED
        )
    if there > expected:
        raise DinomixError(
            f"{path} is not as its header says: it holds more than the {expected} bytes of its voxels{where}.", DAMAGED
        )


def check_memory(needed: int, path: Path) -> None:
    """Raises DinomixError when reading a file takes more bytes than the computer has."""
    import psutil  # not at hand beside Slicer's window, which reads label maps by this module

    there = psutil.virtual_memory().total
    if needed > there:
        raise DinomixError(
            f"Reading {path} takes {needed / 2**30:.1f} GB of memory; this computer has {there / 2**30:.1f} GB.",
            "Crop it or reduce its resolution, or use a computer with more memory.",
        )


def _as_it_is(file: BinaryIO, _: np.dtype) -> Iterator[bytes]:
    while block := file.read(BLOCK):
        yield block


def _from_gzip(file: BinaryIO, _: np.dtype) -> Iterator[bytes]:
    return unpacked(file)


def _from_zlib(file: BinaryIO, _: np.dtype) -> Iterator[bytes]:
    return unpacked(file, ZLIB)


def _from_hex(file: BinaryIO, _: np.dtype) -> Iterator[bytes]:
    digits = b""
    while block := file.read(BLOCK):
        digits += b"".join(block.split())
        even = len(digits) // 2 * 2
        try:
            yield bytes.fromhex(digits[:even].decode("ascii"))
        except ValueError as error:
            raise ValueError("something else than hexadecimal digits") from error
        digits = digits[even:]
    if digits:
        raise ValueError("an odd number of hexadecimal digits")


def _from_text(file: BinaryIO, number: np.dtype) -> Iterator[bytes]:
    """The numbers of a text as bytes. Raises ValueError for a word that is no number of this type."""
    exact = np.dtype("u8" if number.kind == "u" else "i8" if number.kind == "i" else "f8")
    for words in _words(file):
        try:
            values = np.array(words).astype(exact)
        except (ValueError, OverflowError) as error:
            raise ValueError(NO_NUMBER) from error
        with np.errstate(all="ignore"):
            stored = values.astype(number)
        if number.kind != "f" and not np.array_equal(stored, values):
            raise ValueError(NO_NUMBER)
        yield stored.tobytes()


def _words(file: BinaryIO) -> Iterator[list[bytes]]:
    """The words of a text, about a block of it at a time."""
    rest = b""
    while block := file.read(BLOCK):
        text = rest + block
        words = text.split()
        rest = words.pop() if words and not text[-1:].isspace() else b""
        if max(map(len, [*words, rest])) > LONGEST_WORD:
            raise ValueError(NO_NUMBER)
        if words:
            yield words
    if rest:
        yield [rest]


_DECODED = {"raw": _as_it_is, "gzip": _from_gzip, "zlib": _from_zlib, "text": _from_text, "hex": _from_hex}
