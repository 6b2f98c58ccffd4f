import gzip
import io
import os
import zlib

import numpy as np
import pytest

from dinomix.images.gzip_streams import BLOCK, pack, unpacked

DATA = {
    "nothing": b"",
    "noise": np.random.default_rng(0).bytes(3 * BLOCK + 17),
    "one block": np.random.default_rng(1).bytes(BLOCK),
    "zeros": bytes(5 * BLOCK),
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


def test_cutting_into_blocks_costs_little() -> None:
    assert len(packed(DATA["labels"])) < 1.03 * len(gzip.compress(DATA["labels"], 5))


def test_the_number_of_cores_does_not_change_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    files = set()
    for cores in (1, 2, 7):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        files.add(packed(DATA["labels"]))
    assert len(files) == 1


def test_several_members_and_zeros_behind_them() -> None:
    file = gzip.compress(DATA["labels"]) + gzip.compress(b"more") + bytes(1000)
    assert b"".join(unpacked(io.BytesIO(file))) == DATA["labels"] + b"more"


@pytest.mark.parametrize("length", [0, 5, 10_000, -1])
def test_a_cut_off_file_is_noticed(length: int) -> None:
    file = packed(DATA["noise"])[:length]
    with pytest.raises(EOFError):
        list(unpacked(io.BytesIO(file)))


@pytest.mark.parametrize("place", [0, 100_000, -6])
def test_a_damaged_file_is_noticed(place: int) -> None:
    file = bytearray(packed(DATA["noise"]))
    file[place] ^= 255
    with pytest.raises((zlib.error, EOFError)):
        list(unpacked(io.BytesIO(bytes(file))))
