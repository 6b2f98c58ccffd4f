"""Models in the formats of elsewhere, with random weights: what their publishers' own software writes, only smaller."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from monai.networks import nets
from torch import nn

SPLEEN_NETWORK = {
    "_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8, 16, 32, 64],
    "strides": [2, 2, 2, 2], "num_res_units": 2, "norm": "batch",
}  # fmt: skip
WHOLE_BODY_NETWORK = {
    "_target_": "SegResNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 5, "init_filters": 8,
    "blocks_down": [1, 2, 2, 4], "blocks_up": [1, 1, 1], "dropout_prob": 0.2,
}  # fmt: skip
AUTO3DSEG_NETWORK = {
    "_target_": "SegResNetDS", "init_filters": 8, "blocks_down": [1, 2, 2], "norm": "INSTANCE_NVFUSER",
    "in_channels": "@input_channels", "out_channels": "@output_classes", "dsdepth": 3,
}  # fmt: skip


def write_bundle(
    folder: Path, config: dict[str, Any], names: list[str], modality: str = "CT", images: tuple[str, ...] = ("image",)
) -> Path:
    """A bundle of the MONAI Model Zoo: configs, metadata, and ``models/model.pt`` of ``network_def``."""
    definition = config["network_def"]
    channels = {str(k): name for k, name in enumerate(["background", *names])}
    image = {"type": "image", "format": "hounsfield", "modality": modality,
             "num_channels": len(images),
             "spatial_shape": [96, 96, 96], "dtype": "float32", "value_range": [0, 1], "is_patch_data": True,
             "channel_def": {str(k): name for k, name in enumerate(images)}}  # fmt: skip
    metadata = {
        "version": "0.5.9", "name": "A bundle", "authors": "MONAI team", "copyright": "Copyright (c) MONAI Consortium",
        "data_source": "Task09_Spleen.tar from http://medicaldecathlon.com/",
        "network_data_format": {"inputs": {"image": image},
                                "outputs": {"pred": {**image, "num_channels": len(channels), "channel_def": channels}}},
    }  # fmt: skip
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs/inference.json").write_text(json.dumps(config, indent=4))
    (folder / "configs/metadata.json").write_text(json.dumps(metadata, indent=4))
    torch.save(random_network(definition).state_dict(), folder / "models/model.pt")
    return folder


def spleen_config(**changes: Any) -> dict[str, Any]:
    """``inference.json`` of spleen_ct_segmentation 0.5.9."""
    config = _config(SPLEEN_NETWORK)
    config["preprocessing"] = {"_target_": "Compose", "transforms": [
        {"_target_": "LoadImaged", "keys": "@image_key"},
        {"_target_": "EnsureChannelFirstd", "keys": "@image_key"},
        {"_target_": "Orientationd", "keys": "@image_key", "axcodes": "RAS"},
        {"_target_": "Spacingd", "keys": "@image_key", "pixdim": [1.5, 1.5, 2.0], "mode": "bilinear"},
        {"_target_": "ScaleIntensityRanged", "keys": "@image_key", "a_min": -57, "a_max": 164, "b_min": 0, "b_max": 1,
         "clip": True},
        {"_target_": "EnsureTyped", "keys": "@image_key"},
    ]}  # fmt: skip
    config["inferer"] = {
        "_target_": "SlidingWindowInferer", "roi_size": [96, 96, 96], "sw_batch_size": 4, "overlap": 0.5,
    }  # fmt: skip
    return {**config, **changes}


def whole_body_config(**changes: Any) -> dict[str, Any]:
    """``inference.json`` of wholeBody_ct_segmentation 0.2.5."""
    config = _config(WHOLE_BODY_NETWORK)
    config = {"displayable_configs": {"highres": True, "sw_overlap": 0.25, "sw_batch_size": 1}, **config}
    config["pixdim"] = "$[1.5, 1.5, 1.5] if @displayable_configs#highres else [3.0, 3.0, 3.0]"
    config["modelname"] = "$'model.pt' if @displayable_configs#highres else 'model_lowres.pt'"
    config["preprocessing"] = {"_target_": "Compose", "transforms": [
        {"_target_": "LoadImaged", "keys": "@image_key"},
        {"_target_": "EnsureTyped", "keys": "@image_key"},
        {"_target_": "EnsureChannelFirstd", "keys": "@image_key"},
        {"_target_": "Orientationd", "keys": "@image_key", "axcodes": "RAS"},
        {"_target_": "Spacingd", "keys": "@image_key", "pixdim": "@pixdim", "mode": "bilinear"},
        {"_target_": "NormalizeIntensityd", "keys": "@image_key", "nonzero": True},
        {"_target_": "ScaleIntensityd", "keys": "@image_key", "minv": -1.0, "maxv": 1.0},
    ]}  # fmt: skip
    config["inferer"] = {
        "_target_": "SlidingWindowInferer", "roi_size": [96, 96, 96], "sw_batch_size": "@displayable_configs#sw_batch_size",
        "overlap": "@displayable_configs#sw_overlap", "padding_mode": "replicate", "mode": "gaussian",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    }  # fmt: skip
    config["initialize"][0] = "$setattr(torch.backends.cudnn, 'benchmark', True)"
    return {**config, **changes}


def _config(network: dict[str, Any]) -> dict[str, Any]:
    return {
        "imports": ["$import glob", "$import numpy", "$import os"],
        "bundle_root": ".",
        "image_key": "image",
        "output_dir": "$@bundle_root + '/eval'",
        "output_dtype": "$numpy.float32",
        "load_pretrain": True,
        "dataset_dir": "/workspace/data/Task09_Spleen",
        "datalist": "$list(sorted(glob.glob(@dataset_dir + '/imagesTs/*.nii.gz')))",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": network,
        "network": "$@network_def.to(@device)",
        "dataset": {"_target_": "Dataset", "data": "$[{'image': i} for i in @datalist]", "transform": "@preprocessing"},
        "postprocessing": {"_target_": "Compose", "transforms": [
            {"_target_": "Activationsd", "keys": "pred", "softmax": True},
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
        ]},
        "handlers": [{"_target_": "StatsHandler", "iteration_log": False}],
        "checkpointloader": {"_target_": "CheckpointLoader", "load_path": "$@bundle_root + '/models/model.pt'",
                             "load_dict": {"model": "@network"}},
        "initialize": ["$monai.utils.set_determinism(seed=123)",
                       "$@checkpointloader(@evaluator) if @load_pretrain else None"],
        "run": ["$@evaluator.run()"],
    }  # fmt: skip


def write_auto3dseg(folder: Path, names: list[str], **changes: Any) -> Path:
    """``model.pt`` of Auto3DSeg's segresnet, with its configuration, beside ``labels.csv`` as MONAIAuto3DSeg has it."""
    config: dict[str, Any] = {
        "bundle_root": "/workspace/segresnet_0", "ckpt_path": "$@bundle_root + '/model'", "modality": "ct", "fold": 0,
        "input_channels": 1, "output_classes": len(names) + 1, "class_names": None, "class_index": None,
        "roi_size": [64, 64, 48], "orientation_ras": True, "crop_foreground": True, "sigmoid": False, "resample": True,
        "resample_resolution": [3.0, 3.0, 3.0], "crop_mode": "ratio", "normalize_mode": "range",
        "intensity_bounds": [-250.5, 250.25], "anisotropic_scales": False,
        "loss": {"_target_": "DiceCELoss", "softmax": "$not @sigmoid", "sigmoid": "$@sigmoid"},
        "network": {**AUTO3DSEG_NETWORK}, "finetune": {"enabled": False}, "validate": {"enabled": False}, **changes,
    }  # fmt: skip
    definition = {**config["network"]}
    definition["in_channels"] = config["input_channels"]
    definition["out_channels"] = config["output_classes"]
    # The algorithm itself takes plain instance normalization where apex is missing.
    weights = random_network({**definition, "norm": "INSTANCE"}).state_dict()
    folder.mkdir(parents=True, exist_ok=True)
    import numpy

    checkpoint = {"state_dict": weights, "config": config, "epoch": 300, "best_metric": numpy.float64(0.91)}
    torch.save(checkpoint, folder / "model.pt")
    write_labels_csv(folder / "labels.csv", names)
    return folder


