"""OpenVINO on Intel graphics. There are none here: OpenVINO's own HETERO device on the CPU stands for them, which like them knows
none of the CPU's settings; how fast graphics are, and that their driver computes rightly, it cannot tell."""

from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from dinomix.errors import DinomixError
from dinomix.images.volume import Geometry, Volume
from dinomix.images.writing import write_image
from dinomix.inference import sliding_window
from dinomix.inference.runtimes import choosing, graphics
from dinomix.inference.runtimes.choosing import expected_runtime
from dinomix.inference.runtimes.compiled import OpenVino, is_compiled
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
    on_graphics = OpenVino("openvino-gpu", "OpenVINO on Intel graphics", place)
    monkeypatch.setattr(graphics, "_are_there", lambda: True)
    for module in (choosing, graphics):
        monkeypatch.setattr(module, "GRAPHICS", on_graphics)


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
    with_graphics(monkeypatch, "GPU.99")
    network = model.network()
    assert expected_runtime("openvino-gpu", network, model.plan, CPU, "float32").name == "pytorch"
    found, runtimes, noticed = segmented(model, volume, network=network)
    assert "Intel graphics cannot take this network (" in noticed and "openvino-gpu" not in runtimes
    assert np.array_equal(found, segmented(model, volume, runtime="auto")[0])
    monkeypatch.setattr(OpenVino, "ready", lambda *_: pytest.fail("is known not to work"))
    assert "cannot take this network (" in segmented(model, volume, network=network)[2]


@pytest.mark.parametrize("change", [lambda logits: logits.flip(1), torch.zeros_like, lambda logits: logits * torch.nan])
def test_other_labels_than_those_of_the_cpu_are_not_taken(model: Model, volume: Volume, change, monkeypatch) -> None:
    with_graphics(monkeypatch)
    ready = OpenVino.ready

    def wrong(self: OpenVino, *of: object) -> object:
        forward = ready(self, *of)  # type: ignore[arg-type]
        return (lambda windows: change(forward(windows))) if self.name == "openvino-gpu" else forward

    monkeypatch.setattr(OpenVino, "ready", wrong)
    network = model.network()
    _, runtimes, noticed = segmented(model, volume, network=network)
    assert "voxels other labels than the CPU" in noticed and "openvino-gpu" not in runtimes
    assert not is_compiled(network, "HETERO:CPU")


def test_an_image_that_shows_nothing_judges_nothing(model: Model, volume: Volume, monkeypatch) -> None:
    with_graphics(monkeypatch)
    monkeypatch.setattr(graphics, "piece_with_borders", lambda *_: None)
    _, runtimes, noticed = segmented(model, volume)
    assert "cannot be judged by this image" in noticed and "openvino-gpu" not in runtimes


def test_where_they_fail_midway_openvino_goes_on_without_pytorch(model: Model, monkeypatch) -> None:
    monkeypatch.setattr(sliding_window, "has_torch", lambda: False)
    ways = sliding_window.ways_to_compute("cpu", "float32", graphics.GRAPHICS)
    assert [way.runtime.title for way in ways] == ["OpenVINO on Intel graphics", "OpenVINO"]


def test_the_memory_that_they_share_has_to_suffice(model: Model, volume: Volume, monkeypatch) -> None:
    with_graphics(monkeypatch)
    monkeypatch.setattr(OpenVino, "more_bytes", lambda *_: 2**60)
    _, runtimes, noticed = segmented(model, volume)
    assert "would take more memory than there is" in noticed and "openvino-gpu" not in runtimes


def test_no_graphics_and_8_bits_are_refused(model: Model, volume: Volume, monkeypatch) -> None:
    monkeypatch.setattr(graphics, "_are_there", lambda: False)
    for ask in (
        lambda: segmented(model, volume),
        lambda: expected_runtime("openvino-gpu", model.network(), model.plan, CPU, "float32"),
    ):
        with pytest.raises(DinomixError, match="no Intel graphics on this computer") as told:
            ask()
        assert told.value.code == "runtime"
    with_graphics(monkeypatch)
    assert expected_runtime("openvino-gpu", model.network(), model.plan, CPU, "float32").name == "openvino-gpu"
    with pytest.raises(DinomixError, match="Intel graphics do not compute with 8 bits"):
        segmented(model, volume, precision="int8")
    with pytest.raises(DinomixError, match="beside the CPU, and the device is cuda:0"):
        graphics.check_graphics(torch.device("cuda:0"))


def test_graphics_are_looked_for_among_openvinos_devices(monkeypatch) -> None:
    core = Mock()
    monkeypatch.setattr(graphics, "core", core)
    for devices, are_there in ((["CPU"], False), (["CPU", "GPU"], True), (["GPU.0", "GPU.1"], True), (["NPU"], False)):
        core.return_value.available_devices = devices
        assert graphics._are_there() is are_there
    core.side_effect = ImportError("a file is missing")
    assert not graphics._are_there()
