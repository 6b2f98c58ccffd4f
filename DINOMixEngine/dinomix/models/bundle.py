"""The two files that make a model folder a MONAI bundle, so that it runs wherever MONAI does, without this package."""

import math
from importlib.metadata import version
from typing import Any

from dinomix import __version__
from dinomix.labels import LabelSet
from dinomix.models.card import ONE_STAGE_IN_MONAI
from dinomix.models.manifest import MORE_WEIGHTS, WEIGHTS
from dinomix.models.network import RESIDUAL_ENCODER, network_definition
from dinomix.planning.intensities import monai_steps, scales_on_grid, usual_range
from dinomix.planning.plan import Plan, SpacingGrid
from dinomix.planning.preprocessing import SPACING_STEPS

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"


def inference_config(plan: Plan, labels: LabelSet) -> dict[str, Any]:
    """``configs/inference.json``: the steps of ``dinomix segment`` in MONAI's configuration language.

    Its inputs are ``dataset_dir`` (all NIfTI files in it) or ``image`` (one file); each gives
    ``output_dir``/NAME_seg.nii.gz with structure ids on the image's own grid. MONAI writes an image
    of one slice as a 2D file. With several channels they are files NAME_0000, NAME_0001, ..., or a list of
    one file for each channel; the result is named after the first.
    """
    keys = _keys(plan)
    return {
        "imports": [
            "$import glob", "$import os", "$import numpy", "$import torch", "$import monai",
        ],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/data'",
        "image": "",
        "images": _images(plan),
        "output_dir": "$@bundle_root + '/eval'",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        **_network(plan, labels),
        "preprocessing": {"_target_": "Compose", "transforms": _preprocessing(plan)},
        "dataset": {
            "_target_": "Dataset", "transform": "@preprocessing",
            "data": "$[{'image': path} for path in @images]" if len(keys) == 1 else
                    f"$[dict(zip({keys}, paths)) for paths in @images]",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": {
            "_target_": "SlidingWindowInferer", "roi_size": list(plan.patch), "sw_batch_size": 1,
            "overlap": list(plan.overlap), "mode": plan.blend, "sw_device": "@device", "device": "$torch.device('cpu')",
        },
        "postprocessing": {"_target_": "Compose", "transforms": _postprocessing(labels, keys[0])},
        "evaluator": {
            "_target_": "SupervisedEvaluator", "device": "@device", "val_data_loader": "@dataloader",
            "network": "@network", "inferer": "@inferer", "postprocessing": "@postprocessing",
        },
        "initialize": _load_weights(plan),
        "run": ["$@evaluator.run()"],
    }  # fmt: skip


def _network(plan: Plan, labels: LabelSet) -> dict[str, Any]:
    """The network, and the files of weights; of an ensemble, one whose logits are those of ``models.averaged``."""
    if not plan.more_networks:
        return {
            "network_def": network_definition(plan, labels.channels),
            "network": "$@network_def.to(@device)",
            "weights": _weights_in(WEIGHTS),
        }
    files = (WEIGHTS, *MORE_WEIGHTS)
    averaged = (
        "lambda x: torch.logsumexp(torch.stack([torch.log_softmax(each(x).float(), 1) for each in @network_def]), 0)"
        f" - {math.log(len(plan.networks))!r}"
    )
    return {
        "networks_def": [network_definition(member, labels.channels) for member in plan.members],
        "network_def": "$torch.nn.ModuleList(@networks_def)",
        "network": f"$(setattr(@network_def, 'forward', {averaged}), @network_def.to(@device))[1]",
        "weights": [_weights_in(file) for file, _ in zip(files, plan.networks, strict=False)],
    }


def _weights_in(file: str) -> dict[str, Any]:
    *folders, name = file.split("/")
    return {
        "_target_": "safetensors.torch.load_file",
        "filename": f"$os.path.join(@bundle_root, {', '.join(map(repr, (*folders, name)))})",
    }


def _load_weights(plan: Plan) -> list[str]:
    if not plan.more_networks:
        return [_loading(plan, "@network_def", "@weights")]
    return [
        _loading(member, f"@network_def[{number}]", f"@weights#{number}") for number, member in enumerate(plan.members)
    ]


