"""The networks of nnU-Net v2 in the terms of a plan: PlainConvUNet and ResidualEncoderUNet.

A PlainConvUNet is MONAI's DynUNet. The two compute the same, with these differences in how their weights are written down:

- nnU-Net's convolutions have a bias, which the instance normalization after each of them removes again; DynUNet has none.
- nnU-Net's decoder takes the kernel size of its own level, DynUNet that of the level below. A smaller kernel is laid into
  the middle of a larger one, with zeros around it, which does not change what it computes.

A ResidualEncoderUNet keeps its weights as they are. In both, nnU-Net's axes are those of the file from the last to the
first, then transposed; kernels are transposed to (x, y, z).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dinomix.errors import DinomixError, reason_of
from dinomix.models.network import RESIDUAL_ENCODER

MOST_STAGES = 16
ONLY = (
    "Models of nnU-Net v2 with a PlainConvUNet or a ResidualEncoderUNet in 3D (configuration 3d_fullres or 3d_lowres) can "
    "be used."
)
_CONVOLUTIONS = ("torch.nn.modules.conv.Conv3d", "torch.nn.Conv3d")
_NORMS = ("torch.nn.modules.instancenorm.InstanceNorm3d", "torch.nn.InstanceNorm3d")
_ACTIVATIONS = ("torch.nn.LeakyReLU", "torch.nn.modules.activation.LeakyReLU")
_LIBRARIES = ("dynamic_network_architectures.", ".")
"""Where the networks are; plans before nnU-Net 2.3 do not say it."""
Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Architecture(ABC):
    """What both networks have, with their axes in the order (x, y, z).

    Attributes:
        order: nnU-Net's axis that is x, y and z.
        encoder, decoder: convolutions (or residual blocks) of each stage.
    """

    order: Triple
    features: list[int]
    kernels: list[Triple]
    strides: list[Triple]
    encoder: list[int]
    decoder: list[int]
    bias: bool
    norm: dict[str, Any]
    activation: dict[str, Any]

    @staticmethod
    @abstractmethod
    def usual(
        arguments: dict[str, Any], kernels: list[Triple], encoder: list[int], decoder: list[int]
    ) -> dict[str, bool]:
        """What a plan can express of this network, in words -> whether it holds."""

    @abstractmethod
    def network(self) -> dict[str, Any]:
        """The network in the terms of a plan."""

    @abstractmethod
    def weights(self, given: dict[str, Tensor], file: Path) -> dict[str, Tensor]:
        """nnU-Net's weights as the plan's network has them. Raises DinomixError where one is missing."""

    def _turned(self, kernel: Tensor) -> Tensor:
        """A kernel (out, in, then nnU-Net's axes) with its axes in the order (x, y, z)."""
        return kernel.permute(0, 1, *(axis + 2 for axis in self.order)).contiguous()


def read_architecture(configuration: dict[str, Any], plans: Path, order: Triple) -> Architecture:
    """The network of a configuration in plans.json; its names of classes are compared, and never looked up.

    Raises:
        DinomixError: it is another network, or one that a plan cannot express.
    """
    given = configuration.get("architecture") or _old_architecture(configuration)
    module, _, kind = str(given.get("network_class_name", "")).rpartition(".")
    read_as = {"PlainConvUNet": PlainConv, "ResidualEncoderUNet": ResidualEncoder}.get(kind)
    if read_as is None or not f"{module}.".startswith(_LIBRARIES):
        called = given.get("network_class_name") or "network without a name"
        raise DinomixError(f"{plans.parent} holds a {called}.", ONLY)
    arguments = given.get("arch_kwargs") or {}
    per_stage = "n_conv_per_stage" if read_as is PlainConv else "n_blocks_per_stage"
    try:
        stages = int(arguments["n_stages"])
        if not 2 <= stages <= MOST_STAGES:
            raise ValueError(f"{stages} stages")
        features = _per_stage(arguments["features_per_stage"], stages)
        kernels = [triple(k, order, plans, "kernel_sizes") for k in arguments["kernel_sizes"]]
        strides = [triple(s, order, plans, "strides") for s in arguments["strides"]]
        encoder = _per_stage(arguments[per_stage], stages)
        decoder = _per_stage(arguments["n_conv_per_stage_decoder"], stages - 1)
    except (KeyError, TypeError, ValueError) as error:
        raise DinomixError(f"{plans}: the architecture is incomplete ({reason_of(error)}).", ONLY) from error
    norm, activation = dict(arguments.get("norm_op_kwargs") or {}), dict(arguments.get("nonlin_kwargs") or {})
    usual = {
        "one entry per stage": len(features) == len(kernels) == len(strides) == len(encoder) == stages
        and len(decoder) == stages - 1,
        "convolutions in 3D": arguments.get("conv_op") in _CONVOLUTIONS,
        "no dropout": not arguments.get("dropout_op"),
        "instance normalization": arguments.get("norm_op") in _NORMS and norm.keys() <= {"eps", "affine"},
        "trained scales of the normalization": norm.get("affine", False) is True,
        "LeakyReLU after normalization": arguments.get("nonlin") in _ACTIVATIONS
        and activation.keys() <= {"inplace", "negative_slope"}
        and not arguments.get("nonlin_first"),
        **read_as.usual(arguments, kernels, encoder, decoder),
    }
    for what, holds in usual.items():
        if not holds:
            raise DinomixError(f"{plans.parent} holds a {kind} without {what}.", ONLY)
    norm = {"eps": float(norm.get("eps", 1e-5)), "affine": True}
    activation = {"negative_slope": float(activation.get("negative_slope", 0.01)), "inplace": True}
    bias = bool(arguments.get("conv_bias", False))
    return read_as(order, features, kernels, strides, encoder, decoder, bias, norm, activation)


class PlainConv(Architecture):
    """MONAI's DynUNet."""

    @staticmethod
    def usual(
        arguments: dict[str, Any], kernels: list[Triple], encoder: list[int], decoder: list[int]
    ) -> dict[str, bool]:
        return {
            "two convolutions per stage": set(encoder) | set(decoder) == {2},
            "at least three stages": len(kernels) >= 3,
            "kernels of 1 or 3": all(side in (1, 3) for kernel in kernels for side in kernel),
        }

    @property
    def shared(self) -> list[Triple]:
        """DynUNet's kernels: that of a level serves its encoder there and the decoder one level above."""
        larger = [(max(a[0], b[0]), max(a[1], b[1]), max(a[2], b[2])) for a, b in pairwise(self.kernels)]
        return [self.kernels[0], *larger]

    def network(self) -> dict[str, Any]:
        return {
            "_target_": "monai.networks.nets.DynUNet",
            "kernel_size": [list(kernel) for kernel in self.shared],
            "strides": [list(stride) for stride in self.strides],
            "upsample_kernel_size": [list(stride) for stride in self.strides[1:]],
            "filters": self.features,
            "norm_name": ["INSTANCE", {"affine": True, "eps": self.norm["eps"]}],
            "act_name": ["leakyrelu", {"inplace": True, "negative_slope": self.activation["negative_slope"]}],
            "trans_bias": self.bias,
        }

    def weights(self, given: dict[str, Tensor], file: Path) -> dict[str, Tensor]:
        """Under DynUNet's names, each where DynUNet's state dict lists it."""
        stages, shared = len(self.features), self.shared
        blocks = {"input_block": "encoder.stages.0.0.convs", "bottleneck": f"encoder.stages.{stages - 1}.0.convs"}
        blocks |= {f"downsamples.{i}": f"encoder.stages.{i + 1}.0.convs" for i in range(stages - 2)}
        kernels = {"input_block": shared[0], "bottleneck": shared[-1]}
        kernels |= {f"downsamples.{i}": shared[i + 1] for i in range(stages - 2)}
        found: dict[str, Tensor] = {}
        try:
            for i in range(stages - 1):
                # The decoder's first stage works at the level above the deepest one.
                blocks[f"upsamples.{i}.conv_block"] = f"decoder.stages.{i}.convs"
                kernels[f"upsamples.{i}.conv_block"] = shared[stages - 1 - i]
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


class ResidualEncoder(Architecture):
    """``models.residual_encoder``, and nnU-Net's own where MONAI runs the model folder."""

    @staticmethod
    def usual(
        arguments: dict[str, Any], kernels: list[Triple], encoder: list[int], decoder: list[int]
    ) -> dict[str, bool]:
        return {
            "at least two stages": len(kernels) >= 2,
            "odd kernels": all(side % 2 for kernel in kernels for side in kernel),
            "the usual residual blocks": all(
                arguments.get(changed) is None for changed in ("block", "bottleneck_channels", "stem_channels")
            ),
        }

    def network(self) -> dict[str, Any]:
        return {
            "_target_": RESIDUAL_ENCODER,
            "features_per_stage": self.features,
            "kernel_sizes": [list(kernel) for kernel in self.kernels],
            "strides": [list(stride) for stride in self.strides],
            "n_blocks_per_stage": self.encoder,
            "n_conv_per_stage_decoder": self.decoder,
            "conv_bias": self.bias,
            "norm_op_kwargs": self.norm,
            "nonlin_kwargs": self.activation,
        }

    def weights(self, given: dict[str, Tensor], file: Path) -> dict[str, Tensor]:
        """Each tensor under its first name, without the heads of deep supervision."""
        head = f"decoder.seg_layers.{len(self.features) - 2}."
        return {
            name: self._turned(tensor) if tensor.ndim == 5 else tensor
            for name, tensor in given.items()
            if ".all_modules." not in name
            and not name.startswith("decoder.encoder.")
            and (name.startswith(head) or not name.startswith("decoder.seg_layers."))
        }


def triple(value: Any, order: Triple, plans: Path, what: str) -> Triple:
    """One number for each of nnU-Net's axes, or one for all, as (x, y, z). Raises DinomixError for anything else."""
    sides = [value] * 3 if isinstance(value, int) else value
    if not isinstance(sides, Sequence) or len(sides) != 3 or not all(isinstance(side, int) for side in sides):
        raise DinomixError(f"{plans}: {what} {value!r} is not three numbers.", ONLY)
    return sides[order[0]], sides[order[1]], sides[order[2]]


def _per_stage(value: Any, stages: int) -> list[int]:
    return [value] * stages if isinstance(value, int) else [int(number) for number in value]


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
    if len(convolutions) > MOST_STAGES:
        raise ValueError(f"a network of {len(convolutions)} stages")
    start, most = configuration.get("UNet_base_num_features", 32), configuration.get("unet_max_num_features", 320)
    return {
        "network_class_name": kind,
        "arch_kwargs": {
            "n_stages": len(convolutions),
            "features_per_stage": [min(start * 2**i, most) for i in range(len(convolutions))],
            "kernel_sizes": configuration.get("conv_kernel_sizes"),
            "strides": configuration.get("pool_op_kernel_sizes"),
            "n_blocks_per_stage" if kind == "ResidualEncoderUNet" else "n_conv_per_stage": convolutions,
            "n_conv_per_stage_decoder": configuration.get("n_conv_per_stage_decoder"),
            "conv_bias": True,
            "conv_op": _CONVOLUTIONS[0],
            "norm_op": _NORMS[0],
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "nonlin": _ACTIVATIONS[0],
        },
    }