CODES = {
    "Left Kidney": ("64033007", "Kidney", "7771000", "Left"),
    "Right Kidney": ("64033007", "Kidney", "24028007", "Right"),
    "Liver": ("10200004", "Liver", "", ""),
    "Spleen": ("78961009", "Spleen", "", ""),
}
HEADER = [
    "LabelValue", "Name",
    *(f"{field}.{part}" for field in (
        "SegmentedPropertyCategoryCodeSequence", "SegmentedPropertyTypeCodeSequence",
        "SegmentedPropertyTypeModifierCodeSequence", "AnatomicRegionSequence", "AnatomicRegionModifierSequence")
      for part in ("CodingSchemeDesignator", "CodeValue", "CodeMeaning")),
]  # fmt: skip


def write_labels_csv(path: Path, names: list[str]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for value, name in enumerate(names, 1):
            kind, meaning, side, side_meaning = CODES[name]
            category = ["SCT", "123037004", "Anatomical Structure"]
            sided = ["SCT", side, side_meaning] if side else ["", "", ""]
            internal = "_".join(reversed(name.lower().split()))
            writer.writerow([value, internal, *category, "SCT", kind, meaning, *sided, *[""] * 6])


def nnunet_architecture(
    kernels: list[list[int]], strides: list[list[int]], features: list[int], bias: bool = True
) -> dict[str, Any]:
    """The architecture of plans.json."""
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": len(features), "features_per_stage": features, "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": kernels, "strides": strides, "n_conv_per_stage": [2] * len(features),
            "n_conv_per_stage_decoder": [2] * (len(features) - 1), "conv_bias": bias,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d", "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None, "dropout_op_kwargs": None, "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }  # fmt: skip


def residual_architecture(
    kernels: list[list[int]], strides: list[list[int]], features: list[int], blocks: list[int], convs: list[int]
) -> dict[str, Any]:
    """The architecture of plans.json of nnU-Net's planners ResEnc M, L and XL."""
    architecture = nnunet_architecture(kernels, strides, features)
    architecture["network_class_name"] = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
    del architecture["arch_kwargs"]["n_conv_per_stage"]
    architecture["arch_kwargs"] |= {"n_blocks_per_stage": blocks, "n_conv_per_stage_decoder": convs}
    return architecture


def write_nnunet(
    folder: Path,
    labels: dict[str, int],
    weights: dict[str, torch.Tensor] | None = None,
    images: tuple[str, ...] = ("CT",),
    **changes: Any,
) -> Path:
    """A model folder of nnU-Net v2 with one fold. ``changes``: fields of the configuration 3d_fullres."""
    import numpy

    kernels, strides = [[1, 3, 3], [3, 3, 3], [3, 3, 3]], [[1, 1, 1], [1, 2, 2], [2, 2, 2]]
    architecture = changes.get("architecture") or nnunet_architecture(kernels, strides, [8, 16, 16])
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2,
        "patch_size": [16, 32, 48], "median_image_size_in_voxels": [40.0, 160.0, 160.0], "spacing": [5.0, 0.8, 0.9],
        "normalization_schemes": ["CTNormalization"], "use_mask_for_norm": [False], "architecture": architecture, **changes,
    }  # fmt: skip
    intensity = {"max": 900.0, "mean": 99.5, "median": 101.0, "min": -800.0, "percentile_00_5": -41.0,
                 "percentile_99_5": 176.0, "std": 39.4}  # fmt: skip
    plans = {
        "dataset_name": "Dataset509_Spleen", "plans_name": "nnUNetPlans", "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2], "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(k): intensity for k in range(len(images))},
        "configurations": {"3d_fullres": configuration},
    }  # fmt: skip
    dataset = {
        "channel_names": {str(k): name for k, name in enumerate(images)},
        "labels": {"background": 0, **labels},
        "file_ending": ".nii.gz",
    }
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    if weights is None:
        residual = architecture["network_class_name"].endswith("ResidualEncoderUNet")
        make = residual_weights if residual else nnunet_weights
        weights = make(architecture["arch_kwargs"], len(labels) + 1, len(images))
    checkpoint = {
        "network_weights": weights, "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.01, "momentum": 0.99}]},
        "grad_scaler_state": None, "logging": {"mean_fg_dice": [numpy.float64(0.5)], "epoch_end_timestamps": [1.5]},
        "_best_ema": numpy.float64(0.8), "current_epoch": 1000,
        "init_args": {"plans": plans, "configuration": "3d_fullres", "fold": 0, "dataset_json": dataset},
        "trainer_name": "nnUNetTrainer", "inference_allowed_mirroring_axes": (0, 1, 2),
    }  # fmt: skip
    torch.save(checkpoint, folder / "fold_0/checkpoint_final.pth")
    return folder


