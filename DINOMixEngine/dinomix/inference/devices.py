"""Which device computes, and why."""

import os
from typing import Any

import psutil
import torch

from dinomix.errors import DinomixError


def choose_device(requested: str = "auto") -> tuple[torch.device, str]:
    """The device to compute on, and a sentence that says why.

    Args:
        requested: "auto" (CUDA, then Apple's MPS, then the CPU), "cpu", "mps", "cuda" or "cuda:N".

    Raises:
        DinomixError: the requested device is unknown or cannot compute.
    """
    if requested == "auto":
        return _automatic()
    try:
        device = torch.device(requested)
    except RuntimeError as error:
        raise DinomixError(
            f"There is no device named {requested!r}.", "Give auto, cpu, cuda, cuda:N or mps.", code="device"
        ) from error
    failure = _failure(device)
    if failure:
        raise DinomixError(
            f"The device {requested} cannot be used ({failure}).", "Give --device auto or --device cpu.", code="device"
        )
    return device, f"Computing on {describe(device)}, as requested."


def list_devices() -> list[dict[str, Any]]:
    """What can compute on this computer, as plain JSON data: name, title for a reader, and memory in bytes."""
    main_memory = psutil.virtual_memory().total
    found = [
        {"name": f"cuda:{n}", "title": torch.cuda.get_device_name(n), "memory": torch.cuda.mem_get_info(n)[1]}
        for n in range(torch.cuda.device_count())
    ]
    if torch.backends.mps.is_available():
        found.append({"name": "mps", "title": "Apple GPU", "memory": main_memory})
    return [*found, {"name": "cpu", "title": f"CPU ({os.cpu_count()} cores)", "memory": main_memory}]


def describe(device: torch.device) -> str:
    """A device's name for a reader."""
    if device.type == "cuda":
        return f"the GPU {torch.cuda.get_device_name(device)} ({device})"
    return {"mps": "the Apple GPU", "cpu": "the CPU"}.get(device.type, str(device))


def _automatic() -> tuple[torch.device, str]:
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


def _failure(device: torch.device) -> str:
    """Why a device cannot compute; empty when it can. A GPU may be listed and yet be too old for this PyTorch."""
    try:
        (torch.ones(2, device=device) * 2).sum().item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        return str(error).splitlines()[0][:200].rstrip(".")
    return ""
