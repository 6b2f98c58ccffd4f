"""Several models, one result: whose a structure and a voxel is, against plain loops; and boxes in which alone is computed."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dinomix import cli
from dinomix.errors import DinomixError
from dinomix.images.reading import read_image, read_label
from dinomix.images.volume import Geometry, Volume
from dinomix.inference.options import Options
from dinomix.inference.segment import segment_volume
from dinomix.inference.several_models import Models, add_labels, segment_by_all
from dinomix.labels import LabelSet
from dinomix.models.folder import Model
from dinomix.planning.networks import planned_network
from dinomix.planning.plan import InputChannel, Plan, RangeWindow, SpacingGrid
from dinomix.planning.topology import topology
from dinomix.worker.inbox import Request
from dinomix.worker.jobs import Jobs
from image_files import write_image
from random_models import random_model, small_plan

ORGANS = LabelSet.from_names({1: "liver", 2: "spleen"})
SIZE = (60, 48, 40)  # along i, j, k


class ByIntensity(nn.Module):
    """The class whose number a voxel has, in hundreds of HU, else the background: what lies around it changes nothing."""

    def __init__(self, classes: list[int]) -> None:
        super().__init__()
        self.classes, self.windows = classes, 0

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        self.windows += len(windows)
        of_structures = [0.5 - (windows * 10 - value).abs() for value in self.classes]
        return torch.cat([torch.zeros_like(windows), *of_structures], 1)


def model_of(labels: LabelSet, folder: Path = Path("models"), spacing: float = 2.0) -> Model:
    plan = Plan(
        modality="CT", grid=SpacingGrid(spacing=(spacing, spacing, spacing)), window=RangeWindow(low=0, high=1000),
        patch=(16, 16, 16), network=planned_network(topology((16, 16, 16), (1, 1, 1)), 2),
    )  # fmt: skip
    return Model(folder / labels.names[0], labels, plan, {}, {})


@pytest.fixture(params=["straight", "turned"])
def scan(request: pytest.FixtureRequest) -> Volume:
    """A liver of 100 HU that holds a tumor of 300 HU, a spleen of 200 HU, and something of 300 HU far away."""
    direction = np.eye(3) if request.param == "straight" else np.array([[0, -1, 0], [0, 0, 1], [-1, 0, 0]], float)
    array = np.full(SIZE[::-1], 5, np.int16)  # no window is of nothing but air, which is computed once
    array[8:26, 8:26, 34:54] = 100
    array[14:20, 14:20, 40:47] = 300
    array[28:34, 36:42, 6:14] = 200
    array[4:8, 40:44, 4:10] = 300
    return Volume(array, Geometry(SIZE, (2.0, 2.0, 2.0), (0.0, 0.0, 0.0), direction))


def segmented(scan: Volume, models: Models, networks: list[nn.Module], **options: Any) -> tuple[np.ndarray, list[str]]:
    notices: list[str] = []

    def emit(kind: str, **fields: Any) -> None:
        if kind == "notice":
            notices.append(fields["message"])

    wanted = Options("cpu", precision="float32")
    found = segment_by_all([scan], 0, models, wanted, emit=emit, networks=networks, **options)
    return found.array, notices


def test_an_earlier_model_goes_before_a_later_one_voxel_by_voxel() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.integers(0, 3, (2, 5, 6, 7)).astype(np.uint8)
    ids = {1: 300, 2: 4}
    result = first.astype(np.uint16)
    add_labels(result, second, {1: 300})
    for place in np.ndindex(first.shape):
        later = ids[1] if second[place] == 1 else 0  # 2 is a structure that the first knows
        assert result[place] == (first[place] or later)


def test_names_and_ids_of_the_result_are_its_own() -> None:
    others = LabelSet.from_names({1: "tumor", 2: "Liver", 3: "vessel"}).with_regions({"all of it": [1, 2]})
    models = Models.of([model_of(ORGANS), model_of(others)])
    assert (
        dict(zip(models.labels.ids, models.labels.names, strict=True))
        == {1: "liver", 2: "spleen", 4: "tumor", 3: "vessel"} | {}
    )
    assert models.ids == ({1: 1, 2: 2}, {1: 4, 3: 3})
    assert models.owners == {"liver": "liver", "spleen": "liver", "tumor": "tumor", "vessel": "tumor"}
    assert models.labels.regions[0].structures == (1, 4)
    assert Models.of(model_of(others)).labels is others


def test_models_of_other_images_are_refused() -> None:
    two = model_of(LabelSet.from_names({1: "tumor"}))
    more = (InputChannel(name="pet", modality="PT", window=RangeWindow(low=0, high=9)),)
    two = replace(two, plan=two.plan.model_copy(update={"channel": "ct", "more_channels": more}))
    with pytest.raises(DinomixError, match=r"other images of a case \(ct, pet; one image\)"):
        Models.of([model_of(ORGANS), two])
    with pytest.raises(DinomixError, match="has no structure kidney"):
        Models.of([model_of(ORGANS)], ["kidney"])


def test_a_later_model_computes_only_inside_what_the_first_has_found(scan: Volume) -> None:
    tumors = model_of(LabelSet.from_names({1: "tumor", 2: "spleen"}), spacing=2.5)
    networks = [ByIntensity([1, 2]), ByIntensity([3, 2])]
    whole, _ = segmented(scan, Models.of([model_of(ORGANS), tumors]), networks)
    windows = networks[1].windows
    assert (whole[:10, 36:] == 3).any() and (whole == 2).any()
    inside, notices = segmented(scan, Models.of([model_of(ORGANS), tumors], ["liver"]), networks)
    box = np.argwhere(whole == 1)
    margin = 8  # voxels of 2 mm in 15 mm
    near = tuple(
        slice(max(low - margin, 0), high + 1 + margin) for low, high in zip(box.min(0), box.max(0), strict=True)
    )
    assert np.array_equal(inside[near], whole[near]) and (inside[near] == 3).sum() > 100
    outside = np.ones(whole.shape, bool)
    outside[near] = False
    assert not (inside == 3)[outside].any() and np.array_equal((inside == 2), (whole == 2))
    assert networks[1].windows - windows < windows and not notices


def test_what_was_not_found_is_told_and_nobody_asked(scan: Volume) -> None:
    networks = [ByIntensity([7, 8]), ByIntensity([3])]
    models = Models.of([model_of(ORGANS), model_of(LabelSet.from_names({1: "tumor"}))], ["liver"])
    array, notices = segmented(scan, models, networks)
    assert not array.any() and not networks[1].windows
    assert notices == ["liver has not found liver, so nothing was looked for inside."]


def test_another_model_finds_the_box(scan: Volume) -> None:
    coarse = model_of(LabelSet.from_names({9: "liver"}), spacing=6.0)
    models = Models.of([model_of(ORGANS)], ["liver"], coarse)
    whole, _ = segmented(scan, Models.of(model_of(ORGANS)), [ByIntensity([1, 2])])

    def asked_coarse(*_: object) -> ByIntensity:
        return ByIntensity([1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Model, "network", asked_coarse)
        array, notices = segmented(scan, models, [ByIntensity([1, 2])])
    assert np.array_equal(array == 1, whole == 1) and not (array == 2).any() and not notices
    with pytest.raises(DinomixError, match="not said what the model"):
        Models.of([model_of(ORGANS)], (), coarse)


def test_one_model_finds_its_own_box_in_fewer_windows(scan: Volume) -> None:
    network = ByIntensity([1, 2])
    whole, _ = segmented(scan, Models.of(model_of(ORGANS)), [network])
    windows, network.windows = network.windows, 0
    array, notices = segmented(scan, Models.of(model_of(ORGANS), ["spleen"]), [network])
    assert np.array_equal(array == 2, whole == 2) and network.windows < windows
    # The liver reaches into the box of the spleen or not; where it does, it is said that it may be cut.
    assert bool((array == 1).any()) == any("liver may be cut" in notice for notice in notices)
    # What the quick pass does not find is looked for everywhere.
    nothing, _ = segmented(scan, Models.of(model_of(ORGANS), ["spleen"]), [ByIntensity([1, 7])])
    assert np.array_equal(nothing == 1, whole == 1)


def test_a_model_of_which_nothing_is_kept_is_not_asked(scan: Volume) -> None:
    networks = [ByIntensity([1, 2]), ByIntensity([3])]
    models = Models.of([model_of(ORGANS), model_of(LabelSet.from_names({1: "tumor"}))])
    segmented(scan, models, networks, keep=models.labels.only({2}))
    assert networks[0].windows and not networks[1].windows


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Model], Path]:
    """Two model folders that share a structure, and an image."""
    folder = tmp_path_factory.mktemp("pair")
    image = folder / "scan.nii.gz"
    rng = np.random.default_rng(0)
    array = rng.normal(0, 100, (30, 36, 40)).astype(np.float32)
    write_image(image, Volume(array, Geometry((40, 36, 30), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))))
    first = random_model(folder / "organs", small_plan(), ORGANS, image, seed=1)
    more = LabelSet.from_names({1: "tumor", 2: "spleen"})
    return [
        first,
        random_model(folder / "tumors", small_plan(SpacingGrid(spacing=(1.0, 1.0, 1.0))), more, image, seed=2),
    ], image


def joined_naively(models: list[Model], image: Path) -> np.ndarray:
    """Ids 1 liver, 2 spleen, 3 tumor."""
    first, second = (
        segment_volume(read_image(image), model, device="cpu", precision="float32").array for model in models
    )
    return np.where(first > 0, first, np.where(second == 1, 3, 0))


def test_files_by_the_command_line(pair: tuple[list[Model], Path], tmp_path: Path) -> None:
    models, image = pair
    expected = joined_naively(models, image)
    assert set(np.unique(expected)) == {0, 1, 2, 3}
    paths = [str(model.path) for model in models]
    with pytest.raises(SystemExit) as left:
        cli.main([
            "segment", "--model", paths[0], "--model", paths[1], str(image), "--out", str(tmp_path / "out"),
            "--format", "seg.nrrd", "--device", "cpu", "--precision", "float32", "--preview",
            "--statistics", str(tmp_path / "all.csv"),
            "--manifest", str(tmp_path / "job.json"),
        ])  # fmt: skip
    assert not left.value.code
    labels, names = read_label(tmp_path / "out/scan.seg.nrrd")
    assert names == {1: "liver", 2: "spleen", 3: "tumor"} and np.array_equal(labels.array, expected)
    with open(tmp_path / "all.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["structure"], row["model"]) for row in rows] == [
        ("liver", "organs"), ("spleen", "organs"), ("tumor", "tumors"),
    ]  # fmt: skip
    job = json.loads((tmp_path / "job.json").read_text())
    assert job["model"]["structures"] == ["liver", "spleen"]
    assert [(m["path"], m["structures"]) for m in job["further_models"]] == [(paths[1], ["tumor"])]
    assert "By tumors: tumor." in " ".join((tmp_path / "out/overview.html").read_text().split())
    # The other order is another result, which is not taken for this one.
    with pytest.raises(SystemExit) as left:
        cli.main(["segment", "--model", paths[1], "--model", paths[0], str(image), "--out", str(tmp_path / "out"),
                  "--format", "seg.nrrd"])  # fmt: skip
    assert left.value.code == 2


def test_through_the_worker(pair: tuple[list[Model], Path], tmp_path: Path) -> None:
    models, image = pair
    volume = read_image(image)
    np.save(tmp_path / "image.npy", volume.array)
    described = {
        "shape": list(volume.array.shape), "dtype": volume.array.dtype.name, "file": str(tmp_path / "image.npy"),
        "affine_ras": volume.geometry.affine_ras.tolist(),
    }  # fmt: skip
    answers: list[dict[str, Any]] = []

    class Pipe:
        def send(self, type: str, **fields: Any) -> None:
            answers.append({"type": type, **fields})

    emit: Callable[..., None] = lambda kind, **fields: None  # noqa: E731
    asked = {"job": "a", "model": str(models[0].path), "more_models": [str(models[1].path)], "device": "cpu"}
    jobs = Jobs(Pipe())  # type: ignore[arg-type]
    result = {"file": str(tmp_path / "l.npy")}
    request = {"type": "segment", **asked, "image": described, "result": result, "precision": "float32"}
    jobs.run(Request(request), emit, lambda: None)
    assert np.array_equal(np.load(tmp_path / "l.npy"), joined_naively(models, image))
    structures = answers[-1]["structures"]
    assert [(s["id"], s["name"], s["model"]) for s in structures] == [
        (1, "liver", "organs"), (2, "spleen", "organs"), (3, "tumor", "tumors"),
    ]  # fmt: skip
    jobs.run(Request({"type": "estimate", **asked, "shape": described["shape"], "affine_ras": described["affine_ras"]}), emit,
             lambda: None)  # fmt: skip
    both = answers[-1]["windows"]
    jobs.run(Request({"type": "estimate", **asked, "more_models": [], "shape": described["shape"],
                      "affine_ras": described["affine_ras"]}), emit, lambda: None)  # fmt: skip
    assert both > answers[-1]["windows"]
