"""`dinomix evaluate`: pairing, refusals, what counts in the means, and the files it writes."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from dinomix.cli import main
from dinomix.cohort.checking import check_cohort
from dinomix.errors import DinomixError
from dinomix.evaluation.evaluate import evaluate_folders, pair_cases, table
from dinomix.evaluation.label_ids import read_ids
from dinomix.images.formats import case_name
from dinomix.images.writing import write_labels
from dinomix.labels import LabelSet

NAMES = {1: "liver", 2: "spleen"}
Run = Callable[..., tuple[int, str, str]]


def write(
    path: Path, boxes: dict[int, tuple[slice, slice, slice]], spacing: tuple[float, ...] = (1.0, 2.0, 3.0)
) -> Path:
    """A label file of 10 x 9 x 8 voxels (i, j, k) with a box (k, j, i) of each value."""
    array = np.zeros((8, 9, 10), np.uint8)
    for value, box in boxes.items():
        array[box] = value
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


def cube(k: int, j: int, i: int, side: int = 2) -> tuple[slice, slice, slice]:
    return slice(k, k + side), slice(j, j + side), slice(i, i + side)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({str(id): name for id, name in NAMES.items()}))
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(["evaluate", *map(str, arguments)])
        text = capsys.readouterr()
        return int(left.value.code or 0), text.out, text.err

    return run


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Four cases: a perfect, b shifted by a 3 mm slice, c with the spleen missed, d with a spleen that is not there."""
    one, two = cube(1, 1, 1), cube(5, 5, 5)
    write(tmp_path / "reference/a.nii.gz", {1: one, 2: two})
    write(tmp_path / "reference/b.nii.gz", {1: one})
    write(tmp_path / "reference/c.nrrd", {1: one, 2: two})
    write(tmp_path / "reference/d.nii.gz", {1: one})
    write(tmp_path / "prediction/a.nrrd", {1: one, 2: two})
    write(tmp_path / "prediction/b.nii.gz", {1: cube(2, 1, 1)})
    write(tmp_path / "prediction/c.nii.gz", {1: one})
    write(tmp_path / "prediction/d.mha", {1: one, 2: two})
    return tmp_path


def test_what_counts_in_strict(study: Path) -> None:
    metrics = evaluate_folders(study / "prediction", study / "reference", LabelSet.from_names(NAMES))
    liver, spleen = metrics["classes"]["liver"], metrics["classes"]["spleen"]
    assert metrics["protocol"] == "strict"
    # b: 2 of 2 slices moved by one, so half overlaps; of 8 surface voxels each way 4 are 3 mm off.
    assert liver == pytest.approx(
        {"dice": 3.5 / 4, "nsd": 3.5 / 4, "hd95": 3 / 4, "asd": 1.5 / 4, "n": 4, "n_distance": 4, "missed": 0,
         "false_positive": 0})  # fmt: skip
    assert spleen == {"dice": 0.5, "nsd": 0.5, "hd95": 0.0, "asd": 0.0, "n": 2, "n_distance": 1, "missed": 1,
                      "false_positive": 1}  # fmt: skip
    assert metrics["mean"]["dice"] == pytest.approx((3.5 / 4 + 0.5) / 2)
    assert metrics["mean"]["asd"] == pytest.approx((1.5 / 4 + 0) / 2)
    assert metrics["cases"]["b"]["spleen"] == {"dice": None, "nsd": None, "hd95": None, "asd": None, "status": "absent"}
    assert metrics["cases"]["c"]["spleen"]["hd95"] is None
    assert metrics["cases"]["d"]["spleen"]["status"] == "false_positive"


def test_a_class_that_never_occurs_has_no_mean(tmp_path: Path) -> None:
    write(tmp_path / "r/a.nii.gz", {1: cube(1, 1, 1)})
    write(tmp_path / "p/a.nii.gz", {1: cube(1, 1, 1)})
    metrics = evaluate_folders(tmp_path / "p", tmp_path / "r", LabelSet.from_names(NAMES))
    assert metrics["classes"]["spleen"]["dice"] is None
    assert metrics["classes"]["spleen"]["n"] == 0
    assert metrics["mean"]["dice"] == 1.0


