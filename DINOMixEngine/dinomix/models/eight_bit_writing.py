"""Making a graph whose convolutions compute with 8 bits out of the one that a model folder carries, by NNCF (see ``graph``).

Weights and what goes into a layer are rounded to 256 values, in a range that windows of the cohort fill (post-training
quantization; Nagel et al., 2021, arXiv 2106.08295). Transposed convolutions stay as they are: they take little time, and OpenVINO
cannot compute them with 8 bits on all processors.
"""

import io
import logging
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from dinomix.files import written_aside
from dinomix.models.graph import read_eight_bits, read_graph
from dinomix.models.graph_writing import saved
from dinomix.models.manifest import eight_bit_files
from dinomix.models.silence import nncf

LEFT = ["ConvolutionBackpropData", "GroupConvolutionBackpropData"]


def write_eight_bits(weights: Path, windows: NDArray[np.float32], exact: int) -> None:
    """Write the graph of 8 bits beside a file of weights, beside which its graph lies.

    Args:
        windows: (n, channels, x, y, z) as the network sees them, which show how large values are in each layer.
        exact: the last convolutions that stay in float32; what they round goes into the logits directly.

    Raises:
        Exception: NNCF or OpenVINO cannot take the network; of many kinds.
    """
    graph = read_graph(weights)
    graph.reshape([1, *windows.shape[1:]])
    package = nncf()
    package.set_log_level(logging.ERROR)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # bars of its own
        quantized = package.quantize(
            graph,
            package.Dataset(list(windows), lambda window: window[None]),
            subset_size=len(windows),
            preset=package.QuantizationPreset.MIXED,
            ignored_scope=package.IgnoredScope(names=_convolutions(graph)[-exact:], types=LEFT, validate=False),
        )
    root, own_weights = saved(quantized)
    for path, content in zip(eight_bit_files(weights), (ElementTree.tostring(root), own_weights), strict=True):
        with written_aside(path) as aside:
            aside.write_bytes(content)
    read_eight_bits(weights)


def _convolutions(graph: Any) -> list[str]:
    """Their names, in the order in which they are computed."""
    return [layer.get_friendly_name() for layer in graph.get_ordered_ops() if layer.get_type_name() == "Convolution"]
