"""How the voxels of a file are stored, and how they are read: as many bytes as the header says, or a refusal."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import psutil
from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.images.gzip_streams import unpacked

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
        encoding: raw bytes; a stream of gzip's or zlib's; text with numbers; text with hexadecimal bytes.
        start: bytes of each file before the encoded data.
        skip: bytes of the decoded data before the first number.
    """

    number: np.dtype
    count: int
    files: tuple[Path, ...]
    encoding: Literal["raw", "gzip", "text", "hex"] = "raw"
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
        least = {
            "gzip": (stored.share + stored.skip) // MOST_UNPACKED,
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
    into = numbers.view(np.uint8).data
    for index, file in enumerate(stored.files):
        where = "" if file == path else f" in {file.name}"
        place = into[index * stored.share : (index + 1) * stored.share]
        try:
            with open(file, "rb") as opened:
                done = _fill(place, opened, stored)
        except (EOFError, zlib.error, ValueError) as error:
            raise DinomixError(f"{path} is damaged or cut off{where} ({error}).", DAMAGED) from error
        _check_count(done, stored.share, where, path)
    return numbers if numbers.dtype.isnative else numbers.byteswap(inplace=True).view(numbers.dtype.newbyteorder())


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
    there = psutil.virtual_memory().total
    if needed > there:
        raise DinomixError(
            f"Reading {path} takes {needed / 2**30:.1f} GB of memory; this computer has {there / 2**30:.1f} GB.",
            "Crop it or reduce its resolution, or use a computer with more memory.",
        )


def _fill(into: memoryview, file: BinaryIO, stored: Stored) -> int:
    """Fill ``into`` and read to the end; the number of bytes that were there, or one more than fit."""
    if stored.encoding == "raw":
        file.seek(stored.start + stored.skip)
        done = 0
        while count := file.readinto(into[done:]):  # type: ignore[attr-defined]
            done += count
        return done + len(file.read(1))
    file.seek(stored.start)
    blocks = {"gzip": unpacked, "hex": _from_hex, "text": lambda text: _from_text(text, stored.number)}[stored.encoding]
    position = -stored.skip
    for block in blocks(file):
        voxels = block[max(-position, 0) :]
        start = max(position, 0)
        position += len(block)
        if position > len(into):
            return len(into) + 1
        into[start : start + len(voxels)] = voxels
    return max(position, 0)


def _from_hex(file: BinaryIO) -> Iterator[bytes]:
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
