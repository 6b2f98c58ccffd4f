"""gzip without the detours of Python's own module, by Intel's ISA-L: on its processors in half of zlib's time or less."""

import zlib
from collections.abc import Iterator
from types import ModuleType
from typing import BinaryIO

GZIP, ZLIB = 31, 15
"""zlib's numbers for deflated data with gzip's or its own header and check sums around them."""
MOST_MEMBERS = 2**16
"""Streams one after another in a file; block gzip makes one for each 64 KiB."""
READ, UNPACKED = 2**18, 2**20
HEADER = 2**16 + 2**12
"""Bytes that a member's header takes at most: a field of 64 KiB, and a name and a comment."""
LEVEL = 1
"""Of ISA-L: label maps take a fourth more than by zlib's level 5, in a tenth of its time."""


def deflating() -> ModuleType:
    """ISA-L's functions, which are called as zlib's are; beside Slicer's window, where nothing may be installed, zlib's."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib
    return isal_zlib


def unpacked(file: BinaryIO, wrapping: int = GZIP) -> Iterator[bytes]:
    """The bytes of a gzip file, at most 1 MiB at a time, whatever they were packed into; check sums are verified.

    Args:
        wrapping: ``GZIP``, or ``ZLIB`` for a stream as MetaImage has it.

    Raises:
        EOFError: the file is cut off.
        zlib.error: it is damaged, or not packed so.
    """
    deflate, members = deflating(), 1
    unpacker = deflate.decompressobj(wrapping)
    try:
        while block := file.read(READ):
            while block:
                if unpacker.eof:  # another member, or the zeros that some writers fill up with
                    block = block.lstrip(b"\0")
                    if not block:
                        break
                    if len(block) < HEADER:  # ISA-L takes a member's header in one piece
                        block += file.read(HEADER)
                    unpacker = deflate.decompressobj(wrapping)
                    members += 1
                    if members > MOST_MEMBERS:
                        raise zlib.error("too many streams in one file")
                yield unpacker.decompress(block, UNPACKED)
                block = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
        # Output that did not fit may be held back, also after the last byte of the file went in.
        while not unpacker.eof and (rest := unpacker.decompress(b"", UNPACKED)):
            yield rest
    except deflate.error as error:
        raise zlib.error(str(error)) from error
    if not unpacker.eof:
        raise EOFError("the compressed data ends too early")


def pack(start: bytes, data: memoryview, file: BinaryIO) -> None:
    """Write ``start`` and ``data`` (bytes) as one gzip member, which any reader of gzip takes."""
    packer = deflating().compressobj(LEVEL, wbits=GZIP)
    file.write(packer.compress(start))
    for begin in range(0, len(data), UNPACKED):
        file.write(packer.compress(data[begin : begin + UNPACKED]))
    file.write(packer.flush())
