"""Cases of several images on their way through the worker: as arrays, as files, and as frames of either."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from channel_cases import blobs, geometry, two_channel_model
from worker_process import WorkerProcess, described

from dinomix.images.volume import Volume
from dinomix.inference.segment import segment_volume
from dinomix.models.folder import Model
from dinomix.worker.arrays import frame_bytes, frames_of_array, frames_of_file
from image_files import write_image

OTHER_GRID = geometry((16, 15, 12), (1.9, 1.8, 2.3))


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerProcess]:
    with WorkerProcess() as worker:
        worker.hello()
        yield worker


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return two_channel_model(tmp_path_factory.mktemp("worker") / "model")


@pytest.fixture(scope="module")
def case() -> list[Volume]:
    return [blobs(1), blobs(2, OTHER_GRID)]


def by_files(case: list[Volume], folder: Path) -> list[dict]:
    for number, volume in enumerate(case):
        np.save(folder / f"{number}.npy", volume.array)
    return [
        {**described(volume.array, volume.geometry.affine_ras), "file": str(folder / f"{number}.npy")}
        for number, volume in enumerate(case)
    ]


def test_images_of_a_case_in_files(worker: WorkerProcess, model: Model, case: list[Volume], tmp_path: Path) -> None:
    first, *more = by_files(case, tmp_path)
    request = {"model": str(model.path), "result": {"file": str(tmp_path / "labels.npy")}, "device": "cpu"}
    answer = worker.ask("segment", job="a", image=first, more=more, **request)
    expected = segment_volume(case, model, device="cpu")
    assert len(np.unique(expected.array)) == 3
    assert answer["shape"] == list(expected.array.shape)
    assert np.array_equal(np.load(tmp_path / "labels.npy"), expected.array)
    told = [fields["event"] for fields in worker.events if fields["job"] == "a" and fields["event"]["kind"] == "notice"]
    assert any("t2 was resampled onto the grid of t1" in event["message"] for event in told)


def test_images_of_a_case_in_frames(worker: WorkerProcess, model: Model, case: list[Volume]) -> None:
    first, *more = ({**described(v.array, v.geometry.affine_ras), "frames": True} for v in case)
    request = {"model": str(model.path), "result": {"frames": True}, "device": "cpu"}
    worker.send("segment", job="b", image=first, more=more, **request)
    for volume in case:
        worker.send_bytes(frames_of_array(volume.array, "b", "image"))
    labels = worker.array(worker.answer())
    assert np.array_equal(labels, segment_volume(case, model, device="cpu").array)


@pytest.mark.parametrize("count", [1, 3])
def test_another_number_of_images_is_refused(
    worker: WorkerProcess, model: Model, case: list[Volume], tmp_path: Path, count: int
) -> None:
    first, *more = by_files([case[0], case[1], case[0]][:count], tmp_path)
    request = {"model": str(model.path), "result": {"file": str(tmp_path / "labels.npy")}, "device": "cpu"}
    answer = worker.ask("segment", job="c", image=first, more=more, **request)
    assert answer["type"] == "error" and answer["code"] == "channels"
    given = "1 was given" if count == 1 else "3 were given"
    assert answer["message"] == f"The model takes 2 images of a case (t1, t2); {given}."


def test_an_image_that_is_not_described_is_refused(worker: WorkerProcess, model: Model, case: list[Volume]) -> None:
    first = {**described(case[0].array, case[0].geometry.affine_ras), "frames": True}
    for more in (["t2"], "t2", [first] * 20):
        answer = worker.ask("segment", job="d", model=str(model.path), image=first, more=more, result={"frames": True})
        assert answer["type"] == "error", answer
        assert "volume" in answer["message"] or "case of 21 images" in answer["message"], answer


def test_an_estimate_of_a_model_of_several_images(worker: WorkerProcess, model: Model, case: list[Volume]) -> None:
    asked = {"shape": list(case[0].array.shape), "affine_ras": case[0].geometry.affine_ras.tolist(), "device": "cpu"}
    answer = worker.ask("estimate", job="e", model=str(model.path), **asked)
    assert answer["type"] == "estimate" and answer["seconds"] > 0, answer


def test_files_of_a_case_by_paths_and_in_frames(
    worker: WorkerProcess, model: Model, case: list[Volume], tmp_path: Path
) -> None:
    paths = [tmp_path / "one.nii.gz", tmp_path / "two.nii"]
    for path, volume in zip(paths, case, strict=True):
        write_image(path, volume)
    more = [{"path": str(paths[1])}]
    request = {"model": str(model.path), "device": "cpu"}
    image, out = {"path": str(paths[0])}, {"path": str(tmp_path / "labels.nrrd")}
    answer = worker.ask("segment_file", job="f", image=image, more=more, out=out, **request)
    assert answer["path"] == str(tmp_path / "labels.nrrd")

    frames = {"frames": True}
    worker.send("segment_file", job="g", image=frames, more=[frames], out={"frames": True, "format": "nrrd"}, **request)
    worker.send_bytes(frames_of_file(paths[0], "g", "file:0/scan.nii.gz", more=True))
    worker.send_bytes(frames_of_file(paths[1], "g", "file:1/scan.nii"))
    assert worker.answer()["frames"]
    sent = b""
    while True:
        frame = worker.next()
        sent += frame_bytes(frame, frame.fields["number"])
        if frame.fields["last"]:
            break
    assert sent == (tmp_path / "labels.nrrd").read_bytes()


def test_one_file_with_all_images_of_a_case(worker: WorkerProcess, model: Model, tmp_path: Path) -> None:
    case = [blobs(1), blobs(2)]
    write_image(tmp_path / "case.nii.gz", *case)
    out = {"path": str(tmp_path / "labels.nrrd")}
    request = {"model": str(model.path), "device": "cpu", "out": out}
    answer = worker.ask("segment_file", job="h", image={"path": str(tmp_path / "case.nii.gz")}, **request)
    assert answer["type"] == "result", answer
    refused = worker.ask("segment_file", job="i", image=out, **{**request, "out": {"path": str(tmp_path / "x.nrrd")}})
    assert refused["type"] == "error" and refused["code"] == "channels"