def _loading(plan: Plan, network: str, weights: str) -> str:
    if plan.network["_target_"] == RESIDUAL_ENCODER:
        # The library lists each tensor up to four times, and has heads for deep supervision, which are not used.
        return f"${network}.load_state_dict({{**{network}.state_dict(), **{weights}}})"
    return f"${network}.load_state_dict({weights})"


def _keys(plan: Plan) -> list[str]:
    """Under which the channels are loaded; they are put together as "image"."""
    if len(plan.channels) == 1:
        return ["image"]
    return [f"image_{number}" for number in range(len(plan.channels))]


def _images(plan: Plan) -> str:
    if len(plan.channels) == 1:
        return "$[@image] if @image else sorted(glob.glob(os.path.join(glob.escape(@dataset_dir), '*.nii*')))"
    others = f"[f'_{{number:04d}}.nii'.join(path.rsplit('_0000.nii', 1)) for number in range({len(plan.channels)})]"
    firsts = "sorted(glob.glob(os.path.join(glob.escape(@dataset_dir), '*_0000.nii*')))"
    return f"$[@image] if @image else [{others} for path in {firsts}]"


def _preprocessing(plan: Plan) -> list[dict[str, Any]]:
    keys = _keys(plan)
    image = {"keys": keys if len(keys) > 1 else keys[0]}
    steps: list[dict[str, Any]] = [
        {"_target_": "LoadImaged", **image, "image_only": True, "ensure_channel_first": True},
    ]
    if len(keys) > 1:
        # Leaves alone what is on the first one's grid already.
        steps.append({
            "_target_": "ResampleToMatchd", "keys": keys[1:], "key_dst": keys[0], "mode": "bilinear", "padding_mode": "border",
        })  # fmt: skip
    if isinstance(plan.grid, SpacingGrid):
        signs = [-1 if code in "LPI" else 1 for code in plan.grid.orientation]
        rounded = f"torch.round(x.pixdim.double() * {SPACING_STEPS}) / {SPACING_STEPS}"
        steps += [
            {
                "_target_": "Orientationd", **image, "axcodes": plan.grid.orientation,
                "labels": [["L", "R"], ["P", "A"], ["I", "S"]],
            },
            # Position and rotation are dropped, so that resampling sees indices and spacings only. Invertd needs the
            # directions.
            {
                "_target_": "Lambdad", **image,
                "func": f"$lambda x: (setattr(x, 'affine', torch.diag(torch.cat([{rounded} * torch.tensor({signs}), "
                "torch.ones(1)]))), x)[1]",
            },
        ]  # fmt: skip
    scaling = [
        (scales_on_grid(window), {"_target_": name + "d", "keys": key, **arguments})
        for key, window in zip(keys, plan.windows, strict=True)
        for name, arguments in monai_steps(window)
    ]
    steps += [step for on_grid, step in scaling if not on_grid]
    if isinstance(plan.grid, SpacingGrid):
        steps.append({
            "_target_": "Spacingd", **image, "pixdim": list(plan.grid.spacing), "mode": "bilinear",
            "padding_mode": "border", "align_corners": False,
        })  # fmt: skip
    else:
        steps.append({
            "_target_": "Resized", **image, "spatial_size": list(plan.grid.size), "mode": "trilinear",
            "align_corners": False, "dtype": "$torch.float64",
        })  # fmt: skip
    steps += [step for on_grid, step in scaling if on_grid]
    if len(keys) > 1:
        steps.append({"_target_": "ConcatItemsd", "keys": keys, "name": "image", "dim": 0})
    return steps


def _postprocessing(labels: LabelSet, first: str) -> list[dict[str, Any]]:
    pred = {"keys": "pred"}
    id_type = "uint8" if max(labels.ids) < 256 else "uint16"
    return [
        {
            "_target_": "Invertd", **pred, "transform": "@preprocessing", "orig_keys": first,
            "nearest_interp": False, "to_tensor": True,
        },
        {"_target_": "AsDiscreted", **pred, "argmax": True},
        # Channel k is the k-th structure; the file holds structure ids, on the grid that the image file has.
        {
            "_target_": "Lambdad", **pred,
            "func": f"$lambda x: monai.data.MetaTensor(torch.tensor({[0, *labels.ids]})[x.as_tensor().cpu().long()], "
            "meta={**x.meta, 'affine': x.meta['original_affine']})",
        },
        {
            "_target_": "SaveImaged", **pred, "output_dir": "@output_dir", "output_postfix": "seg",
            "output_ext": ".nii.gz", "output_dtype": f"$numpy.{id_type}", "resample": False, "separate_folder": False,
        },
    ]  # fmt: skip


