"""Model folders of nnU-Net v2 (plans.json, dataset.json, fold_X/checkpoint_final.pth): a PlainConvUNet is MONAI's DynUNet.

The two networks compute the same, with these differences in how their weights are written down:

- nnU-Net's convolutions have a bias, which the instance normalization after each of them removes again; DynUNet has none.
- nnU-Net's decoder takes the kernel size of its own level, DynUNet that of the level below. A smaller kernel is laid into
  the middle of a larger one, with zeros around it, which does not change what it computes.
- nnU-Net's axes are those of the file from the last to the first, then transposed; kernels are transposed to (x, y, z).
"""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dinomix.errors import DinomixError
from dinomix.importing.converted import Converted, make_plan, other_channels
from dinomix.importing.label_names import labels_from_names
from dinomix.importing.monai_bundle import make_grid
from dinomix.importing.weights import read_checkpoint, state_dict_of
from dinomix.planning.plan import MinMax, Step, StepsWindow, ToRange, ZScore

PLANS, DATASET = "plans.json", "dataset.json"
CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
_ONLY = "Models of nnU-Net v2 with a PlainConvUNet in 3D (configuration 3d_fullres or 3d_lowres) can be used."
Triple = tuple[int, int, int]


def is_nnunet(folder: Path) -> bool:
    return (folder / PLANS).is_file() and (folder / DATASET).is_file()


def read_nnunet(folder: Path, orientation: str | None = None) -> Converted:
    """Convert the first fold of a trained model.

    Args:
        orientation: the direction in which x, y and z of the files increased that the model was trained on, such as
            "LPS"; None for what the model says, or RAS.

    Raises:
        DinomixError: another network, a cascade, regions that overlap, or several input images.
    """
    plans, dataset = _json(folder / PLANS), _json(folder / DATASET)
    file = _checkpoint_file(folder)
    checkpoint = read_checkpoint(file)
    name = _get(checkpoint, "init_args", "configuration") or "3d_fullres"
    configuration = _configuration(plans, str(name), folder)
    order = _axis_order(plans, folder)
    notes = [f"Of the model's folds, {file.parent.name} is used; nnU-Net averages all of them."]
    _only_one_channel(dataset, configuration, folder)
    names = _label_names(dataset, folder)
    architecture = _Architecture.read(configuration, folder, order)
    window, modality = _window(plans, configuration, dataset, folder, notes)
    patch = _triple(configuration.get("patch_size"), order, folder, "patch_size")
    grid = make_grid(
        [float(configuration["spacing"][axis]) for axis in order],
        _orientation(plans, orientation, notes),
        folder / PLANS,
    )
    plan = make_plan(folder, modality=modality, grid=grid, window=window, patch=patch, network=architecture.network())
    channels = max(names) + 1
    weights = architecture.weights(state_dict_of(checkpoint, file), file)
    notes += [
        "Scans are resampled linearly, where nnU-Net takes cubic splines.",
        "Each window is seen once, where nnU-Net by default averages its mirror images too.",
    ]
    record = {
        "format": "nnU-Net v2",
        "title": str(plans.get("dataset_name") or folder.name),
        "trainer": str(checkpoint.get("trainer_name", "")),
        "configuration": str(name),
        "fold": file.parent.name,
        "license": str(dataset.get("licence") or dataset.get("license") or ""),
        "data_source": str(dataset.get("reference") or ""),
    }
    return Converted(
        plan, labels_from_names(names, channels, folder), weights, {k: v for k, v in record.items() if v}, notes
    )


