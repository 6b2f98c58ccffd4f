"""The page, the pictures and the table of a batch: of generated cases, one of which is unlike the others."""

import csv
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import SimpleITK as sitk
from matplotlib.image import imread
from test_measuring import volume

from dinomix.errors import DinomixError
from dinomix.images.channel_files import CaseFiles
from dinomix.images.formats import case_name
from dinomix.inference.outputs import Output, plan_outputs, write_output
from dinomix.inference.several_models import Models
from dinomix.labels import LabelSet
from dinomix.models.folder import Model
from dinomix.report.batch import PAGE, Batch, check_page, picture_of
from dinomix.report.unusual import unusual_volumes
from random_models import small_plan

LABELS = LabelSet.from_names({1: "liver", 4: "spleen"})
MR = Models.of(Model(Path(), LABELS, small_plan().model_copy(update={"modality": "MR"}), {}, {}))
CT = Models.of(Model(Path(), LABELS, small_plan().model_copy(update={"modality": "CT"}), {}, {}))


def segmented(folder: Path, cases: int, small: int | None = None) -> list[Output]:
    """Images with a ball each and their segmentations; case number ``small`` has a smaller ball and no spleen."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    k, j, i = np.indices((16, 24, 28)) - np.array([8, 12, 14]).reshape(3, 1, 1, 1)
    images = []
    for number in range(cases):
        image = sitk.GetImageFromArray((40 + 10 * np.random.default_rng(number).normal(size=k.shape)).astype(np.int16))
        image.SetSpacing((2.0, 2.0, 3.0))
        images.append(folder / "images" / f"case <{number}>.nii.gz")
        sitk.WriteImage(image, str(images[-1]))
    outputs = plan_outputs([CaseFiles(case_name(image), (image,)) for image in images], folder / "out", None)
    for number, output in enumerate(outputs):
        radius = 2.2 if number == small else 5 + number % 3 * 0.3
        labels = (k**2 + j**2 + i**2 < radius**2).astype(np.uint8)
        if number != small:
            labels[2, 3:8, 3:8] = 4
        geometry = volume(sitk.ReadImage(str(output.image))).geometry
        write_output(labels, geometry, LABELS, output, {"model": "m"})
    return outputs


class Page(HTMLParser):
    """The rows of the page's table, and the files that it shows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.shown: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "tr" and "data-name" in given:
            self.names.append(given["data-name"] or "")
        if tag == "img":
            self.shown.append(given["src"] or "")


def test_a_batch_is_told_in_a_page_a_table_and_pictures(tmp_path: Path) -> None:
    outputs = segmented(tmp_path, 9, small=4)
    batch = Batch(LABELS, CT, tmp_path / "table.csv", pictures=True)
    for output in outputs:
        batch.add(output, {})
    written = batch.write(outputs)
    assert written == [*map(picture_of, outputs), tmp_path / "table.csv", tmp_path / "out" / PAGE]
    text = (tmp_path / "out" / PAGE).read_text()
    page = Page(text)
    assert page.names[0] == "case <4>" and len(page.names) == 9  # what is unlike the others comes first
    assert "liver: much smaller" in text and "spleen: not found" in text and "<case" not in text
    assert all((tmp_path / "out" / unquote(src)).is_file() for src in page.shown)
    with (tmp_path / "table.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 18


def test_a_picture_shows_the_planes_the_structures_and_their_names(tmp_path: Path) -> None:
    (output,) = segmented(tmp_path, 1)
    Batch(LABELS, CT, pictures=True).add(output, {})
    pixels = imread(picture_of(output))[..., :3]
    assert pixels.shape[1] > 2 * pixels.shape[0] and pixels.std() > 0.05
    for structure in LABELS.structures:
        color = np.array(structure.color) / 255
        assert (np.abs(pixels - color).max(-1) < 0.1).sum() > 20, structure.name


def test_what_was_measured_and_drawn_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = segmented(tmp_path, 2)
    for output in outputs:
        Batch(LABELS, CT, pictures=True).add(output, {})
    before = [picture_of(output).stat().st_mtime_ns for output in outputs]
    picture_of(outputs[1]).unlink()
    again = Batch(LABELS, CT, tmp_path / "table.json", pictures=True)
    for output in outputs:
        again.add(output, {})
    assert picture_of(outputs[0]).stat().st_mtime_ns == before[0] and picture_of(outputs[1]).is_file()
    again.write(outputs)
    assert (tmp_path / "table.json").is_file()


def test_another_labels_file_is_measured_anew(tmp_path: Path) -> None:
    (output,) = segmented(tmp_path, 1)
    batch = Batch(LABELS, CT, tmp_path / "table.json")
    batch.add(output, {})
    batch.write([output])
    before = (tmp_path / "table.json").read_text()
    label = sitk.ReadImage(str(output.path))
    sitk.WriteImage(label * 0, str(output.path))
    batch.add(output, {})
    batch.write([output])
    assert (tmp_path / "table.json").read_text() != before


def test_a_named_file_has_its_picture_beside_it_and_no_page(tmp_path: Path) -> None:
    (source,) = segmented(tmp_path, 1)
    output = Output("mine", (source.image,), tmp_path / "mine.nii.gz")
    output.path.write_bytes(source.path.read_bytes())
    batch = Batch(LABELS, MR, tmp_path / "mine.csv", pictures=True)
    batch.add(output, {})
    assert batch.write([output]) == [tmp_path / "mine.png", tmp_path / "mine.csv"]
    assert "intensity_mean," in (tmp_path / "mine.csv").read_text()


def test_a_page_of_somebody_else_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / PAGE).write_text("<html>my own</html>")
    with pytest.raises(DinomixError, match="not written by this command"):
        check_page(tmp_path, overwrite=False)
    check_page(tmp_path, overwrite=True)
    (tmp_path / PAGE).unlink()
    check_page(tmp_path, overwrite=False)


def test_unusual_is_what_is_far_from_the_others_and_only_among_enough() -> None:
    volumes = {f"c{n}": {"liver": 1500 + 40 * n, "cyst": 0.0, "spleen": 200 + n} for n in range(10)}
    assert not any(unusual_volumes(volumes).values())
    volumes["c3"] = {"liver": 300, "cyst": 9.0, "spleen": 0.0}
    volumes["c4"] = {"liver": 9000, "cyst": 0.0, "spleen": 203}
    found = unusual_volumes(volumes)
    assert found["c3"] == {"liver": "small", "spleen": "missing"} and found["c4"] == {"liver": "large"}
    assert not any(found[case] for case in volumes if case not in ("c3", "c4"))
    assert not any(unusual_volumes(dict(list(volumes.items())[:7])).values())
