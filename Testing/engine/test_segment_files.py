"""``dinomix segment``: files, folders and batches, by the command line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from dinomix.cli import main
from dinomix.commands.segment import parse_size
from dinomix.errors import DinomixError
from dinomix.files import sha256
from dinomix.images.channel_files import CaseFiles
from dinomix.images.reading import read_geometry, read_label
from dinomix.images.volume import Geometry, Volume
from dinomix.images.writing import write_image
from dinomix.inference.channels import find_case_images
from dinomix.inference.outputs import Output, is_done, name_of, plan_outputs, write_output
from dinomix.models.folder import Model
from random_models import labels_with_ids, random_model, small_plan

LABELS = labels_with_ids(2, 5)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("Modelle 模型")
    write_random_image(folder / "image.nrrd")
    return random_model(folder / "model", small_plan(), LABELS, folder / "image.nrrd")


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return random_model(tmp_path_factory.mktemp("models") / "other", small_plan(), LABELS, seed=8)


def write_random_image(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    geometry = Geometry((20, 30, 10), (1.5, 1.0, 3.0), (5.0, 6.0, -7.0), np.diag([-1.0, 1.0, 1.0]))
    coarse = np.random.default_rng(seed).random((5, 6, 5)).repeat(2, 0).repeat(5, 1).repeat(4, 2)
    write_image(Volume(coarse.astype(np.float32), geometry), path)
    return path


def segment(model: Model, *arguments: object) -> int:
    with pytest.raises(SystemExit) as leaving:
        main(["segment", "--device", "cpu", "--model", str(model.path), *map(str, arguments)])
    return int(leaving.value.code or 0)


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.mark.parametrize("format", ["nii.gz", "nrrd", "seg.nrrd"])
def test_a_file_in_each_format_on_the_image_grid(model: Model, tmp_path: Path, format: str) -> None:
    image = write_random_image(tmp_path / "Aufnahme Müller 肝臓.nrrd")
    assert segment(model, image, "--out", tmp_path / f"Ergebnis ü.{format}") == 0
    labels, names = read_label(tmp_path / f"Ergebnis ü.{format}", like=read_geometry(image))
    assert not labels.geometry.difference(read_geometry(image))
    assert set(np.unique(labels.array)) == {0, 2, 5}
    assert names == ({2: "structure 2", 5: "structure 5"} if format == "seg.nrrd" else None)
    assert files_in(tmp_path) == sorted([image.name, f"Ergebnis ü.{format}"])
    assert not (tmp_path / ".dinomix-batch").exists()


def test_keep_writes_only_what_was_asked_for(model: Model, tmp_path: Path) -> None:
    image = write_random_image(tmp_path / "image.mha")
    assert segment(model, image, "--out", tmp_path / "all.seg.nrrd") == 0
    assert segment(model, image, "--out", tmp_path / "one.seg.nrrd", "--keep", "Structure_5") == 0
    geometry = read_geometry(image)
    everything, kept = (read_label(tmp_path / f"{name}.seg.nrrd", like=geometry) for name in ("all", "one"))
    assert kept[1] == {5: "structure 5"}
    assert np.array_equal(kept[0].array == 5, everything[0].array == 5) and set(np.unique(kept[0].array)) == {0, 5}


def test_unknown_structure_is_refused(model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = write_random_image(tmp_path / "image.nrrd")
    assert segment(model, image, "--out", tmp_path / "out.nrrd", "--keep", "spleen") == 2
    assert "no structure spleen" in capsys.readouterr().err


def test_same_names_in_different_folders_stay_apart(model: Model, tmp_path: Path) -> None:
    for number, folder in enumerate(("a/x", "b/x", "c")):
        write_random_image(tmp_path / folder / "scan.nrrd", number)
    write_random_image(tmp_path / "c/other.nrrd", 5)
    assert segment(model, tmp_path / "a/x", tmp_path / "b/x", tmp_path / "c", "--out", tmp_path / "out") == 0
    assert files_in(tmp_path / "out") == ["a_x_scan.nii.gz", "b_x_scan.nii.gz", "c_scan.nii.gz", "other.nii.gz"]


def test_a_failing_image_does_not_stop_the_others(
    model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        write_random_image(tmp_path / f"in/{number}.nrrd", number)
    (tmp_path / "in/broken.nii.gz").write_bytes(b"no image")
    assert segment(model, tmp_path / "in", "--out", tmp_path / "out") == 2
    assert files_in(tmp_path / "out") == ["0.nii.gz", "1.nii.gz"]
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Error")]
    assert len(errors) == 2 and "broken.nii.gz" in errors[0] and "1 of 3" in errors[1]


def test_an_interrupted_batch_goes_on(model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        write_random_image(tmp_path / f"in/{number}.nrrd", number)
    assert segment(model, tmp_path / "in/0.nrrd", tmp_path / "in/1.nrrd", "--out", tmp_path / "out") == 0
    # As if the process had been killed between the record and the file.
    (tmp_path / "out/1.nii.gz").unlink()
    written = (tmp_path / "out/0.nii.gz").stat().st_mtime_ns
    capsys.readouterr()
    assert segment(model, tmp_path / "in", "--out", tmp_path / "out") == 0
    assert files_in(tmp_path / "out") == ["0.nii.gz", "1.nii.gz", "2.nii.gz"]
    assert (tmp_path / "out/0.nii.gz").stat().st_mtime_ns == written
    assert capsys.readouterr().err.count("it is kept") == 1


def test_what_another_model_or_image_made_is_not_taken_for_done(
    model: Model, other_model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, out = write_random_image(tmp_path / "in/scan.nrrd"), tmp_path / "out"
    out.mkdir()
    (out / "scan.nii.gz").write_text("labels drawn by hand")

    def refusal(*arguments: object) -> str:
        before = (out / "scan.nii.gz").read_bytes()
        assert segment(*arguments, image, "--out", out) == 2
        assert (out / "scan.nii.gz").read_bytes() == before
        return capsys.readouterr().err

    assert "was not made by this command" in refusal(model)
    assert segment(model, image, "--out", out, "--overwrite") == 0
    assert "not made with the same model." in refusal(other_model)
    assert "not made with the same structures." in refusal(model, "--keep", "structure 2")
    write_random_image(image, seed=9)
    assert "made from another image" in refusal(model)
    assert segment(model, image, "--out", out, "--overwrite") == 0
    with open(out / "scan.nii.gz", "ab") as file:
        file.write(b"\0")
    assert "was changed since it was made" in refusal(model)


@pytest.mark.parametrize("several", [False, True])
def test_other_voxels_behind_the_same_header_are_another_image(tmp_path: Path, several: bool) -> None:
    names = ["a.mhd", "b.nhdr"] if several else ["a.mhd"]
    for name in names:
        sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4, 5), np.uint8)), str(tmp_path / name))
    case = CaseFiles("a", tuple(tmp_path / name for name in names))
    (output,) = plan_outputs([case], tmp_path / "out", None)
    geometry = read_geometry(output.image)
    write_output(np.zeros((3, 4, 5), np.uint8), geometry, LABELS, output, {"model": "m"})
    assert is_done(output, {"model": "m"})
    (tmp_path / names[-1]).with_suffix(".raw").write_bytes(bytes(range(60)))
    with pytest.raises(DinomixError, match="was made from another image"):
        is_done(output, {"model": "m"})


def test_a_named_file_is_not_overwritten_unasked(
    model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = write_random_image(tmp_path / "image.nrrd")
    (tmp_path / "out.nrrd").write_text("mine")
    assert segment(model, image, "--out", tmp_path / "out.nrrd") == 2
    assert (tmp_path / "out.nrrd").read_text() == "mine"
    assert "--overwrite" in capsys.readouterr().err


def test_images_are_never_overwritten(model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = write_random_image(tmp_path / "image.nii.gz")
    before = image.read_bytes()
    for out in (image, tmp_path):
        assert segment(model, image, "--out", out, "--overwrite") == 2
        assert "would overwrite the image" in capsys.readouterr().err
    assert image.read_bytes() == before


@pytest.mark.parametrize(
    ("out", "options", "problem"),
    [
        ("two.nrrd", (), "names one file, but there are 2 images"),
        ("one.nrrd", ("--format", "nii.gz"), "does not end in .nii.gz"),
        ("one.mha", (), "Labels cannot be written to"),
    ],
)
def test_contradictory_outputs_are_refused(
    model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str, options: tuple[str, ...], problem: str
) -> None:
    images = [write_random_image(tmp_path / "1.nrrd"), write_random_image(tmp_path / "2.nrrd")]
    assert segment(model, *images[: 2 if out == "two.nrrd" else 1], "--out", tmp_path / out, *options) == 2
    assert problem in capsys.readouterr().err


def test_what_is_not_an_image_is_refused(model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("none")
    for path in ("nowhere.nii.gz", "empty", "notes.txt"):
        assert segment(model, tmp_path / path, "--out", tmp_path / "out") == 2
        error = capsys.readouterr().err
        assert path in error and "Traceback" not in error


def test_events_as_json_lines(model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = write_random_image(tmp_path / "image.nrrd")
    assert segment(model, image, "--out", tmp_path / "out.nrrd", "--json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[0]["kind"] == "device" and "CPU" in events[0]["reason"]
    progress = [event for event in events if event["kind"] == "progress"]
    assert progress[-1]["step"] == progress[-1]["total"] > 0 and "image (1 of 1)" in progress[-1]["stage"]
    assert events[-1]["kind"] == "finished" and events[-1]["path"] == str(tmp_path / "out.nrrd")


def test_too_little_memory_is_refused(model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = write_random_image(tmp_path / "image.nrrd")
    assert segment(model, image, "--out", tmp_path / "out.nrrd", "--max-memory", "10M") == 2
    assert "--max-memory" in capsys.readouterr().err
    assert not (tmp_path / "out.nrrd").exists()


def test_amounts_of_memory() -> None:
    assert [parse_size(text) for text in ("8G", "500m", "1.5 GB", "1024", "2GiB")] == [
        8 * 2**30, 500 * 2**20, 3 * 2**29, 1024, 2**31,
    ]  # fmt: skip
    for text in ("", "much", "-1G", "0", "G", "nan"):
        with pytest.raises(DinomixError):
            parse_size(text)


def test_processes_share_a_batch_and_wait_for_one_another(model: Model, tmp_path: Path) -> None:
    for number in range(5):
        write_random_image(tmp_path / f"in/{number}.nrrd", number)
    # The first process fails at once; its launcher must not take the other one down with it.
    (tmp_path / "in/0.nrrd").write_text("no image")
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "dinomix",
        "segment",
        "--model",
        str(model.path),
        "--device",
        "cpu",
    ]
    command += [str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--json"]
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    processes = [
        subprocess.Popen(
            command,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    ends = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [2, 0], ends
    assert files_in(tmp_path / "out") == ["1.nii.gz", "2.nii.gz", "3.nii.gz", "4.nii.gz"]
    finished = [
        [Path(event["path"]).name for event in map(json.loads, out.splitlines()) if event["kind"] == "finished"]
        for out, _ in ends
    ]
    assert finished == [["2.nii.gz", "4.nii.gz"], ["1.nii.gz", "3.nii.gz"]]


def free_port() -> str:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_dicom_folder_and_folder_of_images(model: Model, test_data: Path, tmp_path: Path) -> None:
    shutil.copytree(test_data / "dicom/ge_anatomical/001", tmp_path / "in/Studie Ä")
    write_random_image(tmp_path / "in/scan.nrrd")
    assert segment(model, tmp_path / "in", "--out", tmp_path / "out", "--format", "seg.nrrd") == 0
    assert files_in(tmp_path / "out") == ["Studie Ä.seg.nrrd", "scan.seg.nrrd"]


def test_sheared_grid_is_announced(
    model: Model, test_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coarse = random_model(tmp_path / "coarse", small_plan().model_copy(update={"grid": coarse_grid()}), LABELS)
    image = test_data / "geometry/gantry_tilt_sheared_affine.nii.gz"
    out = tmp_path / "out.nii.gz"
    assert segment(coarse, image, "--out", out) == 2 and "looks like a CT" in capsys.readouterr().err
    assert segment(coarse, image, "--out", out, "--any-image") == 0
    assert "sheared" in capsys.readouterr().err
    labels, _ = read_label(tmp_path / "out.nii.gz")
    assert np.allclose(labels.geometry.direction.T @ labels.geometry.direction, np.eye(3))


def coarse_grid() -> object:
    from dinomix.planning.plan import SpacingGrid

    return SpacingGrid(spacing=(12.0, 12.0, 12.0))


def test_dicom_at_any_depth_is_called_by_the_way_to_it_and_a_batch_of_it_goes_on(
    test_data: Path, tmp_path: Path
) -> None:
    series = test_data / "dicom" / "ge_anatomical" / "001"
    for place in ("P1/S1/series", "P2/S1/series", "P2/S2/series"):
        shutil.copytree(series, tmp_path / "archive" / place)
    (tmp_path / "archive" / "P3").symlink_to(series)
    write_random_image(tmp_path / "archive" / "plain.nrrd")

    def planned() -> dict[str, Output]:
        cases = find_case_images([tmp_path / "archive"], [""])
        return {output.path.name: output for output in plan_outputs(cases, tmp_path / "out", None)}

    before = planned()
    assert set(before) == {
        *(f"{name}_series.nii.gz" for name in ("P1_S1", "P2_S1", "P2_S2")),
        "P3.nii.gz",
        "plain.nii.gz",
    }
    one = before["P2_S2_series.nii.gz"]
    write_output(np.zeros((10, 30, 20), np.uint8), read_geometry(one.image), LABELS, one, {"model": "m"})
    shutil.copytree(series, tmp_path / "archive" / "P0" / "S1" / "series")
    after = planned()
    assert set(after) - set(before) == {"P0_S1_series.nii.gz"}
    assert is_done(after["P2_S2_series.nii.gz"], {"model": "m"})


def test_names_of_series_are_never_too_long(tmp_path: Path) -> None:
    series = tmp_path / ("1.2." + "34567890." * 12) / ("1.2." + "34567890." * 12)
    series.mkdir(parents=True)
    assert len(name_of(series, [tmp_path])) == 200
    assert name_of(series, [series]) == series.name and name_of(series, [series.parent]) == series.name


def test_a_folder_without_images_at_any_depth_is_refused(
    model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "notes.txt").write_text("nothing")
    assert segment(model, tmp_path / "a", "--out", tmp_path / "out") == 2
    assert "holds no images" in capsys.readouterr().err
    (tmp_path / "a" / "b" / "ct.nii.gz").write_bytes(b"")
    assert segment(model, tmp_path / "a", "--out", tmp_path / "out") == 2
    assert f"subfolders alone, such as {tmp_path / 'a' / 'b' / 'ct.nii.gz'}" in capsys.readouterr().err


def test_two_images_of_one_name_in_a_folder_are_both_named(tmp_path: Path) -> None:
    cases = [CaseFiles("a", (tmp_path / f"a{ending}",)) for ending in (".nii", ".nii.gz")]
    with pytest.raises(DinomixError, match=r"a\.nii and .*a\.nii\.gz would be written to the same file"):
        plan_outputs(cases, tmp_path / "out", None)


@pytest.mark.parametrize("ending", ["nii.gz", "seg.nrrd"])
def test_regions_are_written_as_masks(
    ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], model: Model
) -> None:
    image = write_random_image(tmp_path / "images" / "scan.nrrd")
    labels = LABELS.with_regions({"whole/all": [2, 5]})
    with_regions = random_model(tmp_path / "model", small_plan(), labels, image)
    given = (tmp_path / "images", "--out", tmp_path / "out", "--format", ending, "--regions")
    assert segment(with_regions, *given) == 0
    mask_file = tmp_path / "out" / "scan_regions" / f"whole_all.{ending}"
    grid = read_geometry(image)
    whole, names = read_label(mask_file, like=grid)
    structures, _ = read_label(tmp_path / "out" / f"scan.{ending}", like=grid)
    np.testing.assert_array_equal(whole.array, structures.array > 0)
    assert names == ({1: "whole/all"} if ending == "seg.nrrd" else None)
    mask_file.unlink()
    assert segment(with_regions, *given) == 0 and mask_file.exists()
    assert segment(model, image, "--out", tmp_path / "plain.nii.gz", "--regions") == 2
    assert "There are no regions to write" in capsys.readouterr().err


def test_masks_and_maps_of_another_model_are_not_taken_for_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_random_image(tmp_path / "images" / "scan.nrrd")
    labels = LABELS.with_regions({"all": [2, 5]})
    first, second = (random_model(tmp_path / f"model{seed}", small_plan(), labels, seed=seed) for seed in (1, 8))
    given = (tmp_path / "images", "--out", tmp_path / "out")
    beside = ("--regions", "--uncertainty", tmp_path / "maps")
    files = [tmp_path / "out/scan_regions/all.nii.gz", tmp_path / "maps/scan.nii.gz"]
    assert segment(first, *given, *beside) == 0
    of_first = [file.read_bytes() for file in files]
    assert segment(first, *given, *beside) == 0 and "it is kept" in capsys.readouterr().err
    assert segment(second, *given, "--overwrite") == 0
    for stale, options in zip(files, (beside[:1], beside[1:]), strict=True):
        assert segment(second, *given, *options) == 2
        assert f"{stale} is already there and was not made together with" in capsys.readouterr().err
    assert [file.read_bytes() for file in files] == of_first
    assert segment(second, *given, *beside, "--overwrite") == 0
    structures, _ = read_label(tmp_path / "out/scan.nii.gz")
    np.testing.assert_array_equal(read_label(files[0])[0].array, structures.array > 0)
    assert all(file.read_bytes() != before for file, before in zip(files, of_first, strict=True))


def test_what_lies_beside_labels_is_known_by_its_hash(tmp_path: Path) -> None:
    write_random_image(tmp_path / "a.nrrd")
    (output,) = plan_outputs([CaseFiles("a", (tmp_path / "a.nrrd",))], tmp_path / "out", None)
    masks, maps = tmp_path / "out/a_regions/all.nii.gz", tmp_path / "maps/a.nii.gz"
    geometry = read_geometry(output.image)

    def write(model: str, *paths: Path) -> None:
        beside = {path: lambda file, path=path: file.write_text(f"{model} {path.name}") for path in paths}
        write_output(np.zeros(geometry.size[::-1], np.uint8), geometry, LABELS, output, {"model": model}, beside=beside)

    def refuses(model: str, *paths: Path) -> None:
        with pytest.raises(DinomixError, match=r"was not made together with .*, or was changed since"):
            is_done(output, {"model": model}, paths)

    masks.parent.mkdir(parents=True)
    masks.write_text("somebody's")
    refuses("m", masks)  # although there are no labels yet
    write("m", masks)
    write("m", maps)
    # Each was written by a call of its own, beside the same labels.
    assert is_done(output, {"model": "m"}, [masks, maps])
    maps.unlink()
    assert not is_done(output, {"model": "m"}, [masks, maps]) and is_done(output, {"model": "m"}, [masks])
    masks.write_text("drawn by hand")
    refuses("m", masks)
    write("m", masks)
    output.path.unlink()
    assert not is_done(output, {"model": "m"}, [masks])
    # These labels are the same ones, but another model's.
    write("n", maps)
    refuses("n", masks)
    record = json.loads(output.record.read_text())
    output.record.write_text(json.dumps({key: told for key, told in record.items() if key != "beside_sha256"}))
    refuses("n", maps)  # of an earlier version


def test_a_file_beside_labels_that_fails_leaves_those_that_were_there(tmp_path: Path) -> None:
    write_random_image(tmp_path / "a.nrrd")
    (output,) = plan_outputs([CaseFiles("a", (tmp_path / "a.nrrd",))], tmp_path / "out", None)
    output.path.parent.mkdir()
    output.path.write_text("before")

    def fail(file: Path) -> None:
        raise OSError("no map")

    empty = np.zeros((10, 30, 20), np.uint8)
    with pytest.raises(OSError, match="no map"):
        write_output(empty, read_geometry(output.image), LABELS, output, {}, beside={tmp_path / "out/map.nrrd": fail})
    assert files_in(tmp_path / "out") == ["a.nii.gz"] and output.path.read_text() == "before"


def test_what_is_asked_for_beside_the_labels_is_there_also_when_an_image_fails(model: Model, tmp_path: Path) -> None:
    for seed, name in enumerate(("a", "b")):
        write_random_image(tmp_path / "in" / f"{name}.nrrd", seed)
    (tmp_path / "in" / "c.nrrd").write_text("no image")
    table = tmp_path / "table.csv"
    asked = ("--out", tmp_path / "out", "--statistics", table, "--preview")
    assert segment(model, tmp_path / "in", *asked) == 2
    assert len(table.read_text(encoding="utf-8").splitlines()) == 1 + 2 * len(LABELS.ids)
    assert files_in(tmp_path / "out") == ["a.nii.gz", "b.nii.gz", "overview.html", "previews"]
    (tmp_path / "in" / "c.nrrd").unlink()
    write_random_image(tmp_path / "in" / "c.nrrd", 5)
    assert segment(model, tmp_path / "in", *asked) == 0  # goes on, and its table has all cases
    assert len(table.read_text(encoding="utf-8").splitlines()) == 1 + 3 * len(LABELS.ids)
    assert files_in(tmp_path / "out" / "previews") == ["a.png", "b.png", "c.png"]


def test_a_table_of_somebody_else_is_refused_before_anything_is_computed(model: Model, tmp_path: Path) -> None:
    write_random_image(tmp_path / "in" / "a.nrrd")
    (tmp_path / "table.csv").write_text("my,own\n")
    assert segment(model, tmp_path / "in", "--out", tmp_path / "out", "--statistics", tmp_path / "table.csv") == 2
    assert (tmp_path / "table.csv").read_text() == "my,own\n" and not (tmp_path / "out").exists()


def test_the_record_of_a_call_says_what_went_in_what_came_out_and_what_was_said(model: Model, tmp_path: Path) -> None:
    write_random_image(tmp_path / "in" / "a.nrrd")
    (tmp_path / "in" / "b.nrrd").write_text("no image")
    record = tmp_path / "manifest.json"
    structure = LABELS.names[1]
    asked = (
        "--out",
        tmp_path / "out",
        "--manifest",
        record,
        "--statistics",
        tmp_path / "table.csv",
        "--keep",
        structure,
    )
    assert segment(model, tmp_path / "in", *asked) == 2
    told = json.loads(record.read_text(encoding="utf-8"))
    good, bad = told["cases"]
    assert (good["name"], good["status"], bad["status"]) == ("a", "segmented", "failed") and good["seconds"] > 0
    assert good["labels_sha256"] == sha256(tmp_path / "out" / "a.nii.gz") and bad["labels"] is None
    assert good["images_sha256"] == sha256(tmp_path / "in" / "a.nrrd") and "b.nrrd" in bad["error"]["message"]
    assert told["model"]["sha256_of_manifest"] == model.fingerprint and told["settings"]["keep"] == [structure]
    assert told["further_files"] == [str(tmp_path / "table.csv")] and told["device"] == "cpu"
    (tmp_path / "in" / "b.nrrd").unlink()
    write_random_image(tmp_path / "in" / "b.nrrd", 3)
    assert segment(model, tmp_path / "in", *asked) == 0
    assert [case["status"] for case in json.loads(record.read_text(encoding="utf-8"))["cases"]] == ["kept", "segmented"]
    record.write_text("{}")
    assert segment(model, tmp_path / "in", *asked) == 2 and record.read_text() == "{}"


def test_the_record_of_one_image_that_fails_says_why(model: Model, tmp_path: Path) -> None:
    (tmp_path / "a.nrrd").write_text("no image")
    record = tmp_path / "manifest.json"
    image = write_random_image(tmp_path / "b.nrrd")
    assert segment(model, image, "--out", tmp_path / "b.nii.gz", "--manifest", record, "--device", "cuda:77") == 2
    assert json.loads(record.read_text(encoding="utf-8"))["cases"][0]["error"]["message"]
