"""Files written aside: whole or not there."""

import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from dinomix import files
from dinomix.errors import DinomixError
from dinomix.files import folder_written_aside, sha256, shortened_name, write_json, written_aside


def test_a_failed_write_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "plan.json"
    write_json(path, {"a": 1})
    before = path.read_bytes()
    with pytest.raises(RuntimeError), written_aside(path) as aside:
        aside.write_text("half")
        raise RuntimeError
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["plan.json"]


def test_a_failed_folder_leaves_the_old_one(tmp_path: Path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "kept").write_text("kept")
    with pytest.raises(RuntimeError), folder_written_aside(folder) as aside:
        (aside / "new").write_text("half")
        raise RuntimeError
    assert os.listdir(tmp_path) == ["model"] and os.listdir(folder) == ["kept"]
    with folder_written_aside(folder) as aside:
        (aside / "new").write_text("whole")
    assert os.listdir(tmp_path) == ["model"] and os.listdir(folder) == ["new"]


def test_a_file_that_another_program_reads_on_windows_is_renamed_a_little_later(tmp_path: Path, monkeypatch):
    rename, refused = os.replace, iter([True, True, False])

    def busy(*names: Path) -> None:
        if next(refused):
            raise PermissionError(errno.EACCES, "The process cannot access the file", str(names[1]))
        rename(*names)

    monkeypatch.setattr(os, "replace", busy)
    monkeypatch.setattr(files, "ON_WINDOWS", True)
    monkeypatch.setattr(files, "PAUSES", (0.0, 0.0))
    write_json(tmp_path / "plan.json", {"a": 1})
    assert os.listdir(tmp_path) == ["plan.json"]
    refused = iter([True, True, True])
    with pytest.raises(PermissionError):
        write_json(tmp_path / "other.json", {"a": 1})
    assert os.listdir(tmp_path) == ["plan.json"]


def test_writers_that_hide_a_full_disk_are_understood(tmp_path: Path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 100, 0))
    with pytest.raises(OSError) as caught, written_aside(tmp_path / "last.pt"):
        raise RuntimeError("unexpected pos 576 vs 534")
    assert caught.value.errno == errno.ENOSPC and not os.listdir(tmp_path)


def test_the_hash_of_a_folder_follows_names_and_contents(tmp_path: Path):
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    first = sha256(tmp_path)
    (tmp_path / "a").rename(tmp_path / "c")
    renamed = sha256(tmp_path)
    (tmp_path / "c").write_text("3")
    assert len({first, renamed, sha256(tmp_path)}) == 3


def test_names_in_any_script_can_be_written(tmp_path: Path):
    path = tmp_path / "Bäuche & Köpfe 腹部" / "Fall Ü.json"
    write_json(path, {"name": "腹部"})
    assert "腹部" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["x" * 250 + ".json", "腹" * 80 + ".nii.gz", "a.nii.nii.gz", "OUT.NII.GZ"])
def test_a_name_that_a_file_may_have_can_be_written(name: str, tmp_path: Path):
    with written_aside(tmp_path / name) as aside:
        assert len(os.fsencode(aside.name)) < 40 and aside.name.endswith((".json", ".nii.gz"))
        aside.write_text("whole")
    assert os.listdir(tmp_path) == [name]


def test_a_folder_of_a_long_name_can_be_written(tmp_path: Path):
    for text in ("first", "second"):
        with folder_written_aside(tmp_path / ("x" * 255)) as aside:
            (aside / "file").write_text(text)
    assert (tmp_path / ("x" * 255) / "file").read_text() == "second"


def test_names_that_are_too_long_are_shortened_and_stay_two():
    assert shortened_name("case.nii.gz") == "case.nii.gz"
    one, other = (shortened_name("腹" * 100 + end + ".nii.gz") for end in "ab")
    assert one != other and one.endswith(".nii.gz") and one.startswith("腹腹")
    assert all(200 < len(os.fsencode(name)) <= 255 for name in (one, other))


def test_messages_can_be_printed_whatever_name_they_hold():
    error = DinomixError("No file a\nb\udcff\x1b[31m\u202e Ü.", "Rename\tit.")
    assert str(error) == "No file a b\\udcff\\x1b[31m\\u202e Ü. Rename it."


def test_a_link_that_leads_nowhere_is_not_replaced(tmp_path: Path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(FileExistsError, match="a link that leads nowhere"):
        write_json(tmp_path / "loop", {})
    assert os.listdir(tmp_path) == ["loop"] and (tmp_path / "loop").is_symlink()
