"""``dinomix worker`` as a process: what it computes, and that nothing the client does breaks it."""

import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from worker_process import WorkerProcess, described

from dinomix.images.formats import Format, ending_of
from dinomix.images.gzip_streams import GZIP
from dinomix.images.reading import read_image, read_label
from dinomix.images.volume import Geometry, Volume
from dinomix.inference.any_grid import segment_array
from dinomix.inference.batch import segment_files
from dinomix.inference.options import Options
from dinomix.inference.segment import segment_volume
from dinomix.models.folder import Model, load_model
from dinomix.models.writing import write_model
from dinomix.planning.plan import RangeWindow, SpacingGrid
from dinomix.worker.arrays import frame_bytes, frames_of_array, frames_of_file
from dinomix.worker.stream import encode
from random_models import labels_with_ids, random_model, small_plan

AFFINE = np.array([[-0.9, 0.1, 0.0, 30.0], [0.1, 0.9, 0.0, -20.0], [0.0, 0.0, -2.0, 55.0], [0, 0, 0, 1]])
"""Of a left-handed grid, turned about its third axis."""


def scan(shape: tuple[int, int, int] = (30, 44, 52), seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    k, j, i = np.indices(shape)
    waves = sum(np.sin((k * a + j * b + i * c) / 9) for a, b, c in rng.uniform(-1, 1, (4, 3)))
    return (waves * 200 + rng.normal(0, 20, shape)).astype(np.int16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worker")


@pytest.fixture(scope="module")
def image(folder: Path) -> Path:
    nibabel.save(nibabel.Nifti1Image(scan().transpose(2, 1, 0), AFFINE), folder / "scan.nii.gz")
    return folder / "scan.nii.gz"


@pytest.fixture(scope="module")
def model(folder: Path, image: Path) -> Model:
    plan = small_plan(SpacingGrid(spacing=(1.4, 1.2, 2.0)), RangeWindow(low=-600, high=600))
    return random_model(folder / "models/Modell 臓器", plan, labels_with_ids(2, 5, 300), image)


@pytest.fixture(scope="module")
def worker(folder: Path, model: Model) -> Iterator[WorkerProcess]:
    with WorkerProcess("--models", str(folder / "models"), environment={"TMPDIR": str(folder)}) as process:
        process.hello()
        yield process


@pytest.fixture
def is_usable(worker: WorkerProcess, model: Model) -> Callable[[], None]:
    """Asserts that the worker still segments."""

    def check() -> None:
        worker.segment_by_frames("afterwards", model.path, scan((5, 9, 9)), AFFINE)
        assert worker.array(worker.answer()).shape == (5, 9, 9)

    return check


def expected_labels(array: np.ndarray, affine: np.ndarray, model: Model) -> np.ndarray:
    lps = np.diag([-1.0, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    geometry = Geometry(array.shape[::-1], tuple(spacing), tuple(lps[:3, 3]), lps[:3, :3] / spacing)
    return segment_volume(Volume(array.astype(np.float32), geometry), model, device="cpu").array


def test_hello_says_what_is_there(folder: Path, worker: WorkerProcess) -> None:
    (folder / "probe").write_text("secret")
    hello = worker.hello({"file": str(folder / "probe"), "nonce": "secret"})
    assert hello["type"] == "hello" and hello["protocol"] == 1 and hello["shares_files"] is True
    assert hello["pid"] == worker.process.pid
    assert [device["name"] for device in hello["devices"]] == ["cpu"]
    assert hello["automatic"]["device"] == "cpu" and hello["automatic"]["reason"].endswith(".")
    assert 0 < hello["memory"]["available"] < hello["memory"]["total"]
    for probe in (None, {"file": str(folder / "probe"), "nonce": "other"}, {"file": "/nowhere", "nonce": "secret"}):
        assert worker.hello(probe)["shares_files"] is False
    other = worker.ask("hello", protocol=99, probe=None)
    assert other["type"] == "error" and "protocol 99" in other["message"] and other["remedy"]


def test_models_are_described(worker: WorkerProcess, model: Model, tmp_path: Path) -> None:
    shutil.copytree(model.path, tmp_path / "half")
    (tmp_path / "half/plan.json").unlink()
    answer = worker.ask("models", folders=[str(tmp_path)])
    whole, half = answer["models"]
    assert whole["path"] == str(model.path.resolve()) and whole["title"] == model.path.name
    assert whole["problem"] is None and whole["fingerprint"] == model.fingerprint and whole["modality"] == "CT"
    assert [(s["id"], s["name"], s["color"]) for s in whole["structures"]] == [
        (s.id, s.name, list(s.color)) for s in model.labels.structures
    ]
    assert all(len(s["terminology_entry"].split("~")) == 7 for s in whole["structures"])
    assert "plan.json is missing" in half["problem"]


@pytest.mark.parametrize("dtype", ["int16", "float64", "uint8"])
def test_labels_are_those_of_the_engine(worker: WorkerProcess, model: Model, folder: Path, dtype: str) -> None:
    array = scan().astype(dtype)
    expected = expected_labels(array, AFFINE, model)
    worker.events.clear()
    worker.segment_by_file("file", model.path, array, AFFINE, folder)
    result = worker.answer()
    assert result["type"] == "result" and result["job"] == "file", result
    assert [s["id"] for s in result["structures"]] == [2, 5, 300] and result["device"] == "cpu"
    assert result["seconds"] > 0 and result["notices"] == []
    labels = np.load(result["file"])
    assert list(labels.shape) == result["shape"] and labels.dtype.name == result["dtype"] == "uint16"
    assert np.array_equal(labels, expected)
    if dtype == "int16":
        assert set(np.unique(expected)) == {0, 2, 5, 300}
    progress = [e["event"] for e in worker.events if e["event"]["kind"] == "progress"]
    windows = [e for e in progress if e["stage"] == "segmenting"]
    assert windows[0]["step"] == 0 and windows[-1]["step"] == windows[-1]["total"] and windows[-1]["eta"] == 0

    worker.segment_by_frames("frames", model.path, array, AFFINE)
    assert np.array_equal(worker.array(worker.answer()), expected)


def test_only_the_structures_asked_for(worker: WorkerProcess, model: Model) -> None:
    worker.segment_by_frames("keep", model.path, scan(), AFFINE, keep=["Structure 5"])
    result = worker.answer()
    assert [s["name"] for s in result["structures"]] == ["structure 5"]
    expected = expected_labels(scan(), AFFINE, model)
    assert np.array_equal(worker.array(result), np.where(expected == 5, 5, 0))
    worker.segment_by_frames("unknown", model.path, scan(), AFFINE, keep=["heart"])
    answer = worker.answer()
    assert answer["type"] == "error" and "no structure heart" in answer["message"]


def test_precision_is_the_one_asked_for(worker: WorkerProcess, model: Model, image: Path, tmp_path: Path) -> None:
    expected = {
        p: segment_volume(read_image(image), model, device="cpu", precision=p).array for p in ("float32", "bfloat16")
    }
    assert not np.array_equal(expected["float32"], expected["bfloat16"])
    for precision, labels in expected.items():
        worker.segment_by_frames("array", model.path, scan(), AFFINE, precision=precision)
        assert np.array_equal(worker.array(worker.answer()), labels)
        out = tmp_path / f"{precision}.nii.gz"
        worker.send("segment_file", job="file", model=str(model.path), image={"path": str(image)}, out={"path": str(out)},
                    device="cpu", precision=precision)  # fmt: skip
        assert worker.answer()["type"] == "result" and np.array_equal(read_image(out).array, labels)
    worker.segment_by_frames("unknown", model.path, scan((5, 9, 9)), AFFINE, precision="double")
    assert worker.answer()["type"] == "error"


def test_second_request_finds_the_model_loaded(worker: WorkerProcess, model: Model, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(model.path, copy)

    def stages() -> list[str]:
        worker.events.clear()
        worker.segment_by_frames("warm", copy, scan(), AFFINE)
        worker.array(worker.answer())
        return list(dict.fromkeys(e["event"]["stage"] for e in worker.events if e["event"]["kind"] == "progress"))

    rest = ["preparing the image", "segmenting", "handing over the labels"]
    assert stages() == ["loading the model", *rest]
    assert stages() == rest


def test_estimate(worker: WorkerProcess, model: Model, tmp_path: Path) -> None:
    asked = {"model": str(model.path), "shape": [100, 200, 300], "affine_ras": AFFINE.tolist(), "device": "auto"}
    large = worker.ask("estimate", job="e1", max_memory=None, **asked)
    small = worker.ask("estimate", job="e2", max_memory=None, **{**asked, "shape": [30, 44, 52]})
    assert large["type"] == small["type"] == "estimate" and large["job"] == "e1"
    assert 0 < small["seconds"] < large["seconds"] and small["windows"] < large["windows"]
    assert small["memory"] < large["memory"] and large["device"] == "cpu" and large["reason"]
    assert worker.ask("estimate", job="en", mirror=True, **asked)["code"] == "mirror", "it has not learned from such"
    known = {"plan": model.plan, "labels": model.labels, "weights": model.weights}
    write_model(tmp_path / "mirrored", **known, record={"config": {"mirror": True}})
    mirrored = worker.ask("estimate", job="em", mirror=True, **{**asked, "model": str(tmp_path / "mirrored")})
    assert mirrored["windows"] == 2 * large["windows"] and mirrored["seconds"] > large["seconds"]
    looked = worker.ask("estimate", job="ei", inside=["structure 2"], **asked)
    assert large["windows"] < looked["windows"] < mirrored["windows"], "the quick pass has fewer windows than the whole"
    refused = worker.ask("estimate", job="e3", max_memory=10**6, **asked)
    assert refused["type"] == "error" and "GB are allowed" in refused["message"] and refused["remedy"]


def test_estimated_windows_are_those_computed(worker: WorkerProcess, model: Model) -> None:
    asked = {"model": str(model.path), "shape": list(scan().shape), "affine_ras": AFFINE.tolist()}
    estimate = worker.ask("estimate", job="e4", device="cpu", max_memory=None, **asked)
    worker.events.clear()
    worker.segment_by_frames("windows", model.path, scan(), AFFINE)
    worker.array(worker.answer())
    totals = {e["event"]["total"] for e in worker.events if e["event"].get("stage") == "segmenting"}
    assert totals == {estimate["windows"]}


def test_load(worker: WorkerProcess, model: Model) -> None:
    answer = worker.ask("load", job="l", model=str(model.path))
    assert answer["type"] == "loaded" and answer["job"] == "l" and answer["seconds"] >= 0


def test_jobs_are_computed_in_their_order(worker: WorkerProcess, model: Model) -> None:
    first, second = scan(seed=1), scan((20, 30, 40), seed=2)
    worker.segment_by_frames("first", model.path, first, AFFINE)
    worker.segment_by_frames("second", model.path, second, AFFINE)
    for name, array in (("first", first), ("second", second)):
        result = worker.answer()
        assert result["job"] == name
        assert np.array_equal(worker.array(result), expected_labels(array, AFFINE, model))


def test_cancel_while_computing(worker: WorkerProcess, model: Model, is_usable: Callable[[], None]) -> None:
    worker.segment_by_frames("long", model.path, np.zeros((200, 250, 250), np.int16), AFFINE)
    worker.segment_by_frames("waiting", model.path, scan(), AFFINE)
    worker.wait_for_event("long", "segmenting")
    worker.send("cancel", job="waiting")
    assert worker.answer() == {"type": "cancelled", "job": "waiting"}  # at once, while the other goes on
    worker.send("cancel", job="long")
    assert worker.answer() == {"type": "cancelled", "job": "long"}
    worker.send("cancel", job="long")  # over already: nothing to say
    worker.send("cancel", job="never heard of")
    is_usable()
    worker.segment_by_frames("long", model.path, scan((5, 9, 9)), AFFINE)  # the name is free again
    assert worker.answer()["type"] == "result"
    assert worker.next().type == "frame"


def test_cancel_while_frames_arrive(worker: WorkerProcess, model: Model, is_usable: Callable[[], None]) -> None:
    array = np.random.default_rng(0).integers(0, 2**15, (30, 256, 256)).astype(np.int16)
    frames = list(frames_of_array(array, "half", "image"))
    request = {"image": {**described(array, AFFINE), "frames": True}, "result": {"frames": True}}
    worker.send("segment", job="half", model=str(model.path), **request)
    worker.send_bytes(frames[:2])
    worker.send("cancel", job="half")
    worker.send_bytes(frames[2:])  # were on their way already
    assert worker.answer() == {"type": "cancelled", "job": "half"}
    is_usable()


def test_removed_and_changed_models(
    worker: WorkerProcess, model: Model, image: Path, tmp_path: Path, is_usable: Callable[[], None]
) -> None:
    path = tmp_path / "model"
    shutil.copytree(model.path, path)
    labels = []
    for job in ("before", "after"):
        worker.segment_by_frames(job, path, scan(), AFFINE)
        result = worker.answer()
        labels.append((worker.array(result), [s["id"] for s in result["structures"]]))
        shutil.rmtree(path)
        random_model(path, model.plan, labels_with_ids(7), image, seed=5)
    assert labels[0][1] == [2, 5, 300] and labels[1][1] == [7]
    assert np.array_equal(labels[1][0], expected_labels(scan(), AFFINE, load_model(path)))
    (path / "labels.json").write_text((path / "labels.json").read_text().replace("7", "8"))
    worker.segment_by_frames("damaged", path, scan(), AFFINE)
    assert "labels.json is not what the manifest says" in worker.answer()["message"]
    shutil.rmtree(path)
    worker.segment_by_frames("gone", path, scan(), AFFINE)
    answer = worker.answer()
    assert answer["type"] == "error" and answer["job"] == "gone" and "not there" in answer["message"]
    assert answer["remedy"]
    is_usable()


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.full((4, 5, 6), np.nan, np.float32), "NaN"),
        (np.full((4, 5, 6), 1e300), "NaN or infinite"),
        (np.zeros((4, 5, 6, 3), np.int16), "image.shape"),
        (np.zeros((5, 6), np.int16), "image.shape"),
        (np.zeros((4, 5, 6), np.complex64), "complex64"),
    ],
)
def test_volumes_that_cannot_be_segmented(
    worker: WorkerProcess, model: Model, folder: Path, array: np.ndarray, told: str
) -> None:
    worker.segment_by_file("odd", model.path, array, AFFINE, folder)
    answer = worker.answer()
    assert answer["type"] == "error" and answer["job"] == "odd" and told in answer["message"] and answer["remedy"]


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 40, 40), (1, 3, 200), (3, 1, 2)])
def test_tiny_volumes(worker: WorkerProcess, model: Model, shape: tuple[int, int, int]) -> None:
    array = scan(shape)
    worker.segment_by_frames("tiny", model.path, array, AFFINE)
    assert np.array_equal(worker.array(worker.answer()), expected_labels(array, AFFINE, model))


