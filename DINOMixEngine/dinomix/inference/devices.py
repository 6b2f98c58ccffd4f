"""Which device computes, and why. A device is PyTorch's where that is installed; without it there is the processor alone."""

import os
import platform
from dataclasses import dataclass
from typing import Any, TypeAlias

import psutil

from dinomix.arrays import has_torch
from dinomix.errors import DinomixError
from dinomix.threads import threads as own_threads

INSTALL = "Install all packages (pip install dinomix)."
"""What gives a computer PyTorch, which segmenting alone does without."""


@dataclass(frozen=True)
class Processor:
    """Stands for the CPU where there is no PyTorch."""

    type: str = "cpu"

    def __str__(self) -> str:
        return self.type


Device: TypeAlias = Any
"""A ``torch.device``, or ``Processor()`` where PyTorch is not installed."""


def cpu() -> Device:
    """The CPU as a device."""
    return as_device("cpu")


def as_device(named: Device | str) -> Device:
    """A device by its name, which is not tried; and a device as it is."""
    if not isinstance(named, str):
        return named
    if not has_torch():
        return Processor(named)
    import torch

    return torch.device(named)


def choose_device(requested: str = "auto") -> tuple[Device, str]:
    """The device to compute on, and a sentence that says why.

    Args:
        requested: "auto" (CUDA, then Apple's MPS, then the CPU), "cpu", "mps", "cuda" or "cuda:N".

    Raises:
        DinomixError: the requested device is unknown or cannot compute.
    """
    if not has_torch():
        return _without_pytorch(requested)
    import torch

    if requested == "auto":
        return _automatic()
    try:
        device = torch.device(requested)
    except RuntimeError as error:
        raise _unknown(requested) from error
    failure = _failure(device)
    if failure:
        raise DinomixError(
            f"The device {requested} cannot be used ({failure}).", "Give --device auto or --device cpu.", code="device"
        )
    return device, f"Computing on {describe(device)}, as requested."


def list_devices() -> list[dict[str, Any]]:
    """What can compute on this computer, as plain JSON data: name, title for a reader, and memory in bytes."""
    main_memory = psutil.virtual_memory().total
    found: list[dict[str, Any]] = []
    if has_torch():
        import torch

        found += [
            {"name": f"cuda:{n}", "title": torch.cuda.get_device_name(n), "memory": torch.cuda.mem_get_info(n)[1]}
            for n in range(torch.cuda.device_count())
        ]
        if torch.backends.mps.is_available():
            found.append({"name": "mps", "title": "Apple GPU", "memory": main_memory})
    return [*found, {"name": "cpu", "title": f"CPU ({os.cpu_count()} cores)", "memory": main_memory}]


def describe(device: Device) -> str:
    """A device's name for a reader."""
    if device.type == "cuda":
        import torch

        return f"the GPU {torch.cuda.get_device_name(device)} ({device})"
    return {"mps": "the Apple GPU", "cpu": "the CPU"}.get(device.type, str(device))


def has_bfloat16(device: Device) -> bool:
    """Whether a device multiplies bfloat16 faster than float32."""
    if not has_torch():
        from dinomix.models.silence import core

        return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(bool(getattr(torch.cpu, test, lambda: False)()) for test in tests)


def is_x86_64() -> bool:
    """Whether the processor is of the kind on which what OpenVINO gains was measured, with AVX-512 and without."""
    return platform.machine().lower() in ("x86_64", "amd64")


def threads() -> int:
    """How many threads a network is computed with on a processor: as many as PyTorch takes."""
    if not has_torch():
        return own_threads()
    import torch

    return torch.get_num_threads()


def _without_pytorch(requested: str) -> tuple[Device, str]:
    if requested in ("auto", "cpu"):
        return Processor(), "Computing on the CPU, since PyTorch is not installed."
    kind, _, number = requested.partition(":")
    if kind not in ("cuda", "mps") or (number and not number.isdecimal()):
        raise _unknown(requested)
    raise DinomixError(
        f"The device {requested} cannot be used: PyTorch is not installed.",
        f"{INSTALL} Or give --device auto or --device cpu.",
        code="device",
    )


def _unknown(requested: str) -> DinomixError:
    return DinomixError(
        f"There is no device named {requested!r}.", "Give auto, cpu, cuda, cuda:N or mps.", code="device"
    )


def _automatic() -> tuple[Device, str]:
    import torch

    failures = []
    for name, present in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())):
        if not present:
            continue
        device = torch.device(name)
        failure = _failure(device)
        if not failure:
            return device, f"Computing on {describe(device)}."
        failures.append(f"{name}: {failure}")
    if failures:
        return torch.device("cpu"), f"Computing on the CPU, since the GPU cannot be used ({'; '.join(failures)})."
    return torch.device("cpu"), "Computing on the CPU, since no GPU that PyTorch can use was found."


def _failure(device: Device) -> str:
    """Why a device cannot compute; empty when it can. A GPU may be listed and yet be too old for this PyTorch."""
    import torch

    try:
        (torch.ones(2, device=device) * 2).sum().item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        return str(error).splitlines()[0][:200].rstrip(".")
    return ""
