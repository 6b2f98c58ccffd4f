"""NumPy's files as NumPy itself reads them, and without Python's parser."""

import ast
from pathlib import Path

import numpy as np
import pytest

from dinomix.planning.array_files import mapped, stored

ARRAYS = [
    np.arange(24, dtype=np.float16).reshape(1, 2, 3, 4),
    np.asfortranarray(np.arange(6, dtype=np.uint16).reshape(2, 3)),
    np.arange(5, dtype=np.int16),
    np.arange(4, dtype=">i4"),
]


@pytest.fixture
def no_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise SystemError("AST constructor recursion depth mismatch")

    monkeypatch.setattr(ast, "parse", refuse)


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype.str}, {array.shape}")
def test_a_file_is_read_as_it_was_saved(array: np.ndarray, tmp_path: Path, no_parser: None) -> None:
    np.save(tmp_path / "a.npy", array)
    read = mapped(tmp_path / "a.npy")
    assert isinstance(read, np.memmap) and not read.flags.writeable
    assert read.dtype == array.dtype and read.flags.f_contiguous == array.flags.f_contiguous
    assert np.array_equal(read, array)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_is_read_as_it_was_saved(save, tmp_path: Path, no_parser: None) -> None:
    arrays = {"1": ARRAYS[2], "12": ARRAYS[1], "none": np.zeros((0, 3), np.int16)}
    save(tmp_path / "a.npz", **arrays)
    read = stored(tmp_path / "a.npz")
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype and np.array_equal(read[name], array)


def test_what_is_cut_off_or_something_else_is_a_value_error(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, ARRAYS[0])
    whole = path.read_bytes()
    for part in (b"", whole[:5], whole[:40], whole[:-1], b"x" + whole[1:]):
        path.write_bytes(part)
        with pytest.raises(ValueError):
            mapped(path)
    np.save(path, np.array([{"an": "object"}], object), allow_pickle=True)
    with pytest.raises(ValueError):
        mapped(path)
