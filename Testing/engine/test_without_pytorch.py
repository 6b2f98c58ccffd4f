"""Segmenting where PyTorch is not installed, by the graph that a model carries: labels, and what is said where that cannot be.

The processes that these tests start can import neither torch nor what needs it.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from worker_process import WorkerProcess

from dinomix.arrays import Array, as_numpy, like, namespace
from dinomix.images.reading import read_image, read_label
from dinomix.inference.cells import two_highest
from dinomix.inference.certainty import LabelChanges
from dinomix.inference.devices import Device, cpu
from dinomix.inference.expected_dice import ExpectedDice
from dinomix.inference.options import Numbers
from dinomix.inference.pieces import Forward
from dinomix.inference.runtimes.runtime import Sides
from dinomix.inference.segment import segment_volume
from dinomix.inference.sliding_window import Way, predict_logits
from dinomix.models.averaged import Averaged
from dinomix.models.ensemble import join_models
from dinomix.models.folder import Model, load_model
from dinomix.models.manifest import WEIGHTS, graph_files, renew_manifest
from dinomix.models.networks import Network
from dinomix.models.silence import is_installed
from dinomix.models.writing import add_graphs, changed_aside
from dinomix.planning.plan import Plan, SpacingGrid
from random_models import labels_with_ids, random_model, small_plan

needs_openvino = pytest.mark.skipif(
    not is_installed(), reason="OpenVINO is not installed, so nothing computes without PyTorch"
)
PLAN = small_plan(SpacingGrid(spacing=(1.2, 0.9, 1.5)))
BLOCKED = ("torch", "monai", "timm", "accelerate")
WITHOUT = f"""
import importlib.abc, sys

class NotInstalled(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, NotInstalled())
from dinomix.cli import main
main(sys.argv[sys.argv.index("dinomix") + 1 :])
"""
LAUNCHER = (sys.executable, "-c", WITHOUT)


def run(*arguments: object, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """``dinomix`` without PyTorch."""
    command = [*LAUNCHER, "dinomix", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=False, env={**os.environ, **(environment or {})}
    )


@pytest.fixture(scope="module")
def image(test_data: Path) -> Path:
    return min((test_data / "hippocampus/images").glob("*.nii.gz"))


@pytest.fixture(scope="module")
def model(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model with its graph that was trained with mirror images, as its record says."""
    return made(tmp_path_factory.mktemp("without") / "first", image, 1)


def made(folder: Path, image: Path, seed: int) -> Model:
    random_model(folder, PLAN, labels_with_ids(1, 300), image, seed)
    with changed_aside(folder) as aside:
        (aside / "record.json").write_text('{"mirrored_axes": ["x", "z"]}')
    add_graphs(folder)
    return load_model(folder)


def same_labels(found: Path, exact: np.ndarray) -> bool:
    """Whether labels are PyTorch's but for what another way to add up changes."""
    labels = read_label(found)[0].array
    assert set(np.unique(exact)) == {0, 1, 300}
    return labels.shape == exact.shape and (labels == exact)[(labels > 0) | (exact > 0)].mean() >= 0.999


@dataclass(frozen=True)
class Doubled:
    """Gives a window and twice the window as logits, of either kind of arrays."""

    name: str = "doubled"
    title: str = "Doubled"

    def more_bytes(self, weights: int, window: int) -> int:
        return 0

    def ready(self, network: Network, plan: Plan, device: Device, numbers: Numbers, sides: Sides) -> Forward:
        return lambda windows: namespace(windows).concat([windows, 2 * windows], axis=1)


def computed(tensor: Array) -> list[Array]:
    """What is computed around the windows, each for two channels."""
    way = Way(cpu(), cpu(), 1, "float32", Doubled())
    whole = predict_logits(torch.nn.Identity(), tensor, PLAN, "cpu", ways=(way,))
    halves = predict_logits(torch.nn.Identity(), tensor, PLAN, "cpu", ways=(way,), half_buffers=True)
    double = Doubled().ready(torch.nn.Identity(), PLAN, cpu(), "float32", PLAN.patch)
    averaged = Averaged([double, lambda windows: -double(windows)], ((), (2, 4)))
    changes, expected = LabelChanges(0.1, 2), ExpectedDice(2)
    for slab in (whole[:, :9], whole[:, 9:]):
        changes.add(slab)
        expected.add(slab)
    told = [like(np.array(values), tensor) for values in (changes.dice(), expected.dice())]
    return [whole, halves, averaged(tensor[None]), *two_highest(whole), *told]


def test_arrays_of_numpy_give_what_tensors_do() -> None:
    image = np.random.default_rng(0).normal(size=(1, 35, 40, 20)).astype(np.float32)
    image[:, :, 36:] = 0
    for array, tensor in zip(computed(image), computed(torch.from_numpy(image)), strict=True):
        assert isinstance(array, np.ndarray) and array.dtype == as_numpy(tensor).dtype
        np.testing.assert_allclose(array, as_numpy(tensor), rtol=1e-5, atol=1e-6)


@needs_openvino
def test_an_image_is_segmented_from_file_to_file(model: Model, image: Path, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("labels.nii.gz", "percent.nii.gz", "table.csv", "record.json")]
    done = run(
        "segment", "--model", model.path, image, "--out", files[0], "--precision", "float32", "--json",
        "--uncertainty", files[1], "--statistics", files[2], "--manifest", files[3],
    )  # fmt: skip
    assert done.returncode == 0 and all(file.is_file() for file in files), done.stdout + done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    [device] = [event for event in events if event["kind"] == "device"]
    [runtime] = [event for event in events if event["kind"] == "runtime"]
    assert device["device"] == "cpu" and "PyTorch is not installed" in device["reason"]
    assert runtime["runtime"] == "openvino" and "PyTorch is not installed" in runtime["reason"]
    exact = segment_volume(read_image(image), model, device="cpu", precision="float32", runtime="pytorch")
    assert same_labels(files[0], exact.array)


