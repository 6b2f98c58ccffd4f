import gzip
import io
import zlib

import numpy as np
import pytest

from dinomix.images import gzip_streams
from dinomix.images.gzip_streams import UNPACKED, pack, unpacked

DATA = {
    "nothing": b"",
    "noise": np.random.default_rng(0).bytes(3 * UNPACKED + 17),
    "one block": np.random.default_rng(1).bytes(UNPACKED),
    "zeros": bytes(5 * UNPACKED),
    "labels": np.repeat(np.random.default_rng(2).integers(0, 9, 40_000, np.uint8), 71).tobytes(),
}


def packed(data: bytes, start: bytes = b"header") -> bytes:
    file = io.BytesIO()
    pack(start, memoryview(data), file)
    return file.getvalue()


@pytest.mark.parametrize("name", DATA)
def test_what_is_packed_is_unpacked_by_python_and_by_us(name: str) -> None:
    file = packed(DATA[name])
    assert gzip.decompress(file) == b"header" + DATA[name]
    blocks = list(unpacked(io.BytesIO(file)))
    assert b"".join(blocks) == b"header" + DATA[name]
    assert max(map(len, blocks)) <= 2**20


def test_labels_are_packed_about_as_well_as_by_zlib() -> None:
    assert len(packed(DATA["labels"])) < 1.3 * len(gzip.compress(DATA["labels"], 5))


def test_the_same_data_give_the_same_file() -> None:
    assert packed(DATA["labels"]) == packed(DATA["labels"])


@pytest.mark.parametrize("name", DATA)
def test_without_isa_l_the_same_is_read_by_zlib(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As beside Slicer's window, where only what Python brings is at hand."""
    file = packed(DATA[name])
    monkeypatch.setattr(gzip_streams, "deflating", lambda: zlib)
    assert b"".join(unpacked(io.BytesIO(file))) == b"header" + DATA[name]
    assert gzip.decompress(packed(DATA[name])) == b"header" + DATA[name]


def test_what_computes_is_isa_l() -> None:
    assert gzip_streams.deflating() is not zlib


@pytest.mark.parametrize("read", range(20, 60))
def test_headers_of_later_members_may_lie_across_two_reads(read: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One with an extra field, a name, a comment and its own check sum, as RFC 1952 has them."""
    header = b"\x1f\x8b\x08\x1e\0\0\0\0\0\xff" + b"\x04\0data" + b"name\0" + b"comment\0"
    second = header + (zlib.crc32(header) & 0xFFFF).to_bytes(2, "little") + gzip.compress(b"more", mtime=0)[10:]
    file = gzip.compress(b"first", mtime=0) + second
    assert gzip.decompress(file) == b"firstmore"
    monkeypatch.setattr(gzip_streams, "READ", read)
    assert b"".join(unpacked(io.BytesIO(file))) == b"firstmore"


def test_several_members_and_zeros_behind_them() -> None:
    file = gzip.compress(DATA["labels"]) + gzip.compress(b"more") + bytes(1000)
    assert b"".join(unpacked(io.BytesIO(file))) == DATA["labels"] + b"more"


@pytest.mark.parametrize("length", [0, 5, 10_000, -1])
def test_a_cut_off_file_is_noticed(length: int) -> None:
    file = packed(DATA["noise"])[:length]
    with pytest.raises(EOFError):
        list(unpacked(io.BytesIO(file)))


@pytest.mark.parametrize("place", [0, 100_000, -6])
def test_a_damaged_file_is_noticed(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    file = bytearray(packed(DATA["noise"]))
    file[place] ^= 255
    for by in (gzip_streams.deflating(), zlib):
        monkeypatch.setattr(gzip_streams, "deflating", lambda by=by: by)
        with pytest.raises((zlib.error, EOFError)):
            list(unpacked(io.BytesIO(bytes(file))))
