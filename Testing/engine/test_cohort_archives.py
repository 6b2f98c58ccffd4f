"""A zip of cases: unpacked once beside the cohort file, and refused where it would do harm."""

import shutil
import zipfile
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


def test_a_zip_needs_a_cohort_file_and_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zipped(labeled_folder(tmp_path / "data", ["a"]), tmp_path / "data.zip")
    with pytest.raises(CohortError, match="no place to unpack"):
        check_cohort([archive], [], [])
    monkeypatch.setattr(archives, "LIMITS", archives.Limits(10, 10, 1, "or so"))
    with pytest.raises(CohortError, match="would unpack to 2 files"):
        check_cohort([archive], [], [], out=tmp_path / "cohort.json")
    assert not (tmp_path / "cohort_unpacked").exists()
