from typing import ClassVar

import numpy as np
import pytest
import torch

from dinomix.images.volume import Geometry, Volume
from dinomix.inference import segment
from dinomix.inference.certainty import LEAST_DICE, LabelChanges
from dinomix.inference.devices import has_bfloat16
from dinomix.inference.noise import border_noise
from dinomix.inference.pieces import borders, pieces_of
from dinomix.inference.precision import Ends, InBfloat16
from dinomix.inference.runtimes import choosing
from dinomix.inference.segment import segment_volume
from dinomix.inference.sliding_window import predict_logits, predict_slabs
from dinomix.models.folder import Model
from dinomix.models.network import build_network
from dinomix.planning import plan as plan_module
from dinomix.planning.plan import InputChannel, RangeWindow, SpacingGrid
from random_models import labels_with_ids, small_plan

PLAN = small_plan(SpacingGrid(spacing=(1.0, 1.0, 1.0)), RangeWindow(low=0, high=1))
CPU = torch.device("cpu")
NETWORKS = "monai.networks.nets."
ENDS = [
    (PLAN.network, ("input_block.conv1.conv",), ("output_block.conv.conv",)),
    ({"_target_": NETWORKS + "SegResNet", "init_filters": 8}, ("convInit.conv",), ("conv_final.2.conv",)),
    ({"_target_": NETWORKS + "BasicUNet", "features": [8] * 6}, ("conv_0.conv_0.conv",), ("final_conv",)),
    # Its output is a sum; what is added up has as many channels.
    (
        {"_target_": NETWORKS + "UNet", "spatial_dims": 3, "channels": [8, 8], "strides": [2], "num_res_units": 1,
         "norm": "batch"},
        ("model.0.residual", "model.0.conv.unit0.conv"),
        ("model.2.0.conv", "model.2.0.adn.N", "model.2.0.adn.A", "model.2.1.conv.unit0.conv"),
    ),
    # Adds its input to what the convolution makes of it.
    ({"_target_": NETWORKS + "VNet"}, (), ("out_tr.conv_block.conv", "out_tr.conv_block.adn.N", "out_tr.conv2")),
]  # fmt: skip


class Events(list):
    def __call__(self, kind: str, **fields: object) -> None:
        self.append({"kind": kind, **fields})


class Bands(torch.nn.Module):
    """Three classes of intensity: what a network that is sure of itself gives. ``step`` is how sure."""

    computed: ClassVar[set[torch.dtype]] = set()
    """The numbers in which whole windows were computed since it was cleared."""

    def __init__(self, step: float) -> None:
        super().__init__()
        self.first, self.middle, self.last = (
            torch.nn.Conv3d(1, 1, 1),
            torch.nn.Conv3d(1, 4, 1),
            torch.nn.Conv3d(4, 3, 1),
        )
        with torch.no_grad():
            for layer in (self.first, self.last):
                layer.weight.copy_(torch.eye(*layer.weight.shape[:2])[..., None, None, None])
                layer.bias.zero_()
            self.middle.weight[:, 0, 0, 0, 0] = torch.tensor([0.0, step, 2 * step, 0.0])
            self.middle.bias.copy_(torch.tensor([0.0, -step / 3, -step, 0.0]))

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        if windows.device == CPU and windows.shape[2:] == PLAN.patch:
            self.computed.add(self.middle.weight.dtype)
        return self.last(self.between(self.middle(self.first(windows))))

    def between(self, values: torch.Tensor) -> torch.Tensor:
        return values


class Blurred(Bands):
    """Not sure of anything: what follows the sum is lost in bfloat16."""

    def between(self, values: torch.Tensor) -> torch.Tensor:
        return (values + 1000.0) - 1000.0


MODEL = Model(None, labels_with_ids(1, 2), PLAN, {}, {})  # type: ignore[arg-type]
VOLUME = Volume(
    np.random.default_rng(0).random((20, 30, 40), np.float32), Geometry((40, 30, 20), (1.0,) * 3, (0.0,) * 3, np.eye(3))
)


