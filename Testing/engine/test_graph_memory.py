"""The memory of a window where OpenVINO alone computes, read off the graph."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dinomix.errors import DinomixError
from dinomix.images.volume import Geometry
from dinomix.inference import memory
from dinomix.inference.memory import plan_memory
from dinomix.inference.runtimes.graph_memory import most_alive, window_of_graph
from dinomix.models.folder import Model, load_model
from dinomix.models.manifest import WEIGHTS, graph_files
from dinomix.models.silence import is_installed, openvino
from dinomix.models.writing import add_graphs
from dinomix.planning.plan import RangeWindow, SpacingGrid
from random_models import labels_with_ids, random_model, small_plan

pytestmark = pytest.mark.skipif(not is_installed(), reason="OpenVINO is not installed")
SIDE = 96
PLAN = small_plan(SpacingGrid(spacing=(1.0,) * 3), RangeWindow(low=0.0, high=1.0), patch=(SIDE,) * 3)
MEASURED = """
import json, sys
from pathlib import Path
import numpy as np
from dinomix.models.graph import read_graph
from dinomix.models.silence import core
side = int(sys.argv[2])
graph = read_graph(Path(sys.argv[1]))
graph.reshape([1, 1, side, side, side])
hints = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 2}
request = core().compile_model(graph, "CPU", hints).create_infer_request()
def kilobytes(name):
    return int(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)).split()[1])
window = np.zeros((1, 1, side, side, side), np.float32)
before = kilobytes("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
request.infer([window], share_inputs=True)
print(json.dumps([before * 1024, kilobytes("VmHWM") * 1024]))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = random_model(tmp_path_factory.mktemp("graph") / "model", PLAN, labels_with_ids(1, 2)).path
    add_graphs(path)
    return load_model(path)


def test_tensors_count_from_their_layer_to_the_last_that_takes_them() -> None:
    openvino()  # so that nothing is reported
    from openvino import opset13 as layers

    given = layers.parameter([1, 1, 10, 10, 10], np.float32)  # 4000 bytes
    kept = layers.relu(given)
    double = layers.concat([kept, kept], 1)
    half = layers.reduce_max(layers.tanh(double), np.array([1]), keep_dims=True)
    graph = openvino().Model([layers.add(half, kept)], [given])
    assert most_alive(graph) == 4000 + 8000 + 8000  # kept, double and its tanh


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a part of a program is Linux's to tell")
def test_a_window_stays_below_the_estimate(model: Model) -> None:
    command = [sys.executable, "-c", MEASURED, str(model.path / WEIGHTS), str(SIDE)]
    before, peak = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    estimate = window_of_graph(model.path / WEIGHTS, 1, PLAN.patch)
    assert 0.3 * estimate < peak - before < estimate


def test_without_pytorch_memory_is_planned_by_the_graph(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    geometry = Geometry((50, 50, 50), (1.0,) * 3, (0.0,) * 3, np.eye(3))
    monkeypatch.setattr(memory, "has_torch", lambda: False)
    assert plan_memory(geometry, model, None).window == window_of_graph(model.path / WEIGHTS, 1, PLAN.patch)


def test_a_graph_that_is_none_is_one_sentence(model: Model, tmp_path: Path) -> None:
    weights = tmp_path / "models" / Path(WEIGHTS).name
    weights.parent.mkdir()
    for source, target in zip(graph_files(model.path / WEIGHTS), graph_files(weights), strict=True):
        target.write_bytes(source.read_bytes())
    weights.write_bytes(b"")
    with pytest.raises(DinomixError, match="cannot compute the graph") as refused:
        window_of_graph(weights, 1, PLAN.patch)
    assert refused.value.code == "pytorch"
