import pytest
import torch
from monai.inferers import SlidingWindowInferer

from dinomix.errors import DinomixError
from dinomix.inference.sliding_window import CPU, Way, count_windows, predict_logits, ways_to_compute
from dinomix.models.network import build_network
from random_models import labels_with_ids, random_weights, small_plan

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
def test_progress_counts_every_window(size: tuple[int, int, int]) -> None:
    events, network = Events(), ShortOfMemory(0)
    predict_logits(network, volume(size), PLAN, "cpu", events)
    total = count_windows(size, PLAN)
    assert sum(network.batches) == total
    assert [event["step"] for event in events.of("progress")] == list(range(total + 1))
    assert events[-1]["total"] == total and events[-1]["eta"] == 0


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
    notices = [event["message"] for event in events.of("warning")]
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
    assert events.of("warning")
    assert torch.allclose(logits, expected, atol=1e-3)
