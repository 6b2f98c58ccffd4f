import pytest
import torch
import torch.nn.functional as F
from torch.profiler import profile

from dinomix.inference.convolutions import OneDnnConvolutions

CASES = [
    {}, {"bias": None}, {"stride": 2, "padding": 1}, {"stride": (1, 2, 2), "padding": (0, 1, 1)}, {"dilation": 2},
    {"padding": "same"}, {"groups": 2},
]  # fmt: skip


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


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch was built without oneDNN")
def test_small_windows_are_computed_by_onednn_within_it_only() -> None:
    """Windows that PyTorch would compute itself."""
    layer, window = torch.nn.Conv3d(1, 16, 3, padding=1), torch.rand((1, 1, 16, 16, 16))

    def computed() -> set[str]:
        with torch.inference_mode(), profile() as seen:
            layer(window)
        return {event.key for event in seen.key_averages()}

    with OneDnnConvolutions():
        assert "aten::mkldnn_convolution" in computed()
    assert "aten::mkldnn_convolution" not in computed()


def test_other_numbers_and_devices_pass_by() -> None:
    layer, window = torch.nn.Conv3d(1, 16, 3, padding=1), torch.rand((1, 1, 16, 16, 16))
    with torch.inference_mode(), OneDnnConvolutions():
        assert layer.double()(window.double()).dtype == torch.float64
        assert layer.float().to("meta")(window.to("meta")).shape == (1, 16, 16, 16, 16)


def _double(bias: object) -> torch.Tensor | None:
    return bias.double() if isinstance(bias, torch.Tensor) else None
