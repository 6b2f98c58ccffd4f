"""JSON of strangers: read strictly, refused in words."""

import json
import os
from pathlib import Path

import pytest

from dinomix.files import DEEPEST_JSON, json_text, open_file, parse_json, read_json, read_lines, write_json


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"[" * 100_000, "nested more than 64 deep"),
        (b"[" * 900 + b"]" * 900, "nested more than 64 deep"),
        (b'{"a":' * 70 + b"1" + b"}" * 70, "nested more than 64 deep"),
        (b'{"a": 1, "a": 2}', "the key 'a' stands in it twice"),
        (b'{"a": NaN}', "holds NaN"),
        (b'{"a": -Infinity}', "holds -Infinity"),
        (b'{"a": 1e999}', "holds 1e999"),
        (b"1" * 5000, "a number of 5000 digits"),
        (rb'{"a": "\ud800"}', "half of a character"),
        (rb'{"\uDFFF": 1}', "half of a character"),
        (b'"\xff"', "not text in UTF-8"),
        (b'{"a": 1,\n"b" 2}', "not JSON at line 2, column 5"),
        (b"", "not JSON at line 1, column 1"),
    ],
)
def test_what_is_no_good_json_is_refused_in_words(text: bytes, reason: str, tmp_path: Path):
    with pytest.raises(ValueError, match=reason) as caught:
        parse_json(text)
    assert len(str(caught.value)) < 100
    (tmp_path / "file.json").write_bytes(text)
    with pytest.raises(ValueError, match=reason):
        read_json(tmp_path / "file.json")


def test_good_json_is_read_as_it_is():
    assert parse_json(rb'{"a": [1, 2.5, null, true], "b": "\ud83d\ude00"}') == {"a": [1, 2.5, None, True], "b": "😀"}
    assert parse_json("\ufeff[]".encode()) == []  # as Windows' editor begins a file
    assert parse_json(b"[" * DEEPEST_JSON + b"]" * DEEPEST_JSON)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path):
    (tmp_path / "large.json").write_text(json.dumps(["x" * 100] * 20))
    with pytest.raises(ValueError, match=r"larger than 0\.001 MB"):
        read_json(tmp_path / "large.json", 1000)


def test_pipes_devices_and_folders_are_no_files(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path / "pipe.json", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match="not a file"):
            read_json(path)
        with pytest.raises(OSError, match="not a file"):
            open_file(path)


def test_what_is_written_can_be_read_whatever_it_holds(tmp_path: Path):
    data = {"nan": float("nan"), "list": [float("inf"), 1.5], "half": "a\ud800b", "whole": "Ü"}
    write_json(tmp_path / "data.json", data)
    assert read_json(tmp_path / "data.json") == {"nan": None, "list": [None, 1.5], "half": "a?b", "whole": "Ü"}
    assert json_text({"a": "Ü"}) == '{"a": "Ü"}'


def test_lines_are_read_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dinomix.files.LONGEST_LINE", 8)
    (tmp_path / "lines").write_bytes(b"1\n" + b"2" * 20 + b"\n3")
    assert list(read_lines(tmp_path / "lines")) == [b"1\n", b"2" * 8, b"2" * 8, b"2222\n", b"3"]
