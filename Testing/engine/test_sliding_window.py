from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from monai.inferers import SlidingWindowInferer
from torch.utils._python_dispatch import TorchDispatchMode

from dinomix.errors import DinomixError
from dinomix.inference import sliding_window
from dinomix.inference.sliding_window import Way, count_windows, predict_logits, predict_slabs, ways_to_compute
from dinomix.inference.windows import Layout
from dinomix.models.network import build_network
from dinomix.planning.cache import PreparedCase
from dinomix.planning.plan import OnePiece
from dinomix.training.state import make_accelerator
from dinomix.training.validation import validate
from random_models import labels_with_ids, random_weights, small_plan
from tiny_cohort import LABELS, make_plan, small_config

PLAN = small_plan().model_copy(update={"overlap": (0.5, 0.25, 0.6)})
SIZES = [(20, 20, 20), (32, 33, 64), (70, 32, 47), (33, 90, 65)]


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    network = build_network(PLAN, 3)
    network.load_state_dict(random_weights(PLAN, labels_with_ids(1, 2)))
    return network.eval()


def volume(size: tuple[int, ...]) -> torch.Tensor:
    return torch.rand((1, *size), generator=torch.Generator().manual_seed(3))


class Events(list):
    def __call__(self, kind: str, **fields: object) -> None:
        self.append({"kind": kind, **fields})

    def of(self, kind: str) -> list[dict]:
        return [event for event in self if event["kind"] == kind]


class ShortOfMemory(torch.nn.Module):
    """Fails as a GPU without free memory does, until it has been called ``times`` times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times, self.batches = times, []

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(windows))
        if len(self.batches) <= self.times:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return torch.cat([windows, 1 - windows], dim=1)


CPU = torch.device("cpu")
# Stands for a GPU: another device than "cpu" by name, on every machine.
GPU = torch.device("cpu", 0)
WAYS = (Way(GPU, GPU, 4), Way(GPU, GPU, 1), Way(GPU, CPU, 1), Way(CPU, CPU, 1))


def test_same_as_monai(network: torch.nn.Module) -> None:
    tensor = volume(SIZES[2])
    inferer = SlidingWindowInferer(PLAN.patch, 1, PLAN.overlap, mode="gaussian")
    with torch.no_grad():
        expected = inferer(tensor[None], network)[0]
    assert torch.equal(predict_logits(network, tensor, PLAN, "cpu"), expected)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("blend", ["gaussian", "constant"])
def test_slabs_are_parts_of_what_monai_gives(network: torch.nn.Module, size: tuple[int, int, int], blend: str) -> None:
    plan = PLAN.model_copy(update={"blend": blend})
    with torch.no_grad():
        expected = SlidingWindowInferer(plan.patch, 1, plan.overlap, mode=blend)(volume(size)[None], network)[0]
    slabs = [slab.clone() for slab in predict_slabs(network, volume(size), plan, "cpu")]
    assert len(slabs) == len(Layout.of(size, plan).starts[0])
    assert torch.equal(torch.cat(slabs, 1), expected)


def test_windows_of_air_are_computed_once(network: torch.nn.Module) -> None:
    tensor = volume((70, 90, 65))
    tensor[:, :, 40:] = 0
    batches = []
    handle = network.register_forward_hook(lambda _, inputs, __: batches.append(inputs[0].any().item()))
    logits = predict_logits(network, tensor, PLAN, "cpu")
    handle.remove()
    assert batches.count(False) == 1 and len(batches) < count_windows((70, 90, 65), PLAN)
    with torch.no_grad():
        expected = SlidingWindowInferer(PLAN.patch, 1, PLAN.overlap, mode="gaussian")(tensor[None], network)[0]
    assert torch.equal(logits, expected)


def test_the_next_way_goes_on_where_memory_ran_out() -> None:
    class FailsOnce(ShortOfMemory):
        def forward(self, windows: torch.Tensor) -> torch.Tensor:
            if len(self.batches) == 20:
                self.batches.append(0)
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return super().forward(windows)

    events, network, tensor = Events(), FailsOnce(0), volume(SIZES[3])
    logits = predict_logits(network, tensor, PLAN, GPU, events, ways=(Way(GPU, GPU, 1), Way(CPU, CPU, 1)))
    assert torch.allclose(logits, torch.cat([tensor, 1 - tensor]), atol=1e-5)
    assert sum(network.batches) == count_windows(SIZES[3], PLAN) > 20
    assert len(events.of("notice")) == 1


def test_the_next_way_goes_on_where_memory_ran_out_between_two_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    tensor, zeros, sizes = volume(SIZES[3]), torch.zeros, []

    def short(size: tuple[int, ...], **options: Any) -> torch.Tensor:
        sizes.append(size)
        if len(sizes) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return zeros(size, **options)

    monkeypatch.setattr(torch, "zeros", short)
    logits = predict_logits(ShortOfMemory(0), tensor, PLAN, GPU, ways=(Way(GPU, GPU, 1), Way(CPU, CPU, 1)))
    assert torch.allclose(logits, torch.cat([tensor, 1 - tensor]), atol=1e-5) and len(sizes) == 4


@pytest.mark.parametrize("size", SIZES)
def test_progress_counts_every_window(size: tuple[int, int, int]) -> None:
    events, network = Events(), ShortOfMemory(0)
    predict_logits(network, volume(size), PLAN, "cpu", events)
    total = count_windows(size, PLAN)
    assert sum(network.batches) == total
    # Told once more when the last windows are put together.
    assert [event["step"] for event in events.of("progress")] == [*range(total + 1), total]
    assert events[-1]["total"] == total and events[-1]["eta"] == 0


def test_the_time_left_is_also_that_of_what_is_done_with_the_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    events, now, size = Events(), [100.0], SIZES[2]
    monkeypatch.setattr(sliding_window, "time", SimpleNamespace(monotonic=lambda: now[0]))

    class Slow(ShortOfMemory):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            now[0] += 1
            return super().forward(x)

    slabs = 0
    for _slab in predict_slabs(Slow(0), volume(size), PLAN, "cpu", events):
        now[0] += 10
        slabs += 1
    total = count_windows(size, PLAN)
    assert slabs > 2 and total % slabs == 0
    for event in events.of("progress")[1:-1]:
        layer = (event["step"] - 1) // (total // slabs)
        assert event["eta"] == total - event["step"] + (10 * (slabs - layer) if layer else 0)


def test_twice_the_same(network: torch.nn.Module) -> None:
    tensor = volume(SIZES[1])
    assert torch.equal(predict_logits(network, tensor, PLAN, "cpu"), predict_logits(network, tensor, PLAN, "cpu"))


def test_half_buffers_are_close(network: torch.nn.Module) -> None:
    tensor = volume(SIZES[1])
    whole = predict_logits(network, tensor, PLAN, "cpu")
    half = predict_logits(network, tensor, PLAN, "cpu", half_buffers=True)
    assert half.dtype == torch.float16
    assert (half.float() - whole).abs().max() < 0.01 * whole.abs().max()


def test_a_gpu_is_followed_by_smaller_batches_main_memory_and_the_cpu() -> None:
    cuda = torch.device("cuda", 1)
    assert ways_to_compute(cuda) == (Way(cuda, cuda, 4), Way(cuda, cuda, 1), Way(cuda, CPU, 1), Way(CPU, CPU, 1))
    assert ways_to_compute(CPU) == (Way(CPU, CPU, 1),)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_out_of_memory_leads_to_the_next_way_with_a_notice(times: int) -> None:
    events, network, tensor = Events(), ShortOfMemory(times), volume(SIZES[2])
    logits = predict_logits(network, tensor, PLAN, GPU, events, ways=WAYS)
    assert torch.allclose(logits, torch.cat([tensor, 1 - tensor]), atol=1e-5)
    notices = [event["message"] for event in events.of("notice")]
    endings = ["windows are computed one at a time.", "put together in main memory.", "which takes longer."]
    assert [notice.endswith(end) for notice, end in zip(notices, endings, strict=False)] == [True] * times
    assert set(network.batches[times:]) == {1}


def test_out_of_memory_everywhere_is_one_clear_error() -> None:
    with pytest.raises(DinomixError, match="main memory does not suffice"):
        predict_logits(ShortOfMemory(4), volume(SIZES[0]), PLAN, GPU, ways=WAYS)


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    class Broken(torch.nn.Module):
        def forward(self, windows: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("Given groups=1, expected input to have 2 channels")

    with pytest.raises(RuntimeError, match="2 channels"):
        predict_logits(Broken(), volume(SIZES[0]), PLAN, GPU, ways=WAYS)


@pytest.mark.parametrize("training", [True, False])
def test_network_comes_back_in_its_mode(network: torch.nn.Module, training: bool) -> None:
    network.train(training)
    predict_logits(network, volume(SIZES[0]), PLAN, "cpu")
    assert network.training is training
    network.eval()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_real_gpu_short_of_memory(network: torch.nn.Module) -> None:
    tensor, events = volume((160, 160, 160)), Events()
    expected = predict_logits(network, tensor, PLAN, "cpu")
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(100e6 / torch.cuda.get_device_properties(0).total_memory)
    try:
        logits = predict_logits(network, tensor, PLAN, "cuda", events)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert events.of("notice")
    assert torch.allclose(logits, expected, atol=1e-3)


class Largest(TorchDispatchMode):
    """Sees how many numbers the largest tensor holds."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.numbers = max(self.numbers, made.numel())
        return made


