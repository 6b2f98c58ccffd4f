"""What computes a model's windows: a network of PyTorch's, where that is not installed the graph of one, or several averaged."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from dinomix.models.averaged import Averaged


@dataclass(frozen=True, eq=False)
class GraphNetwork:
    """A network that only OpenVINO computes, by the graph in its model folder, see ``graph``.

    Attributes:
        weights: the file of weights beside which the graph lies.
        nbytes: of the weights.
        channels: of the logits.
    """

    weights: Path
    nbytes: int
    channels: int


if TYPE_CHECKING:
    import torch

    Network: TypeAlias = torch.nn.Module | GraphNetwork | Averaged
else:
    Network = Any


def each_of(network: Network) -> tuple[Any, ...]:
    """The networks that are averaged, or the one."""
    return network.networks if isinstance(network, Averaged) else (network,)


def is_graph(network: Network) -> bool:
    """Whether only OpenVINO computes it."""
    return any(isinstance(each, GraphNetwork) for each in each_of(network))


def bytes_of_network(network: Network) -> int:
    """Of all weights."""
    return sum(map(_bytes, each_of(network)))


def _bytes(network: Any) -> int:
    if isinstance(network, GraphNetwork):
        return network.nbytes
    return sum(weight.nbytes for weight in network.parameters())


@contextmanager
def evaluating(network: Network) -> Iterator[None]:
    """Within it, networks of PyTorch's are in evaluation mode; afterwards in the mode and on the device in which they came."""
    modules = [each for each in each_of(network) if not isinstance(each, GraphNetwork)]
    before = [(module, home_of(module), module.training) for module in modules]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for module, home, training in before:
            module.to(home).train(training)


def home_of(network: "torch.nn.Module") -> "torch.device":
    """Where a network's weights are; the CPU where it has none."""
    import torch

    parameter = next(network.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device
