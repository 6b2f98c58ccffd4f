"""Which runtime computes: the trial, what is remembered of it, and that another runtime than PyTorch gives the same labels."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from dinomix.commands.segment import command
from dinomix.errors import DinomixError
from dinomix.images.volume import Geometry, Volume
from dinomix.images.writing import write_image
from dinomix.inference import segment
from dinomix.inference.devices import Device
from dinomix.inference.options import Numbers
from dinomix.inference.pieces import Forward
from dinomix.inference.runtimes import choosing, compiled
from dinomix.inference.runtimes.choosing import Verdict, remembered
from dinomix.inference.runtimes.graphs import folder_of
from dinomix.inference.runtimes.runtime import PYTORCH, Sides
from dinomix.inference.segment import segment_volume
from dinomix.inference.sliding_window import predict_logits, ways_to_compute
from dinomix.models.averaged import Averaged
from dinomix.models.folder import Model
from dinomix.models.from_file import FromFile
from dinomix.models.manifest import WEIGHTS
from dinomix.models.network import network_on_paper
from dinomix.models.networks import Network
from dinomix.models.silence import is_installed
from dinomix.planning.plan import Plan, RangeWindow, SpacingGrid
from random_models import labels_with_ids, random_model, small_plan

CPU = torch.device("cpu")
SIZE = (40, 45, 50)
needs_openvino = pytest.mark.skipif(
    not is_installed(), reason="OpenVINO is not installed, so nothing is computed with it"
)


class Events(list):
    def __call__(self, kind: str, **fields: object) -> None:
        self.append({"kind": kind, **fields})

    def of(self, kind: str) -> list[dict]:
        return [event for event in self if event["kind"] == kind]

    @property
    def trials(self) -> int:
        return sum(event["stage"] == "trying OpenVINO" and event["step"] == 0 for event in self.of("progress"))


@dataclass(frozen=True)
class Other:
    """Stands for OpenVINO: PyTorch's logits, changed by ``change``."""

    change: Forward = lambda logits: logits
    name: str = "openvino"
    title: str = "OpenVINO"
    bytes: int = 0
    made: list[tuple[Sides, Numbers]] = field(default_factory=list, compare=False)

    def more_bytes(self, weights: int, window: int) -> int:
        return self.bytes

    def ready(self, network: Network, plan: Plan, device: Device, numbers: Numbers, sides: Sides) -> Forward:
        self.made.append((sides, numbers))
        forward = PYTORCH.ready(network, plan, device, numbers, sides)
        return lambda windows: self.change(forward(windows))


@pytest.fixture(scope="module")
def volume() -> Volume:
    smooth = torch.nn.functional.avg_pool3d(
        torch.rand((1, 1, *SIZE), generator=torch.Generator().manual_seed(0)), 5, 1, 2
    )
    return Volume(smooth[0, 0].numpy(), Geometry(SIZE[::-1], (1.0,) * 3, (0.0,) * 3, np.eye(3)))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, volume: Volume) -> Model:
    folder = tmp_path_factory.mktemp("runtimes")
    write_image(volume, folder / "image.nii.gz")
    plan = small_plan(SpacingGrid(spacing=(1.0,) * 3), RangeWindow(low=0.3, high=0.7))
    return random_model(folder / "model", plan, labels_with_ids(1, 2), folder / "image.nii.gz")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own, and trials also where they are not worth their time."""
    monkeypatch.setenv("DINOMIX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(choosing, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(choosing, "LEAST_GAIN", 0.0)


def use(monkeypatch: pytest.MonkeyPatch, other: Other) -> Other:
    """Another runtime in OpenVINO's place, which then counts as installed."""
    monkeypatch.setattr(choosing, "is_installed", lambda: True)
    monkeypatch.setattr(choosing, "version", lambda package: "1.0")
    monkeypatch.setattr(choosing, "OPENVINO", other)
    return other


def labels(model: Model, volume: Volume, emit: Events | None = None, **options: object) -> np.ndarray:
    options = {"device": "cpu", "precision": "float32", **options}
    return segment_volume(volume, model, emit=Events() if emit is None else emit, **options).array  # type: ignore[arg-type]


@needs_openvino
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_labels_are_those_of_pytorch_and_stay_bit_for_bit(model: Model, volume: Volume, precision: str) -> None:
    network, events = model.network(), Events()
    first, second = (
        labels(model, volume, events, precision=precision, runtime="openvino", network=network) for _ in range(2)
    )
    assert [event["runtime"] for event in events.of("runtime")] == ["openvino"] * 2
    exact = labels(model, volume, runtime="pytorch")
    same = (first == exact)[(first > 0) | (exact > 0)].mean()
    assert same >= (0.999 if precision == "float32" else 0.9), same
    assert set(np.unique(exact)) == {0, 1, 2} and np.array_equal(first, second)


