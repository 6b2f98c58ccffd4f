"""Making the graph of a network of PyTorch's, and writing it beside the network's weights, see ``graph``."""

import json
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from numpy.typing import NDArray

from dinomix.files import written_aside
from dinomix.models.graph import read_graph
from dinomix.models.manifest import graph_files
from dinomix.models.silence import converter, core, openvino
from dinomix.planning.plan import Plan, sides_of_a_piece

LARGEST_DIFFERENCE = 1e-3
"""From PyTorch's logits, as a part of the largest of them. In float32 it is below a tenth of that."""
FEW_BYTES = 16
"""Constants below that are no weights; they would be found in some by chance."""


def converted(network: torch.nn.Module, plan: Plan) -> Any:
    """OpenVINO's model of a network, for windows of all sizes that it takes. Raises as ``converted_with``."""
    return converted_with(network, torch.zeros((1, len(plan.channels), *sides_of_a_piece(plan))))


def converted_with(network: torch.nn.Module, example: torch.Tensor) -> Any:
    """OpenVINO's model of a network, by what it does with an example of its input.

    Raises:
        Exception: OpenVINO cannot take it; of many kinds.
    """
    layers_of, frontends = converter()
    with torch.no_grad(), warnings.catch_warnings():
        # Tracing warns of everything that depends on the input's size; that is tried out afterwards.
        warnings.simplefilter("ignore")
        decoder = layers_of(network, example_input=(example,), trace_kwargs={"check_trace": False})
        frontend = frontends().load_by_framework("pytorch")
        return frontend.convert(frontend.load(decoder))


def write_graph(weights: Path, network: torch.nn.Module, plan: Plan) -> None:
    """Write a network's graph beside the file of its weights, and see that it gives the logits of PyTorch.

    Args:
        network: with these weights, in evaluation mode, on the CPU.

    Raises:
        RuntimeError: it gives other ones, or has layers that are not known.
        Exception: OpenVINO cannot take the network; of many kinds.
    """
    graph, constants = graph_files(weights)
    text, rest = _placed_in(weights, *saved(converted(network, plan)))
    for path, content in ((graph, text), (constants, rest)):
        with written_aside(path) as aside:
            aside.write_bytes(content)
    _compare(read_graph(weights), network, plan)


def saved(graph: Any) -> tuple[ElementTree.Element, bytes]:
    """What OpenVINO saves of a graph: its layers, named by their numbers, and their constants."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "graph.xml"
        openvino().save_model(graph, path, compress_to_fp16=False)
        root, constants = ElementTree.parse(path).getroot(), path.with_suffix(".bin").read_bytes()
    root.set("name", "network")
    for layer in root.iter("layer"):
        # OpenVINO's names count all that a process has made, and equal models are equal files.
        layer.set("name", layer.attrib["id"])
    return root, constants


def _placed_in(weights: Path, root: ElementTree.Element, saved: bytes) -> tuple[bytes, bytes]:
    """The text of a graph whose constants lie in a file of weights, and the bytes of those that do not."""
    of_weights, rest = weights.read_bytes(), b""
    known = {of_weights[start:stop]: start for start, stop in _places(of_weights)}
    for layer in root.iter("layer"):
        data = layer.find("data")
        if layer.get("type") != "Const" or data is None:
            continue
        start = int(data.attrib["offset"])
        content = saved[start : start + int(data.attrib["size"])]
        place = known.get(content) if len(content) >= FEW_BYTES else None
        if place is None:
            place = len(of_weights) + len(rest)
            rest += content
        data.set("offset", str(place))
    return ElementTree.tostring(root), rest


def _places(safetensors: bytes) -> Iterator[tuple[int, int]]:
    """First and behind the last byte of each tensor: the format begins with the length of a table of them."""
    (length,) = struct.unpack("<Q", safetensors[:8])
    for name, entry in json.loads(safetensors[8 : 8 + length]).items():
        if name != "__metadata__":
            start, stop = entry["data_offsets"]
            yield 8 + length + start, 8 + length + stop


def _compare(graph: Any, network: torch.nn.Module, plan: Plan) -> None:
    """Raises RuntimeError where a graph's logits of a generated window are not those of the network."""
    window = _generated(plan)
    graph.reshape(window.shape)
    compiled = core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    logits = compiled([window])[0]
    with torch.inference_mode():
        exact = network(torch.from_numpy(window)).numpy()
    if logits.shape != exact.shape:
        raise RuntimeError(f"it gives logits of {logits.shape} instead of {exact.shape}")
    difference = np.abs(logits - exact).max() / np.abs(exact).max()
    if not difference <= LARGEST_DIFFERENCE:
        raise RuntimeError(f"its logits differ from PyTorch's by {difference:.1e} of the largest")


def _generated(plan: Plan) -> NDArray[np.float32]:
    """A bright ball in noise that fills a window, (1, channels, x, y, z)."""
    axes = np.meshgrid(*(np.linspace(-1, 1, side) for side in plan.patch), indexing="ij", sparse=True)
    ball = np.where(sum(axis**2 for axis in axes) < 0.5, 0.7, 0.2)
    noise = np.random.default_rng(0).normal(0, 0.05, (1, len(plan.channels), *plan.patch))
    return (ball + noise).astype(np.float32)
