"""The report serves whole, unfinished and damaged runs, carries all it shows, and draws what the files say."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from dinomix.cohort.cohort import Case, Cohort
from dinomix.commands.report import command
from dinomix.errors import DinomixError
from dinomix.images.volume import Geometry, Volume
from dinomix.images.writing import write_image, write_labels
from dinomix.labels import LabelSet
from dinomix.report import curves
from dinomix.report.overlays import Overlay, make_overlay, overlay_figure, read_overlays, write_overlay_picture
from dinomix.report.report import write_report
from dinomix.report.run_files import read_run
from dinomix.training.config import make_config

LABELS = LabelSet.from_names({1: "liver", 2: "spleen", 5: "adrenal_gland_left"})
STEPS = 90


def write_events(run: Path, until: int = STEPS) -> None:
    lines = []
    for step in range(10, until + 1, 10):
        lines += [
            {"kind": "loss", "step": step, "total": 3 - step / 60, "supervised": 2 - step / 60, "unsupervised": None,
             "fkd": 0.5, "lambda_u": 0.1, "learning_rate": 0.01, "gradient_norm": 1.0},
            {"kind": "pic", "step": step, "subset": "labeled", "draws": ["spleen", None, "liver"], "random": 1 / 3,
             "rare": 0.0, "probabilities": {"liver": 0.1, "spleen": 0.3, "adrenal_gland_left": 0.6}},
            {"kind": "pseudo_label", "step": step, "voxels": {"liver": 900.0, "spleen": 10.0, "adrenal_gland_left": 0.0},
             "confidence": {"liver": 0.9, "spleen": 0.4, "adrenal_gland_left": None}},
            {"kind": "validation", "step": step, "dice": {"liver": 0.8, "spleen": None, "adrenal_gland_left": 0.0},
             "mean": 0.4, "seconds": 1.0},
            {"kind": "notice", "message": "The <b>lease</b> is loud."},
        ]  # fmt: skip
    (run / "events.jsonl").write_text("".join(json.dumps({"time": 1.0, **line}) + "\n" for line in lines))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with one case of each role, all files on disk, and the segmentation of the test case."""
    geometry = Geometry((12, 10, 8), (2.0, 3.0, 4.0), (0.0, 0.0, 0.0), np.diag([-1.0, 1.0, -1.0]))
    labels = np.zeros((8, 10, 12), np.uint8)
    labels[2:6, 2:8, 2:6], labels[3:5, 3:6, 7:9], labels[3, 5, 10] = 1, 2, 5
    image = np.where(labels > 0, 100, -100).astype(np.float32)
    cases = []
    for role in ("labeled", "unlabeled", "validation", "test"):
        write_image(Volume(image, geometry), tmp_path / "data" / f"{role}.nii.gz")
        write_labels(labels, geometry, LABELS, tmp_path / "references" / f"{role}.nii.gz")
        labeled = role != "unlabeled"
        cases.append(Case(
            name=role, role=role, image=tmp_path / "data" / f"{role}.nii.gz",
            label=tmp_path / "references" / f"{role}.nii.gz" if labeled else None, patient=role, image_sha256=role,
            size=geometry.size, spacing=geometry.spacing, orientation="RAS", intensity=(-100, -100, 100),
            voxels={1: 96, 2: 12, 5: 1} if labeled else {}, label_values={1: 1, 2: 2, 5: 5} if labeled else {},
        ))  # fmt: skip
    run = tmp_path / "a run"
    Cohort(modality="CT", labels=LABELS, seed=3, cases=tuple(cases)).write(run / "cohort.json")
    config = make_config("dino-mix", steps=STEPS, **{"fkd.teacher": "random:vit_small_patch16_dinov3"})
    (run / "config.json").write_text(json.dumps({"train": config.model_dump(mode="json"), "cache": "cache"}))
    write_events(run)
    write_labels(np.roll(labels, 1, axis=2), geometry, LABELS, tmp_path / "segmented" / "test.nii.gz")
    return run


def test_the_page_carries_all_it_shows(run: Path, tmp_path: Path) -> None:
    write_report(run, run / "report.html", overlays=read_overlays(read_run(run), tmp_path / "segmented", None))
    page = (run / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)=["'](?!data:image/png;base64,)""", page)
    assert page.count("data:image/png;base64,") == 5
    assert "with random weights (the architecture alone, never trained)" in page
    assert "96 : 1" in page
    assert "adrenal gland left" in page


def test_text_of_a_run_never_becomes_markup(run: Path) -> None:
    write_report(run, run / "report.html")
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "<b>lease</b>" not in page
    assert page.count("&lt;b&gt;lease&lt;/b&gt;") == 1, "a notice that repeats itself is shown once"


def test_an_unfinished_run_is_reported_and_says_what_is_missing(run: Path) -> None:
    (run / "cohort.json").unlink()
    (run / "events.jsonl").unlink()
    write_report(run, run / "report.html")
    page = (run / "report.html").read_text(encoding="utf-8")
    for sentence in ("There is no cohort.json", "There is no plan.json", "There is no events.jsonl",
                     "0 of 90 steps are recorded", "There is no evaluation", "There are no overlays"):  # fmt: skip
        assert sentence in page, sentence


