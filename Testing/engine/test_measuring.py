"""Measurements of structures, against what is known of bodies of given size, place and brightness."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from test_reading import segmentation

from dinomix.cli import main
from dinomix.errors import DinomixError
from dinomix.images.volume import Geometry, Volume
from dinomix.labels import LabelSet
from dinomix.measuring.measure import measure_files
from dinomix.measuring.measurements import measured
from dinomix.measuring.table import write_table

LABELS = LabelSet.from_names({1: "liver", 2: "spleen", 7: "stone"})
SPACING = (0.8, 1.5, 3.0)
"""mm along (i, j, k)."""


def volumes() -> tuple[sitk.Image, sitk.Image]:
    """A box of 10 x 6 x 4 voxels, two single voxels of which one is at the edge, and an image whose voxel (i, j, k) is i."""
    labels = np.zeros((12, 20, 30), np.uint8)
    labels[3:7, 5:11, 10:20] = 1
    labels[0, 0, 0] = labels[9, 9, 9] = 7
    image = np.broadcast_to(np.arange(30, dtype=np.int16), labels.shape).copy()
    made = [sitk.GetImageFromArray(array) for array in (labels, image)]
    for one in made:
        one.SetSpacing(SPACING)
        one.SetOrigin((100.0, -50.0, 20.0))
    return made[0], made[1]


def volume(image: sitk.Image) -> Volume:
    direction = np.array(image.GetDirection()).reshape(3, 3)
    geometry = Geometry(image.GetSize(), image.GetSpacing(), image.GetOrigin(), direction)
    return Volume(sitk.GetArrayFromImage(image), geometry)


def test_a_box_is_as_large_as_bright_and_where_it_was_put() -> None:
    segmentation, image = volumes()
    liver = measured(volume(segmentation), LABELS, volume(image))["liver"]
    assert liver.voxels == 240 and liver.volume == pytest.approx(240 * 0.8 * 1.5 * 3 / 1000)
    assert liver.extent == pytest.approx((8.0, 9.0, 12.0))
    # The box's middle is the voxel (14.5, 7.5, 4.5); LPS to RAS turns two signs.
    assert liver.center == pytest.approx((-(100 + 14.5 * 0.8), -(-50 + 7.5 * 1.5), 20 + 4.5 * 3))
    assert (liver.components, liver.at_edge) == (1, False)
    assert liver.intensities is not None
    inside = np.repeat(np.arange(10, 20), 24)
    assert (liver.intensities.mean, liver.intensities.deviation) == pytest.approx((14.5, inside.std()))
    assert (liver.intensities.lowest, liver.intensities.highest) == (10, 19)
    assert liver.intensities.percentiles == pytest.approx(np.percentile(inside, (5, 25, 50, 75, 95)))


def test_pieces_edges_and_what_was_not_found() -> None:
    found = measured(volume(volumes()[0]), LABELS)
    assert list(found) == ["liver", "spleen", "stone"]
    assert (found["stone"].components, found["stone"].at_edge, found["stone"].voxels) == (2, True, 2)
    assert found["stone"].intensities is None
    spleen = found["spleen"]
    assert (spleen.voxels, spleen.volume, spleen.center, spleen.extent) == (0, 0.0, None, None)


@pytest.mark.parametrize("axes", [(2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("flips", [(True, False, True), (False, True, False)])
def test_the_order_in_which_a_file_stores_its_axes_changes_nothing(axes: tuple, flips: tuple) -> None:
    segmentation, image = (sitk.Flip(sitk.PermuteAxes(one, axes), flips) for one in volumes())
    turned = measured(volume(segmentation), LABELS, volume(image))["liver"]
    straight = measured(volume(volumes()[0]), LABELS, volume(volumes()[1]))["liver"]
    assert turned.center == pytest.approx(straight.center) and turned.extent == pytest.approx(straight.extent)
    assert turned.voxels == straight.voxels and turned.intensities == pytest.approx(straight.intensities)


def test_an_image_on_another_grid_is_refused() -> None:
    segmentation, image = volumes()
    image.SetOrigin((0.0, 0.0, 0.0))
    with pytest.raises(DinomixError, match="different grids"):
        measured(volume(segmentation), LABELS, volume(image))


def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Segmentations and images of two cases, and their label set."""
    for name in ("a", "b"):
        for folder, one in zip(("segmentations", "images"), volumes(), strict=True):
            (tmp_path / folder).mkdir(exist_ok=True)
            sitk.WriteImage(one, str(tmp_path / folder / f"{name}.nii.gz"))
    LABELS.write(tmp_path / "labels.json")
    return tmp_path / "segmentations", tmp_path / "images", tmp_path / "labels.json"


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return int(left.value.code or 0)


def test_a_folder_of_cases_becomes_one_table(tmp_path: Path) -> None:
    segmentations, images, labels = folders(tmp_path)
    out = tmp_path / "table.csv"
    given = ["measure", segmentations, "--images", images, "--labels", labels, "--modality", "CT", "--out", out]
    assert run(*given) == 0
    with out.open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["case"], row["structure"]) for row in table] == [(c, s) for c in "ab" for s in LABELS.names]
    assert float(table[0]["volume_ml"]) == pytest.approx(0.864) and float(table[0]["intensity_mean_HU"]) == 14.5
    assert table[1]["voxels"] == "0" and table[1]["center_R_mm"] == "" and table[0]["code"] == "10200004"
    assert run(*given) == 2  # nothing is overwritten unasked
    assert run(*given, "--overwrite") == 0


def test_json_holds_the_same_rows(tmp_path: Path) -> None:
    segmentations, images, _ = folders(tmp_path)
    found = measure_files([segmentations], images=[images], labels=LABELS)
    write_table(tmp_path / "table.json", found)
    assert json.loads((tmp_path / "table.json").read_text()) == found
    assert found[2]["touches_edge_of_image"] is True and "intensity_mean" in found[0]


def test_mistakes_are_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segmentations, images, labels = folders(tmp_path)
    (images / "b.nii.gz").unlink()
    table = tmp_path / "table.csv"
    for arguments, told in (
        (["--images", images, "--labels", labels, "--out", table], "b.nii.gz among those given"),
        (["--out", table], "which number is which structure"),
        (["--labels", labels, "--out", tmp_path / "table.xls"], "ends in .csv or .json"),
    ):
        assert run("measure", segmentations, *arguments) == 2
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert line.startswith("Error: ") and told in line
    assert not table.exists()


def test_overlapping_segments_are_measured_by_an_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layers = np.zeros((6, 6, 6, 2), np.uint8)
    layers[1:5, 1:5, 1:5, 0] = layers[2:4, 2:4, 2:4, 1] = 1
    named = [{"ID": n, "Name": n, "LabelValue": "1", "Layer": str(layer)} for layer, n in enumerate(("liver", "stone"))]
    path = segmentation(tmp_path / "case.seg.nrrd", layers, named)
    assert run("measure", path, "--out", tmp_path / "out.json") == 2
    assert '--order "liver,stone"' in capsys.readouterr().err
    assert run("measure", path, "--out", tmp_path / "out.json", "--order", "liver,stone") == 0
    rows = json.loads((tmp_path / "out.json").read_text())
    assert [row["voxels"] for row in (rows["rows"] if isinstance(rows, dict) else rows)] == [56, 8]
