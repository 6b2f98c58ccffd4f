"""``dinomix segment --format dicom-seg|rtstruct``: of DICOM folders and trees, named, told apart, interrupted and continued."""

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest

from dicom_files import write_ct
from dinomix.cli import main
from dinomix.images.formats import DICOM_RESULTS, Format
from dinomix.images.reading import read_image, read_label
from dinomix.images.volume import Geometry, Volume
from dinomix.images.writing import write_image
from dinomix.inference.segment import segment_volume
from dinomix.labels import LabelSet
from dinomix.measuring.measure import measure_files
from dinomix.models.folder import Model
from dinomix.planning.plan import RangeWindow, SpacingGrid
from random_models import random_model, small_plan

LABELS = LabelSet.from_names({2: "liver", 5: "left kidney", 9: "cyst"}).with_regions({"organs": [2, 5]})
GRID = Geometry((20, 24, 12), (1.5, 1.25, 2.5), (-10.0, 20.0, -30.0), np.eye(3))
BOTH = pytest.mark.parametrize("format", DICOM_RESULTS)


def scan(seed: int = 0) -> np.ndarray:
    """(k, j, i), HU: boxes from air to bone."""
    coarse = np.random.default_rng(seed).uniform(-1000, 300, (4, 4, 4))
    return coarse.repeat(3, 0).repeat(6, 1).repeat(5, 2).astype(np.int16)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("models")
    write_image(Volume(scan(), GRID), folder / "image.nrrd")
    plan = small_plan(SpacingGrid(spacing=(1.5, 1.5, 2.5)), RangeWindow(low=-1000, high=300))
    return random_model(folder / "organs", plan, LABELS, folder / "image.nrrd")


def arguments(model: Model, *more: object) -> list[str]:
    return ["segment", "--device", "cpu", "--precision", "float32", "--model", str(model.path), *map(str, more)]


def segment(model: Model, *more: object) -> int:
    with pytest.raises(SystemExit) as leaving:
        main(arguments(model, *more))
    return int(leaving.value.code or 0)


def tree(folder: Path, cases: int) -> None:
    """PATIENT/STUDY/SERIES with a scan in each; two studies of each patient."""
    for number in range(cases):
        uid = f"1.2.3.{number + 1}"
        write_ct(folder / f"P{number // 2:02}" / f"study{number % 2}" / "CT", scan(number), GRID, uid=uid)


@BOTH
@pytest.mark.parametrize("name", ["organs.dcm", "organs", "folder"])
def test_a_series_in_each_format(model: Model, tmp_path: Path, format: Format, name: str) -> None:
    write_ct(tmp_path / "ct", scan(), GRID)
    out = tmp_path / {"organs": f"organs{DICOM_RESULTS[format]}"}.get(name, name)
    chosen = () if name == "organs" else ("--format", format)
    assert segment(model, tmp_path / "ct", "--out", out, *chosen) == 0
    path = out / f"ct{DICOM_RESULTS[format]}" if name == "folder" else out
    image = read_image(tmp_path / "ct")
    expected = segment_volume(image, model, device="cpu", precision="float32").array
    volume, names = read_label(path, like=image.geometry)
    np.testing.assert_array_equal(volume.array, np.searchsorted([0, *LABELS.ids], expected))
    assert names == dict(enumerate(LABELS.names, 1))
    result = pydicom.dcmread(path)
    assert result.SeriesDescription.endswith("by DINOMix: organs") and result.PatientName == "Test^A"


@BOTH
def test_a_result_is_measured_by_its_own_names(model: Model, tmp_path: Path, format: Format) -> None:
    tree(tmp_path / "tree", 1)
    table = tmp_path / "table.json"
    assert segment(model, tmp_path / "tree", "--out", tmp_path / "out", "--format", format, "--statistics", table) == 0
    rows = measure_files([tmp_path / "out"], images=[tmp_path / "tree"])
    told = [
        {key: row[key] for key in ("case", "structure", "voxels", "volume_ml")}
        for row in json.loads(table.read_text(encoding="utf-8"))
    ]
    assert [{key: row[key] for key in told[0]} for row in rows] == told and all(row["voxels"] for row in told)


