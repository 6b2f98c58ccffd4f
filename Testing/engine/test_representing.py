"""The cases to label before there is a model: those that represent the others, by how the images look."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from dinomix.cli import main
from dinomix.errors import DinomixError
from dinomix.images.reading import read_image
from dinomix.training.next_case.image_features import distances, features_of
from dinomix.training.next_case.representing import cases_in, medoids, rank_images
from tiny_cohort import make_cohort


def blob(
    place: tuple[float, float, float], scale: float = 1.0, shape: tuple[int, int, int] = (24, 24, 24)
) -> np.ndarray:
    """(k, j, i), bright around a place, which is relative to the shape."""
    grid = np.stack(np.indices(shape), -1) / shape
    return np.float32(scale * np.exp(-((grid - place) ** 2).sum(-1) / 0.03))


def write(file: Path, array: np.ndarray, spacing: float = 1.0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((spacing,) * 3)
    sitk.WriteImage(image, str(file))


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Five scans with something in one corner, at any brightness, three in the other, and one of another size."""
    for number in range(5):
        write(tmp_path / "scans" / f"low{number}.nii.gz", blob((0.3, 0.3, 0.3 + 0.01 * number), 10.0**number))
    for number in range(3):
        write(tmp_path / "scans" / f"up{number}.nii.gz", blob((0.7, 0.7, 0.7 + 0.01 * number)))
    write(tmp_path / "scans" / "wide.nii.gz", blob((0.5, 0.5, 0.5)), spacing=3.0)
    return tmp_path / "scans"


def test_medoids_lie_in_the_midst_of_the_largest_groups_that_nothing_stands_for_yet():
    points = np.array([0.0, 1.0, 2.0, 10.0, 11.0, 12.0, 13.0, 14.0, 30.0])
    apart = np.abs(points[:, None] - points)
    assert medoids(apart, [], 9)[:3] == [4, 1, 8]
    assert medoids(apart, [4], 2) == [1, 8]
    assert sorted(medoids(apart, [], 9)) == list(range(9))
    assert medoids(np.zeros((3, 3)), [], 3) == [0, 1, 2]


def test_features_see_neither_the_scale_of_brightness_nor_the_order_of_axes(tmp_path: Path):
    array = blob((0.3, 0.5, 0.6), shape=(20, 24, 28))
    write(tmp_path / "a.nii.gz", array)
    write(tmp_path / "b.nii.gz", 1000 * array - 50)
    turned = sitk.PermuteAxes(sitk.ReadImage(str(tmp_path / "a.nii.gz")), (2, 0, 1))
    sitk.WriteImage(sitk.Flip(turned, (True, False, True)), str(tmp_path / "c.nii.gz"))
    write(tmp_path / "d.nii.gz", blob((0.7, 0.5, 0.4), shape=(20, 24, 28)))
    apart = distances([features_of(read_image(tmp_path / f"{name}.nii.gz")) for name in "abcd"])
    assert apart[0, 1] < 0.01 and apart[0, 2] < 0.01 < 1 < apart[0, 3]


def test_a_constant_image_and_a_single_one_are_no_trouble(tmp_path: Path):
    write(tmp_path / "a.nii.gz", np.ones((4, 5, 40), np.float32))
    assert [case["represents"] for case in rank_images(cases_in([tmp_path]), 3)["cases"]] == [1]


def test_a_case_of_each_group_comes_first_and_says_for_whom_it_stands(scans: Path, tmp_path: Path):
    result = rank_images(cases_in([scans]), 3, out=tmp_path / "first.json")
    assert json.loads((tmp_path / "first.json").read_text()) == result
    kinds = [case["name"].rstrip("0123456789") for case in result["cases"]]
    assert kinds[0] == "low" and sorted(kinds) == ["low", "up", "wide"]
    assert sorted(case["represents"] for case in result["cases"]) == [1, 3, 5]
    assert all(near[:2] == case["name"][:2] for case in result["cases"] for near in case["nearest"])
    assert [case["name"] for case in rank_images(cases_in([scans]), 99)["cases"]][:3] == [
        c["name"] for c in result["cases"]
    ]