def test_dhc_compat_counts_every_case(study: Path) -> None:
    labels = LabelSet.from_names(NAMES)
    metrics = evaluate_folders(study / "prediction", study / "reference", labels, protocol="dhc-compat")
    assert metrics["classes"]["spleen"]["dice"] == pytest.approx((100 + 1 + 0 + 0) / 4)
    assert metrics["classes"]["spleen"]["asd"] == pytest.approx((0 + 0 + 128 + 128) / 4)
    assert metrics["classes"]["liver"]["n"] == 4
    assert metrics["mean"]["nsd"] is None


def test_tolerance_per_class(study: Path) -> None:
    metrics = evaluate_folders(
        study / "prediction", study / "reference", LabelSet.from_names(NAMES), tolerance={"liver": 3.0}
    )
    assert metrics["classes"]["liver"]["nsd"] == 1.0
    assert metrics["tolerance_mm"] == {"liver": 3.0, "spleen": 1.0}


def test_files_and_table(run: Run, study: Path, labels: Path) -> None:
    out = study / "results/metrics.json"
    arguments = (
        "--prediction",
        study / "prediction",
        "--reference",
        study / "reference",
        "--labels",
        labels,
        "--out",
        out,
    )
    code, stdout, _ = run(*arguments)
    assert code == 0
    assert "liver" in stdout and "0.875" in stdout
    text = out.read_text()
    assert "NaN" not in text and "Infinity" not in text
    rows = list(csv.DictReader((study / "results/metrics.csv").open()))
    assert len(rows) == 4 * 2
    assert rows[5] == {"protocol": "strict", "case": "c", "class": "spleen", "dice": "0.000000", "nsd": "0.000000",
                       "hd95": "", "asd": "", "status": "missed"}  # fmt: skip

    code, _, stderr = run(*arguments)
    assert code == 2 and "--overwrite" in stderr and out.read_text() == text
    assert run(*arguments, "--overwrite", "--tolerance", "liver=3")[0] == 0
    assert json.loads(out.read_text())["tolerance_mm"] == {"liver": 3.0, "spleen": 1.0}


def test_the_command_line_imports_of_monai_what_it_needs_alone(study: Path, labels: Path) -> None:
    """And measures the same."""
    words = ["evaluate", "--prediction", study / "prediction", "--reference", study / "reference", "--labels", labels]
    ask = """import sys
from dinomix.cli import main
try:
    main()
finally:
    packages = {"PIL", "ignite", "matplotlib", "monai", "nibabel", "skimage", "sklearn", "torchvision"}
    print(*sorted(packages & set(sys.modules)), file=sys.stderr)"""
    command = [sys.executable, "-W", "ignore", "-c", ask, *map(str, words), "--out", str(study / "alone.json")]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0 and done.stderr.splitlines()[-1].split() == ["monai"], done.stderr
    alone = json.loads((study / "alone.json").read_text())
    assert alone == evaluate_folders(study / "prediction", study / "reference", LabelSet.from_names(NAMES))


def test_json_lines(run: Run, study: Path, labels: Path) -> None:
    code, stdout, _ = run(
        "--prediction", study / "prediction", "--reference", study / "reference", "--labels", labels,
        "--out", study / "m.json", "--json",
    )  # fmt: skip
    lines = [json.loads(line) for line in stdout.splitlines()]
    assert code == 0
    assert lines[-1]["kind"] == "metrics" and lines[-1]["mean"]["n"] == 6
    assert {line["kind"] for line in lines[:-1]} == {"progress"}


def test_refuses_a_missing_prediction(run: Run, study: Path, labels: Path) -> None:
    (study / "prediction/c.nii.gz").unlink()
    code, _, stderr = run(
        "--prediction", study / "prediction", "--reference", study / "reference", "--labels", labels,
        "--out", study / "m.json",
    )  # fmt: skip
    assert code == 2
    assert "has no segmentation of c" in stderr and stderr.count("\n") == 1
    assert not (study / "m.json").exists()