@pytest.fixture(autouse=True)
def without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose trial would compute in bfloat16 too."""
    monkeypatch.setattr(choosing, "is_installed", lambda: False)


@pytest.fixture
def has_bfloat16_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "has_bfloat16", lambda device: True)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces that no whole window is as large as."""
    monkeypatch.setattr(plan_module, "TRIED_SIDE", 16)


@pytest.fixture
def tensor() -> torch.Tensor:
    return torch.rand((1, 50, 40, 45), generator=torch.Generator().manual_seed(0))


def test_ends_of_a_network_of_several_images_are_found() -> None:
    more = tuple(InputChannel(name=name, modality="CT", window=RangeWindow(low=0, high=1)) for name in ("b", "c"))
    plan = PLAN.model_copy(update={"channel": "a", "more_channels": more})
    assert Ends.of(build_network(plan, 3).eval(), plan) == Ends(*ENDS[0][1:])


@pytest.mark.parametrize(("architecture", "first", "last"), ENDS)
def test_ends_are_found_and_stay_in_float32(architecture: dict[str, object], first: tuple, last: tuple) -> None:
    plan = PLAN.model_copy(update={"network": architecture})
    network = build_network(plan, 3).eval()
    assert Ends.of(network, plan) == Ends(first, last)
    fast = InBfloat16(network, plan, CPU)
    kept = {*first, *last}
    for name in kept:
        assert torch.equal(fast.network.get_submodule(name).weight, network.get_submodule(name).weight)
    others = [w.dtype for n, w in fast.network.named_parameters() if n.rpartition(".")[0] not in kept]
    assert set(others) == {torch.bfloat16}
    with torch.inference_mode():
        window = torch.rand((1, 1, 32, 32, 32))
        logits, expected = fast(window), network(window)
    assert logits.dtype == torch.float32
    assert (logits - expected).abs().max() < 0.05 * expected.abs().max()
    assert all(weight.dtype == torch.float32 for weight in network.parameters())


def test_intensities_are_not_rounded() -> None:
    """A class that differs by less than bfloat16 can tell at 1000."""
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 1, 1), torch.nn.Conv3d(1, 2, 1))
    with torch.no_grad():
        network[0].weight.fill_(1.0)
        network[0].bias.fill_(-1000.0)
    window = 1000 + torch.rand((1, 1, *PLAN.patch))
    with torch.inference_mode():
        assert torch.allclose(InBfloat16(network, PLAN, CPU).network[0](window).float(), window - 1000, atol=0.01)


def test_auto_is_bfloat16_where_structures_stay(has_bfloat16_here: None, small_pieces: None) -> None:
    Bands.computed.clear()
    auto = segment_volume(VOLUME, MODEL, device="cpu", network=Bands(9.0)).array
    assert Bands.computed == {torch.bfloat16}
    slow = segment_volume(VOLUME, MODEL, device="cpu", precision="float32", network=Bands(9.0)).array
    assert set(np.unique(slow)) == {0, 1, 2}
    for value in (1, 2):
        both = np.sum((auto == value) & (slow == value))
        assert 2 * both / (np.sum(auto == value) + np.sum(slow == value)) >= LEAST_DICE


def test_auto_takes_networks_whose_coarsest_level_is_small(has_bfloat16_here: None) -> None:
    """Six levels, as nnU-Net plans them: normalization takes no single voxel."""
    network = {
        "_target_": NETWORKS + "DynUNet", "kernel_size": [3] * 6, "strides": [1, 2, 2, 2, 2, 2], "norm_name": "instance",
        "upsample_kernel_size": [2] * 5, "filters": [4, 4, 8, 8, 8, 8],
    }  # fmt: skip
    plan = PLAN.model_copy(update={"network": network, "patch": (64, 64, 64)})
    model = Model(None, labels_with_ids(1, 2), plan, {}, {})  # type: ignore[arg-type]
    torch.manual_seed(0)
    network = build_network(plan, 3).eval()
    with torch.inference_mode():
        for piece in pieces_of(torch.rand((1, 70, 70, 70)), plan):
            assert piece.shape == (1, 64, 64, 64) and network(piece[None]).isfinite().all()
    assert segment_volume(VOLUME, model, device="cpu", network=network).array.shape == VOLUME.array.shape