@pytest.mark.parametrize("affine", [np.zeros((4, 4)), np.diag([1.0, 1, 0, 1]), np.full((4, 4), 1e308)])
def test_unusable_affines(worker: WorkerProcess, model: Model, affine: np.ndarray) -> None:
    worker.segment_by_frames("flat", model.path, scan((5, 5, 5)), affine)
    answer = worker.answer()
    assert answer["type"] == "error" and "nothing usable" in answer["message"] and answer["remedy"]


def test_a_volume_that_is_not_there_or_not_as_described(worker: WorkerProcess, model: Model, tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", scan())
    image = {**described(scan(), AFFINE), "file": str(tmp_path / "image.npy")}
    result = {"file": str(tmp_path / "nowhere/labels.npy")}
    for job, changes, told in (
        ("missing", {"file": str(tmp_path / "other.npy")}, "other.npy cannot be read"),
        ("shape", {"shape": [1, 2, 3]}, "not as the request describes it"),
        ("type", {"dtype": "uint16"}, "not as the request describes it"),
        ("result", {}, "nowhere"),
    ):
        answer = worker.ask("segment", job=job, model=str(model.path), image={**image, **changes}, result=result)
        assert answer["type"] == "error" and answer["job"] == job and told in answer["message"] and answer["remedy"]


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"type": "segment", "job": "x", "image": "hello"}, "model"),
        ({"type": "segment", "job": "x", "image": {"frames": True}}, "shape"),
        ({"type": "segment", "job": "x", "image": {"frames": True, "shape": 5, "dtype": "int16"}}, "shape"),
        (
            {"type": "segment", "job": "x", "image": {"frames": True, "shape": [2, "a", {}], "dtype": "int16"}},
            "volume of",
        ),
        ({"type": "segment", "job": "x", "image": {"frames": True, "shape": [2, 3, 4], "dtype": {"a": 1}}}, "type"),
        ({"type": "segment", "job": "x" * 300, "model": "m"}, "does not name its job"),
        ({"type": "load", "job": 5, "model": "m"}, "does not name its job"),
        ({"type": "models", "folders": "m"}, "no list of paths"),
        ({"type": "models", "folders": [7]}, "no list of paths"),
        ({"type": "hello", "protocol": ["x" * 10**6]}, "protocol"),
        ({"type": "segment", "job": ["x"], "model": "m"}, "does not name its job"),
        ({"type": "segment", "model": "m"}, "does not name its job"),
        ({"type": "estimate", "job": "x", "model": "m", "shape": [1, 2, 3], "affine_ras": [[1, 2], [3]]}, "affine_ras"),
        ({"type": "load", "job": "x"}, "model"),
        ({"type": "load", "job": "x", "model": ""}, "model"),
        ({"type": "dance", "job": "x"}, "dance"),
        (
            {"type": "segment_file", "job": "x", "model": "m", "image": {"path": "a"}, "out": {"format": "exe"}},
            "format",
        ),
    ],
)
def test_requests_that_make_no_sense(
    worker: WorkerProcess, is_usable: Callable[[], None], request_: dict, told: str
) -> None:
    worker.send_bytes([encode(request_)])
    answer = worker.answer()
    job = request_.get("job")
    assert answer["type"] == "error" and answer["job"] == (job if isinstance(job, str) and len(job) < 300 else None)
    assert told in answer["message"] and answer["remedy"] and len(answer["message"]) < 300
    assert not any(word in answer["message"] for word in ("Error", "dict", "None"))
    is_usable()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" * 4000])