@pytest.mark.parametrize("protocol", ["strict", "dhc-compat"])
def test_refuses_another_grid(study: Path, protocol: str) -> None:
    write(study / "prediction/a.nrrd", {1: cube(1, 1, 1)}, spacing=(1.0, 2.0, 2.0))
    with pytest.raises(DinomixError, match=r"a\.nrrd .*different grids: spacing"):
        evaluate_folders(study / "prediction", study / "reference", LabelSet.from_names(NAMES), protocol=protocol)


def test_refuses_an_unknown_label(study: Path) -> None:
    write(study / "prediction/d.mha", {7: cube(1, 1, 1)})
    with pytest.raises(DinomixError, match=r"d\.mha holds the label 7"):
        evaluate_folders(study / "prediction", study / "reference", LabelSet.from_names(NAMES))


def test_refuses_two_files_of_one_case(study: Path) -> None:
    write(study / "prediction/a.nii.gz", {1: cube(1, 1, 1)})
    with pytest.raises(DinomixError, match="two files of case a"):
        pair_cases(study / "prediction", study / "reference")


@pytest.mark.parametrize("folder", ["nowhere", "empty"])
def test_refuses_a_folder_without_files(study: Path, folder: str) -> None:
    (study / "empty").mkdir()
    with pytest.raises(DinomixError, match=folder):
        pair_cases(study / folder, study / "reference")


def test_more_predictions_than_references_is_said(study: Path) -> None:
    write(study / "prediction/z.nii.gz", {})
    messages: list[str] = []
    pairs = pair_cases(
        study / "prediction", study / "reference", lambda kind, **fields: messages.append(fields["message"])
    )
    assert list(pairs) == ["a", "b", "c", "d"]
    assert len(messages) == 1 and "z" in messages[0]


@pytest.mark.parametrize(
    ("name", "case"),
    [("a.nii.gz", "a"), ("a.seg.nrrd", "a"), ("a.b.nrrd", "a.b"), ("Müller 肝.NII.GZ", "Müller 肝"), ("a.mha", "a")],
)
def test_case_names(name: str, case: str) -> None:
    assert case_name(Path(name)) == case


def test_bad_tolerances(study: Path, run: Run, labels: Path) -> None:
    folders = ("--prediction", study / "prediction", "--reference", study / "reference")
    common = (*folders, "--labels", labels, "--out", study / "m.json")
    for text, words in [
        ("wide", "not a number"),
        ("lung=2", "no structure lung"),
        ("-1", "zero or more"),
        ("nan", "zero or more"),
    ]:
        code, _, stderr = run(*common, f"--tolerance={text}")
        assert code == 2 and words in stderr


def test_table_shows_a_dash_for_what_does_not_exist(tmp_path: Path) -> None:
    write(tmp_path / "r/a.nii.gz", {1: cube(1, 1, 1)})
    write(tmp_path / "p/a.nii.gz", {})
    lines = table(evaluate_folders(tmp_path / "p", tmp_path / "r", LabelSet.from_names(NAMES))).splitlines()
    assert lines[1].split() == ["liver", "0.000", "0.000", "-", "-", "1", "1", "0"]


def test_seg_nrrd_is_matched_by_name(tmp_path: Path) -> None:
    source = read_ids(write(tmp_path / "a.nii.gz", {1: cube(1, 1, 1), 2: cube(5, 5, 5)}), LabelSet.from_names(NAMES))
    path = tmp_path / "a.seg.nrrd"
    write_labels(source.array, source.geometry, LabelSet.from_names({1: "Spleen", 2: "Liver"}), path)  # type: ignore[arg-type]
    ids = read_ids(path, LabelSet.from_names(NAMES)).array
    assert ids[1, 1, 1] == 2 and ids[5, 5, 5] == 1


