"""Tables of radiomics, which the package MIRP computes; what needs it is skipped where it is not installed."""

import csv
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from dinomix.cli import main
from dinomix.images.reading import read_image
from dinomix.images.volume import Geometry, Volume
from dinomix.images.writing import write_image, write_labels
from dinomix.labels import LabelSet
from dinomix.measuring.measurements import measured
from dinomix.measuring.radiomics import radiomics_of_files, settings_of

LABELS = LabelSet.from_names({1: "liver", 2: "stone", 3: "spleen"})
SPACING = (0.8, 1.5, 3.0)
"""mm along (i, j, k)."""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Segmentation, image, label set: a liver of 12 x 10 x 6 voxels in noise, a stone of one, and no spleen."""
    ids = np.zeros((12, 20, 30), np.uint8)
    ids[3:9, 5:15, 10:22] = 1
    ids[1, 1, 1] = 2
    geometry = Geometry((30, 20, 12), SPACING, (100.0, -50.0, 20.0), np.diag([-1.0, 1.0, 1.0]))
    noise = np.random.default_rng(0).normal(60, 40, ids.shape).round().astype(np.float32)
    segmentation, image, labels = tmp_path / "labels/a.nii.gz", tmp_path / "images/a.nii.gz", tmp_path / "labels.json"
    for path in (segmentation, image):
        path.parent.mkdir()
    write_labels(ids, geometry, LABELS, segmentation)
    write_image(Volume(noise, geometry), image)
    LABELS.write(labels)
    return segmentation, image, labels


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as left:
        main(["measure", *(str(argument) for argument in arguments)])
    return int(left.value.code or 0)


def table(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {row["structure"]: row for row in csv.DictReader(file)}


def test_mirp_agrees_with_what_we_measure(files: tuple, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mirp", reason="python -m pip install mirp")
    segmentation, image, labels = files
    given = [segmentation, "--images", image, "--labels", labels, "--modality", "CT"]
    out = tmp_path / "radiomics.csv"
    assert run(*given, "--radiomics", out, "--json") == 0
    told = capsys.readouterr()
    events = [json.loads(line) for line in told.out.splitlines()]  # nothing of MIRP's own log between them
    assert [
        event["message"]
        for event in events
        if event["kind"] == "notice" and "stone of a (1 voxels)" in event["message"]
    ]
    rows = table(out)
    ids = read_image(segmentation)
    ours = measured(Volume(ids.array.astype(np.uint8), ids.geometry), LABELS, read_image(image))["liver"]
    assert ours.intensities is not None
    liver, stone, spleen = rows["liver"], rows["stone"], rows["spleen"]
    assert float(liver["stat_mean"]) == pytest.approx(ours.intensities.mean, rel=1e-4)
    assert float(liver["stat_var"]) == pytest.approx(ours.intensities.deviation**2, rel=1e-4)
    assert float(liver["morph_vol_approx"]) == pytest.approx(ours.volume * 1000, rel=1e-4)
    assert float(liver["cm_joint_entr_d1_3d_v_mrg_fbs_w25.0"]) > 0 and "" not in liver.values()
    sizes = [float(liver[f"image_voxel_size_{axis}"]) for axis in "xyz"]
    assert sizes == pytest.approx(SPACING)
    assert stone["voxels"] == "1" and stone["morph_pca_flatness"] == ""
    assert spleen["voxels"] == "0" and not any(list(spleen.values())[3:])
    record = json.loads((tmp_path / "radiomics.settings.json").read_text())
    assert record["package"] == "mirp" and record["version"] and record["settings"] == settings_of("CT")

    again = tmp_path / "again.csv"
    assert run(*given, "--radiomics", again) == 0 and again.read_text() == out.read_text()
    assert run(*given, "--radiomics", again, "--overwrite", "--bins", 16, "--spacing", 2) == 0
    assert any("fbn_n16" in name for name in table(again)["liver"])
    assert table(again)["liver"]["image_voxel_size_x"] == "2"


def test_what_it_stumbles_over_stays_empty_and_is_told(files: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    class Features(dict):
        index = property(list)

    def extract(mask: str, **_: Any) -> list[Any]:
        if read_image(Path(mask)).array.sum() == 1:
            raise TypeError("object of type 'NoneType' has no len()")
        values = Features(sample_name="x", image_modality="ct", image_voxel_size_x=0.8, stat_mean=4.5, stat_cov=np.nan)
        return [type("Table", (), {"iloc": [values]})]

    stand_in = ModuleType("mirp")
    stand_in.extract_features = extract  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mirp", stand_in)
    told: list[dict[str, Any]] = []
    rows = radiomics_of_files(
        [files[0]], [files[1]], settings_of(), labels=LABELS, emit=lambda kind, **f: told.append({"kind": kind, **f})
    )
    empty = {"image_voxel_size_x": None, "stat_mean": None, "stat_cov": None}
    assert rows == [
        {"case": "a", "structure": "liver", "voxels": 720, **empty, "image_voxel_size_x": 0.8, "stat_mean": 4.5},
        {"case": "a", "structure": "stone", "voxels": 1, **empty},
        {"case": "a", "structure": "spleen", "voxels": 0, **empty},
    ]
    notices = [event["message"] for event in told if event["kind"] == "notice"]
    assert len(notices) == 2
    assert "cannot measure stone of a, 1 voxels" in notices[0] and "not exist of liver of a (720 voxels)" in notices[1]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--images", "IMAGE", "--radiomics", "r.csv"], "pip install 'mirp>=2.7'"),
        (["--radiomics", "r.csv"], "with --images"),
        (["--images", "IMAGE", "--radiomics", "r.csv", "--bins", "8", "--bin-width", "5"], "cannot both be given"),
        (["--out", "r.csv", "--bins", "8"], "with --radiomics"),
        (["--out", "r.csv", "--radiomics", "r.csv"], "the same name"),
        ([], "no table to write"),
    ],
)
def test_mistakes_are_told_in_a_line(
    files: tuple, arguments: list[str], word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, "mirp", None)  # as where it is not installed
    monkeypatch.chdir(tmp_path)
    segmentation, image, labels = files
    given = [str(image) if argument == "IMAGE" else argument for argument in arguments]
    assert run(segmentation, "--labels", labels, *given) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("Error: ") and word in line
    assert not (tmp_path / "r.csv").exists()