def test_numbers_that_are_none_are_answered(worker: WorkerProcess, is_usable: Callable[[], None], number: str) -> None:
    row = "[1, 0, 0, 0]"
    affine = f"[[{number}, 0, 0, 0], {row}, {row}, {row}]"
    for line, told in (
        (f'{{"type": "load", "job": {number}, "model": "m"}}', "does not name its job"),
        (f'{{"type": "estimate", "job": "n", "model": "m", "shape": [1, 2, 3], "affine_ras": {affine}}}', "affine_ras"),
        (f'{{"type": "load", "job": "n", "model": {number}}}', "model is not as it should be"),
        (f'{{"type": "hello", "protocol": {number}}}', "The client speaks protocol"),
    ):
        if number.isdigit() and "affine" in line:
            continue  # a large number is one
        worker.send_bytes([line.encode() + b"\n"])
        answer = worker.answer()
        assert answer["type"] == "error" and told in answer["message"] and answer["remedy"]
    is_usable()


def test_broken_frames_fail_their_job_only(worker: WorkerProcess, model: Model, is_usable: Callable[[], None]) -> None:
    array = scan((40, 200, 200))
    frames = list(frames_of_array(array, "broken", "image"))
    image = {**described(array, AFFINE), "frames": True}
    for bad in ([frames[1]], [frames[0], frames[2]], [frames[0], frames[0]]):
        worker.send("segment", job="broken", model=str(model.path), image=image, result={"frames": True})
        worker.send_bytes([*bad, *frames[2:]])
        answer = worker.answer()
        assert answer["type"] == "error" and answer["job"] == "broken" and "did not arrive" in answer["message"]
    worker.send_bytes(frames_of_array(array, "of no job", "image"))
    is_usable()


