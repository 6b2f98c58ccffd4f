"""gzip without the detours of Python's own module: unpacked straight into an array, packed on all cores."""

import os
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

GZIP, ZLIB, RAW = 31, 15, -15
"""zlib's numbers for deflated data with gzip's or its own header and check sums around them, and for the data alone."""
MOST_MEMBERS = 2**16
"""Streams one after another in a file; block gzip makes one for each 64 KiB."""
READ, UNPACKED = 2**18, 2**20
BLOCK = 2**20
WINDOW = 2**15
"""How far deflate looks back."""
LEVEL = 5
HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


def unpacked(file: BinaryIO, wrapping: int = GZIP) -> Iterator[bytes]:
    """The bytes of a gzip file, at most 1 MiB at a time, whatever they were packed into; check sums are verified.

    Args:
        wrapping: ``GZIP``, or ``ZLIB`` for a stream as MetaImage has it.

    Raises:
        EOFError: the file is cut off.
        zlib.error: it is damaged, or not packed so.
    """
    unpacker = zlib.decompressobj(wrapping)
    members = 1
    while block := file.read(READ):
        while block:
            if unpacker.eof:  # another member, or the zeros that some writers fill up with
                block = block.lstrip(b"\0")
                if not block:
                    break
                unpacker = zlib.decompressobj(wrapping)
                members += 1
                if members > MOST_MEMBERS:
                    raise zlib.error("too many streams in one file")
            yield unpacker.decompress(block, UNPACKED)
            block = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
    # zlib may hold back output that did not fit, also after the last byte of the file went in.
    while not unpacker.eof and (rest := unpacker.decompress(b"", UNPACKED)):
        yield rest
    if not unpacker.eof:
        raise EOFError("the compressed data ends too early")


def pack(start: bytes, data: memoryview, file: BinaryIO) -> None:
    """Write ``start`` and ``data`` (bytes) as one gzip member, deflated on all cores; any reader of gzip takes it.

    Each block begins with the last 32 KiB of the one before it as its dictionary, as in pigz, so that hardly anything
    is lost by cutting. The same data give the same bytes, however many cores there are.
    """
    starts = range(0, max(len(data), 1), BLOCK)
    cores = os.cpu_count() or 1

    def deflated(begin: int) -> bytes:
        before = data[begin - WINDOW : begin] if begin else start[-WINDOW:]
        packer = zlib.compressobj(LEVEL, zlib.DEFLATED, RAW, zdict=before) if len(before) else _packer()
        packed = packer.compress(data[begin : begin + BLOCK])
        return packed + packer.flush(zlib.Z_FINISH if begin == starts[-1] else zlib.Z_SYNC_FLUSH)

    first = _packer()
    file.write(HEADER + first.compress(start) + first.flush(zlib.Z_SYNC_FLUSH))
    with ThreadPoolExecutor(cores) as pool:
        # A few at a time, so that packed blocks do not pile up in memory where the disk is slow.
        for group in range(0, len(starts), 4 * cores):
            for packed in pool.map(deflated, starts[group : group + 4 * cores]):
                file.write(packed)
    check = zlib.crc32(data, zlib.crc32(start))
    file.write(struct.pack("<2I", check, (len(start) + len(data)) % 2**32))


def _packer() -> "zlib._Compress":
    return zlib.compressobj(LEVEL, zlib.DEFLATED, RAW)
