"""OpenVINO on Intel graphics. There are none here: OpenVINO's own HETERO device on the CPU stands for them, which like them knows
none of the CPU's settings; how fast graphics are, and that their driver computes rightly, it cannot tell."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dinomix.errors import DinomixError
from dinomix.images.volume import Geometry, Volume
from dinomix.images.writing import write_image
from dinomix.inference.runtimes import choosing, compiled
from dinomix.inference.runtimes.choosing import expected_runtime
from dinomix.inference.runtimes.compiled import OpenVino
from dinomix.inference.segment import segment_volume
from dinomix.models.folder import Model, load_model
from dinomix.models.silence import is_installed
from dinomix.models.writing import add_graphs
from dinomix.planning.plan import RangeWindow, SpacingGrid
from random_models import labels_with_ids, random_model, small_plan

pytestmark = pytest.mark.skipif(not is_installed(), reason="OpenVINO is not installed, so nothing is computed with it")

CPU = torch.device("cpu")
SIZE = (40, 45, 50)


@pytest.fixture(scope="module")
def volume() -> Volume:
    noise = torch.rand((1, 1, *SIZE), generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.avg_pool3d(noise, 5, 1, 2)
    return Volume(smooth[0, 0].numpy(), Geometry(SIZE[::-1], (1.0,) * 3, (0.0,) * 3, np.eye(3)))


@pytest.fixture(scope="module", params=[True, False], ids=["graph", "no-graph"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, volume: Volume) -> Model:
    folder = tmp_path_factory.mktemp("graphics")
    write_image(volume, folder / "image.nii.gz")
    plan = small_plan(SpacingGrid(spacing=(1.0,) * 3), RangeWindow(low=0.3, high=0.7))
    made = random_model(folder / "model", plan, labels_with_ids(1, 2), folder / "image.nii.gz")
    if request.param:
        add_graphs(made.path)
    return load_model(made.path)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DINOMIX_CACHE", str(tmp_path / "cache"))


def with_graphics(monkeypatch: pytest.MonkeyPatch, place: str = "HETERO:CPU") -> None:
    monkeypatch.setattr(choosing, "has_graphics", lambda: True)
    monkeypatch.setattr(choosing, "GRAPHICS", OpenVino("openvino-gpu", "OpenVINO on Intel graphics", place))


def segmented(model: Model, volume: Volume, **options: object) -> tuple[np.ndarray, list[str], str]:
    """Labels, the runtimes that computed, and what was noticed."""
    told: list[tuple[str, dict[str, object]]] = []
    options = {"precision": "float32", "runtime": "openvino-gpu", "device": "cpu", **options}
    labels = segment_volume(volume, model, emit=lambda kind, **fields: told.append((kind, fields)), **options)  # type: ignore[arg-type]
    runtimes = [str(fields["runtime"]) for kind, fields in told if kind == "runtime"]
    return labels.array, runtimes, " ".join(str(fields["message"]) for kind, fields in told if kind == "notice")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_labels_are_those_of_the_cpu(model: Model, volume: Volume, precision: str, monkeypatch) -> None:
    with_graphics(monkeypatch)
    found, runtimes, noticed = segmented(model, volume, precision=precision)
    exact, _, _ = segmented(model, volume, runtime="pytorch")
    either = (found > 0) | (exact > 0)
    assert runtimes == ["openvino-gpu"] and not noticed
    assert set(np.unique(exact)) == {0, 1, 2}
    assert (found == exact)[either].mean() >= (0.999 if precision == "float32" else 0.98)


def test_graphics_that_cannot_compute_leave_it_to_the_cpu(model: Model, volume: Volume, monkeypatch) -> None:
    with_graphics(monkeypatch, "GPU")  # the plugin is there, and finds no driver
    found, runtimes, noticed = segmented(model, volume)
    assert "Intel graphics cannot take this network (" in noticed and "openvino-gpu" not in runtimes
    assert np.array_equal(found, segmented(model, volume, runtime="auto")[0])


def test_other_labels_than_those_of_the_cpu_are_not_taken(model: Model, volume: Volume, monkeypatch) -> None:
    with_graphics(monkeypatch)
    ready = OpenVino.ready

    def wrong(self: OpenVino, *of: object) -> object:
        forward = ready(self, *of)  # type: ignore[arg-type]
        return (lambda windows: forward(windows).flip(1)) if self.name == "openvino-gpu" else forward

    monkeypatch.setattr(OpenVino, "ready", wrong)
    _, runtimes, noticed = segmented(model, volume)
    assert "voxels other labels than the CPU" in noticed and "openvino-gpu" not in runtimes


def test_the_memory_that_they_share_has_to_suffice(model: Model, volume: Volume, monkeypatch) -> None:
    with_graphics(monkeypatch)
    monkeypatch.setattr(OpenVino, "more_bytes", lambda *_: 2**60)
    _, runtimes, noticed = segmented(model, volume)
    assert "share the main memory, which does not suffice" in noticed and "openvino-gpu" not in runtimes


def test_no_graphics_and_8_bits_are_refused(model: Model, volume: Volume, monkeypatch) -> None:
    monkeypatch.setattr(choosing, "has_graphics", lambda: False)
    with pytest.raises(DinomixError, match="no Intel graphics on this computer") as told:
        segmented(model, volume)
    assert told.value.code == "runtime"
    assert expected_runtime("openvino-gpu", model.network(), model.plan, CPU, "float32").name == "pytorch"
    with_graphics(monkeypatch)
    assert expected_runtime("openvino-gpu", model.network(), model.plan, CPU, "float32").name == "openvino-gpu"
    with pytest.raises(DinomixError, match="Intel graphics do not compute with 8 bits"):
        segmented(model, volume, precision="int8")


def test_graphics_are_looked_for_among_openvinos_devices(monkeypatch) -> None:
    class Core:
        available_devices: list[str]

    core = Core()
    monkeypatch.setattr(compiled, "core", lambda: core)
    for devices, are_there in (
        (["CPU"], False),
        (["CPU", "GPU"], True),
        (["CPU", "GPU.0", "GPU.1"], True),
        (["NPU"], False),
    ):
        core.available_devices = devices
        assert compiled.has_graphics() is are_there
