"""The V-Net that DHC, GenericSSL (A&D) and SKCDF train, made of PyTorch's and MONAI's layers.

    level                   1    2    3    4    5    4    3    2    1
    channels                n   2n   4n   8n  16n   8n   4n   2n    n
    convolutions of 3x3x3   1    2    3    3    3    3    3    2    1

Levels are joined by convolutions of 2x2x2 with stride 2; each convolution is followed by batch normalization and ReLU. The way
up adds what the same level had on the way down. In training whole channels are left out at the deepest level and before the
last, 1x1x1 convolution. With 32 filters it has 37.8 million parameters at 14 channels [shape: github.com/xmed-lab/DHC,
``code/models/vnet.py``].

MONAI's VNet cannot be given this shape: its kernels are 5x5x5, it begins with 16 filters, adds within each level and
concatenates between them.
"""

from monai.networks.layers import SkipConnection
from torch import nn

CONVOLUTIONS = (1, 2, 3, 3, 3)
"""Of a level, on the way down and up alike."""


def relatives_vnet(in_channels: int, out_channels: int, filters: int = 32, dropout: float = 0.5) -> nn.Sequential:
    """The network, (B, in_channels, x, y, z) -> (B, out_channels, x, y, z); sides are multiples of 16.

    Args:
        filters: channels of the first level.
        dropout: the probability that a channel is left out.
    """
    entry = _block(nn.Conv3d(in_channels, filters, 3, padding=1))
    inner = nn.Sequential(_convolutions(16 * filters, CONVOLUTIONS[-1]), nn.Dropout3d(dropout))
    for level in reversed(range(len(CONVOLUTIONS) - 1)):
        width, convolutions = filters * 2**level, CONVOLUTIONS[level]
        below = nn.Sequential(
            _block(nn.Conv3d(width, 2 * width, 2, stride=2)),
            inner,
            _block(nn.ConvTranspose3d(2 * width, width, 2, stride=2)),
        )
        inner = nn.Sequential(
            _convolutions(width, convolutions) if level else entry,
            SkipConnection(below, mode="add"),
            _convolutions(width, convolutions),
        )
    return nn.Sequential(inner, nn.Dropout3d(dropout), nn.Conv3d(filters, out_channels, 1))


def _convolutions(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(_block(nn.Conv3d(width, width, 3, padding=1)) for _ in range(count)))


def _block(convolution: nn.Conv3d | nn.ConvTranspose3d) -> nn.Sequential:
    return nn.Sequential(convolution, nn.BatchNorm3d(convolution.out_channels), nn.ReLU(inplace=True))


def as_expression(module: nn.Module) -> str:
    """The same network as an expression of Python, for where MONAI runs a model folder without this package."""
    match module:
        case nn.Sequential():
            return f"torch.nn.Sequential({', '.join(map(as_expression, module))})"
        case SkipConnection():
            return f"monai.networks.layers.SkipConnection({as_expression(module.submodule)}, mode='add')"
        case nn.Conv3d() | nn.ConvTranspose3d():
            sides = (module.in_channels, module.out_channels, module.kernel_size, module.stride, module.padding)
            return f"torch.nn.{type(module).__name__}({', '.join(map(str, sides))})"
        case nn.BatchNorm3d():
            return f"torch.nn.BatchNorm3d({module.num_features})"
        case nn.Dropout3d():
            return f"torch.nn.Dropout3d({module.p})"
        case nn.ReLU():
            return "torch.nn.ReLU(True)"
    raise TypeError(f"{type(module).__name__} is no layer of this network")