def test_a_reference_that_slicer_cropped_is_put_back_in_its_place(tmp_path: Path):
    labels = LabelSet.from_names(NAMES)
    whole = read_ids(write(tmp_path / "prediction" / "a.nii.gz", {1: cube(1, 1, 1), 2: cube(5, 5, 5)}), labels)
    (tmp_path / "reference").mkdir()
    path = tmp_path / "reference" / "a.seg.nrrd"
    write_labels(whole.array, whole.geometry, labels, path)
    image = sitk.ReadImage(str(path))
    size = [side - 1 for side in image.GetSize()]
    cropped = sitk.RegionOfInterest(image, size, [1, 1, 1])
    for key in image.GetMetaDataKeys():
        if key.startswith(("Segment0_", "Segment1_", "Segmentation_")) and "Extent" not in key:
            cropped.SetMetaData(key, image.GetMetaData(key))
    sitk.WriteImage(cropped, str(path))
    assert read_ids(path, labels).geometry.size != whole.geometry.size
    pairs = pair_cases(tmp_path / "prediction", tmp_path / "reference")
    assert pairs
    metrics = evaluate_folders(tmp_path / "prediction", tmp_path / "reference", labels, protocol="strict")
    assert metrics["mean"]["dice"] == 1.0


def test_masks_are_compared_by_their_names(tmp_path: Path, run: Run, labels: Path) -> None:
    reference = write(tmp_path / "reference" / "a.nii.gz", {1: cube(2, 2, 2, 4), 2: cube(3, 3, 3)})
    for name, box in (("liver", cube(2, 2, 2, 4)), ("spleen", cube(3, 3, 3))):
        write(tmp_path / "prediction" / "a" / f"{name}.nii.gz", {1: box})
    given = ("--prediction", tmp_path / "prediction", "--reference", reference.parent, "--labels", labels,
             "--out", tmp_path / "metrics.json")  # fmt: skip
    code, _, error = run(*given)
    assert code == 2 and '--order "liver,spleen"' in error
    assert run(*given, "--order", "liver,spleen")[0] == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["mean"]["dice"] == 1.0


def partial_study(folder: Path) -> Path:
    """References a (whole), b (without the spleen, which was not drawn) and c (every second slice), and their cohort file."""
    whole = {1: (slice(1, 7), slice(1, 5), slice(1, 5)), 2: cube(1, 6, 7)}
    rng = np.random.default_rng(0)
    for name in "abc":
        write(folder / f"labels/{name}.nii.gz", whole if name != "b" else {1: whole[1]})
        write(folder / f"prediction/{name}.nii.gz", whole)
        image = sitk.GetImageFromArray(rng.integers(0, 500, (8, 9, 10)).astype(np.int16))
        image.SetSpacing((1.0, 2.0, 3.0))
        (folder / "images").mkdir(exist_ok=True)
        sitk.WriteImage(image, str(folder / f"images/{name}.nii.gz"))
    write(
        folder / "labels/c.nii.gz",
        {1: (slice(1, 7, 2), slice(1, 5), slice(1, 5)), 2: (slice(1, 2), slice(6, 8), slice(7, 9))},
    )
    # Beyond the slices that were labeled, the prediction may say what it will.
    array = np.zeros((8, 9, 10), np.uint8)
    array[1:7, 1:5, 1:5], array[1:3, 6:8, 7:9] = 1, 2
    array[::2] = 2
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.0, 2.0, 3.0))
    sitk.WriteImage(image, str(folder / "prediction/c.nii.gz"))
    (folder / "dataset.json").write_text(json.dumps({"labels": {"liver": 1, "spleen": 2}}))
    check_cohort([folder], [], [], labeled_slices=["c=1,3,5"], out=folder / "cohort.json")
    return folder