def test_labeled_cases_stand_for_theirs_already(scans: Path, tmp_path: Path):
    entries = [{"image": str(file), "role": "unlabeled"} for file in sorted(scans.iterdir())]
    entries[0] |= {"role": "labeled", "label": str(scans / "low0.nii.gz")}
    (tmp_path / "cases.json").write_text(json.dumps(entries))
    names = [case["name"].rstrip("0123456789") for case in rank_images(cases_in([tmp_path / "cases.json"]), 2)["cases"]]
    assert sorted(names) == ["up", "wide"]


def test_a_cohort_file_gives_its_labeled_and_unlabeled_cases(tmp_path: Path):
    make_cohort(tmp_path / "cases").write(tmp_path / "cohort.json")
    cases = cases_in([tmp_path / "cohort.json"])
    assert [case.is_labeled for case in cases] == [True, True, False, False, False]
    assert len(rank_images(cases)["cases"]) == 1


def test_cases_of_several_folders_and_lists_are_one_pool(scans: Path, tmp_path: Path):
    (tmp_path / "more").mkdir()
    (scans / "wide.nii.gz").rename(tmp_path / "more" / "wide.nii.gz")
    (tmp_path / "cases.json").write_text(
        json.dumps([{"image": "scans/low0.nii.gz", "role": "unlabeled", "name": "again"}])
    )
    cases = cases_in([scans, tmp_path / "more", tmp_path / "cases.json"])
    assert [case.name for case in cases][-2:] == ["wide", "again"] and len(cases) == 10


def test_what_cannot_be_read_is_told_and_the_others_are_chosen(scans: Path, tmp_path: Path):
    (scans / "low0.nii.gz").write_bytes(b"no image")
    told: list[dict] = []
    with pytest.raises(DinomixError, match="1 of 9 cases could not be looked at"):
        rank_images(
            cases_in([scans]), 2, out=tmp_path / "out.json", emit=lambda kind, **f: told.append({"kind": kind, **f})
        )
    assert [event["message"].startswith("low0: ") for event in told if event["kind"] == "error"] == [True]
    assert len(json.loads((tmp_path / "out.json").read_text())["cases"]) == 2


def test_unless_asked_for_more_a_third_is_chosen_and_ten_at_most(tmp_path: Path):
    for number in range(40):
        write(tmp_path / f"scan{number}.nii.gz", np.full((2, 2, 2), number, np.float32))
    assert len(rank_images(cases_in([tmp_path]))["cases"]) == 10
    assert len(rank_images(cases_in([tmp_path])[:8])["cases"]) == 2
    assert len(rank_images(cases_in([tmp_path]), 50)["cases"]) == 40


def left(*arguments: object) -> int:
    with pytest.raises(SystemExit) as code:
        main([str(argument) for argument in arguments])
    return int(code.value.code or 0)


def test_the_command_line(scans: Path, tmp_path: Path, capsys):
    assert left("rank", scans, "--count", 2) == 0
    assert " others: low" in capsys.readouterr().out
    assert left("rank", scans, "--count", 2, "--out", tmp_path / "first.json", "--json") == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["kind"] == "ranking" and last["by"] == "representative" and Path(last["path"]).is_file()
    for arguments in (
        (scans, "--seed", 1),
        (scans, "--by", "random"),
        (tmp_path / "empty",),
        (tmp_path / "first.json",),
        (scans, "--out", tmp_path / "first.json"),
    ):
        assert left("rank", *arguments, "--json") == 2
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["remedy"]
    assert len(json.loads((tmp_path / "first.json").read_text())["cases"]) == 2
    assert left("rank", scans, "--out", tmp_path / "first.json", "--overwrite") == 0
    (tmp_path / "unlabeled.json").write_text(
        json.dumps([{"image": str(scans / "up0.nii.gz"), "role": "labeled", "label": str(scans / "up0.nii.gz")}])
    )
    assert left("rank", tmp_path / "unlabeled.json", "--json") == 2
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["code"] == "no-unlabeled"
