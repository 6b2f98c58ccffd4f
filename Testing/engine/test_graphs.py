"""Graphs that model folders carry for OpenVINO: whose weights they have, who uses them, and which are refused."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from dinomix.cli import main
from dinomix.errors import DinomixError
from dinomix.images.volume import Geometry, Volume
from dinomix.inference.segment import segment_volume
from dinomix.models import graph_writing
from dinomix.models.ensemble import join_models
from dinomix.models.folder import Model, load_model
from dinomix.models.graph import carried_graph, read_graph
from dinomix.models.manifest import ENSEMBLE_OR_CLEAN_UP, WEIGHTS, graph_files, renew_manifest
from dinomix.models.silence import is_installed
from dinomix.models.writing import add_graphs, changed_aside, write_model
from dinomix.planning.plan import CleanUp, RangeWindow, SpacingGrid
from random_models import labels_with_ids, random_model, random_weights, small_plan

pytestmark = pytest.mark.skipif(not is_installed(), reason="OpenVINO is not installed, so no model carries a graph")
PLAN, LABELS = small_plan(SpacingGrid(spacing=(1.0,) * 3), RangeWindow(low=0.0, high=1.0)), labels_with_ids(1, 2)
ONLY_OPENVINO = """
import sys
sys.modules.update(dict.fromkeys(("torch", "monai", "dinomix")))  # None: not to be imported
import numpy, openvino
text, weights, constants = (open(sys.argv[1] + end, "rb").read() for end in (".graph.xml", ".safetensors", ".graph.bin"))
model = openvino.Core().read_model(text, weights + constants)
hint = {"INFERENCE_PRECISION_HINT": "f32"}
numpy.save(sys.argv[3], openvino.compile_model(model, "CPU", hint)(numpy.load(sys.argv[2]))[0])
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DINOMIX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def without(tmp_path: Path) -> Model:
    return random_model(tmp_path / "model", PLAN, LABELS)


@pytest.fixture
def model(without: Model) -> Model:
    add_graphs(without.path)
    return load_model(without.path)


@pytest.fixture
def scan() -> Volume:
    values = np.random.default_rng(0).random((40, 45, 50), np.float32)
    return Volume(values, Geometry((50, 45, 40), (1.0,) * 3, (0.0,) * 3, np.eye(3)))


def by_openvino(model: Model, scan: Volume) -> np.ndarray:
    told: list[str] = []

    def emit(kind: str, **fields: object) -> None:
        told.extend([str(fields["reason"])] if kind == "runtime" else [])

    labels = segment_volume(scan, model, device="cpu", precision="float32", runtime="openvino", emit=emit).array
    assert told == ["OpenVINO computes, as requested."], told
    return labels


def test_openvino_alone_computes_a_carried_graph(model: Model, tmp_path: Path) -> None:
    window = np.random.default_rng(1).random((1, 1, 40, 32, 48), np.float32)
    np.save(tmp_path / "window.npy", window)
    stem = str(model.path / WEIGHTS).removesuffix(".safetensors")
    files = [str(tmp_path / name) for name in ("window.npy", "logits.npy")]
    subprocess.run([sys.executable, "-c", ONLY_OPENVINO, stem, *files], check=True)
    logits, exact = np.load(tmp_path / "logits.npy"), model.network()(torch.from_numpy(window)).numpy()
    assert logits.shape == exact.shape and np.abs(logits - exact).max() < 1e-4 * np.abs(exact).max()


def test_equal_models_have_equal_graphs(model: Model, tmp_path: Path) -> None:
    again = random_model(tmp_path / "again", PLAN, LABELS).path
    add_graphs(again)
    assert load_model(again).fingerprint == model.fingerprint


def test_no_weight_is_stored_twice(model: Model) -> None:
    text, constants = graph_files(model.path / WEIGHTS)
    assert constants.stat().st_size < 2000 < (model.path / WEIGHTS).stat().st_size
    assert text.stat().st_size < 300_000