def metadata(plan: Plan, labels: LabelSet, record: dict[str, Any]) -> dict[str, Any]:
    """``configs/metadata.json`` after MONAI's metadata schema."""
    structures = ", ".join(labels.names)
    channels = {"0": "background"} | {str(k): name for k, name in enumerate(labels.names, start=1)}
    inputs = {
        "type": "image",
        "format": "hounsfield" if plan.modality == "CT" else "magnitude",
        "modality": _modality(plan),
        "num_channels": len(plan.channels),
        "spatial_shape": list(plan.patch),
        "dtype": "float32",
        "value_range": list(usual_range(plan.window)),
        "is_patch_data": True,
        "channel_def": {str(number): name or "image" for number, name in enumerate(plan.channels)},
    }
    outputs = {
        "type": "image",
        "format": "segmentation",
        "num_channels": labels.channels,
        "spatial_shape": list(plan.patch),
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": True,
        "channel_def": channels,
    }
    return {
        "schema": SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": "First version of this folder."},
        "monai_version": _release("monai"),
        "pytorch_version": _release("torch"),
        "numpy_version": _release("numpy"),
        "required_packages_version": _packages(plan),
        "optional_packages_version": {},
        "name": f"DINOMix, {_modality(plan)}: {structures}",
        "task": f"Segmentation of {structures} in {_modality(plan)}",
        "description": _description(record) + (f" {ONE_STAGE_IN_MONAI}" if plan.second is not None else ""),
        "authorship": str(record.get("author", "Not stated.")),
        "copyright": str(record.get("copyright", "Not stated.")),
        "data_source": str(record.get("data_source", "Not stated.")),
        "data_type": "nifti",
        "image_classes": f"{_channels(plan)}; intensities scaled by the preprocessing.",
        "label_classes": ", ".join(["0 background", *(f"{s.id} {s.name}" for s in labels.structures)]),
        "pred_classes": f"{labels.channels} channels of logits; the files written hold the label classes' numbers.",
        "intended_use": "Research only. Not a medical device; not for diagnosis or treatment.",
        "references": [],
        "network_data_format": {"inputs": {"image": inputs}, "outputs": {"pred": outputs}},
    }


def _modality(plan: Plan) -> str:
    return " and ".join(dict.fromkeys(plan.modalities))


def _channels(plan: Plan) -> str:
    if len(plan.channels) == 1:
        return f"One channel, {plan.modality}"
    told = ", ".join(f"{name} ({kind})" for name, kind in zip(plan.channels, plan.modalities, strict=True))
    return f"{len(plan.channels)} channels: {told}, on one grid"


def _description(record: dict[str, Any]) -> str:
    if "ensemble_of" in record:
        return f"An ensemble of {len(record['ensemble_of'])} models, joined by DINOMix {__version__}."
    if "format" in record:
        return f"Converted by DINOMix {__version__} from: {record['format']}."
    return f"Trained with DINOMix {__version__} from few labeled and many unlabeled volumes."


def _packages(plan: Plan) -> dict[str, str]:
    """What MONAI needs beside itself to run the bundle."""
    packages = {"safetensors": "0.4", "nibabel": "5.2", "pytorch-ignite": "0.5", "fire": "0.6"}
    if any(network["_target_"] == RESIDUAL_ENCODER for network in plan.networks):
        packages["dynamic-network-architectures"] = "0.3.1"
    if any(network["_target_"].endswith("UNETR") for network in plan.networks):
        packages["einops"] = "0.6"
    return packages


def _release(name: str) -> str:
    """A version without its build tag ("2.6.0+cpu" -> "2.6.0")."""
    return version(name).split("+")[0]
