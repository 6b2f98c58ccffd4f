"""nnU-Net's ResidualEncoderUNet, as the plans ResEnc M, L and XL have it, in plain PyTorch.

It computes what ``dynamic_network_architectures.architectures.unet.ResidualEncoderUNet`` computes, and its tensors have
the names that they have there, so that weights pass between the two as they are. Each tensor has one name here (there up
to four), and there are no heads for deep supervision. Architecture: Isensee et al., nnU-Net Revisited, MICCAI 2024; the
residual blocks are those of ResNet-D (He et al., Bag of Tricks, CVPR 2019).
"""

from collections.abc import Sequence
from itertools import chain, pairwise, product
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

Sides = int | Sequence[int]
Triple = tuple[int, int, int]


class ResidualEncoderUNet(nn.Module):
    """(B, in_channels, X, Y, Z) -> logits (B, out_channels, X, Y, Z); X, Y and Z are multiples of the strides' products."""

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        features_per_stage: Sequence[int],
        kernel_sizes: Sequence[Sides],
        strides: Sequence[Sides],
        n_blocks_per_stage: Sequence[int],
        n_conv_per_stage_decoder: Sequence[int],
        conv_bias: bool = True,
        norm_op_kwargs: dict[str, Any] | None = None,
        nonlin_kwargs: dict[str, Any] | None = None,
    ) -> None:
        """Arguments as in ``dynamic_network_architectures``; a stage is a level of the U, the finest first.

        Args:
            norm_op_kwargs: of InstanceNorm3d: ``eps`` and ``affine``.
            nonlin_kwargs: of LeakyReLU: ``negative_slope`` and ``inplace``.

        Raises:
            ValueError: the lists do not have one entry per stage (the decoder's one less), or kernels are not odd.
        """
        super().__init__()
        kernels, steps = [_three(sides) for sides in kernel_sizes], [_three(sides) for sides in strides]
        stages = len(features_per_stage)
        if stages < 2 or not stages == len(kernels) == len(steps) == len(n_blocks_per_stage):
            raise ValueError("features, kernels, strides and blocks need one entry for each of two stages or more")
        if len(n_conv_per_stage_decoder) != stages - 1:
            raise ValueError(f"n_conv_per_stage_decoder needs {stages - 1} entries")
        if any(side < 1 or side % 2 == 0 for kernel in kernels for side in kernel):
            raise ValueError("kernels must be odd")
        if min(*features_per_stage, *n_blocks_per_stage, *n_conv_per_stage_decoder, *chain(*steps)) < 1:
            raise ValueError("features, strides, blocks and convolutions must be 1 or more")
        style = _Style(conv_bias, dict(norm_op_kwargs or {}), dict(nonlin_kwargs or {}))
        self.encoder = _Encoder(in_channels, list(features_per_stage), kernels, steps, list(n_blocks_per_stage), style)
        self.decoder = _Decoder(
            list(features_per_stage), kernels, steps, list(n_conv_per_stage_decoder), out_channels, style
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.decoder(self.encoder(image))


class _Style:
    """How all blocks are made alike."""

    def __init__(self, bias: bool, norm: dict[str, Any], activation: dict[str, Any]) -> None:
        self.bias, self.norm, self.activation = bias, norm, activation


class _Conv(nn.Module):
    """Convolution, instance normalization and, unless ``linear``, LeakyReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: Triple, stride: Triple, style: _Style,
        *, linear: bool = False, bias: bool | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.conv = nn.Conv3d(
            inputs,
            outputs,
            kernel,
            stride,
            _three([side // 2 for side in kernel]),
            bias=style.bias if bias is None else bias,
        )
        self.norm = nn.InstanceNorm3d(outputs, **style.norm)
        self.nonlin = nn.Identity() if linear else nn.LeakyReLU(**style.activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.nonlin(self.norm(self.conv(x)))


class _Stack(nn.Module):
    """Convolutions one after the other, under the name that their parent's tensors have in nnU-Net."""

    def __init__(self, count: int, inputs: int, outputs: int, kernel: Triple, style: _Style) -> None:
        super().__init__()
        widths = [inputs, *[outputs] * count]
        self.convs = nn.Sequential(*(_Conv(a, b, kernel, (1, 1, 1), style) for a, b in pairwise(widths)))

    def forward(self, x: Tensor) -> Tensor:
        return self.convs(x)


class _Average(nn.AvgPool3d):
    """AvgPool3d also where PyTorch has none: for bfloat16 on the CPU, and in older releases on Apple's GPUs."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "mps" and not (x.device.type == "cpu" and x.dtype == torch.bfloat16):
            return super().forward(x)
        steps = _three(self.stride)
        corners = product(*map(range, steps))
        parts = (x[:, :, i :: steps[0], j :: steps[1], k :: steps[2]].float() for i, j, k in corners)
        return (sum(parts, torch.zeros((), device=x.device)) / prod(steps)).to(x.dtype)


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: Triple, stride: Triple, style: _Style) -> None:
        super().__init__()
        self.conv1 = _Conv(inputs, outputs, kernel, stride, style)
        self.conv2 = _Conv(outputs, outputs, kernel, (1, 1, 1), style, linear=True)
        skip: list[nn.Module] = []
        if max(stride) > 1:
            skip.append(_Average(stride, stride))
        if inputs != outputs:
            skip.append(_Conv(inputs, outputs, (1, 1, 1), (1, 1, 1), style, linear=True, bias=False))
        self.skip = nn.Sequential(*skip)
        self.nonlin2 = nn.LeakyReLU(**style.activation)

    def forward(self, x: Tensor) -> Tensor:
        # The skip is taken first: an activation in place changes nothing that it reads, since conv1 makes a new tensor.
        residual = self.skip(x)
        out = self.conv2(self.conv1(x))
        out += residual
        return self.nonlin2(out)


class _Blocks(nn.Module):
    def __init__(self, count: int, inputs: int, outputs: int, kernel: Triple, stride: Triple, style: _Style) -> None:
        super().__init__()
        first = _Residual(inputs, outputs, kernel, stride, style)
        rest = (_Residual(outputs, outputs, kernel, (1, 1, 1), style) for _ in range(count - 1))
        self.blocks = nn.Sequential(first, *rest)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


class _Encoder(nn.Module):
    def __init__(
        self, channels: int, features: list[int], kernels: list[Triple], strides: list[Triple],
        blocks: list[int], style: _Style,
    ) -> None:  # fmt: skip
        super().__init__()
        self.stem = _Stack(1, channels, features[0], kernels[0], style)
        widths = [features[0], *features]
        self.stages = nn.Sequential(
            *(
                _Blocks(count, widths[i], widths[i + 1], kernel, stride, style)
                for i, (count, kernel, stride) in enumerate(zip(blocks, kernels, strides, strict=True))
            )
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """The output of each stage, the finest first."""
        x, found = self.stem(image), []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found


class _Decoder(nn.Module):
    def __init__(
        self, features: list[int], kernels: list[Triple], strides: list[Triple], convs: list[int],
        classes: int, style: _Style,
    ) -> None:  # fmt: skip
        super().__init__()
        self.stages, self.transpconvs = nn.ModuleList(), nn.ModuleList()
        for count, level in zip(convs, range(len(features) - 2, -1, -1), strict=True):
            step, width = strides[level + 1], features[level]
            self.transpconvs.append(nn.ConvTranspose3d(features[level + 1], width, step, step, bias=style.bias))
            self.stages.append(_Stack(count, 2 * width, width, kernels[level], style))
        # Under the number that nnU-Net gives it, whose first ones serve deep supervision.
        self.seg_layers = nn.ModuleDict({str(len(convs) - 1): nn.Conv3d(features[0], classes, 1)})

    def forward(self, found: list[Tensor]) -> Tensor:
        """``found``, the outputs of the encoder's stages, is emptied: each is let go once it is used."""
        x = found.pop()
        for up, stage in zip(self.transpconvs, self.stages, strict=True):
            x = stage(torch.cat((up(x), found.pop()), 1))
        (head,) = self.seg_layers.values()
        return head(x)


def _three(sides: Sides) -> Triple:
    x, y, z = (sides,) * 3 if isinstance(sides, int) else sides
    return x, y, z