def test_a_carried_graph_is_what_openvino_computes(
    without: Model, scan: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = by_openvino(without, scan)
    add_graphs(without.path)
    model = load_model(without.path)
    monkeypatch.setenv("DINOMIX_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(graph_writing, "converted", lambda *_: pytest.fail("it was converted again"))
    assert len(np.unique(before)) > 1 and np.array_equal(by_openvino(model, scan), before)
    assert not list((tmp_path / "other").rglob("graph.bin"))


def test_a_graph_of_other_weights_is_not_used(model: Model) -> None:
    network = model.network()
    assert carried_graph(network) is not None
    with torch.no_grad():
        next(network.parameters()).add_(0.01)
    assert carried_graph(network) is None


def test_a_graph_with_other_logits_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right, notices = graph_writing.converted, []

    def wrong(network: torch.nn.Module, plan: object) -> object:
        other = type("Other", (torch.nn.Module,), {"forward": lambda self, window: 1.01 * network(window)})()
        return right(other, plan)

    monkeypatch.setattr(graph_writing, "converted", wrong)
    write_model(
        tmp_path / "model", plan=PLAN, labels=LABELS, weights=random_weights(PLAN, LABELS), record={}, graphs=True,
        emit=lambda kind, **fields: notices.append(fields["message"]),
    )  # fmt: skip
    assert [("without a graph" in text, "differ from PyTorch's" in text) for text in notices] == [(True, True)]
    assert not list(tmp_path.rglob("*.graph.*"))
    load_model(tmp_path / "model")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (b'type="Convolution"', b'type="ReadFile"', "layers of a kind that no network here has"),
        (b"<net", b'<!DOCTYPE net [<!ENTITY a "aaaa">]><net', "is no graph"),
        (b"</net>", b"", "is damaged"),
        (b'offset="', b'offset="9999', ""),
    ],
)
def test_a_bad_graph_is_refused(model: Model, scan: Volume, old: bytes, new: bytes, told: str) -> None:
    file = graph_files(model.path / WEIGHTS)[0]
    file.write_bytes(file.read_bytes().replace(old, new))
    with pytest.raises(DinomixError, match="not what the manifest says"):
        load_model(model.path)
    renew_manifest(model.path)  # as a stranger would
    with pytest.raises(DinomixError if told else RuntimeError, match=told):
        read_graph(model.path / WEIGHTS)
    reasons: list[str] = []
    segment_volume(
        scan, load_model(model.path), device="cpu", precision="float32", runtime="openvino",
        emit=lambda kind, **fields: reasons.extend([str(fields["reason"])] if kind == "runtime" else []),
    )  # fmt: skip
    assert "PyTorch computes" in reasons[0]


def test_the_command_gives_a_folder_its_graph_and_the_zip_has_it(
    without: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: object) -> str:
        with pytest.raises(SystemExit) as left:
            main(["models", *map(str, arguments)])
        assert not left.value.code
        return capsys.readouterr().out

    assert "none; `dinomix models graph`" in run("info", without.path)
    result = json.loads(run("graph", without.path, "--json").splitlines()[-1])
    files = graph_files(without.path / WEIGHTS)
    assert result["bytes"] == sum(file.stat().st_size for file in files)
    assert "for OpenVINO without PyTorch" in run("info", without.path)
    run("export", without.path, "--out", tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        assert {f"models/{file.name}" for file in files} <= {name.partition("/")[2] for name in archive.namelist()}


def test_a_changed_folder_keeps_its_graph_and_the_version_that_readers_must_know(tmp_path: Path) -> None:
    plan = PLAN.model_copy(update={"clean_up": (CleanUp(channel=1),)})
    folder = random_model(tmp_path / "model", plan, LABELS).path
    add_graphs(folder)
    with changed_aside(folder) as aside:
        (aside / "record.json").write_text('{"title": "Liver"}')
    assert load_model(folder).title == "Liver" and carried_graph(load_model(folder).network()) is not None
    assert json.loads((folder / "manifest.json").read_text())["version"] == ENSEMBLE_OR_CLEAN_UP


def test_an_ensemble_carries_the_graph_of_each_network(without: Model, tmp_path: Path, scan: Volume) -> None:
    other = random_model(tmp_path / "other", PLAN, LABELS, seed=1)
    join_models([without.path, other.path], tmp_path / "both")
    joined = load_model(tmp_path / "both")
    assert all(carried_graph(member.network()) is not None for member in joined.members)
    exact = segment_volume(scan, joined, device="cpu", precision="float32", runtime="pytorch").array
    assert (by_openvino(joined, scan) == exact).mean() > 0.999