def write_totalsegmentator(folder: Path, dataset: str, trainer: str, labels: list[str], image: str) -> Path:
    """The folder of a release of TotalSegmentator: plans of nnU-Net 2.0, a network of five stages, and its checkpoint.

    The real ones have 32 to 320 features.
    """
    import numpy

    path = folder / dataset / f"{trainer}__nnUNetPlans__3d_fullres"
    stages = 5
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2,
        "patch_size": [112, 112, 128], "median_image_size_in_voxels": [115.0, 112.0, 134.0], "spacing": [3.0, 3.0, 3.0],
        "normalization_schemes": ["CTNormalization" if image == "CT" else "ZScoreNormalization"],
        "use_mask_for_norm": [False], "UNet_class_name": "PlainConvUNet", "UNet_base_num_features": 4,
        "n_conv_per_stage_encoder": [2] * stages, "n_conv_per_stage_decoder": [2] * (stages - 1),
        "num_pool_per_axis": [4, 4, 4], "pool_op_kernel_sizes": [[1, 1, 1], *[[2, 2, 2]] * (stages - 1)],
        "conv_kernel_sizes": [[3, 3, 3]] * stages, "unet_max_num_features": 16,
        "resampling_fn_data": "resample_data_or_seg_to_shape", "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape", "batch_dice": False,
    }  # fmt: skip
    intensity = {"max": 3000.0, "mean": 50.0, "median": 60.0, "min": -1024.0, "percentile_00_5": -1000.0,
                 "percentile_99_5": 1000.0, "std": 250.0}  # fmt: skip
    plans = {
        "dataset_name": dataset, "plans_name": "nnUNetPlans", "original_median_spacing_after_transp": [3.0, 3.0, 3.0],
        "original_median_shape_after_transp": [115, 112, 134], "image_reader_writer": "NibabelIOWithReorient",
        "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2], "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager", "foreground_intensity_properties_per_channel": {"0": intensity},
        "configurations": {"3d_fullres": configuration},
    }  # fmt: skip
    description = {
        "name": "TotalSegmentator", "description": "Segmentation of TotalSegmentator classes",
        "reference": "https://zenodo.org/record/6802614", "licence": "Apache 2.0", "release": "2.0",
        "channel_names": {"0": image}, "labels": {name: value for value, name in enumerate(["background", *labels])},
        "numTraining": 1559, "file_ending": ".nii.gz", "overwrite_image_reader_writer": "NibabelIOWithReorient",
    }  # fmt: skip
    (path / "fold_0").mkdir(parents=True)
    for name, document in (("plans", plans), ("dataset", description), ("dataset_fingerprint", {"spacings": []})):
        (path / f"{name}.json").write_text(json.dumps(document))
    (path / "fold_0/debug.json").write_text("{}")
    arguments = {"features_per_stage": [4, 8, 16, 16, 16], "kernel_sizes": configuration["conv_kernel_sizes"],
                 "strides": configuration["pool_op_kernel_sizes"], "conv_bias": True}  # fmt: skip
    weights = nnunet_weights(arguments, len(labels) + 1)
    momentum = {number: {"momentum_buffer": tensor} for number, tensor in enumerate(list(weights.values())[:3])}
    torch.save(
        {
            "network_weights": weights,
            "optimizer_state": {"state": momentum, "param_groups": [{"lr": 1e-5, "nesterov": True}]},
            "grad_scaler_state": {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 5},
            "logging": {
                "mean_fg_dice": [numpy.float64(0.5)], "ema_fg_dice": [numpy.float64(0.5)],
                "dice_per_class_or_region": [[numpy.float64(0.5)]], "train_losses": [numpy.float32(-0.5)],
                "val_losses": [numpy.float64(-0.5)], "lrs": [0.01], "epoch_start_timestamps": [1.5],
            },
            "_best_ema": numpy.float64(0.8),
            "current_epoch": 4000,
            "init_args": {"plans": plans, "configuration": "3d_fullres", "fold": 0, "dataset_json": description,
                          "unpack_dataset": True, "device": torch.device("cuda")},
            "trainer_name": trainer,
            "inference_allowed_mirroring_axes": None,
        },
        path / "fold_0/checkpoint_final.pth",
    )  # fmt: skip
    return path