def test_a_damaged_line_of_events_costs_that_line_only(run: Path) -> None:
    whole = read_run(run)
    with open(run / "events.jsonl", "a") as file:
        file.write('{"kind": "loss", "step": 9\n')
        file.write('{"kind": "loss", "st')
    damaged = read_run(run)
    assert damaged.events == whole.events
    assert any("1 lines of events.jsonl are damaged" in sentence for sentence in damaged.missing)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DinomixError, match="holds no run"):
        write_report(tmp_path, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_steps_without_pseudo_labels_are_gray() -> None:
    dice = {"liver": 0.8, "spleen": 0.5, "adrenal_gland_left": 0.6}
    waiting = {10: True, 20: True, 30: False, 40: False, 50: True, 60: True}
    events = [{"step": step, "dice": dice, "waits": waits} for step, waits in waiting.items()]
    figure = curves.reliability_figure(events, LABELS)
    assert figure is not None
    (band,) = figure.axes[0].collections
    spans = [(path.vertices[:, 0].min(), path.vertices[:, 0].max()) for path in band.get_paths()]
    assert spans == [(10, 20), (50, 60)]


def test_drawn_classes_are_counted_by_third_of_the_run(run: Path) -> None:
    """Half of the run is recorded: the second third has fewer boxes than the first, the last none."""
    write_events(run, until=50)
    figure = curves.curriculum_figure(read_run(run).events["pic"], "labeled", LABELS, STEPS)
    assert figure is not None
    bars = figure.axes[1].containers
    assert [bar.get_label() for bar in bars] == ["first third, 9 boxes", "second third, 6 boxes", "last third, 0 boxes"]
    liver, spleen, adrenal, random = (patch.get_height() for patch in bars[0])
    assert (liver, spleen, adrenal, random) == pytest.approx((1 / 3, 1 / 3, 0, 1 / 3))
    random, rare = figure.axes[2].lines
    assert list(random.get_ydata()) == pytest.approx([1 / 3] * 5) and list(rare.get_ydata()) == [0] * 5
    assert curves.curriculum_figure(read_run(run).events["pic"], "unlabeled", LABELS, STEPS) is None


def test_the_patients_right_is_on_the_left_however_a_case_is_stored() -> None:
    """One voxel far right, front and up; stored with axes to the left, the front and the feet, then permuted."""
    ras = np.zeros((6, 5, 4), np.uint8)
    ras[5, 4, 3] = 1
    for axes, signs in (((0, 1, 2), (-1, 1, -1)), ((2, 0, 1), (1, -1, -1))):
        stored = ras.transpose(axes)[tuple(slice(None, None, sign) for sign in signs)]
        world = np.zeros((3, 3))
        for index, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
            world[axis, index] = sign
        direction = np.diag([-1.0, -1.0, 1.0]) @ world
        geometry = Geometry(stored.shape, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), direction)
        volume = Volume(np.ascontiguousarray(stored.transpose(2, 1, 0)), geometry)
        overlay = make_overlay("case", volume, {"Reference": volume, "Prediction": None}, "MR")
        (row,) = overlay.rows
        np.testing.assert_array_equal(row[1], ras)
    figure = overlay_figure(Overlay("case", ras.astype(np.float32), (("Reference", ras),), (1.0, 1.0, 1.0)), LABELS)
    axial, coronal, sagittal = figure.axes[:3]
    for plane in (axial, coronal):
        picture = np.asarray(plane.get_images()[0].get_array())
        row, column = np.argwhere(picture == picture.max())[0]
        assert (row, column) == (picture.shape[0] - 1, 5)
        assert plane.get_xlim()[0] > plane.get_xlim()[1], "columns run to the patient's left"
        assert plane.get_ylim()[0] < plane.get_ylim()[1]
    assert sagittal.get_xlim()[0] > sagittal.get_xlim()[1], "the front is on the left"


def test_the_picture_is_a_png_that_a_readme_can_carry(run: Path, tmp_path: Path) -> None:
    (overlay,) = read_overlays(read_run(run), tmp_path / "segmented", tmp_path / "references")
    assert overlay.name == "test"
    write_overlay_picture(overlay, LABELS, tmp_path / "picture.png", {"liver": 0.5}, "A title")
    data = (tmp_path / "picture.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) < 400_000


def test_the_command_writes_beside_the_run_and_names_what_cannot_be_read(run: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        command, [str(run), "--prediction", str(tmp_path / "segmented")], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert (run / "report.html").exists()
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DinomixError, match="holds no segmentation of a test"):
        CliRunner().invoke(command, [str(run), "--prediction", str(tmp_path / "nothing")], catch_exceptions=False)
    with pytest.raises(DinomixError, match="holds no metrics"):
        CliRunner().invoke(command, [str(run), "--metrics", str(run / "config.json")], catch_exceptions=False)
