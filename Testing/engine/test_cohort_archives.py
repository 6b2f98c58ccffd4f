"""An archive of cases: unpacked once beside the cohort file, and refused where it would do harm."""

import gzip
import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cohort_folders import image_array, label_array, labeled_folder, write
from dinomix.cohort import archives
from dinomix.cohort.checking import check_cohort
from dinomix.cohort.cohort import Cohort
from dinomix.cohort.problems import CohortError


def zipped(folder: Path, path: Path) -> Path:
    return Path(shutil.make_archive(str(path.with_suffix("")), "zip", folder))


class Heard(list[str]):
    def __call__(self, kind: str, **fields: object) -> None:
        if kind == "notice":
            self.append(str(fields["message"]))


def test_a_zip_is_unpacked_beside_the_cohort_and_once(tmp_path: Path) -> None:
    labeled_folder(tmp_path / "data" / "Study 1", ["a", "b"])
    (tmp_path / "data" / "__MACOSX").mkdir()
    archive = zipped(tmp_path / "data", tmp_path / "given" / "study.zip")
    shutil.rmtree(tmp_path / "data")
    out, heard = tmp_path / "out" / "cohort.json", Heard()
    cohort = check_cohort([archive], [], [], out=out, emit=heard)
    (place,) = (tmp_path / "out" / "cohort_unpacked").iterdir()
    assert place.name.startswith("study-")
    assert [case.image for case in cohort.cases] == [
        place / "Study 1/images/a.nii.gz",
        place / "Study 1/images/b.nii.gz",
    ]
    assert any(f"study.zip was unpacked into {place}" in message for message in heard)
    assert sorted(path.name for path in archive.parent.iterdir()) == ["study.zip"]
    moved = archive.rename(tmp_path / "moved.zip")
    times = [path.stat().st_mtime_ns for path in sorted(place.rglob("*"))]
    again = Heard()
    assert check_cohort([moved], [], [], out=out, emit=again) == cohort
    assert any("is unpacked already" in message for message in again)
    assert [path.stat().st_mtime_ns for path in sorted(place.rglob("*"))] == times
    moved_out = tmp_path / "elsewhere"
    shutil.move(tmp_path / "out", moved_out)
    assert all(case.image.is_file() for case in Cohort.read(moved_out / "cohort.json").cases)


def test_another_content_under_the_same_name_is_unpacked_anew(tmp_path: Path) -> None:
    out = tmp_path / "cohort.json"
    for names in (["a"], ["a", "b"]):
        archive = zipped(labeled_folder(tmp_path / "-".join(names), names), tmp_path / "study.zip")
        assert len(check_cohort([archive], [], [], out=out, overwrite=True).cases) == len(names)
    assert len(list((tmp_path / "cohort_unpacked").iterdir())) == 2


@pytest.mark.parametrize("layout", ["cases", "one case", "bids", "images only"])
def test_any_layout_may_come_in_a_zip(tmp_path: Path, layout: str) -> None:
    data = tmp_path / "data"
    if layout == "bids":
        write(data / "set" / "sub-01" / "anat" / "sub-01_T1w.nii.gz", image_array(0))
        write(data / "set" / "derivatives" / "m" / "sub-01" / "anat" / "sub-01_dseg.nii.gz", label_array())
    elif layout == "images only":
        labeled_folder(data, ["x"])
        shutil.rmtree(data / "labels")
    else:
        for number in range(2 if layout == "cases" else 1):
            write(data / "set" / f"s{number}" / "ct.nii.gz", image_array(number))
            write(data / "set" / f"s{number}" / "segmentations" / "liver.nii.gz", (label_array() > 0).astype("uint8"))
    archive = zipped(data, tmp_path / "data.zip")
    if layout == "images only":
        labeled = labeled_folder(tmp_path / "labeled", ["a"], first_seed=7)
        found = check_cohort([labeled], [archive], [], out=tmp_path / "cohort.json")
        assert [case.name for case in found.with_role("unlabeled")] == ["x"]
        return
    names = {"cases": ["s0", "s1"], "one case": ["s0"], "bids": ["sub-01_T1w"]}[layout]
    assert [case.name for case in check_cohort([archive], [], [], out=tmp_path / "cohort.json").cases] == names