def nnunet_weights(arguments: dict[str, Any], classes: int, images: int = 1) -> dict[str, torch.Tensor]:
    """Random weights under the names that nnU-Net's PlainConvUNet gives them, each once more under ``all_modules``."""
    torch.manual_seed(1)
    features, kernels, strides = (arguments[key] for key in ("features_per_stage", "kernel_sizes", "strides"))
    weights: dict[str, torch.Tensor] = {}

    def convolutions(prefix: str, inputs: int, outputs: int, kernel: list[int]) -> None:
        for number, width in enumerate((inputs, outputs)):
            conv = nn.Conv3d(width, outputs, kernel, bias=arguments["conv_bias"])
            place = f"{prefix}.convs.{number}"
            for part, tensor in conv.state_dict().items():
                weights[f"{place}.conv.{part}"] = weights[f"{place}.all_modules.0.{part}"] = tensor
            for part in ("weight", "bias"):
                weights[f"{place}.norm.{part}"] = weights[f"{place}.all_modules.1.{part}"] = torch.rand(outputs) + 0.5

    for stage, (width, kernel) in enumerate(zip(features, kernels, strict=True)):
        convolutions(f"encoder.stages.{stage}.0", images if stage == 0 else features[stage - 1], width, kernel)
    weights.update({f"decoder.{name}": tensor for name, tensor in list(weights.items())})
    for number in range(len(features) - 1):
        level = len(features) - 2 - number
        convolutions(f"decoder.stages.{number}", 2 * features[level], features[level], kernels[level])
        up = nn.ConvTranspose3d(features[level + 1], features[level], strides[level + 1], strides[level + 1],
                                bias=arguments["conv_bias"])  # fmt: skip
        head = nn.Conv3d(features[level], classes, 1)
        for name, module in ((f"decoder.transpconvs.{number}", up), (f"decoder.seg_layers.{number}", head)):
            weights.update({f"{name}.{part}": tensor for part, tensor in module.state_dict().items()})
    return weights