def header_and_voxels(path: Path) -> tuple[bytes, bytes]:
    """Of a packed NRRD; how the packer came to its bytes is its own affair."""
    header, _, voxels = path.read_bytes().partition(b"\n\n")
    return header, zlib.decompress(voxels, GZIP)


def test_file_to_file(worker: WorkerProcess, model: Model, image: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.seg.nrrd"
    asked = {"model": str(model.path), "image": {"path": str(image)}, "out": {"path": str(out)}, "device": "cpu"}
    answer = worker.ask("segment_file", job="f1", **asked)
    assert answer["type"] == "result" and answer["path"] == str(out)
    (expected,) = segment_files(model, [image], tmp_path / "expected.seg.nrrd", Options("cpu"))
    assert header_and_voxels(out) == header_and_voxels(expected)
    again = worker.ask("segment_file", job="f2", **asked)
    assert again["type"] == "error" and "already there" in again["message"]
    assert worker.ask("segment_file", job="f3", overwrite=True, **asked)["type"] == "result"
    missing = worker.ask("segment_file", job="f4", **{**asked, "image": {"path": str(tmp_path / "no.nii.gz")}})
    assert missing["type"] == "error" and "no.nii.gz" in missing["message"] and missing["remedy"]


@pytest.mark.parametrize("format", ["seg.nrrd", "nii.gz"])
def test_files_in_frames(worker: WorkerProcess, model: Model, image: Path, tmp_path: Path, format: str) -> None:
    options = {"out": {"frames": True, "format": format}, "device": "cpu", "keep": ["structure 2"]}
    worker.send("segment_file", job="frames", model=str(model.path), image={"frames": True}, **options)
    worker.send_bytes(frames_of_file(image, "frames", f"file:{image.name}"))
    result = worker.answer()
    assert result["type"] == "result" and result["frames"], result
    content, number, last = b"", 0, False
    while not last:
        message = worker.next()
        assert message.fields["name"] == f"file:labels.{format}" and message.fields["job"] == "frames"
        content += frame_bytes(message, number)
        number, last = number + 1, message.fields["last"]
    (tmp_path / f"got.{format}").write_bytes(content)
    out = tmp_path / f"expected.{format}"
    segment_files(model, [image], out, Options("cpu"), keep=("structure 2",))
    assert np.array_equal(read_image(tmp_path / f"got.{format}").array, read_image(out).array)


@pytest.mark.parametrize("format", ["nii.gz", "dicom-seg"])
def test_a_folder_in_frames(worker: WorkerProcess, model: Model, tmp_path: Path, format: Format) -> None:
    """The series arrives with its headers, so a result in DICOM is of its patient and study."""
    series = tmp_path / "series"
    series.mkdir()
    array = scan((6, 40, 40))
    for k in range(6):
        slice_ = sitk.GetImageFromArray(array[k])
        slice_.SetSpacing((1.0, 1.5))
        for tag, value in {
            "0008|0060": "CT", "0020|000d": "1.2.3", "0020|000e": "1.2.3.4", "0008|0018": f"1.2.3.4.{k + 1}",
            "0020|0032": f"0\\0\\{k * 3}", "0020|0037": "1\\0\\0\\0\\1\\0", "0020|0013": str(k + 1),
        }.items():  # fmt: skip
            slice_.SetMetaData(tag, value)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(series / f"{k}.dcm"))
        writer.Execute(slice_)
    files = sorted(series.iterdir())
    options = {"out": {"frames": True, "format": format}, "device": "cpu"}
    worker.send("segment_file", job="series", model=str(model.path), image={"frames": True}, **options)
    for file in files:
        worker.send_bytes(frames_of_file(file, "series", f"file:{file.name}", more=file != files[-1]))
    result = worker.answer()
    assert result["type"] == "result", result
    got, expected = (tmp_path / f"{name}{ending_of(format)}" for name in ("got", "expected"))
    got.write_bytes(frame_bytes(worker.next(), 0))
    segment_files(model, [series], expected, Options("cpu"))
    grid = read_image(series).geometry
    assert np.array_equal(read_label(got, like=grid)[0].array, read_label(expected, like=grid)[0].array)
    if format == "dicom-seg":
        assert pydicom.dcmread(got).StudyInstanceUID == "1.2.3"


