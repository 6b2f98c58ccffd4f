"""A second check reads only what has changed since the first, and finds the same."""

import os
from pathlib import Path

import numpy as np
import pytest
from test_dicom import write_series

from cohort_folders import image_array, label_array, labeled_folder, write
from dinomix.cohort import checking
from dinomix.cohort.checking import check_cohort
from dinomix.cohort.problems import CohortError
from dinomix.cohort.renaming import Renames
from dinomix.names import normalized_name


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the image files that are read."""
    names: list[str] = []
    original = checking.read_facts

    def watched(image: Path, *arguments: object):
        names.append(image.name)
        return original(image, *arguments)

    monkeypatch.setattr(checking, "read_facts", watched)
    return names


def test_what_has_not_changed_is_not_read_again(tmp_path: Path, read: list[str]) -> None:
    folder = labeled_folder(tmp_path / "in", ["a", "b", "c"])
    write(tmp_path / "more/d.nii.gz", image_array(9))
    first = check_cohort([folder], [tmp_path / "more"], [], out=tmp_path / "cohort.json")
    assert sorted(read) == ["a.nii.gz", "b.nii.gz", "c.nii.gz", "d.nii.gz"]
    read.clear()
    told: list[tuple[str, dict]] = []
    again = check_cohort(
        [folder], [tmp_path / "more"], [], out=tmp_path / "cohort.json", emit=lambda kind, **f: told.append((kind, f))
    )
    assert read == [] and again == first
    assert [fields["step"] for kind, fields in told if kind == "progress"] == [4]
    check_cohort([folder], [tmp_path / "more"], [], out=tmp_path / "other.json")
    assert len(read) == 4


def test_a_changed_image_or_label_is_read_again(tmp_path: Path, read: list[str]) -> None:
    folder = labeled_folder(tmp_path / "in", ["a", "b", "c"])
    out = tmp_path / "cohort.json"
    before = check_cohort([folder], [], [], out=out)
    read.clear()
    label = label_array()
    label[4] = 0
    write(folder / "labels/b.nii.gz", label)
    times = (folder / "images/c.nii.gz").stat()
    write(folder / "images/c.nii.gz", np.flip(image_array(2)).copy())
    os.utime(folder / "images/c.nii.gz", ns=(times.st_atime_ns, times.st_mtime_ns))
    after = check_cohort([folder], [], [], out=out, overwrite=True)
    assert sorted(read) == ["b.nii.gz", "c.nii.gz"]
    assert after.cases[1].voxels != before.cases[1].voxels
    assert after.cases[2].image_sha256 != before.cases[2].image_sha256
    fresh = check_cohort([folder], [], [])
    assert fresh == after
    lines = (tmp_path / ".cohort.json.facts").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3


def test_a_slice_that_is_added_to_a_series_is_seen(tmp_path: Path, read: list[str]) -> None:
    folder = labeled_folder(tmp_path / "in", ["a"])
    series = tmp_path / "scans/patient"
    write_series(series, [0, 1, 2, 3, 4, 5], values=[1, 2, 3, 4, 5, 6])
    out = tmp_path / "cohort.json"
    check_cohort([folder], [tmp_path / "scans"], [], out=out)
    read.clear()
    check_cohort([folder], [tmp_path / "scans"], [], out=out)
    assert read == []
    write_series(series, [0, 1, 2, 3, 4, 5, 6], values=[1, 2, 3, 4, 5, 6, 7])
    after = check_cohort([folder], [tmp_path / "scans"], [], out=out, overwrite=True)
    assert read == ["patient"] and after.with_role("unlabeled")[0].size[2] == 7


def test_what_is_asked_of_the_labels_counts_too(tmp_path: Path, read: list[str]) -> None:
    folder = labeled_folder(tmp_path / "in", ["a", "b"])
    out = tmp_path / "cohort.json"
    whole = check_cohort([folder], [], [], out=out)
    read.clear()
    part = check_cohort([folder], [], [], out=out, overwrite=True, renames=Renames({normalized_name("class_2"): None}))
    assert len(read) == 2
    assert part.cases[0].foreground_intensity != whole.cases[0].foreground_intensity


def test_a_check_that_fails_is_remembered_as_well(tmp_path: Path, read: list[str]) -> None:
    folder = labeled_folder(tmp_path / "in", ["a", "b", "c"])
    out = tmp_path / "cohort.json"
    whole = (folder / "images/b.nii.gz").read_bytes()
    (folder / "images/b.nii.gz").write_text("no image")
    with pytest.raises(CohortError):
        check_cohort([folder], [], [], out=out)
    assert not out.exists()
    # As if the process had been killed while it wrote.
    with open(tmp_path / ".cohort.json.facts", "a", encoding="utf-8") as file:
        file.write('[1, "cut of')
    read.clear()
    (folder / "images/b.nii.gz").write_bytes(whole)
    cohort = check_cohort([folder], [], [], out=out)
    assert read == ["b.nii.gz"] and [case.name for case in cohort.cases] == ["a", "b", "c"]


def test_a_file_that_is_gone_is_a_problem_and_no_memory(tmp_path: Path) -> None:
    folder = labeled_folder(tmp_path / "in", ["a", "b"])
    out = tmp_path / "cohort.json"
    check_cohort([folder], [], [], out=out)
    target = tmp_path / "elsewhere.nii.gz"
    (folder / "images/b.nii.gz").rename(target)
    (folder / "images/b.nii.gz").symlink_to(target)
    target.unlink()
    with pytest.raises(CohortError, match=r"b\.nii\.gz"):
        check_cohort([folder], [], [], out=out, overwrite=True)
