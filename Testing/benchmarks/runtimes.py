"""Seconds of the processor that one window takes in each runtime, network by network, with random weights; on one core.

    python Testing/benchmarks/runtimes.py [--network NAME ...] [--turns 3]
    ONEDNN_MAX_CPU_ISA=AVX2 python Testing/benchmarks/runtimes.py      as on a processor without AVX-512 and bfloat16

Runtimes take turns, and the least of each is given. ONNX Runtime takes part where it and onnx are installed; the engine does not
use it.
"""

import argparse
import io
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "DINOMixEngine"))

import torch
from safetensors.torch import save_file

from dinomix.errors import reason_of
from dinomix.inference.devices import has_bfloat16
from dinomix.inference.options import Numbers
from dinomix.inference.pieces import Forward
from dinomix.inference.runtimes.compiled import OPENVINO
from dinomix.inference.runtimes.runtime import PYTORCH
from dinomix.models.graph import remember_graph
from dinomix.models.graph_writing import write_graph
from dinomix.models.network import build_network
from dinomix.models.silence import is_installed
from dinomix.planning.plan import Plan, RangeWindow, SpacingGrid

CPU, CLASSES = torch.device("cpu"), 14
NETWORKS = {
    "SegResNet": (96, {"init_filters": 16, "blocks_down": [1, 2, 2, 4], "blocks_up": [1, 1, 1]}),
    "BasicUNet": (96, {"features": [16, 16, 32, 64, 128, 16]}),
    "UNet": (96, {"channels": [16, 32, 64, 128, 256], "strides": [2, 2, 2, 2], "num_res_units": 2, "norm": "batch"}),
    "DynUNet": (
        64,
        {"kernel_size": [3] * 4, "strides": [1, 2, 2, 2], "upsample_kernel_size": [2] * 3, "filters": [16, 32, 64, 128]},
    ),
    "VNet": (64, {}),
    "MedNeXt": (64, {"init_filters": 8}),
    "UNETR": (64, {"img_size": [64] * 3, "hidden_size": 96, "mlp_dim": 192, "num_heads": 4}),
    "SwinUNETR": (64, {"feature_size": 12}),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", choices=NETWORKS, help="only this one; may be repeated")
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print("| network, voxels | runtime: seconds, largest difference of a logit to PyTorch in float32 |\n|---|---|")
    for name in arguments.network or NETWORKS:
        told = [
            f"{which}: {seconds:.2f}, {other:.0e}"
            for which, (seconds, other) in measured(name, arguments.turns).items()
        ]
        print(f"| {name}, {NETWORKS[name][0]}^3 | {'; '.join(told)} |", flush=True)


def measured(name: str, turns: int) -> dict[str, tuple[float, float]]:
    side, arguments = NETWORKS[name]
    torch.manual_seed(0)
    plan = Plan(
        modality="CT", grid=SpacingGrid(spacing=(3.0, 3.0, 3.0)), window=RangeWindow(low=0, high=1), patch=(side,) * 3,
        network={"_target_": f"monai.networks.nets.{name}", **arguments},
    )  # fmt: skip
    network = build_network(plan, CLASSES).eval().requires_grad_(False)
    window = torch.rand(1, 1, *plan.patch)
    kinds: list[Numbers] = ["float32"]
    if has_bfloat16(CPU) and "ONEDNN_MAX_CPU_ISA" not in os.environ:
        kinds.append("bfloat16")
    forwards = {
        f"{runtime.title} {kind}": runtime.ready(network, plan, CPU, kind, plan.patch)
        for kind in kinds
        for runtime in (PYTORCH, OPENVINO)
    }
    if (forward := in_onnx_runtime(network, window)) is not None:
        forwards["ONNX Runtime float32"] = forward
    if (forward := in_eight_bits(network, plan, window)) is not None:
        forwards["OpenVINO int8"] = forward
    with torch.inference_mode():
        logits = {which: forward(window) for which, forward in forwards.items()}
        spent: dict[str, list[float]] = {which: [] for which in forwards}
        for _ in range(turns):
            for which, forward in forwards.items():
                began = time.process_time()
                forward(window)
                spent[which].append(time.process_time() - began)
    exact = logits["PyTorch float32"]
    return {which: (min(spent[which]), float((logits[which] - exact).abs().max())) for which in forwards}


def in_eight_bits(network: torch.nn.Module, plan: Plan, window: torch.Tensor) -> Forward | None:
    """By a graph that this window alone has calibrated; None where NNCF is not installed or cannot take the network."""
    if not is_installed("nncf"):
        return None
    from dinomix.models.eight_bit_writing import write_eight_bits

    with TemporaryDirectory() as folder:
        weights = Path(folder) / "model.safetensors"
        save_file({name: weight.contiguous().clone() for name, weight in network.state_dict().items()}, weights)
        try:
            write_graph(weights, network, plan)
            write_eight_bits(weights, window.numpy(), exact=1)
            remember_graph(network, weights)
            return OPENVINO.ready(network, plan, CPU, "int8", plan.patch)
        except Exception as error:  # of many kinds: what a library says of a network that it does not know
            print(f"int8: {reason_of(error)}", file=sys.stderr)
            return None


def in_onnx_runtime(network: torch.nn.Module, window: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """None where it is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ImportError:
        return None
    file = io.BytesIO()
    torch.onnx.export(network, (window,), file, dynamo=False, opset_version=18)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    return lambda windows: torch.from_numpy(session.run(None, {given.name: windows.numpy()})[0])


if __name__ == "__main__":
    main()
