"""Names of files that are long, odd or no text, and outputs that are links: each image for itself, and the others are done."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_segment_files import files_in, segment, write_random_image

from dinomix.cohort.finding import find_cases
from dinomix.images.reading import read_label
from dinomix.inference import batch as segmenting
from dinomix.models.folder import Model
from random_models import labels_with_ids, random_model, small_plan

LABELS = labels_with_ids(2, 5)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return random_model(tmp_path_factory.mktemp("models") / "model", small_plan(patch=(16, 16, 16)), LABELS)


@pytest.mark.parametrize("name", ["a.nii.nii.gz", "OUT.NII.GZ", "Out.Seg.Nrrd", "x" * 240 + ".nii.gz", "a b;c$d'.nrrd"])
def test_an_output_of_any_name(name: str, model: Model, tmp_path: Path):
    image = write_random_image(tmp_path / "image.nrrd")
    (tmp_path / "out").mkdir()
    assert segment(model, image, "--out", tmp_path / "out" / name) == 0
    assert os.listdir(tmp_path / "out") == [name]
    assert read_label(tmp_path / "out" / name)[0].array.shape == (10, 30, 20)


def test_a_batch_of_odd_names(model: Model, tmp_path: Path):
    names = ["a.nii.nii.gz", "B.NII.GZ", "x" * 230 + ".nrrd", "腹" * 75 + ".nrrd", "plain.nrrd", "two\nlines.nrrd"]
    for seed, name in enumerate(names):
        ending = ".nii.gz" if name.lower().endswith(".nii.gz") else ".nrrd"
        write_random_image(tmp_path / "images" / f"image{ending}", seed).rename(tmp_path / "images" / name)
    for _ in range(2):  # the second time, all are there
        assert segment(model, tmp_path / "images", "--out", tmp_path / "out") == 0
        expected = [
            name.replace(".nrrd", "").replace(".NII.GZ", "").removesuffix(".nii.gz") + ".nii.gz" for name in names
        ]
        assert files_in(tmp_path / "out") == sorted(expected)


def test_a_name_too_long_for_its_labels_is_told_before_anything_is_computed(
    model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    write_random_image(tmp_path / "images" / "good.nrrd")
    long = "x" * 250 + ".nrrd"
    write_random_image(tmp_path / "images" / "image.nrrd", 1).rename(tmp_path / "images" / long)
    assert segment(model, tmp_path / "images", "--out", tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert "has 257 bytes; a file's name can have 255" in told and "Rename the image" in told
    assert "1 of 2 images could not be segmented" in told and files_in(tmp_path / "out") == ["good.nii.gz"]


def test_a_name_that_is_no_text(model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_random_image(tmp_path / "images" / "good.nrrd")
    image = write_random_image(tmp_path / "images" / "image.nrrd", 1)
    image.rename(tmp_path / "images" / "M\udcfcller.nrrd")
    assert segment(model, tmp_path / "images", "--out", tmp_path / "out", "--json") == 2
    out, told = capsys.readouterr()
    assert r"M\udcfcller.nrrd is not text in UTF-8." in told and files_in(tmp_path / "out") == ["good.nii.gz"]
    error = next(json.loads(line) for line in out.splitlines() if '"error"' in line)
    assert error["message"].endswith("is not text in UTF-8.")


def test_a_name_that_is_no_text_in_a_terminal_that_shows_only_letters(model: Model, tmp_path: Path):
    """In a process of its own, whose standard streams are those of a real terminal."""
    image = write_random_image(tmp_path / "Müller 腹.nrrd")
    command = [sys.executable, "-m", "dinomix", "segment", "--model", str(model.path), str(image)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*command, "--out", str(tmp_path / "out")], capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and r"M\xfcller" in done.stdout and "Traceback" not in done.stderr


def test_cases_whose_names_are_no_text_are_problems(tmp_path: Path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "good.nrrd").touch()
        (tmp_path / folder / "M\udcfcller.nrrd").touch()
    found = find_cases([tmp_path], [], [])
    assert [case.name for case in found.cases] == ["good"]
    assert [problem.problem for problem in found.problems] == [
        rf"The name of {tmp_path}/images/M\udcfcller.nrrd, or that of its label, is not text in UTF-8."
    ]


def test_cases_of_long_names_get_shorter_ones(tmp_path: Path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        for end in "ab":
            (tmp_path / folder / ("腹" * 80 + end + ".nii.gz")).touch()
    names = [case.name for case in find_cases([tmp_path], [], []).cases]
    assert len(set(names)) == 2 and all(name.startswith("腹腹") and len(name.encode()) <= 180 for name in names)


@pytest.mark.parametrize("out", ["loop", "loop.nii.gz", "nowhere", "nowhere.nrrd", "loop/below", "loop/below.nii.gz"])
def test_an_output_that_is_a_link_to_nowhere(
    out: str, model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    image = write_random_image(tmp_path / "image.nrrd")
    for name in ("loop", "loop.nii.gz"):
        (tmp_path / name).symlink_to(tmp_path / name)
    for name in ("nowhere", "nowhere.nrrd"):
        (tmp_path / name).symlink_to(tmp_path / "not there")
    before = sorted(os.listdir(tmp_path))
    assert segment(model, image, "--out", tmp_path / out) == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told and str(tmp_path) in told.splitlines()[-1]
    assert sorted(os.listdir(tmp_path)) == before


def test_an_output_of_a_batch_that_is_a_link_to_itself(
    model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for seed, name in enumerate(("a", "b", "c")):
        write_random_image(tmp_path / "images" / f"{name}.nrrd", seed)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.nii.gz").symlink_to(tmp_path / "out/a.nii.gz")
    (tmp_path / "out/b.nii.gz").mkdir()
    assert segment(model, tmp_path / "images", "--out", tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert "a.nii.gz is a link that leads nowhere" in told and "b.nii.gz is already there" in told
    assert "2 of 3 images could not be segmented" in told
    assert (tmp_path / "out/c.nii.gz").is_file()


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), MemoryError(), RuntimeError("a defect")])
def test_whatever_goes_wrong_with_one_image_the_others_are_done(
    error: Exception, model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    for seed, name in enumerate(("a", "b", "c")):
        write_random_image(tmp_path / "images" / f"{name}.nrrd", seed)
    read = segmenting.read_channels

    def fails_once(paths: tuple[Path, ...], **options: bool):
        if paths[0].name == "b.nrrd":
            raise error
        return read(paths, **options)

    monkeypatch.setattr(segmenting, "read_channels", fails_once)
    assert segment(model, tmp_path / "images", "--out", tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert f"Error: {tmp_path}/images/b.nrrd" in told and "1 of 3 images could not be segmented" in told
    assert "Traceback" not in told and files_in(tmp_path / "out") == ["a.nii.gz", "c.nii.gz"]


def test_a_full_disk_ends_the_batch(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    for seed, name in enumerate(("a", "b")):
        write_random_image(tmp_path / "images" / f"{name}.nrrd", seed)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "out"))

    monkeypatch.setattr(segmenting, "write_output", full)
    assert segment(model, tmp_path / "images", "--out", tmp_path / "out") == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith(f"Error: No space left on device at {tmp_path / 'out'}. Free some disk space")