def test_auto_is_float32_where_the_trial_fails(has_bfloat16_here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ValueError("a network that takes no piece of this size")

    monkeypatch.setattr(segment, "border_noise", fails)
    Bands.computed.clear()
    segment_volume(VOLUME, MODEL, device="cpu", network=Bands(9.0))
    assert Bands.computed == {torch.float32}


def test_auto_is_float32_where_a_trial_finds_other_labels(has_bfloat16_here: None, tensor: torch.Tensor) -> None:
    network = Blurred(0.5)
    assert border_noise(network, tensor, PLAN, CPU) is None
    labels = [
        segment_volume(VOLUME, MODEL, device="cpu", precision=p, network=network).array for p in ("auto", "float32")
    ]
    assert np.array_equal(*labels)
    other = segment_volume(VOLUME, MODEL, device="cpu", precision="bfloat16", network=network).array
    assert not np.array_equal(other, labels[0])


def test_auto_computes_again_where_a_small_structure_would_change(has_bfloat16_here: None) -> None:
    """A structure that the trial's piece does not hold, and of which bfloat16 is unsure."""
    rng = np.random.default_rng(0)
    array = (rng.random((60, 60, 60)) * 0.1 + np.where(rng.random((60, 60, 60)) < 0.5, 0.1, 0.45)).astype(np.float32)
    array[:6, :6, :6] = 2 / 3 + 1e-3 * rng.standard_normal((6, 6, 6))
    volume = Volume(array, Geometry((60, 60, 60), (1.0,) * 3, (0.0,) * 3, np.eye(3)))
    network, events = Bands(9.0), Events()
    assert border_noise(network, torch.from_numpy(array)[None], PLAN, CPU) is not None
    labels = segment_volume(volume, MODEL, device="cpu", network=network, emit=events).array
    assert [e["message"] for e in events if "again in float32" in str(e.get("message"))] == [
        "In bfloat16 the borders of structure 2 would change, so the image is computed again in float32."
    ]
    stages = [e["stage"] for e in events if e["kind"] == "progress"]
    assert list(dict.fromkeys(stages)) == ["segmenting", "segmenting again in float32"]
    exact = segment_volume(volume, MODEL, device="cpu", precision="float32", network=network).array
    assert np.array_equal(labels, exact)


def test_auto_is_float32_without_such_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    for test in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, test, lambda: False, raising=False)
    assert not has_bfloat16(CPU) and not has_bfloat16(torch.device("mps"))
    Bands.computed.clear()
    segment_volume(VOLUME, MODEL, device="cpu", network=Bands(9.0))
    assert Bands.computed == {torch.float32}


def test_images_smaller_than_the_piece_and_a_network_in_training(tensor: torch.Tensor) -> None:
    network = Bands(9.0).train()
    weights = {name: weight.clone() for name, weight in network.state_dict().items()}
    noise = border_noise(network, tensor[:, :20, :, :3], PLAN, CPU)
    assert noise is not None and 0 < noise < 0.1 and network.training
    assert all(torch.equal(weight, weights[name]) for name, weight in network.state_dict().items())


def test_a_piece_with_borders_is_looked_for() -> None:
    """Structures away from the middle; and an image without any."""
    array = torch.zeros((1, 120, 120, 120))
    assert border_noise(Bands(9.0), array, PLAN, CPU) is None
    array[:, 85:95, 85:95, 85:95] = 0.5 + 0.01 * torch.rand((10, 10, 10))
    assert border_noise(Bands(9.0), array, PLAN, CPU) is not None
    # Too few to say anything.
    array[:] = 0
    array[:, 60, 60, 60] = 0.5
    assert border_noise(Bands(9.0), array, PLAN, CPU) is None


