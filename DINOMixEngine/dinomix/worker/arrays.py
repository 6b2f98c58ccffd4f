"""Arrays between a worker and its client: memory-mapped files where both share a disk, else compressed frames.

Everything is a generator that takes milliseconds a step, so that a window can take one step at a time. NumPy and the standard
library only.
"""

import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.worker.stream import Message, encode, short, short_path

FRAME = 2**18
"""Bytes in a frame that is sent, before they are compressed: that takes some milliseconds of the sender's window."""
LARGEST_FRAME = 2**20
"""Bytes in a frame that is taken."""
STEP = 2**22
"""Bytes copied into a memory-mapped file in one step."""
LEVEL = 1
"""zlib's fastest level: scans shrink by half or more, and a slow network is still the slower part."""
TYPES = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")
REGION_FRAMES = "file:regions/"
"""What the frames of a region's mask are called, before its file's name."""
LARGEST = 2**40
BROKEN = "Send the volume again; if that does not help, start the worker again."


def little_endian(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type as it travels."""
    return dtype.newbyteorder("<")


def frames_of_array(array: NDArray[Any], job: str, name: str) -> Iterator[bytes]:
    """The frames of an array's bytes in C order, little endian, each ready to be sent.

    Args:
        array: of any layout; it is copied one slab (index of the first axis) at a time.
    """
    number, rest = 0, b""
    for slab in array.reshape(1) if array.ndim == 0 else array:
        rest += np.ascontiguousarray(slab, little_endian(array.dtype)).tobytes()
        sent = 0
        while len(rest) - sent > FRAME:
            yield _frame(rest[sent : sent + FRAME], job, name, number, last=False)
            number, sent = number + 1, sent + FRAME
        rest = rest[sent:]
    yield _frame(rest, job, name, number, last=True)


def frames_of_file(path: Path, job: str, name: str, *, more: bool = False) -> Iterator[bytes]:
    """The frames of a file, each ready to be sent; ``more`` says that another file of the job follows.

    Raises OSError where it cannot be read.
    """
    with open(path, "rb") as file:
        block, number = file.read(FRAME), 0
        while True:
            following = file.read(FRAME)
            yield _frame(block, job, name, number, last=not following, more=more)
            if not following:
                return
            block, number = following, number + 1


def _frame(block: bytes, job: str, name: str, number: int, *, last: bool, more: bool = False) -> bytes:
    fields = {
        "type": "frame", "job": job, "name": name, "number": number, "last": last, "more": more, "raw": len(block)
    }  # fmt: skip
    return encode(fields, zlib.compress(block, LEVEL) if block else b"")


def frame_bytes(message: Message, expected_number: int) -> bytes:
    """What a frame holds, unpacked; never more than 1 MiB.

    Raises:
        DinomixError: a frame is missing, damaged, or larger than it may be.
    """
    raw, number, name = (message.fields.get(key) for key in ("raw", "number", "name"))
    name = short(name)
    if number != expected_number or not isinstance(raw, int) or not 0 <= raw <= LARGEST_FRAME:
        raise DinomixError(f"Frame {expected_number} of {name} did not arrive.", BROKEN)
    if raw == 0:
        return b""
    unpacker = zlib.decompressobj()
    try:
        # One byte more than expected is allowed for, so that the check sum at the end is read and a larger block is noticed.
        block = unpacker.decompress(message.payload, raw + 1)
    except zlib.error as error:
        raise DinomixError(f"Frame {number} of {name} arrived damaged.", BROKEN) from error
    if len(block) != raw or not unpacker.eof:
        raise DinomixError(f"Frame {number} of {name} is not as long as it says.", BROKEN)
    return block


class ArrayFromFrames:
    """An array that grows from its frames."""

    def __init__(self, shape: tuple[Any, ...], dtype: Any) -> None:
        """Raises DinomixError where the shape or the type is impossible, or the memory does not suffice."""
        check_array(shape, dtype)
        try:
            self.array = np.empty(shape, little_endian(np.dtype(dtype)))
        except MemoryError as error:
            raise DinomixError("The main memory does not suffice for this volume.", "Crop the volume first.") from error
        self._bytes = self.array.reshape(-1).view(np.uint8)
        self._filled = self._number = 0
        self.is_complete = False

    @property
    def progress(self) -> tuple[int, int]:
        """Bytes that have arrived, and bytes in all."""
        return self._filled, len(self._bytes)

    def add(self, message: Message) -> None:
        """Take one frame. Raises DinomixError where it is not the next one or more arrives than the array holds."""
        block = frame_bytes(message, self._number)
        end = self._filled + len(block)
        if end > len(self._bytes) or (message.fields.get("last") and end != len(self._bytes)):
            raise DinomixError("The frames do not have the size of the array.", BROKEN)
        self._bytes[self._filled : end] = np.frombuffer(block, np.uint8)
        self._filled, self._number = end, self._number + 1
        self.is_complete = bool(message.fields.get("last"))


def check_array(shape: tuple[Any, ...], dtype: Any) -> None:
    """Raises DinomixError unless an array (k, j, i) of this type can travel."""
    sizes = all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in shape)
    if len(shape) != 3 or not sizes or math.prod(shape) > LARGEST:
        size = " x ".join(str(n) for n in shape)
        raise DinomixError(f"A volume of {short(size)} voxels cannot be segmented.", "Give one volume with three axes.")
    if dtype not in TYPES:
        raise DinomixError(f"Voxels of type {short(dtype)} cannot be segmented.", f"Use one of {', '.join(TYPES)}.")


def write_array(path: Path, array: NDArray[Any]) -> Iterator[tuple[int, int]]:
    """Write an array to a ``.npy`` file, some slabs a step; yields bytes done and bytes in all.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    header = np.lib.format.header_data_from_array_1_0(np.empty((0,), little_endian(array.dtype)))
    header["shape"] = array.shape
    slab_bytes = max(array[0].nbytes, 1)
    slabs = max(STEP // slab_bytes, 1)
    # Through write(), not a memory map: a full disk is then an error and not the end of the process.
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(array), slabs):
            file.write(np.ascontiguousarray(array[start : start + slabs], little_endian(array.dtype)).data)
            yield min(start + slabs, len(array)) * slab_bytes, array.nbytes


def read_array(path: Path) -> NDArray[Any]:
    """A memory-mapped ``.npy`` file, read only.

    Raises:
        DinomixError: there is no such file, or it is not whole.
    """
    try:
        if not path.is_file():
            raise DinomixError(f"The volume in {path} cannot be read: there is no such file.", BROKEN)
        return np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError, OverflowError, TypeError) as error:
        reason = getattr(error, "strerror", None) or "it is damaged, or no volume"
        raise DinomixError(f"The volume in {short_path(path)} cannot be read: {reason}.", BROKEN) from error
