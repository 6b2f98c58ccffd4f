"""One contender of the inference benchmark, in a process of its own; Testing/benchmarks/inference.py starts it.

    python inference_contenders.py NAME MODEL IMAGE OUT DEVICE

It segments the file once as a fresh process does ("cold", which whoever started it measures from outside) and, when it is told to
by a line on its standard input, once more ("warm"), and says on its standard output how long that took.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[[], Path]
"""Segments the image and returns the label file."""
Prepare = Callable[[Path, Path, Path, str], Run]
"""From a model folder, an image, a folder to write to and a device."""


def through_openvino(loaded: Any, device: str) -> Any:
    """A model's network as a module whose windows OpenVINO computes in float32, one at a time."""
    import torch

    from dinomix.inference.runtimes.compiled import OPENVINO

    forward = OPENVINO.ready(loaded.network(), loaded.plan, device, "float32", loaded.plan.patch)

    class Compiled(torch.nn.Module):
        def forward(self, windows: torch.Tensor) -> torch.Tensor:
            return forward(windows)

        def load_state_dict(self, *arguments: Any, **keywords: Any) -> None:
            """The graph has its weights."""

    return Compiled()


def monai_bundle(openvino: bool = False) -> Prepare:
    """The model folder as a MONAI bundle: Spacing, SlidingWindowInferer, Invertd of the logits, argmax, SaveImage."""

    def prepare(model: Path, image: Path, out: Path, device: str) -> Run:
        from monai.bundle import ConfigParser

        parser = ConfigParser()
        parser.read_config(str(model / "configs/inference.json"))
        parser.read_meta(str(model / "configs/metadata.json"))
        parser["bundle_root"], parser["image"], parser["output_dir"] = str(model), str(image), str(out)
        parser["device"] = f"$torch.device('{device}')"
        parser.get_parsed_content("initialize")
        evaluator = parser.get_parsed_content("evaluator")
        if openvino:
            from dinomix.models.folder import load_model

            evaluator.network = through_openvino(load_model(model), device)

        def run() -> Path:
            evaluator.run()
            return out / image.name.replace(".nii.gz", "_seg.nii.gz")

        return run

    return prepare


def nnunet(fast: bool = False, openvino: bool = False) -> Prepare:
    """nnU-Net v2's predictor and export with the same network, window, spacing, intensities and overlap; no mirroring.

    Fast, as TotalSegmentator has it: windows overlap by a fifth, and PyTorch resamples.
    """

    def prepare(model: Path, image: Path, out: Path, device: str) -> Run:
        return _nnunet(model, image, out, device, fast, openvino)

    return prepare


def _nnunet(model: Path, image: Path, out: Path, device: str, fast: bool, openvino: bool) -> Run:
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from dinomix.models.folder import load_model

    loaded = load_model(model)
    plan = loaded.plan
    low, high = plan.window.low, plan.window.high
    of_data, order = {"order": 3, "order_z": 0}, {"order": 1, "order_z": 0}
    resampling = "resample_data_or_seg_to_shape"
    if fast:
        of_data, order, resampling = {}, {}, "resample_torch_fornnunet"
    of_data, order = ({**each, "force_separate_z": None} for each in (of_data, order))
    plans = PlansManager({
        "dataset_name": "Dataset001_ct", "plans_name": "plans", "image_reader_writer": "SimpleITKIO",
        "label_manager": "LabelManager", "experiment_planner_used": "ExperimentPlanner",
        # The scan is in RAS, so that (i, j, k) is the network's (x, y, z).
        "transpose_forward": [2, 1, 0], "transpose_backward": [2, 1, 0],
        "original_median_spacing_after_transp": [3, 3, 3], "original_median_shape_after_transp": [122, 101, 112],
        "foreground_intensity_properties_per_channel": {
            "0": {"mean": low, "std": high - low, "percentile_00_5": low, "percentile_99_5": high, "median": low,
                  "min": low, "max": high}
        },
        "configurations": {
            "3d_fullres": {
                "data_identifier": "ct", "preprocessor_name": "DefaultPreprocessor", "batch_size": 1,
                "patch_size": list(plan.patch), "spacing": list(plan.grid.spacing),
                "normalization_schemes": ["CTNormalization"], "use_mask_for_norm": [False], "batch_dice": False,
                "resampling_fn_data": resampling, "resampling_fn_data_kwargs": {**of_data, "is_seg": False},
                "resampling_fn_seg": resampling, "resampling_fn_seg_kwargs": {**order, "is_seg": True},
                "resampling_fn_probabilities": resampling,
                "resampling_fn_probabilities_kwargs": {**order, "is_seg": False},
                "architecture": {"network_class_name": "", "arch_kwargs": {}, "_kw_requires_import": []},
            }
        },
    })  # fmt: skip
    names = {"background": 0, **{name: number for number, name in enumerate(loaded.labels.names, start=1)}}
    predictor = nnUNetPredictor(
        tile_step_size=0.8 if fast else 0.5,
        use_gaussian=True,
        use_mirroring=False,
        device=torch.device(device),
        allow_tqdm=False,
    )
    predictor.manual_initialization(
        through_openvino(loaded, device) if openvino else loaded.network(),
        plans,
        plans.get_configuration("3d_fullres"),
        [loaded.weights],
        {"channel_names": {"0": "CT"}, "labels": names, "numTraining": 1, "file_ending": ".nii.gz"},
        "nnUNetTrainer",
        None,
    )

    def run() -> Path:
        predictor.predict_from_files_sequential([[str(image)]], [str(out / "ct")], overwrite=True)
        return out / "ct.nii.gz"

    return run