def residual_weights(arguments: dict[str, Any], classes: int, images: int = 1) -> dict[str, torch.Tensor]:
    """Random weights under all names that nnU-Net's ResidualEncoderUNet gives them, with its heads for deep supervision."""
    from dinomix.models.residual_encoder import ResidualEncoderUNet

    torch.manual_seed(1)
    taken = ("features_per_stage", "kernel_sizes", "strides", "n_blocks_per_stage", "n_conv_per_stage_decoder",
             "conv_bias", "norm_op_kwargs", "nonlin_kwargs")  # fmt: skip
    network = ResidualEncoderUNet(in_channels=images, out_channels=classes, **{key: arguments[key] for key in taken})
    for parameter in network.parameters():
        # Biases and scales that matter: as they are at the beginning of a training, they would hide a mistake.
        nn.init.normal_(parameter, std=0.3) if parameter.ndim == 1 else nn.init.kaiming_normal_(parameter)
    weights = dict(network.state_dict())
    for name, tensor in list(weights.items()):
        for part, number in (("conv", 0), ("norm", 1)):
            weights[name.replace(f".{part}.", f".all_modules.{number}.")] = tensor
    weights.update({f"decoder.{name}": tensor for name, tensor in list(weights.items()) if name.startswith("encoder.")})
    for number, width in enumerate(arguments["features_per_stage"][-2:0:-1]):
        head = nn.Conv3d(width, classes, 1)
        weights.update({f"decoder.seg_layers.{number}.{part}": tensor for part, tensor in head.state_dict().items()})
    return weights


def random_network(definition: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    arguments = {key: value for key, value in definition.items() if key != "_target_"}
    return getattr(nets, definition["_target_"])(**arguments)


def change_json(file: Path, place: tuple, value: Any) -> None:
    """Put ``value`` where ``place``, keys and numbers one in the other, leads in a JSON file."""
    document = json.loads(file.read_text())
    target: Any = document
    for part in place[:-1]:
        target = target[part]
    target[place[-1]] = value
    file.write_text(json.dumps(document))


def zipped(folder: Path, inside: str = "") -> Path:
    """The folder as a zip beside it; ``inside``: in a folder of that name."""
    if inside:
        outer = folder.with_name(folder.name + "-outer")
        shutil.copytree(folder, outer / inside)
        folder = outer
    return Path(shutil.make_archive(str(folder), "zip", folder))