@pytest.mark.parametrize("name", ["../escaped.nii.gz", "/escaped.nii.gz", "a" * 256 + ".nii.gz", "\ud800.nii.gz"])
def test_file_names_that_lead_elsewhere(worker: WorkerProcess, model: Model, image: Path, name: str) -> None:
    options = {"out": {"frames": True, "format": "nii.gz"}, "device": "cpu"}
    worker.send("segment_file", job="evil", model=str(model.path), image={"frames": True}, **options)
    worker.send_bytes(frames_of_file(image, "evil", f"file:{name}"))
    answer = worker.answer()
    assert answer["type"] == "error" and "cannot be used" in answer["message"]


def send_files(worker: WorkerProcess, model: Model, job: str, files: list[Path]) -> dict:
    options = {"out": {"frames": True, "format": "nii.gz"}, "device": "cpu"}
    worker.send("segment_file", job=job, model=str(model.path), image={"frames": True}, **options)
    for number, file in enumerate(files, 1):
        worker.send_bytes(frames_of_file(file, job, f"file:{file.name}", more=number < len(files)))
    return worker.answer()


def test_two_files_of_one_name_are_refused(worker: WorkerProcess, model: Model, image: Path) -> None:
    answer = send_files(worker, model, "twice", [image, image])
    assert answer["type"] == "error" and "Two files named" in answer["message"]


