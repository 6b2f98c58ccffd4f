"""What the worker computes, in this process: where a cancel is heard, and what an estimate is of."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicom_files import GRID, write_ct
from dinomix.errors import DinomixError
from dinomix.models.folder import Model
from dinomix.models.installed import describe_model
from dinomix.planning.plan import RangeWindow, SpacingGrid
from dinomix.worker import jobs as jobs_module
from dinomix.worker.inbox import Request
from dinomix.worker.jobs import Jobs
from random_models import labels_with_ids, random_model, small_plan

SHAPE = (40, 60, 80)


class Given(Exception):
    """The job was given up."""


class Answers(list):
    """Stands for the pipe."""

    def send(self, type: str, **fields: Any) -> None:
        self.append({"type": type, **fields})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    plan = small_plan(SpacingGrid(spacing=(1.0, 1.0, 1.0)), RangeWindow(low=-600, high=600))
    return random_model(tmp_path_factory.mktemp("jobs") / "model", plan, labels_with_ids(1, 2))


def request(model: Model, folder: Path, **fields: Any) -> Request:
    array = np.random.default_rng(0).integers(-600, 600, SHAPE, np.int16)
    np.save(folder / "image.npy", array)
    image = {
        "shape": list(SHAPE),
        "dtype": "int16",
        "affine_ras": np.eye(4).tolist(),
        "file": str(folder / "image.npy"),
    }
    result = {"file": str(folder / "labels.npy")}
    asked = {"type": "segment", "job": "a", "model": str(model.path), "image": image, "result": result, "device": "cpu"}
    return Request({**asked, **fields})


def nothing() -> None:
    """Nobody has cancelled."""


def test_regions_come_with_the_structures_that_they_are_made_of(tmp_path: Path) -> None:
    labels = labels_with_ids(1, 2, 5).with_regions({"both": [2, 5], "liver and lesion": [1, 5]})
    plan = small_plan(SpacingGrid(spacing=(1.0, 1.0, 1.0)), RangeWindow(low=-600, high=600))
    model = random_model(tmp_path / "model", plan, labels)
    listed = describe_model(model.path)["regions"]
    assert [(region["name"], region["structures"]) for region in listed] == [
        ("both", [2, 5]),
        ("liver and lesion", [1, 5]),
    ]
    assert all(len(region["color"]) == 3 and region["terminology_entry"] for region in listed)
    for keep, expected in (([], listed), (labels.names[1:], listed[:1])):
        answers = Answers()
        Jobs(answers).run(request(model, tmp_path, keep=list(keep)), lambda kind, **fields: None, nothing)
        array, (answer,) = np.load(tmp_path / "labels.npy"), answers
        voxels = [{**region, "voxels": int(np.isin(array, region["structures"]).sum())} for region in expected]
        assert answer["regions"] == voxels and voxels[0]["voxels"] > 0


def test_a_cancel_is_heard_after_every_window(model: Model, tmp_path: Path) -> None:
    jobs, windows = Jobs(Answers()), []
    jobs.models.get(model.path, lambda kind, **fields: None).network.register_forward_hook(lambda *_: windows.append(1))

    def emit(kind: str, **fields: Any) -> None:
        if kind == "progress" and fields["stage"] == "segmenting" and fields["step"] >= 5:
            raise Given

    with pytest.raises(Given):
        jobs.run(request(model, tmp_path, precision="float32", runtime="pytorch"), emit, nothing)
    assert len(windows) == 5 and not jobs.output and not (tmp_path / "labels.npy").exists()


def test_a_cancel_is_heard_while_labels_are_put_on_the_images_grid(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, steps = Jobs(Answers()), []
    now = iter(range(10**9))
    monkeypatch.setattr("dinomix.events.time.monotonic", lambda: float(next(now)))

    def emit(kind: str, **fields: Any) -> None:
        if kind == "progress" and fields["stage"] == "segmenting":
            if steps and steps[-1] == fields["step"]:
                raise Given
            steps.append(fields["step"])

    with pytest.raises(Given):
        jobs.run(request(model, tmp_path, precision="float32"), emit, nothing)
    assert not jobs.output and not (tmp_path / "labels.npy").exists()


def test_a_model_that_was_loaded_for_a_cancelled_job_stays_loaded(model: Model, tmp_path: Path) -> None:
    jobs, stages = Jobs(Answers()), []

    def cancelled_while_loading(kind: str, **fields: Any) -> None:
        stages.append(fields["stage"])
        if fields["step"] == 1:
            raise Given

    with pytest.raises(Given):
        jobs.run(request(model, tmp_path), cancelled_while_loading, nothing)
    assert stages == ["loading the model"] * 2
    stages.clear()
    jobs.run(request(model, tmp_path), lambda kind, **fields: stages.append(fields.get("stage")), nothing)
    assert "loading the model" not in stages and jobs.output[-1]["type"] == "result"


def test_an_image_of_another_kind_is_refused_unless_it_is_meant(model: Model, tmp_path: Path) -> None:
    jobs, notices = Jobs(Answers()), []
    asked = request(model, tmp_path).fields
    np.save(tmp_path / "image.npy", np.random.default_rng(0).random(SHAPE, np.float32))
    image = {**asked["image"], "dtype": "float32"}
    with pytest.raises(DinomixError, match="scaled to a small range") as caught:
        jobs.run(Request({**asked, "image": image}), lambda kind, **fields: None, nothing)
    assert caught.value.code == "other-image" and "rescale slope" in caught.value.remedy and not jobs.output
    jobs.run(
        Request({**asked, "image": image, "any_image": True}),
        lambda kind, **fields: notices.append(fields.get("message", "")),
        nothing,
    )
    assert jobs.output[-1]["type"] == "result" and any("scaled to a small range" in text for text in notices)


def test_a_result_without_any_structure_is_told(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "segment_array", lambda array, *_, **options: (np.zeros_like(array, np.uint8), ()))
    notices: list[str] = []
    Jobs(Answers()).run(
        request(model, tmp_path), lambda kind, **fields: notices.append(fields.get("message", "")), nothing
    )
    assert any("None of the model's 2 structures was found" in text for text in notices)


@pytest.mark.parametrize(
    ("precision", "has_bfloat16", "expected"),
    [
        ("auto", True, "bfloat16"), ("auto", False, "float32"), ("float32", True, "float32"),
        ("bfloat16", False, "bfloat16"),
    ],
)  # fmt: skip
def test_an_estimate_is_of_the_precision_that_will_be_computed_with(
    model: Model, monkeypatch: pytest.MonkeyPatch, precision: str, has_bfloat16: bool, expected: str
) -> None:
    taken: list[str] = []

    def seconds_of_a_window(warm: object, device: object, numbers: str, runtime: object) -> float:
        taken.append(numbers)
        return 2.0

    monkeypatch.setattr(jobs_module, "has_bfloat16", lambda device: has_bfloat16)
    monkeypatch.setattr(jobs_module, "seconds_of_a_window", seconds_of_a_window)
    jobs = Jobs(Answers())
    fields = {"shape": list(SHAPE), "affine_ras": np.eye(4).tolist(), "device": "cpu", "precision": precision}
    jobs.run(
        Request({"type": "estimate", "job": "e", "model": str(model.path), **fields}), lambda *_, **__: None, nothing
    )
    (answer,) = jobs.output
    assert taken == [expected] and answer["seconds"] == pytest.approx(2 * answer["windows"], rel=0.1)


def test_a_stray_file_beside_a_series_that_was_sent_is_not_taken_for_it(tmp_path: Path) -> None:
    (tmp_path / "series").mkdir()
    write_ct(tmp_path / "series", np.zeros(GRID.size[::-1], np.int16))
    (tmp_path / "series" / "registered.nii.gz").write_bytes(b"")
    assert jobs_module._root(tmp_path / "series") == tmp_path / "series"
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "ct.mhd").write_bytes(b"")
    (tmp_path / "one" / "ct.raw").write_bytes(b"")
    assert jobs_module._root(tmp_path / "one") == tmp_path / "one" / "ct.mhd"