def test_what_a_reference_leaves_open_is_not_counted(run: Run, tmp_path: Path) -> None:
    study = partial_study(tmp_path / "study")
    arguments = [
        "--prediction",
        study / "prediction",
        "--reference",
        study / "labels",
        "--labels",
        study / "dataset.json",
    ]
    out = tmp_path / "metrics.json"
    assert run(*arguments, "--cohort", study / "cohort.json", "--out", out)[0] == 0
    metrics = json.loads(out.read_text())
    assert metrics["cases"]["b"]["spleen"] == {
        "dice": None,
        "nsd": None,
        "hd95": None,
        "asd": None,
        "status": "not_drawn",
    }
    assert metrics["cases"]["c"]["spleen"] == {
        "dice": 1.0,
        "nsd": None,
        "hd95": None,
        "asd": None,
        "status": "scored_in_part",
    }
    spleen = metrics["classes"]["spleen"]
    assert (spleen["n"], spleen["n_distance"], spleen["false_positive"], spleen["dice"]) == (2, 1, 0, 1.0)
    # Without the cohort nobody knows, and b has a false positive.
    assert run(*arguments, "--out", out, "--overwrite")[0] == 0
    assert json.loads(out.read_text())["classes"]["spleen"]["false_positive"] == 1
    code, _, error = run(
        *arguments, "--cohort", study / "cohort.json", "--protocol", "dhc-compat", "--out", out, "--overwrite"
    )
    assert code == 2 and "leaves open" in error


def test_voxels_called_ignore_are_left_out(run: Run, tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"liver": 1, "spleen": 2, "ignore": 3}}))
    write(tmp_path / "r/a.nii.gz", {1: cube(1, 1, 1), 3: (slice(4, 8), slice(0, 9), slice(0, 10))})
    write(tmp_path / "p/a.nii.gz", {1: cube(1, 1, 1), 2: cube(5, 5, 5)})
    arguments = ["--prediction", tmp_path / "p", "--reference", tmp_path / "r", "--labels", tmp_path / "dataset.json"]
    assert run(*arguments, "--out", tmp_path / "m.json")[0] == 0
    case = json.loads((tmp_path / "m.json").read_text())["cases"]["a"]
    assert case["liver"]["dice"] == 1.0 and case["spleen"]["status"] == "absent"


def test_cases_as_a_data_set_of_masks_has_them_and_regions_beside_labels(tmp_path: Path) -> None:
    write(tmp_path / "reference" / "a" / "ct.nii.gz", {1: cube(0, 0, 0)})
    write(tmp_path / "reference" / "a" / "segmentations" / "liver.nii.gz", {1: cube(2, 2, 2)})
    write(tmp_path / "prediction" / "a.nii.gz", {1: cube(2, 2, 2), 2: cube(5, 5, 5)})
    write(tmp_path / "prediction" / "a_regions" / "whole.nii.gz", {1: cube(2, 2, 2)})
    told: list[str] = []
    pairs = pair_cases(tmp_path / "prediction", tmp_path / "reference", lambda kind, **fields: told.append(kind))
    assert pairs == {"a": (tmp_path / "prediction" / "a.nii.gz", tmp_path / "reference" / "a" / "segmentations")}
    assert not told
    metrics = evaluate_folders(tmp_path / "prediction", tmp_path / "reference", LabelSet.from_names(NAMES))
    assert metrics["cases"]["a"]["spleen"]["status"] == "not_drawn"
    write(tmp_path / "reference" / "a" / "segmentations" / "spleen.nii.gz", {})
    metrics = evaluate_folders(tmp_path / "prediction", tmp_path / "reference", LabelSet.from_names(NAMES))
    assert metrics["cases"]["a"]["spleen"]["status"] == "false_positive"


def test_a_case_that_fails_does_not_take_the_others_with_it(run: Run, study: Path, labels: Path) -> None:
    out = study / "m.json"
    given = ("--prediction", study / "prediction", "--reference", study / "reference", "--labels", labels, "--out", out)
    write(study / "prediction/c.nii.gz", {7: cube(1, 1, 1)})
    code, _, error = run(*given)
    assert code == 2 and "holds the label 7" in error and "3 of 4 cases were compared" in error and "m.json" in error
    metrics = json.loads(out.read_text())
    assert list(metrics["cases"]) == ["a", "b", "d"] and "holds the label 7" in metrics["failed"]["c"]
    assert metrics["classes"]["liver"]["n"] == 3
    out.unlink()
    out.with_suffix(".csv").unlink()
    write(study / "prediction/a.nrrd", {7: cube(1, 1, 1)})
    code, _, error = run(*given)
    assert code == 2 and "a.nrrd holds the label 7" in error and not out.exists()