def test_pieces_are_different_ones_and_whole_windows_are_tried_once() -> None:
    tensor = torch.rand((1, 32, 32, 100))
    pieces = list(pieces_of(tensor, PLAN.model_copy(update={"patch": (32, 32, 64)})))
    assert len(pieces) == 3 and all(piece.shape == (1, 32, 32, 48) for piece in pieces)
    one_size = PLAN.model_copy(update={"network": {"_target_": NETWORKS + "UNETR"}})
    assert len(list(pieces_of(tensor, one_size))) == 1


def test_logits_in_bfloat16_are_close(tensor: torch.Tensor) -> None:
    network = build_network(PLAN, 3).eval()
    slow = predict_logits(network, tensor, PLAN, "cpu")
    slabs = predict_slabs(network, tensor, PLAN, "cpu", numbers="bfloat16")
    fast = torch.cat([slab.clone() for slab in slabs], 1)
    assert fast.dtype == torch.float32 and fast.shape == slow.shape
    assert 0 < (fast - slow).abs().max() < 0.05 * slow.abs().max()


def test_changes_are_those_that_noise_makes() -> None:
    """Leads of all sizes, against a noise that is really drawn."""
    generator = torch.Generator().manual_seed(0)
    side, noise = 100, 0.05
    exact = torch.randn((4, side, side, side), generator=generator)
    exact[3] -= 3
    # The difference of two logits has sqrt 2 times the noise of one.
    fast = exact + noise / 2**0.5 * torch.randn(exact.shape, generator=generator)
    changes = LabelChanges(noise, 4)
    for slab in fast.split(7, 1):
        changes.add(slab)
    here, there = fast.argmax(0), exact.argmax(0)
    for channel in range(4):
        left = int(((here == channel) & (there != channel)).sum())
        assert changes.left[channel] == pytest.approx(left, rel=0.1)
        gained = int(((here != channel) & (there == channel)).sum())
        assert changes.gained[channel] == pytest.approx(gained, rel=0.1)
        both = int(((here == channel) & (there == channel)).sum())
        found = 2 * both / int((here == channel).sum() + (there == channel).sum())
        assert changes.dice()[channel] == pytest.approx(found, abs=0.004)
        assert changes.all[channel] == (here == channel).sum()


@pytest.mark.parametrize(
    ("voxels", "unsure", "changed"), [(1000, 4, []), (1000, 20, [1]), (3, 0, []), (3, 2, [1]), (0, 0, [])]
)
def test_structures_that_change(voxels: int, unsure: int, changed: list[int]) -> None:
    """Of a structure's voxels, some lead by nothing: half of those will change."""
    logits = torch.zeros((3, 1, 1, 2000))
    logits[0] = 1.0
    logits[1, ..., :voxels] = 2.0
    logits[1, ..., :unsure] = 1.0 + 1e-6
    changes = LabelChanges(0.01, 3)
    changes.add(logits)
    assert changes.structures() == changed


def test_structures_that_bfloat16_lost_change() -> None:
    logits = torch.zeros((3, 1, 1, 2000))
    logits[1] = -1.0
    logits[1, ..., :20] = -1e-3
    logits[2] = -0.5
    changes = LabelChanges(0.01, 3)
    changes.add(logits)
    assert changes.all.tolist() == [2000, 0, 0] and changes.structures() == [1]


def test_logits_that_are_no_numbers_change() -> None:
    logits = torch.zeros((3, 1, 1, 100))
    logits[1, ..., :50] = torch.nan
    logits[2] = 1.0
    changes = LabelChanges(0.01, 3)
    changes.add(logits)
    assert changes.structures() == [1, 2]


def test_borders() -> None:
    labels = torch.zeros((5, 5, 5), dtype=torch.int16)
    labels[2, 2, 2] = 1
    expected = torch.zeros((5, 5, 5), dtype=torch.bool)
    expected[2, 2, 1:4] = expected[2, 1:4, 2] = expected[1:4, 2, 2] = True
    assert torch.equal(borders(labels), expected)