def test_what_would_do_harm_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    archive = tmp_path / "evil.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("images/a.nii.gz", b"x")
        file.writestr("../outside", b"x")
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"PK\x03\x04 nothing more")
    with pytest.raises(CohortError) as refused:
        check_cohort([archive, broken], [], [], out=tmp_path / "out" / "cohort.json")
    told = {problem.file: problem.problem for problem in refused.value.problems}
    assert "would be written outside of its folder" in told[archive] and "is not a zip archive" in told[broken]
    assert {path.name for path in tmp_path.rglob("*")} <= {"broken.zip", "evil.zip", "out"}


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".TGZ"])
def test_a_tar_is_unpacked_once(tmp_path: Path, ending: str) -> None:
    folder = labeled_folder(tmp_path / "data", ["a", "b"])
    (folder / "images" / "._a.nii.gz").write_bytes(b"of a Mac")
    archive = tmp_path / f"study{ending}"
    with tarfile.open(archive, "w" if ending == ".tar" else "w:gz") as file:
        file.add(folder, arcname="./Study 1")
    out, heard = tmp_path / "out/cohort.json", Heard()
    cohort = check_cohort([archive], [], [], out=out)
    (place,) = (tmp_path / "out/cohort_unpacked").iterdir()
    assert place.name.startswith("study-") and [c.image for c in cohort.cases] == [
        place / "Study 1/images" / f"{name}.nii.gz" for name in "ab"
    ]
    for path in folder.rglob("*.gz"):
        assert (place / "Study 1" / path.relative_to(folder)).read_bytes() == path.read_bytes()
    assert check_cohort([archive], [], [], out=out, emit=heard) == cohort
    assert any("is unpacked already" in message for message in heard)


def of_type(kind: bytes) -> Callable[[tarfile.TarInfo], None]:
    def changed(entry: tarfile.TarInfo) -> None:
        entry.type, entry.linkname = kind, "/etc/passwd"

    return changed


def named(name: str) -> Callable[[tarfile.TarInfo], None]:
    def changed(entry: tarfile.TarInfo) -> None:
        entry.name = name

    return changed


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (named("../outside"), "would be written outside of its folder"),
        (named("/tmp/outside"), "would be written outside of its folder"),
        (named("images/../../outside"), "would be written outside of its folder"),
        (named("./images//a.nii.gz"), "appears twice"),
        (named("images/a.nii.gz/b"), "lies in a file"),
        (named("images/\udcff"), "has a name that no disk takes"),
        (of_type(tarfile.SYMTYPE), "is a link"),
        (of_type(tarfile.LNKTYPE), "is a link"),
        (of_type(tarfile.FIFOTYPE), "is no plain file"),
        (of_type(tarfile.CHRTYPE), "is no plain file"),
        (of_type(tarfile.GNUTYPE_SPARSE), "is no plain file"),
    ],
)
@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
def test_a_tar_that_would_do_harm_is_refused_and_leaves_nothing(
    tmp_path: Path, ending: str, change: Callable[[tarfile.TarInfo], None], said: str
) -> None:
    archive = tmp_path / f"evil{ending}"
    with tarfile.open(archive, "w:gz" if ending == ".tar.gz" else "w") as file:
        for number in range(2):
            entry = tarfile.TarInfo("images/a.nii.gz")
            if number:
                change(entry)
            file.addfile(entry, io.BytesIO())
    with pytest.raises(CohortError, match=said):
        check_cohort([archive], [], [], out=tmp_path / "out" / "cohort.json")
    assert {path.name for path in tmp_path.rglob("*")} <= {archive.name, "out"}


@pytest.mark.parametrize("broken", ["half", "no end", "other bytes", "nothing", "a header that never ends"])
@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
def test_a_tar_that_was_cut_short_or_damaged_is_refused_and_leaves_nothing(
    tmp_path: Path, ending: str, broken: str
) -> None:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as file:
        for name in ("images/a.nii.gz", "labels/a.nii.gz"):
            entry = tarfile.TarInfo(name)
            entry.size = 3000
            file.addfile(entry, io.BytesIO(bytes(range(250)) * 12))
    data = whole.getvalue()
    if broken == "a header that never ends":
        header = tarfile.TarInfo("././@LongLink")
        header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2**40
        data = header.tobuf() + data
    if broken == "no end":
        data = data[: 2 * (512 + 3072)]
    packed = gzip.compress(data) if ending == ".tar.gz" else data
    if broken == "half":
        packed = packed[: len(packed) // 2]
    if broken == "other bytes":
        packed = packed[:3584] + b"x" * 512 + packed[4096:] if ending == ".tar" else packed[:-8] + bytes(8)
    if broken == "nothing":
        packed = b""
    archive = tmp_path / f"broken{ending}"
    archive.write_bytes(packed)
    with pytest.raises(CohortError, match="is damaged or cut short"):
        check_cohort([archive], [], [], out=tmp_path / "out" / "cohort.json")
    assert {path.name for path in tmp_path.rglob("*")} <= {archive.name, "out"}


def test_a_zip_needs_a_cohort_file_and_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zipped(labeled_folder(tmp_path / "data", ["a"]), tmp_path / "data.zip")
    with pytest.raises(CohortError, match="no place to unpack"):
        check_cohort([archive], [], [])
    monkeypatch.setattr(archives, "LIMITS", archives.Limits(10, 10, 1, "or so"))
    with pytest.raises(CohortError, match="would unpack to 2 files"):
        check_cohort([archive], [], [], out=tmp_path / "cohort.json")
    assert not (tmp_path / "cohort_unpacked").exists()