@needs_openvino
def test_mirror_images_of_an_ensemble_in_a_box(model: Model, image: Path, tmp_path: Path) -> None:
    other = made(tmp_path / "second", image, 2)
    join_models([model.path, other.path], tmp_path / "both")
    done = run(
        "segment", "--model", tmp_path / "both", image, "--out", tmp_path / "labels.nii.gz", "--precision", "float32",
        "--mirror", "--inside", "structure 1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    both = load_model(tmp_path / "both")
    exact = segment_volume(
        read_image(image), both, device="cpu", precision="float32", runtime="pytorch", mirror=True
    ).array
    assert same_labels(tmp_path / "labels.nii.gz", exact)


@needs_openvino
def test_the_worker_answers(model: Model, image: Path, tmp_path: Path) -> None:
    volume, asked = read_image(image), {"precision": "float32", "device": "auto"}
    affine = volume.geometry.affine_ras
    with WorkerProcess(launcher=LAUNCHER) as worker:
        hello = worker.hello(None)
        assert hello["torch"] is None and hello["openvino"] and [each["name"] for each in hello["devices"]] == ["cpu"]
        shape = list(volume.array.shape)
        estimate = worker.ask(
            "estimate", job="a", model=str(model.path), shape=shape, affine_ras=affine.tolist(), **asked
        )
        assert estimate["type"] == "estimate" and estimate["windows"] > 1 and estimate["seconds"] > 0, estimate
        worker.segment_by_frames("b", model.path, volume.array, affine, **asked)
        labels = worker.array(worker.answer())
        error = worker.ask("load", job="c", model=str(without_graph(model, tmp_path)))
        assert error["type"] == "error" and error["code"] == "pytorch" and "carries no graph" in error["message"]
    exact = segment_volume(volume, model, device="cpu", precision="float32", runtime="pytorch").array
    assert (labels == exact)[(labels > 0) | (exact > 0)].mean() >= 0.999


@needs_openvino
@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--device", "cuda"], "PyTorch is not installed. Install all packages"),
        (["--device", "gpu"], "There is no device named 'gpu'"),
        (["--runtime", "pytorch"], "PyTorch is not installed. Install all packages"),
        (["--max-memory", "350M"], "are allowed. Raise the memory limit"),
    ],
)
def test_what_only_pytorch_can_is_said(
    model: Model, image: Path, tmp_path: Path, options: list[str], told: str
) -> None:
    done = run("segment", "--model", model.path, image, "--out", tmp_path / "labels.nii.gz", *options)
    assert done.returncode == 2 and told in done.stderr and "Traceback" not in done.stderr


@needs_openvino
def test_a_graph_that_is_none_of_the_model_is_refused(model: Model, image: Path, tmp_path: Path) -> None:
    folder = random_model(tmp_path / "model", PLAN, labels_with_ids(1, 2, 3), image).path
    with changed_aside(folder) as aside:
        for file in (model.path / "models").iterdir():
            (aside / "models" / file.name).write_bytes(file.read_bytes())
    done = run("segment", "--model", folder, image, "--out", tmp_path / "labels.nii.gz")
    assert done.returncode == 2 and "3 channels instead of 4" in done.stderr and "It needs PyTorch" in done.stderr


@needs_openvino
def test_nothing_is_imported_that_is_not_used(model: Model, image: Path, tmp_path: Path) -> None:
    arguments = ("segment", "--model", model.path, image, "--out", tmp_path / "labels.nii.gz", "--precision", "float32")
    done = run(*arguments, environment={"PYTHONPROFILEIMPORTTIME": "1"})
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert done.returncode == 0 and "SimpleITK" in loaded
    assert not {"array_api_compat.numpy", "numpy.f2py", "pydicom", "scipy.ndimage", "scipy.special"} & loaded


def without_graph(model: Model, folder: Path) -> Path:
    shutil.copytree(model.path, folder / "model")
    for file in graph_files(folder / "model" / WEIGHTS):
        file.unlink()
    renew_manifest(folder / "model")
    return folder / "model"


@needs_openvino
def test_the_zip_of_another_computer_is_imported_and_segments(model: Model, image: Path, tmp_path: Path) -> None:
    for arguments in (
        ["models", "export", model.path, "--out", tmp_path / "model.zip"],
        ["models", "import", tmp_path / "model.zip", "--name", "mine"],
        ["segment", "--model", tmp_path / "models" / "mine", image, "--out", tmp_path / "labels.nii.gz", "--preview"],
    ):
        done = run(*arguments, environment={"DINOMIX_MODELS": str(tmp_path / "models")})
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "labels.nii.gz").is_file() and list(tmp_path.glob("*.png"))


def test_a_model_without_a_graph_says_what_to_do(image: Path, tmp_path: Path) -> None:
    folder = random_model(tmp_path / "model", PLAN, labels_with_ids(1, 2), image).path
    done = run("segment", "--model", folder, image, "--out", tmp_path / "labels.nii.gz")
    line = done.stderr.strip().splitlines()[-1]
    assert (
        done.returncode == 2
        and "Traceback" not in done.stderr
        and "carries no graph" in line
        and "dinomix models graph" in line
    )


def test_training_says_what_is_missing(tmp_path: Path) -> None:
    done = run("train", "--cohort", tmp_path / "cohort.json", "--out", tmp_path / "run")
    [line] = done.stderr.strip().splitlines()
    assert done.returncode == 2 and "needs the package" in line and "pip install dinomix" in line