def dinomix(precision: str, runtime: str = "auto", **plan: object) -> Prepare:
    """The engine as ``dinomix segment`` uses it, with its settings or with changes to the model's plan."""

    def prepare(model: Path, image: Path, out: Path, device: str) -> Run:
        from dinomix.inference.batch import segment_files
        from dinomix.inference.options import Options
        from dinomix.models.folder import Model, load_model
        from dinomix.models.light_monai import import_monai_for_networks

        import_monai_for_networks()
        loaded = load_model(model)
        if plan:
            loaded = Model(loaded.path, loaded.labels, loaded.plan.model_copy(update=plan), loaded.weights, {})
        network = loaded.network()

        def run() -> Path:
            return segment_files(
                loaded, [image], out / "ct.nii.gz", Options(device, precision=precision, runtime=runtime),
                overwrite=True, networks=[network],
            )[0]  # fmt: skip

        return run

    return prepare


def without_pytorch(precision: str) -> Prepare:
    """The engine where neither PyTorch nor MONAI can be imported; of a model that carries its graph."""

    def prepare(model: Path, image: Path, out: Path, device: str) -> Run:
        import importlib.abc

        class NotInstalled(importlib.abc.MetaPathFinder):
            def find_spec(self, name: str, *others: Any) -> None:
                if name.partition(".")[0] in ("torch", "monai", "timm", "accelerate"):
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        sys.meta_path.insert(0, NotInstalled())
        from dinomix.inference.batch import segment_files
        from dinomix.inference.options import Options
        from dinomix.models.folder import load_model

        loaded = load_model(model)
        network = loaded.network()

        def run() -> Path:
            options = Options(device, precision=precision)
            return segment_files(loaded, [image], out / "ct.nii.gz", options, overwrite=True, networks=[network])[0]

        return run

    return prepare


CONTENDERS = {
    "MONAI bundle": monai_bundle(),
    "MONAI bundle, OpenVINO": monai_bundle(openvino=True),
    "nnU-Net v2": nnunet(),
    "nnU-Net v2, fast recipe": nnunet(fast=True),
    "nnU-Net v2, fast recipe, OpenVINO": nnunet(fast=True, openvino=True),
    "dinomix": dinomix("auto"),
    "dinomix --precision float32": dinomix("float32"),
    "dinomix --runtime pytorch": dinomix("auto", "pytorch"),
    "dinomix --precision float32 --runtime pytorch": dinomix("float32", "pytorch"),
    "overlap 0.25": dinomix("float32", "pytorch", overlap=(0.25, 0.25, 0.25)),
    "dinomix, PyTorch not installed": without_pytorch("float32"),
    "dinomix --precision int8": dinomix("int8"),
    "dinomix --precision int8, PyTorch not installed": without_pytorch("int8"),
    "one window": dinomix("float32", "pytorch", patch=(128, 112, 112), overlap=(0.0, 0.0, 0.0)),
}


def bare_parts(model: Path, image: Path, labels: Path, device: str) -> dict[str, float]:
    """Seconds of what no program can do without: the windows' forwards, unpacking the image, packing the labels."""
    import io

    import numpy as np
    import torch

    from dinomix.images.gzip_streams import pack, unpacked
    from dinomix.images.reading import read_image, read_label
    from dinomix.inference.devices import has_bfloat16
    from dinomix.inference.precision import InBfloat16
    from dinomix.inference.windows import Layout
    from dinomix.models.folder import load_model
    from dinomix.models.light_monai import import_monai_for_networks
    from dinomix.planning.preprocessing import preprocess

    import_monai_for_networks()
    loaded = load_model(model)
    network = loaded.network().to(device, memory_format=torch.channels_last_3d)
    tensor = preprocess(read_image(image), loaded.plan).tensor
    layout = Layout.of(tuple(tensor.shape[1:]), loaded.plan)
    x, y, z = loaded.plan.patch
    window = torch.nn.functional.pad(tensor, (0, z, 0, y, 0, x))[None, :, :x, :y, :z].to(device)

    def forwards(network: torch.nn.Module, window: torch.Tensor) -> float:
        with torch.inference_mode():
            network(window)
            began = time.perf_counter()
            for _ in range(len(layout)):
                result = network(window)
            float(result.flatten()[0])
        return time.perf_counter() - began

    parts = {"windows": len(layout), "forwards, float32": forwards(network, window)}
    if has_bfloat16(torch.device(device)):
        fast = InBfloat16(network, loaded.plan, torch.device(device))
        parts["forwards, bfloat16"] = forwards(fast, window)
    began = time.perf_counter()
    with open(image, "rb") as file:
        for _ in unpacked(file):
            pass
    parts["unpacking"] = time.perf_counter() - began
    voxels = read_label(labels)[0].array
    began = time.perf_counter()
    pack(b"", np.ascontiguousarray(voxels).reshape(-1).view(np.uint8).data, io.BytesIO())
    parts["packing"] = time.perf_counter() - began
    return parts


def processor_seconds() -> float:
    """Of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def peak_memory() -> int:
    """Bytes of main memory that this process and, at most, one of its children had."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024 + children
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) + children


def main() -> None:
    name, device = sys.argv[1], sys.argv[5]
    model, image, out = map(Path, sys.argv[2:5])
    # What the contenders print must not come between.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**fields: object) -> None:
        print(json.dumps(fields), file=answers, flush=True)

    if name == "bare parts":
        answer(**bare_parts(model, image, out, device))
        return
    run = CONTENDERS[name](model, image, out, device)
    answer(labels=str(run()))
    for _ in sys.stdin:
        began, before = time.perf_counter(), processor_seconds()
        run()
        answer(seconds=time.perf_counter() - began, cpu=processor_seconds() - before, peak=peak_memory())


if __name__ == "__main__":
    main()
