import numpy as np
import pytest
import torch

from dinomix.images.volume import Geometry, Volume
from dinomix.inference import precision
from dinomix.inference.precision import agreement, choose_dtype, has_bfloat16, in_bfloat16, last_layer
from dinomix.inference.segment import segment_volume
from dinomix.inference.sliding_window import predict_logits, predict_slabs
from dinomix.models.folder import Model
from dinomix.models.network import build_network
from dinomix.planning.plan import RangeWindow, SpacingGrid
from random_models import labels_with_ids, small_plan

PLAN = small_plan(SpacingGrid(spacing=(1.0, 1.0, 1.0)), RangeWindow(low=0, high=1))
CPU = torch.device("cpu")
OTHERS = {
    "output_block.conv.conv": PLAN.network,
    "conv_final.2.conv": {"_target_": "monai.networks.nets.SegResNet", "init_filters": 8},
    "final_conv": {"_target_": "monai.networks.nets.BasicUNet", "features": [8, 8, 8, 8, 8, 8]},
}


class Events(list):
    def __call__(self, kind: str, **fields: object) -> None:
        self.append({"kind": kind, **fields})


class Bands(torch.nn.Module):
    """Three classes of intensity: what a network that is sure of itself gives. ``step`` is how sure."""

    def __init__(self, step: float) -> None:
        super().__init__()
        self.conv = torch.nn.Conv3d(1, 3, 1)
        with torch.no_grad():
            self.conv.weight[:, 0, 0, 0, 0] = torch.tensor([0.0, step, 2 * step])
            self.conv.bias.copy_(torch.tensor([0.0, -step / 3, -step]))

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return self.conv(windows)


class Blurred(Bands):
    """Not sure of anything: what follows the sum is lost in bfloat16."""

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return (self.conv(windows) + 1000.0) - 1000.0


@pytest.fixture
def tensor() -> torch.Tensor:
    return torch.rand((1, 50, 40, 45), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", OTHERS)
def test_last_layer_is_found_and_stays_in_float32(name: str) -> None:
    plan = PLAN.model_copy(update={"network": OTHERS[name]})
    network = build_network(plan, 3).eval()
    assert last_layer(network, plan) == name
    fast = in_bfloat16(network, plan, CPU)
    assert torch.equal(fast.get_submodule(name).weight, network.get_submodule(name).weight)
    others = [w.dtype for n, w in fast.named_parameters() if not n.startswith(name)]
    assert set(others) == {torch.bfloat16}
    with torch.inference_mode():
        window = torch.rand((1, 1, 32, 32, 32))
        logits, expected = fast(window.bfloat16()), network(window)
    assert logits.dtype == torch.float32
    assert (logits - expected).abs().max() < 0.05 * expected.abs().max()
    assert all(weight.dtype == torch.float32 for weight in network.parameters())


def test_auto_takes_bfloat16_only_where_labels_agree(monkeypatch: pytest.MonkeyPatch, tensor: torch.Tensor) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)
    events = Events()
    assert choose_dtype("auto", Bands(9.0), tensor, PLAN, CPU, events) == torch.bfloat16 and not events
    assert choose_dtype("auto", Blurred(0.5), tensor, PLAN, CPU, events) == torch.float32
    assert "float32 is used" in events[0]["message"]
    assert choose_dtype("bfloat16", Blurred(0.5), tensor, PLAN, CPU, Events()) == torch.bfloat16
    assert choose_dtype("float32", Bands(9.0), tensor, PLAN, CPU, Events()) == torch.float32


def test_auto_is_float32_without_such_instructions(monkeypatch: pytest.MonkeyPatch, tensor: torch.Tensor) -> None:
    for test in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, test, lambda: False, raising=False)
    assert not has_bfloat16(CPU) and not has_bfloat16(torch.device("mps"))
    assert choose_dtype("auto", Bands(9.0), tensor, PLAN, CPU, Events()) == torch.float32


def test_images_smaller_than_the_piece_and_a_network_in_training(tensor: torch.Tensor) -> None:
    network = build_network(PLAN, 3).train()
    weights = {name: weight.clone() for name, weight in network.state_dict().items()}
    share = agreement(network, precision._piece(tensor[:, :20, :, :3], PLAN), PLAN, CPU)
    assert 0 <= share <= 1 and network.training
    assert all(torch.equal(weight, weights[name]) for name, weight in network.state_dict().items())


def test_logits_in_bfloat16_are_close(tensor: torch.Tensor) -> None:
    network = build_network(PLAN, 3).eval()
    slow = predict_logits(network, tensor, PLAN, "cpu")
    slabs = predict_slabs(network, tensor, PLAN, "cpu", dtype=torch.bfloat16)
    fast = torch.cat([slab.clone() for slab in slabs], 1)
    assert fast.dtype == torch.float32 and fast.shape == slow.shape
    assert 0 < (fast - slow).abs().max() < 0.05 * slow.abs().max()


def test_labels_of_a_sure_network_are_the_same_in_both() -> None:
    rng = np.random.default_rng(0)
    volume = Volume(rng.random((20, 30, 40), np.float32), Geometry((40, 30, 20), (1.0,) * 3, (0.0,) * 3, np.eye(3)))
    model = Model(None, labels_with_ids(1, 2), PLAN, {}, {})  # type: ignore[arg-type]
    slow, fast = (
        segment_volume(volume, model, device="cpu", precision=p, network=Bands(9.0)).array
        for p in ("float32", "bfloat16")
    )
    assert np.mean(slow == fast) > 0.995 and set(np.unique(slow)) == {0, 1, 2}