@pytest.mark.parametrize("ending", ["mhd", "nhdr"])
def test_a_header_is_read_with_the_voxels_that_were_sent_beside_it(
    worker: WorkerProcess, model: Model, tmp_path: Path, ending: str
) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(scan()), str(tmp_path / f"scan.{ending}"))
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2
    assert send_files(worker, model, "both", files)["type"] == "result"
    (tmp_path / "got.nii.gz").write_bytes(frame_bytes(worker.next(), 0))
    expected = segment_files(model, [tmp_path / f"scan.{ending}"], tmp_path / "expected.nii.gz", Options("cpu"))[0]
    assert np.array_equal(read_image(tmp_path / "got.nii.gz").array, read_image(expected).array)


META = """ObjectType = Image
NDims = 3
DimSize = 12 14 16
ElementType = MET_UCHAR
ElementSpacing = 1 1 1
ElementDataFile = {}
"""
NRRD = """NRRD0004
type: uchar
dimension: 3
sizes: 12 14 16
encoding: raw
data file: {}

"""


@pytest.mark.parametrize(
    ("name", "header"),
    [("scan.mhd", META), ("scan.mha", META), ("scan.nhdr", NRRD), ("scan.nrrd", NRRD), ("scan.seg.nrrd", NRRD)],
)
@pytest.mark.parametrize("place", ["{file}", "../../{relative}", "LIST\n{file}", "{pattern} 1 1 1"])
def test_a_header_cannot_name_a_file_of_the_workers_computer(
    worker: WorkerProcess, model: Model, tmp_path: Path, name: str, header: str, place: str
) -> None:
    secret = tmp_path / "secret1.raw"
    secret.write_bytes(bytes(range(224)) * 12)
    relative = "../" * 20 + str(secret.relative_to("/"))
    pattern = str(secret).replace("secret1", "secret%d")
    place = place.format(file=secret, relative=relative, pattern=pattern)
    (tmp_path / "sent").mkdir()
    (tmp_path / "sent" / name).write_text(header.format(place))
    answer = send_files(worker, model, "thief", [tmp_path / "sent" / name])
    assert answer["type"] == "error" and answer["job"] == "thief" and answer["remedy"]


