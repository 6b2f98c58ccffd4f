"""PyTorch's networks in bfloat16, where the processor is made for it, with their ends in float32."""

import copy
import weakref
from dataclasses import dataclass

import torch

from dinomix.inference.convolutions import OneDnnConvolutions
from dinomix.inference.pieces import Forward
from dinomix.models.averaged import Averaged
from dinomix.models.from_file import changed
from dinomix.models.remembered import remembered
from dinomix.planning.plan import Plan

_ENDS = weakref.WeakKeyDictionary[torch.nn.Module, "Ends"]()
"""What ``Ends.of`` has found: a tenth of a second for each image otherwise."""
CONVOLUTIONS = (torch.nn.Conv3d, torch.nn.ConvTranspose3d)


class InBfloat16(torch.nn.Module):
    """A copy of a network that takes and gives float32 and computes in bfloat16, but for its ends.

    Intensities and logits with 8 bits would blur borders. On a CPU it works channels last, for which the processor's
    instructions are made, and its ends are computed by oneDNN as all the rest is.
    """

    def __init__(self, network: torch.nn.Module, plan: Plan, device: torch.device) -> None:
        super().__init__()
        self.network = _copied(network, device, torch.bfloat16)
        if device.type == "cpu":
            self.network = self.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        ends = Ends.of(network, plan)
        ends.keep_in_float32(self.network)
        for name in ends.first + ends.last:
            self.network.get_submodule(name).load_state_dict(network.get_submodule(name).state_dict())

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Logits (batch, channels, x, y, z) of windows (batch, 1, x, y, z), both float32."""
        with OneDnnConvolutions():
            logits: torch.Tensor = self.network(windows)
        return logits


def in_bfloat16(network: torch.nn.Module | Averaged, plan: Plan, device: torch.device) -> torch.nn.Module | Averaged:
    """``InBfloat16``; what is averaged stays in float32, of which each network of an ensemble is one of its own."""
    if isinstance(network, Averaged):
        return network.with_each(lambda each: changed(each, lambda whole: InBfloat16(whole, plan, device)))
    return InBfloat16(network, plan, device)


@dataclass(frozen=True)
class Ends:
    """The modules at both ends of a network, by name, that stay in float32 where the others compute in bfloat16.

    Attributes:
        first: the convolutions that take the network's input; empty where something else takes it too.
        last: from the first convolution whose output, as all later ones', has the channels of the logits; in the order
            in which they compute. Empty where there is no such convolution.
    """

    first: tuple[str, ...] = ()
    last: tuple[str, ...] = ()

    @classmethod
    def of(cls, network: torch.nn.Module, plan: Plan) -> "Ends":
        """Found by a run without data, of which the outcome is remembered."""
        if network not in _ENDS:
            decides = [list(plan.networks), plan.patch, len(plan.channels)]
            first, last = remembered("ends", network, decides, lambda: cls._found(network, plan))
            _ENDS[network] = cls(tuple(first), tuple(last))
        return _ENDS[network]

    @classmethod
    def _found(cls, network: torch.nn.Module, plan: Plan) -> tuple[list[str], list[str]]:
        window = torch.empty((1, len(plan.channels), *plan.patch), device="meta")
        found = cls._where_channels_end(network, window)
        choices = (found, cls((), found.last), cls())
        ends = next(choice for choice in choices if choice._fits(network, window))
        return list(ends.first), list(ends.last)

    @classmethod
    def _where_channels_end(cls, network: torch.nn.Module, window: torch.Tensor) -> "Ends":
        empty = _copied(network, "meta", torch.float32)
        first: list[str] = []
        computed: list[tuple[str, int]] = []  # and the channels of a convolution's output, 0 of other modules'

        def note(name: str, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            computed.append((name, output.shape[1] if isinstance(module, CONVOLUTIONS) else 0))
            if inputs[0] is window:
                first.append(name)

        for name, module in _with_weights(empty):
            module.register_forward_hook(lambda *call, name=name: note(name, *call))
        with torch.inference_mode():
            channels = empty(window).shape[1]
        others = [at for at, (_, outputs) in enumerate(computed) if outputs not in (0, channels)]
        last = [name for name, _ in computed[max(others, default=-1) + 1 :]]
        while last and not isinstance(network.get_submodule(last[0]), CONVOLUTIONS):
            del last[0]
        return cls(tuple(dict.fromkeys(first)), tuple(dict.fromkeys(last)))

    def _fits(self, network: torch.nn.Module, window: torch.Tensor) -> bool:
        """Whether no module of the network in bfloat16 is given float32, and none of the ends bfloat16."""
        mixed = _copied(network, "meta", torch.bfloat16)
        self.keep_in_float32(mixed)
        fitting: list[bool] = []
        for _, module in _with_weights(mixed):
            kind = next(module.parameters()).dtype
            module.register_forward_pre_hook(lambda _, inputs, kind=kind: fitting.append(inputs[0].dtype == kind))
        try:
            with torch.inference_mode():
                mixed(window)
        except RuntimeError:
            return self == Ends()
        return all(fitting) or self == Ends()

    def keep_in_float32(self, network: torch.nn.Module) -> None:
        """Turn the ends of a network in bfloat16 to float32, and the numbers where they meet the others."""
        for name in self.first + self.last:
            network.get_submodule(name).float()
        for name in self.last:
            network.get_submodule(name).register_forward_pre_hook(lambda _, inputs: tuple(v.float() for v in inputs))
        for name in set(self.first) - set(self.last):
            network.get_submodule(name).register_forward_hook(lambda _, __, output: output.bfloat16())
        if not self.first:
            network.register_forward_pre_hook(lambda _, inputs: tuple(value.bfloat16() for value in inputs))
        network.register_forward_hook(lambda _, __, output: output.float())


def _with_weights(network: torch.nn.Module) -> list[tuple[str, torch.nn.Module]]:
    """The modules, by name, that have weights of their own."""
    return [
        (name, module)
        for name, module in network.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    ]


def _copied(network: torch.nn.Module, device: torch.device | str, dtype: torch.dtype) -> torch.nn.Module:
    """A copy of a network elsewhere and with other numbers, whose own weights are never there twice."""
    held: list[torch.Tensor] = [*network.parameters(), *network.buffers()]
    with torch.no_grad():
        moved = [tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype) for tensor in held]
        memo = {
            id(old): torch.nn.Parameter(new, requires_grad=False) if isinstance(old, torch.nn.Parameter) else new
            for old, new in zip(held, moved, strict=True)
        }
    return copy.deepcopy(network, memo)


def exactly(network: torch.nn.Module | Averaged, device: torch.device) -> Forward:
    """The network on a device in float32, which on a CPU oneDNN computes as it does bfloat16: what that is held against."""
    if isinstance(network, Averaged):
        there: Forward = network.with_each(lambda each: changed(each, lambda whole: whole.to(device)))
    else:
        there = network.to(device)

    def forward(windows: torch.Tensor) -> torch.Tensor:
        with OneDnnConvolutions():
            return there(windows)

    return forward