class _Architecture:
    """A PlainConvUNet, with its axes in the order (x, y, z)."""

    def __init__(
        self, features: list[int], kernels: list[Triple], strides: list[Triple], bias: bool, eps: float, slope: float,
        order: Triple,
    ) -> None:  # fmt: skip
        self.features, self.kernels, self.strides = features, kernels, strides
        self.bias, self.eps, self.slope, self.order = bias, eps, slope, order
        # DynUNet's kernel of a level serves its encoder there and the decoder one level above.
        self.shared = [kernels[0]]
        self.shared += [(max(a[0], b[0]), max(a[1], b[1]), max(a[2], b[2])) for a, b in pairwise(kernels)]

    @classmethod
    def read(cls, configuration: dict[str, Any], folder: Path, order: Triple) -> "_Architecture":
        """Raises DinomixError where it is another network, or one that DynUNet cannot express."""
        given = configuration.get("architecture") or _old_architecture(configuration)
        kind = str(given.get("network_class_name", "")).rpartition(".")[2]
        if kind != "PlainConvUNet":
            raise DinomixError(f"{folder} holds a {kind or 'network without a name'}.", _ONLY)
        arguments = given.get("arch_kwargs") or {}
        stages = arguments.get("n_stages")
        try:
            features = [int(n) for n in arguments["features_per_stage"]]
            kernels = [_triple(k, order, folder, "kernel_sizes") for k in arguments["kernel_sizes"]]
            strides = [_triple(s, order, folder, "strides") for s in arguments["strides"]]
        except (KeyError, TypeError, ValueError) as error:
            raise DinomixError(f"{folder / PLANS}: the architecture is incomplete ({error}).", _ONLY) from error
        per_stage, in_decoder = arguments.get("n_conv_per_stage"), arguments.get("n_conv_per_stage_decoder")
        usual = {
            "two convolutions per stage": _all_are(per_stage, 2) and _all_are(in_decoder, 2),
            "at least three stages": len(features) == len(kernels) == len(strides) == stages and len(features) >= 3,
            "kernels of 1 or 3": all(side in (1, 3) for kernel in kernels for side in kernel),
            "no dropout": not arguments.get("dropout_op"),
            "instance normalization": str(arguments.get("norm_op")).endswith("InstanceNorm3d"),
            "trained scales of the normalization": (arguments.get("norm_op_kwargs") or {}).get("affine", False),
            "LeakyReLU after normalization": str(arguments.get("nonlin")).endswith("LeakyReLU")
            and not arguments.get("nonlin_first"),
        }
        for what, holds in usual.items():
            if not holds:
                raise DinomixError(f"{folder} holds a PlainConvUNet without {what}.", _ONLY)
        return cls(
            features, kernels, strides, bool(arguments.get("conv_bias", False)),
            float(arguments["norm_op_kwargs"].get("eps", 1e-5)),
            float((arguments.get("nonlin_kwargs") or {}).get("negative_slope", 0.01)), order,
        )  # fmt: skip

    def network(self) -> dict[str, Any]:
        """The network in the terms of a plan."""
        return {
            "_target_": "monai.networks.nets.DynUNet",
            "kernel_size": [list(kernel) for kernel in self.shared],
            "strides": [list(stride) for stride in self.strides],
            "upsample_kernel_size": [list(stride) for stride in self.strides[1:]],
            "filters": self.features,
            "norm_name": ["INSTANCE", {"affine": True, "eps": self.eps}],
            "act_name": ["leakyrelu", {"inplace": True, "negative_slope": self.slope}],
            "trans_bias": self.bias,
        }

    def weights(self, given: dict[str, Tensor], file: Path) -> dict[str, Tensor]:
        """nnU-Net's weights under DynUNet's names, each where DynUNet's state dict lists it."""
        stages = len(self.features)
        blocks = {"input_block": "encoder.stages.0.0.convs", "bottleneck": f"encoder.stages.{stages - 1}.0.convs"}
        blocks |= {f"downsamples.{i}": f"encoder.stages.{i + 1}.0.convs" for i in range(stages - 2)}
        kernels = {"input_block": self.shared[0], "bottleneck": self.shared[-1]}
        kernels |= {f"downsamples.{i}": self.shared[i + 1] for i in range(stages - 2)}
        found: dict[str, Tensor] = {}
        try:
            for i in range(stages - 1):
                # The decoder's first stage works at the level above the deepest one.
                blocks[f"upsamples.{i}.conv_block"] = f"decoder.stages.{i}.convs"
                kernels[f"upsamples.{i}.conv_block"] = self.shared[stages - 1 - i]
                up = f"decoder.transpconvs.{i}"
                found[f"upsamples.{i}.transp_conv.conv.weight"] = self._turned(given[f"{up}.weight"])
                if self.bias:
                    found[f"upsamples.{i}.transp_conv.conv.bias"] = given[f"{up}.bias"]
            for block, convs in blocks.items():
                for number in (0, 1):
                    conv = self._turned(given[f"{convs}.{number}.conv.weight"])
                    found[f"{block}.conv{number + 1}.conv.weight"] = _laid_into(conv, kernels[block])
                    for part in ("weight", "bias"):
                        found[f"{block}.norm{number + 1}.{part}"] = given[f"{convs}.{number}.norm.{part}"]
            last = f"decoder.seg_layers.{stages - 2}"
            found["output_block.conv.conv.weight"] = self._turned(given[f"{last}.weight"])
            found["output_block.conv.conv.bias"] = given[f"{last}.bias"]
        except KeyError as error:
            raise DinomixError(f"{file} has no {error}.", "Its weights are not those of plans.json.") from error
        return found | _skip_layer_names(found, stages)

    def _turned(self, kernel: Tensor) -> Tensor:
        """A kernel (out, in, then nnU-Net's axes) with its axes in the order (x, y, z)."""
        return kernel.permute(0, 1, *(axis + 2 for axis in self.order)).contiguous()