def test_nothing_received_stays_on_the_disk(worker: WorkerProcess, model: Model, image: Path, folder: Path) -> None:
    options = {"out": {"frames": True, "format": "nii.gz"}, "device": "cpu"}
    for job, keep, answers in (("good", [], ["result", "frame"]), ("bad", ["heart"], ["error"])):
        worker.send("segment_file", job=job, model=str(model.path), image={"frames": True}, keep=keep, **options)
        worker.send_bytes(frames_of_file(image, job, f"file:{image.name}"))
        assert [worker.next().type for _ in answers] == answers
    worker.send("segment_file", job="cancelled", model=str(model.path), image={"frames": True}, **options)
    worker.send("cancel", job="cancelled")
    assert worker.answer()["type"] == "cancelled"
    worker.hello()  # so that what follows the last answer is done
    (root,) = folder.glob("dinomix-worker-*")
    assert not [path for path in root.rglob("*") if path.is_file()] and root.stat().st_mode & 0o777 == 0o700


def test_a_sheared_grid(worker: WorkerProcess, model: Model, test_data: Path, folder: Path) -> None:
    file = nibabel.load(test_data / "geometry/gantry_tilt_sheared_affine.nii.gz")
    array = np.asarray(file.dataobj).transpose(2, 1, 0).astype(np.int16)
    expected, notices = segment_array(array, file.affine, model, Options("cpu", precision="float32"))
    estimate = {"shape": list(array.shape), "affine_ras": file.affine.tolist(), "device": "cpu"}
    assert worker.ask("estimate", job="sheared?", model=str(model.path), **estimate)["seconds"] > 0
    worker.segment_by_file("sheared", model.path, array, file.affine, folder, precision="float32")
    result = worker.answer()
    assert result["type"] == "result" and result["notices"] == list(notices) and len(notices) == 1
    labels = np.load(result["file"])
    assert labels.shape == array.shape and np.array_equal(labels, expected) and len(np.unique(labels)) > 1
