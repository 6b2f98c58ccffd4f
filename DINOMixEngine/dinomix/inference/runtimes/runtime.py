"""What computes a network's windows: the one interface of all runtimes, and PyTorch as one of them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from dinomix.inference.devices import Device
from dinomix.inference.options import Numbers
from dinomix.inference.pieces import Forward
from dinomix.models.averaged import Averaged
from dinomix.models.networks import Network
from dinomix.planning.plan import Plan

if TYPE_CHECKING:
    import torch

Sides = tuple[int, int, int]


class Runtime(Protocol):
    """Makes a network ready to compute windows."""

    @property
    def name(self) -> str:
        """As ``--runtime`` has it."""

    @property
    def title(self) -> str:
        """As a reader knows it."""

    def more_bytes(self, weights: int, window: int) -> int:
        """Bytes of main memory that it takes beyond PyTorch's, with so many of a network's weights and for a window."""

    def ready(self, network: Network, plan: Plan, device: Device, numbers: Numbers, sides: Sides) -> Forward:
        """The network on a device, computing windows of these ``sides`` with these numbers.

        Args:
            network: in evaluation mode.

        Raises:
            RuntimeError: this runtime cannot compute the network.
        """


@dataclass(frozen=True)
class PyTorch:
    """Computes windows of any size on every device."""

    name: str = "pytorch"
    title: str = "PyTorch"

    def more_bytes(self, weights: int, window: int) -> int:
        return 0

    def ready(self, network: Any, plan: Plan, device: Device, numbers: Numbers, sides: Sides) -> Forward:
        """The network itself, moved to the device; a copy of it where it computes with other numbers than its own."""
        from dinomix.inference.precision import in_bfloat16
        from dinomix.models.from_file import changed

        if numbers != "float32":
            return in_bfloat16(network, plan, device)
        if isinstance(network, Averaged):
            return network.with_each(lambda each: changed(each, lambda whole: _in_float32(whole, device)))
        return _in_float32(network, device)


def _in_float32(network: "torch.nn.Module", device: Device) -> "torch.nn.Module":
    import torch

    network = network.to(device)
    if device.type == "cpu" and not any(isinstance(m, torch.nn.InstanceNorm3d) for m in network.modules()):
        # A fifth less time for SegResNet and UNet; instance normalization would copy its input there and back.
        network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network


PYTORCH = PyTorch()