def test_regions_are_in_the_file_and_a_result_without_them_is_another(
    model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_ct(tmp_path / "ct", scan(), GRID)
    call = (model, tmp_path / "ct", "--out", tmp_path / "out", "--format", "dicom-seg")
    table = tmp_path / "table.json"
    assert segment(*call, "--regions", "--statistics", table, "--keep", "liver", "--keep", "left kidney") == 0
    seg = highdicom.seg.segread(tmp_path / "out/ct.seg.dcm")
    masks = seg.get_volume(allow_missing_positions=True, rescale_fractional=False).array
    np.testing.assert_array_equal(masks[..., 2], masks[..., 0] | masks[..., 1])
    counted = {row["structure"]: row["voxels"] for row in json.loads(table.read_text(encoding="utf-8"))}
    assert counted == {"liver": masks[..., 0].sum(), "left kidney": masks[..., 1].sum()}
    assert not (tmp_path / "out/ct_regions").exists()
    assert segment(*call, "--keep", "liver", "--keep", "left kidney") == 2
    assert "not made with the same regions" in capsys.readouterr().err


def test_what_is_no_dicom_is_refused_before_it_is_computed(
    model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(Volume(scan(), GRID), tmp_path / "scan.nrrd")
    assert segment(model, tmp_path / "scan.nrrd", "--out", tmp_path / "a.seg.dcm", "--json") == 2
    *_, error = map(json.loads, capsys.readouterr().out.splitlines())
    assert (
        error["code"] == "dicom-source"
        and "scan.nrrd is not DICOM" in error["message"]
        and "--format" in error["remedy"]
    )
    write_ct(tmp_path / "ct", scan(), GRID)
    for arguments, words in (
        (("--out", tmp_path / "a.dcm"), "does not say which kind of DICOM"),
        (("--out", tmp_path / "a.rtstruct.dcm", "--format", "dicom-seg"), "does not end in .seg.dcm"),
    ):
        assert segment(model, tmp_path / "ct", *arguments) == 2
        assert words in capsys.readouterr().err
    assert not list(tmp_path.glob("*.dcm"))


def test_results_among_the_series_are_no_images(
    model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree(tmp_path / "tree", 2)
    for _ in range(2):
        assert segment(model, tmp_path / "tree", "--out", tmp_path / "tree", "--format", "rtstruct") == 0
    found = [path.name for path in sorted((tmp_path / "tree").glob("*.dcm"))]
    assert found == ["P00_study0_CT.rtstruct.dcm", "P00_study1_CT.rtstruct.dcm"]
    assert capsys.readouterr().err.count("it is kept") == 2
    assert segment(model, tmp_path / "tree" / found[0], "--out", tmp_path / "again.nrrd") == 2
    assert "There is no image in" in capsys.readouterr().err


def test_cases_are_killed_and_continued(model: Model, tmp_path: Path) -> None:
    """In one command: segmentations, the table, the page and the record."""
    count, killed_after = 16, 4
    tree(tmp_path / "tree", count)
    out, table, record = tmp_path / "out", tmp_path / "table.csv", tmp_path / "record.json"
    call = arguments(
        model, tmp_path / "tree", "--out", out, "--format", "dicom-seg", "--statistics", table, "--preview", "--manifest", record
    )  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "dinomix", *call], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    while len(list(out.glob("*.seg.dcm"))) < killed_after:
        assert process.poll() is None, "the batch ended by itself"
        time.sleep(0.02)
    process.kill()
    process.wait()
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.seg.dcm")}
    assert killed_after <= len(before) < count and not table.exists()

    with pytest.raises(SystemExit) as leaving:
        main(call)
    assert leaving.value.code == 0
    results = sorted(out.glob("*.seg.dcm"))
    assert len(results) == count and all(path.stat().st_mtime_ns == written for path, written in before.items())
    with table.open(newline="", encoding="utf-8") as file:
        voxels = {(row["case"], row["structure"]): int(row["voxels"]) for row in csv.DictReader(file)}
    assert len(voxels) == count * len(LABELS.names)
    for number, path in enumerate(results):
        seg = highdicom.seg.segread(path)
        name = f"P{number // 2:02}_study{number % 2}_CT"
        assert path.name == f"{name}.seg.dcm"
        assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == f"1.2.3.{number + 1}"
        frames = pydicom.dcmread(path).pixel_array
        assert frames.sum() == sum(voxels[name, structure] for structure in LABELS.names) > 0
    page = (out / "overview.html").read_text(encoding="utf-8")
    assert (
        all(path.name.removesuffix(".seg.dcm") in page for path in results)
        and len(list((out / "previews").glob("*.png"))) == count
    )
    cases = json.loads(record.read_text(encoding="utf-8"))["cases"]
    assert sorted({case["status"] for case in cases}) == ["kept", "segmented"] and len(cases) == count
    assert not list((out / ".dinomix-batch").glob("partial-*"))
