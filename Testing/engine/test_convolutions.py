import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from dinomix.inference.convolutions import OneDnnConvolutions

CASES = [
    {}, {"bias": None}, {"stride": 2, "padding": 1}, {"stride": (1, 2, 2), "padding": (0, 1, 1)}, {"dilation": 2},
    {"padding": "same"}, {"groups": 2},
]  # fmt: skip


class Computed(TorchDispatchMode):
    """The names of what is really computed."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.names.append(func.__name__.partition(".")[0])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("case", CASES)
def test_same_result_as_pytorch(case: dict[str, object]) -> None:
    generator = torch.Generator().manual_seed(0)
    window = torch.randn((1, 4, 9, 8, 7), generator=generator)
    weight = torch.randn((6, 4 // int(case.get("groups", 1)), 3, 3, 3), generator=generator)
    arguments = {"bias": torch.randn(6, generator=generator), **case}
    expected = F.conv3d(window.double(), weight.double(), **{**arguments, "bias": _double(arguments["bias"])})
    with OneDnnConvolutions(), torch.inference_mode():
        result = F.conv3d(window, weight, **arguments)
    assert result.dtype == torch.float32
    assert torch.allclose(result.double(), expected, atol=1e-4)


def test_small_windows_are_computed_by_onednn_within_it_only() -> None:
    """Windows that PyTorch would compute itself; other kinds of numbers and networks that only pass by are left alone."""
    layer, window = torch.nn.Conv3d(1, 16, 3, padding=1), torch.rand((1, 1, 16, 16, 16))
    with torch.inference_mode(), OneDnnConvolutions(), Computed() as within:
        layer(window)
    with torch.inference_mode(), Computed() as outside:
        layer(window)
    assert "mkldnn_convolution" in within.names and "mkldnn_convolution" not in outside.names
    with torch.inference_mode(), OneDnnConvolutions():
        assert layer.double()(window.double()).dtype == torch.float64
        assert layer.float().to("meta")(window.to("meta")).shape == (1, 16, 16, 16, 16)


def _double(bias: object) -> torch.Tensor | None:
    return bias.double() if isinstance(bias, torch.Tensor) else None