def noted_compilations(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """Gets the sides, numbers and threads of each graph that is compiled."""
    made: list[tuple[object, ...]] = []
    compiling = compiled._compiled
    monkeypatch.setattr(compiled, "_compiled", lambda *given: made.append(given[2:]) or compiling(*given))
    return made


@needs_openvino
def test_a_second_image_finds_everything_compiled(
    model: Model, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, made = model.network(), noted_compilations(monkeypatch)
    for _ in range(2):
        labels(model, volume, network=network)
    assert len(made) == len(set(made)) <= 2


@needs_openvino
def test_mirror_images_are_seen_by_the_one_compiled_network(
    model: Model, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = replace(model, record={"mirrored_axes": ["x"]})
    network, made = model.network(), noted_compilations(monkeypatch)
    found = [labels(model, volume, network=network, runtime="openvino", mirror=True) for _ in range(2)]
    assert len(made) == 1
    exact = labels(model, volume, runtime="pytorch", mirror=True)
    assert np.array_equal(found[0], found[1]) and (found[0] == exact)[exact > 0].mean() >= 0.999
    assert (exact != labels(model, volume, runtime="pytorch")).any()


def test_an_ensemble_whose_weights_are_read_again_and_again_stays_with_pytorch(
    model: Model, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, events = use(monkeypatch, Other()), Events()
    file = FromFile(network_on_paper(model.plan, 3), model.path / WEIGHTS)
    found = labels(model, volume, events, network=Averaged([file]), runtime="openvino")
    assert np.array_equal(found, labels(model, volume, runtime="pytorch")) and not other.made


@needs_openvino
def test_a_network_that_cannot_be_converted_stays_with_pytorch(model: Model, volume: Volume) -> None:
    class Strange(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Conv3d(1, 3, 1)

        def forward(self, windows: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(self.layer(windows))

    network, expected, events = Strange().eval(), None, Events()
    expected = labels(model, volume, runtime="pytorch", network=network)
    for runtime in ("auto", "openvino"):
        assert np.array_equal(labels(model, volume, events, runtime=runtime, network=network), expected)
    assert [event["runtime"] for event in events.of("runtime")] == ["pytorch"] * 2
    assert all("cannot take this network" in event["reason"] for event in events.of("runtime"))
    labels(model, volume, events, network=network)
    assert events.trials == 1


@needs_openvino
def test_a_damaged_graph_is_made_anew(model: Model, volume: Volume, tmp_path: Path) -> None:
    expected = labels(model, volume, runtime="openvino")
    [graph] = (tmp_path / "cache").rglob("graph.bin")
    whole = graph.read_bytes()
    for damaged in (whole[: len(whole) // 2], bytes(len(whole))):
        graph.write_bytes(damaged)
        assert np.array_equal(labels(model, volume, runtime="openvino"), expected)
        assert graph.read_bytes() == whole


@needs_openvino
def test_a_cache_that_cannot_be_written_is_no_failure_and_not_remembered(
    model: Model, volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DINOMIX_CACHE", str(tmp_path / "file" / "cache"))
    network, events = model.network(), Events()
    assert np.array_equal(labels(model, volume, events, network=network), labels(model, volume, runtime="pytorch"))
    [told] = events.of("runtime")
    assert told["runtime"] == "pytorch" and "cannot be used here" in told["reason"]
    assert remembered(network, model.plan, "float32") is None


@needs_openvino
def test_openvino_reports_to_nobody(tmp_path: Path) -> None:
    code = "from dinomix.models.silence import core; core(); import sys; print('openvino_telemetry' in sys.modules)"
    environment = {**os.environ, "HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
    assert not list(tmp_path.iterdir())


@needs_openvino
def test_the_command_line_says_what_computed(model: Model, volume: Volume, tmp_path: Path) -> None:
    write_image(volume, tmp_path / "image.nii.gz")
    paths = [
        str(tmp_path / "image.nii.gz"),
        "--out",
        str(tmp_path / "labels.nii.gz"),
        "--any-image",
        "--overwrite",
        "--json",
    ]
    said = {}
    for runtime in ("pytorch", "openvino"):
        record = tmp_path / f"{runtime}.json"
        options = ["--model", str(model.path), "--device", "cpu", "--precision", "float32"]
        options += ["--runtime", runtime, "--manifest", str(record)]
        done = CliRunner().invoke(command, [*options, *paths])
        assert done.exit_code == 0, done.output
        events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        said[runtime] = [event["reason"] for event in events if event["kind"] == "runtime"]
        case = json.loads(record.read_text())["cases"][0]
        assert case.get("runtime") == (None if runtime == "pytorch" else "openvino")
    assert said == {"pytorch": [], "openvino": ["OpenVINO computes, as requested."]}


def test_the_faster_one_computes_and_the_trial_is_remembered(
    model: Model, volume: Volume, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other, events = use(monkeypatch, Other()), Events()
    exact = labels(model, volume, runtime="pytorch")
    for _ in range(2):  # each with a network of its own, so that the second knows of the first by the file alone
        assert np.array_equal(labels(model, volume, events), exact)
    assert events.trials == 1 and other.made[-1] == (model.plan.patch, "float32")
    assert [event["runtime"] for event in events.of("runtime")] == ["openvino"] * 2

    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert remembered(model.network(), model.plan, "float32") is None
    finally:
        torch.set_num_threads(threads)
    [file] = (tmp_path / "cache").rglob("trial-*.json")
    file.write_text("{")
    labels(model, volume, events)
    assert events.trials == 2


@pytest.mark.parametrize(
    ("change", "gain", "reason"),
    [(lambda logits: logits.flip(1), 0.0, "other labels"), (lambda logits: logits, 1e9, "times as fast")],
)
def test_pytorch_computes_where_the_other_is_wrong_or_slow(
    model: Model, volume: Volume, monkeypatch: pytest.MonkeyPatch, change: Forward, gain: float, reason: str
) -> None:
    use(monkeypatch, Other(change))
    monkeypatch.setattr(choosing, "LEAST_GAIN", gain)
    events = Events()
    assert np.array_equal(labels(model, volume, events), labels(model, volume, runtime="pytorch"))
    [told] = events.of("runtime")
    assert told["runtime"] == "pytorch" and reason in told["reason"]


def test_what_is_soon_done_or_shows_nothing_is_not_tried(
    model: Model, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Other())
    events = Events()
    labels(model, Volume(np.zeros_like(volume.array), volume.geometry), events)
    monkeypatch.setattr(choosing, "LEAST_SECONDS", 1e9)
    labels(model, volume, events)
    assert not events.of("runtime")
    assert remembered(model.network(), model.plan, "float32") is None


def test_pytorch_computes_where_the_memory_does_not_suffice_for_the_other(
    model: Model, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Other(bytes=2**50))
    events = Events()
    labels(model, volume, events, runtime="openvino")
    [told] = events.of("runtime")
    assert told["runtime"] == "pytorch" and "memory" in told["reason"]


def test_pytorch_goes_on_where_the_other_fails(model: Model, volume: Volume) -> None:
    computed: list[int] = []

    def fail_soon(logits: torch.Tensor) -> torch.Tensor:
        computed.append(1)
        if len(computed) == 3:
            raise RuntimeError("it broke")
        return logits

    tensor, network, events = torch.from_numpy(volume.array)[None], model.network(), Events()
    ways = ways_to_compute(CPU, "float32", Other(fail_soon))
    found = predict_logits(network, tensor, model.plan, CPU, events, ways=ways)
    assert torch.equal(found, predict_logits(network, tensor, model.plan, CPU))
    [notice] = events.of("notice")
    assert notice["message"] == "OpenVINO cannot run this network (it broke); PyTorch computes instead."


def test_bfloat16_is_judged_in_the_runtime_that_will_compute(
    model: Model, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong_in_bfloat16(logits: torch.Tensor) -> torch.Tensor:
        return logits.flip(1) if other.made[-1][1] == "bfloat16" else logits

    other = use(monkeypatch, Other(wrong_in_bfloat16))
    monkeypatch.setattr(segment, "has_bfloat16", lambda device: True)
    monkeypatch.setattr(choosing, "remembered", lambda *_: Verdict("openvino", "It was fast once."))
    assert np.array_equal(labels(model, volume, precision="auto"), labels(model, volume, runtime="pytorch"))
    assert {numbers for _, numbers in other.made} == {"bfloat16", "float32"}


def test_openvino_that_cannot_be_used_is_an_error(
    monkeypatch: pytest.MonkeyPatch, model: Model, volume: Volume
) -> None:
    monkeypatch.setattr(choosing, "is_installed", lambda: False)
    with pytest.raises(DinomixError, match=r"not installed.*--runtime auto") as caught:
        labels(model, volume, runtime="openvino")
    assert caught.value.code == "runtime"
    monkeypatch.setattr(choosing, "is_installed", lambda: True)
    with pytest.raises(DinomixError, match=r"the device is mps.*--device cpu"):
        choosing._check_usable(torch.device("mps"))


def test_networks_with_the_same_weights_that_compute_otherwise_are_kept_apart(model: Model) -> None:
    class Turned(torch.nn.Module):
        def __init__(self, network: torch.nn.Module, axes: tuple[int, ...]) -> None:
            super().__init__()
            self.network, self.axes = network, axes

    network = model.network()
    folders = [folder_of(each, model.plan) for each in (network, Turned(network, (2,)), Turned(network, (2, 3)))]
    assert len(set(folders)) == 3
    assert folder_of(model.network(), model.plan) == folders[0]