def _skip_layer_names(found: dict[str, Tensor], stages: int) -> dict[str, Tensor]:
    """DynUNet lists its blocks a second time, along the way that an image takes through them."""
    again = {}
    place = "skip_layers"
    for level in range(stages - 1):
        down = "input_block" if level == 0 else f"downsamples.{level - 1}"
        up = f"upsamples.{stages - 2 - level}"
        for block, part in ((down, "downsample"), (up, "upsample")):
            names = [name for name in found if name.startswith(block + ".")]
            again.update({f"{place}.{part}{name[len(block) :]}": found[name] for name in names})
        place += ".next_layer"
    names = [name for name in found if name.startswith("bottleneck.")]
    return again | {f"{place}{name[len('bottleneck') :]}": found[name] for name in names}


def _laid_into(kernel: Tensor, size: Triple) -> Tensor:
    """A kernel in the middle of a larger one of zeros."""
    if tuple(kernel.shape[2:]) == size:
        return kernel
    larger = torch.zeros(*kernel.shape[:2], *size)
    starts = [(large - small) // 2 for large, small in zip(size, kernel.shape[2:], strict=True)]
    x, y, z = (slice(start, start + small) for start, small in zip(starts, kernel.shape[2:], strict=True))
    larger[:, :, x, y, z] = kernel
    return larger


def _old_architecture(configuration: dict[str, Any]) -> dict[str, Any]:
    """The architecture as plans before nnU-Net 2.3 have it, spread over the configuration."""
    kind = configuration.get("UNet_class_name")
    convolutions = configuration.get("n_conv_per_stage_encoder") or []
    start, most = configuration.get("UNet_base_num_features", 32), configuration.get("unet_max_num_features", 320)
    return {
        "network_class_name": kind,
        "arch_kwargs": {
            "n_stages": len(convolutions),
            "features_per_stage": [min(start * 2**i, most) for i in range(len(convolutions))],
            "kernel_sizes": configuration.get("conv_kernel_sizes"),
            "strides": configuration.get("pool_op_kernel_sizes"),
            "n_conv_per_stage": convolutions,
            "n_conv_per_stage_decoder": configuration.get("n_conv_per_stage_decoder"),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "nonlin": "torch.nn.LeakyReLU",
        },
    }


def _configuration(plans: dict[str, Any], name: str, folder: Path) -> dict[str, Any]:
    """A configuration with all that it inherits."""
    configurations = plans.get("configurations")
    merged: dict[str, Any] = {}
    at, seen = name, set()
    while isinstance(configurations, dict) and isinstance(configurations.get(at), dict) and at not in seen:
        seen.add(at)
        merged = {**configurations[at], **merged}
        at = str(configurations[at].get("inherits_from", ""))
    if name not in seen:
        raise DinomixError(f"{folder / PLANS} has no configuration {name}.", _ONLY)
    if merged.get("previous_stage"):
        raise DinomixError(f"{folder} is the second stage of a cascade.", _ONLY)
    if len(merged.get("patch_size") or ()) != 3 or len(merged.get("spacing") or ()) != 3:
        raise DinomixError(f"{folder} is the 2D configuration {name}.", _ONLY)
    return merged


def _checkpoint_file(folder: Path) -> Path:
    folds = sorted(folder.glob("fold_*"))
    for fold in folds:
        for name in CHECKPOINTS:
            if (fold / name).is_file():
                return fold / name
    raise DinomixError(f"{folder} has no fold_X/{CHECKPOINTS[0]}.", "Give the folder that nnU-Net trained.")


def _only_one_channel(dataset: dict[str, Any], configuration: dict[str, Any], folder: Path) -> None:
    channels = dataset.get("channel_names", dataset.get("modality")) or {}
    count = max(len(channels), len(configuration.get("normalization_schemes") or ()))
    if count != 1:
        raise other_channels(folder, count)


def _label_names(dataset: dict[str, Any], folder: Path) -> dict[int, str]:
    labels = dataset.get("labels")
    if not isinstance(labels, dict) or any(isinstance(value, (list, tuple)) for value in labels.values()):
        raise DinomixError(
            f"{folder} segments regions that overlap.", "Models whose labels exclude each other can be used."
        )
    try:
        names = {int(value): str(name) for name, value in labels.items() if name != "ignore" and int(value) != 0}
    except (TypeError, ValueError) as error:
        raise DinomixError(
            f"{folder / DATASET}: its labels are no numbers ({error}).", "Get the model again."
        ) from error
    if sorted(names) != list(range(1, len(names) + 1)) or not names:
        raise DinomixError(f"{folder / DATASET}: its labels are not numbered from 1 on.", "Get the model again.")
    return names


def _window(
    plans: dict[str, Any], configuration: dict[str, Any], dataset: dict[str, Any], folder: Path, notes: list[str]
) -> tuple[StepsWindow, str]:
    scheme = str((configuration.get("normalization_schemes") or [""])[0])
    masked = bool((configuration.get("use_mask_for_norm") or [False])[0])
    called = str(next(iter((dataset.get("channel_names", dataset.get("modality")) or {"0": "?"}).values())))
    modality = "CT" if scheme == "CTNormalization" or called.upper() == "CT" else "MR"
    step: Step
    match scheme:
        case "CTNormalization":
            step = _ct_step(plans, folder)
        case "ZScoreNormalization":
            step = ZScore(nonzero=masked)
        case "RescaleTo01Normalization":
            step = MinMax(to=(0.0, 1.0))
        case _:
            raise DinomixError(f"{folder} scales intensities by {scheme or 'nothing'}.", "CT and z-score can be used.")
    if modality == "MR" and not called.upper().startswith(("MR", "T1", "T2", "FLAIR")):
        notes.append(f"The model calls its images {called!r}; they are taken for MR.")
    return StepsWindow(on="file", steps=(step,)), modality


def _ct_step(plans: dict[str, Any], folder: Path) -> ToRange:
    properties = plans.get("foreground_intensity_properties_per_channel") or plans.get(
        "foreground_intensity_properties_by_modality"
    )
    try:
        of_channel = properties["0"]  # type: ignore[index]
        low, high = float(of_channel["percentile_00_5"]), float(of_channel["percentile_99_5"])
        mean, deviation = float(of_channel["mean"]), max(float(of_channel["std"]), 1e-8)
        return ToRange(low=low, high=high, to=((low - mean) / deviation, (high - mean) / deviation), clip=True)
    except (KeyError, TypeError, ValueError) as error:
        raise DinomixError(
            f"{folder / PLANS} lacks the intensities of its CTs ({error}).", "Get the model again."
        ) from error


def _orientation(plans: dict[str, Any], wanted: str | None, notes: list[str]) -> str:
    if wanted is not None:
        return wanted.upper()
    if "Reorient" not in str(plans.get("image_reader_writer", "")):
        notes.append(
            "nnU-Net does not say how the scans were turned that it was trained on; RAS axes are assumed. If left and "
            "right come out exchanged, import the model again with --orientation LPS, or what its scans have."
        )
    return "RAS"


def _axis_order(plans: dict[str, Any], folder: Path) -> Triple:
    """nnU-Net's axis that is x, y and z: its files are read as (z, y, x), then transposed."""
    forward = plans.get("transpose_forward", [0, 1, 2])
    if sorted(forward) != [0, 1, 2]:
        raise DinomixError(f"{folder / PLANS}: transpose_forward is {forward!r}.", "Get the model again.")
    return forward.index(2), forward.index(1), forward.index(0)


def _triple(value: Any, order: Triple, folder: Path, what: str) -> Triple:
    sides = [value] * 3 if isinstance(value, int) else value
    if not isinstance(sides, Sequence) or len(sides) != 3 or not all(isinstance(side, int) for side in sides):
        raise DinomixError(f"{folder / PLANS}: {what} {value!r} is not three numbers.", _ONLY)
    return sides[order[0]], sides[order[1]], sides[order[2]]


def _all_are(value: Any, number: int) -> bool:
    return value == number or (isinstance(value, (list, tuple)) and all(v == number for v in value))


def _get(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DinomixError(f"{path} is not JSON ({error}).", "Get the model again.") from error
    if not isinstance(data, dict):
        raise DinomixError(f"{path} is not what nnU-Net writes.", "Get the model again.")
    return data