@pytest.mark.parametrize(("free", "main"), [(2**40, 2**40), (0, 2**40), (0, 1)])
def test_a_validation_keeps_logits_of_no_more_than_a_window(free: int, main: int, monkeypatch) -> None:
    """With many structures those of a whole case are more than the memory; where it is short of a window's, they are halves."""
    plan, network = make_plan(), build_network(make_plan(), LABELS.channels)
    monkeypatch.setattr("dinomix.inference.memory.free_memory", lambda limit: free)
    monkeypatch.setattr("dinomix.memory.main_memory", lambda: main)
    rng = np.random.default_rng(0)
    image = rng.random((1, 160, 32, 32), np.float32).astype(np.float16)
    case = PreparedCase("long", image, rng.integers(0, 3, image.shape[1:], np.uint8), {})
    slabs: list[torch.Tensor] = []
    found: list[np.ndarray] = []
    with Largest() as largest:
        validate(
            network,
            [case, case],
            [frozenset()] * 2,
            plan,
            OnePiece(),
            LABELS,
            make_accelerator(small_config()),
            lambda number, labels, dice: found.append(labels),
            lambda slab: slabs.append(slab.clone()),
        )
    whole = predict_logits(network, torch.from_numpy(image.astype(np.float32)), plan, "cpu", half_buffers=not free)
    assert whole.dtype == (torch.float32 if free else torch.float16)
    assert largest.numbers < whole.numel() / 2
    assert torch.equal(torch.cat(slabs, 1), whole)
    assert len(found) == 2 and all(np.array_equal(labels, whole.argmax(0)) for labels in found)
