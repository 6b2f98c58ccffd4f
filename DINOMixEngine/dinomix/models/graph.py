"""The graph of a network beside its weights: how OpenVINO computes it, where there is no PyTorch.

A graph is OpenVINO's own format: a text of layers whose constants are places in a file of bytes. Here these bytes are those of
the model folder's file of weights, followed by the few that no weight has (sides, axes, ones), which lie in a file of their own.
So no weight is stored twice, and a graph computes with the weights that PyTorch has. Nothing in it is executed: layers that are
not among ``LAYERS`` are refused, as a place outside of the files is.

Beside it there may be the same graph with weights and layers of 8 bits, see ``eight_bits``, whose constants are its own.
"""

import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from dinomix.errors import DinomixError
from dinomix.models.manifest import COPY_AGAIN, eight_bit_files, graph_files
from dinomix.models.networks import GraphNetwork
from dinomix.models.silence import core, is_installed
from dinomix.models.weights import WeightsFile

if TYPE_CHECKING:
    import torch

LAYERS = frozenset((
    "Add", "AvgPool", "BatchNormInference", "Broadcast", "Concat", "Const", "Convert", "Convolution",
    "ConvolutionBackpropData", "Divide", "Einsum", "Elu", "Equal", "FakeQuantize", "Floor", "FloorMod", "Gather", "Gelu",
    "GroupConvolution", "GroupConvolutionBackpropData", "GroupNormalization", "Interpolate", "MVN", "MatMul", "MaxPool",
    "Multiply", "NotEqual", "PReLU", "Pad", "Parameter", "Range", "ReLU", "ReduceProd", "Reshape", "Result", "Roll",
    "ScatterNDUpdate", "Select", "ShapeOf", "Sigmoid", "Slice", "SoftMax", "Split", "Squeeze", "Subtract", "Tile",
    "Transpose", "Unsqueeze",
))  # fmt: skip
"""What the networks of ``network.NETWORKS`` are made of. No loops, nothing that reads a file."""
LARGEST_GRAPH = 2**25
"""Bytes of the text; a SwinUNETR of 12 channels takes 3.5 MB."""
_GRAPHS = weakref.WeakKeyDictionary["torch.nn.Module", Path]()
"""The file of a network's weights, where a graph lies beside it."""


def remember_graph(network: "torch.nn.Module", weights: Path) -> None:
    """Note that a network was made of a file of weights, where a graph lies beside it."""
    if graph_files(weights)[0].is_file():
        _GRAPHS[network] = weights


def weights_beside_graph(network: "torch.nn.Module | GraphNetwork") -> Path | None:
    """The file of weights that a network was made of; None where no graph lay beside it."""
    return network.weights if isinstance(network, GraphNetwork) else _GRAPHS.get(network)


def carried_graph(network: "torch.nn.Module | GraphNetwork") -> Path | None:
    """As ``weights_beside_graph``; None also where a network has other weights by now."""
    weights = weights_beside_graph(network)
    if weights is None or isinstance(network, GraphNetwork):
        return weights
    import torch
    from safetensors.torch import load_file

    kept, state = load_file(weights), network.state_dict()
    is_same = kept.keys() == state.keys() and all(torch.equal(kept[name], state[name].cpu()) for name in kept)
    return weights if is_same else None


def graph_network(weights: Path, channels: int) -> GraphNetwork:
    """The network whose graph lies beside a file of weights, where PyTorch is not installed.

    Raises:
        DinomixError: there is no graph, or OpenVINO is not installed either.
    """
    if not graph_files(weights)[0].is_file():
        raise DinomixError(
            f"The model in {weights.parent.parent} carries no graph for OpenVINO, and PyTorch is not installed.",
            "Run `dinomix models graph` on it where PyTorch is, or install all packages here (pip install dinomix).",
            "pytorch",
        )
    if not is_installed():
        raise DinomixError(
            "Neither OpenVINO nor PyTorch is installed, and one of them has to compute.",
            "Install OpenVINO (pip install openvino), or all packages (pip install dinomix).",
            "pytorch",
        )
    return GraphNetwork(weights, WeightsFile(weights).nbytes, channels)


def read_graph(weights: Path) -> Any:
    """OpenVINO's model of the graph that lies beside a file of weights, for windows of all sizes that the network takes.

    Raises:
        DinomixError: it is no graph, or has layers that no known network has.
        Exception: OpenVINO cannot read it; of many kinds.
    """
    graph, constants = graph_files(weights)
    return core().read_model(_known_layers(graph), weights.read_bytes() + constants.read_bytes())


def read_eight_bits(weights: Path) -> Any:
    """As ``read_graph``, of the graph of 8 bits."""
    graph, own_weights = eight_bit_files(weights)
    return core().read_model(_known_layers(graph), own_weights.read_bytes())


def _known_layers(graph: Path) -> bytes:
    """The text of a graph that has no other layers than known networks."""
    text = graph.read_bytes()
    unknown = sorted(_layers_in(text, graph) - LAYERS)
    if unknown:
        raise DinomixError(f"{graph} holds layers of a kind that no network here has ({unknown[0]}).", COPY_AGAIN)
    return text


def _layers_in(text: bytes, graph: Path) -> set[str]:
    if len(text) > LARGEST_GRAPH or b"<!" in text:  # entities can grow beyond all measure
        raise DinomixError(f"{graph} is no graph of a network.", COPY_AGAIN)
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise DinomixError(f"{graph} is damaged ({error}).", COPY_AGAIN) from error
    return {str(layer.get("type")) for layer in root.iter("layer")}
