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
from dinomix.errors import DinomixError
from dinomix.names import normalized_name
from dinomix.planning.cache import cached_case, refuse_changed
from tiny_cohort import make_plan


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


def test_what_was_remembered_on_windows_is_known_again(tmp_path: Path, read: list[str], windows_lines: None) -> None:
    folder = labeled_folder(tmp_path / "in", ["a", "b"])
    out = tmp_path / "cohort.json"
    check_cohort([folder], [], [], out=out)
    read.clear()
    check_cohort([folder], [], [], out=out)
    assert read == [] and b"\r" not in (tmp_path / ".cohort.json.facts").read_bytes()


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


@pytest.mark.parametrize("ending", ["mhd", "nhdr"])
def test_voxels_beside_a_header_are_seen_too(tmp_path: Path, read: list[str], ending: str) -> None:
    """Two images whose headers are the same, letter for letter, and a label; training finds the changes as well."""
    folder = labeled_folder(tmp_path / "in", [])
    for number, name in enumerate("ab"):
        write(folder / f"images/{name}/image.{ending}", image_array(number))
        write(folder / f"images/{name}/label.{ending}", label_array())
    assert len({path.read_bytes() for path in folder.glob(f"images/*/image.{ending}")}) == 1
    study, out = folder / "images", tmp_path / "cohort.json"
    first = check_cohort([study], [], [], out=out)
    plan = make_plan()
    a, b = first.cases
    assert a.image_sha256 != b.image_sha256 and a.label_sha256 == b.label_sha256
    assert cached_case(a, first, plan, tmp_path).folder != cached_case(b, first, plan, tmp_path).folder
    read.clear()
    assert check_cohort([study], [], [], out=out) == first and read == []
    for case, name, array in ((a, "image", image_array(5)), (b, "label", np.flip(label_array(), 0).copy())):
        refuse_changed(case)
        write(case.image.with_name(f"{name}.{ending}"), array)
        with pytest.raises(DinomixError, match=rf"{name}\.{ending} has changed since it was checked"):
            refuse_changed(case)
    again = check_cohort([study], [], [], out=out, overwrite=True)
    assert read == [f"image.{ending}"] * 2
    assert again.cases[0].image_sha256 != a.image_sha256 and again.cases[1].label_sha256 != b.label_sha256


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
