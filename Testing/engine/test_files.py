"""Files written aside: whole or not there."""

import errno
import os
import shutil
import time
from collections import namedtuple
from pathlib import Path

import pytest

from dinomix import files
from dinomix.errors import DinomixError
from dinomix.files import (
    LEFT_BEHIND,
    clear_leftovers,
    folder_written_aside,
    path_from,
    sha256,
    shortened_name,
    write_json,
    write_text,
    written_aside,
)


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


def refusing(kept: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let only those renames succeed whose numbers are given."""
    rename, numbers = os.replace, iter(range(9))

    def replace(*names: Path) -> None:
        if next(numbers) not in kept:
            raise PermissionError(errno.EACCES, "Access is denied", str(names[1]))
        rename(*names)

    monkeypatch.setattr(os, "replace", replace)


def replaced(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "kept").write_text("kept")
    with folder_written_aside(folder) as aside:
        (aside / "new").write_text("whole")


def test_a_folder_that_cannot_be_replaced_gets_its_place_back(tmp_path: Path, monkeypatch):
    refusing([0, 2], monkeypatch)
    with pytest.raises(PermissionError):
        replaced(tmp_path / "model")
    assert os.listdir(tmp_path) == ["model"] and os.listdir(tmp_path / "model") == ["kept"]


@pytest.mark.parametrize("age", [0, LEFT_BEHIND])
def test_a_folder_whose_replacing_was_killed_between_is_found_again(age: float, tmp_path: Path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(PermissionError):
        refusing([0], patch)
        replaced(tmp_path / "model")
    assert not (tmp_path / "model").exists() and len(os.listdir(tmp_path)) == 1
    clear_leftovers(tmp_path, age)
    assert os.listdir(tmp_path / "model") == ["kept"]
    clear_leftovers(tmp_path)
    assert os.listdir(tmp_path) == ["model"]


def test_what_was_replaced_does_not_come_back(tmp_path: Path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # killed when the new one was in its place
        replaced(tmp_path / "model")
    assert os.listdir(tmp_path / "model") == ["new"] and len(os.listdir(tmp_path)) == 2
    shutil.rmtree(tmp_path / "model")
    (tmp_path / ".partial-file.json").touch()
    clear_leftovers(tmp_path)
    assert not os.listdir(tmp_path)


def test_what_others_may_be_writing_is_not_cleared(tmp_path: Path):
    for name in ("young", "old"):
        (tmp_path / f".partial-{name}").mkdir()
    long_ago = time.time() - LEFT_BEHIND - 60
    os.utime(tmp_path / ".partial-old", (long_ago, long_ago))
    clear_leftovers(tmp_path, LEFT_BEHIND)
    assert os.listdir(tmp_path) == [".partial-young"]


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


def test_lines_end_on_windows_as_everywhere(tmp_path: Path, windows_lines: None):
    (tmp_path / "as_python").write_text("a\n")
    write_text(tmp_path / "text", "a\nb\n")
    write_json(tmp_path / "data.json", {"a": 1})
    assert (tmp_path / "as_python").read_bytes() == b"a\r\n"
    assert (tmp_path / "text").read_bytes() == b"a\nb\n" and b"\r" not in (tmp_path / "data.json").read_bytes()


def test_paths_that_windows_wrote_lead_to_the_same_files(tmp_path: Path):
    for folder, name in (("images", "images/a.nii.gz"), ("b", "b\\c.nii.gz")):
        (tmp_path / folder).mkdir()
        (tmp_path / name).touch()
    assert path_from(tmp_path, Path("images\\a.nii.gz")) == tmp_path / "images/a.nii.gz"
    assert path_from(tmp_path, Path("images/a.nii.gz")) == tmp_path / "images/a.nii.gz"
    assert path_from(tmp_path, Path("b\\c.nii.gz")) == tmp_path / "b\\c.nii.gz"  # which Linux allows
    assert path_from(tmp_path, Path("x\\" + "y" * 300)) == tmp_path / "x" / ("y" * 300)
    elsewhere = tmp_path.parent / "x\\y.nii.gz"
    assert path_from(tmp_path, elsewhere) == elsewhere
