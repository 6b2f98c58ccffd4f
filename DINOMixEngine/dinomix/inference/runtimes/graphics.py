"""Intel graphics, by OpenVINO, where a user asks for them: whether they are there, and compute an image as the CPU does."""

import weakref
from typing import Any

from dinomix.arrays import Array, without_gradients
from dinomix.errors import DinomixError, reason_of
from dinomix.inference.devices import Device, cpu
from dinomix.inference.options import Numbers
from dinomix.inference.pieces import piece_with_borders
from dinomix.inference.runtimes.agreement import differing, is_same
from dinomix.inference.runtimes.compiled import OpenVino, drop, usual_runtime
from dinomix.models.networks import Network
from dinomix.models.silence import core, is_installed
from dinomix.planning.plan import Plan, sides_of_a_piece

GRAPHICS = OpenVino("openvino-gpu", "OpenVINO on Intel graphics", "GPU")

_REFUSED = weakref.WeakKeyDictionary[Any, dict[Numbers, str]]()
"""Why they do not compute a network, as this process has found out."""


def check_graphics(device: Device) -> None:
    """Raises DinomixError where graphics cannot compute anything."""
    if device != cpu():
        raise DinomixError(
            f"Intel graphics compute beside the CPU, and the device is {device}.",
            "Give --device cpu as well, or --runtime auto.",
            "runtime",
        )
    if not is_installed() or not _are_there():
        raise DinomixError(
            "OpenVINO finds no Intel graphics on this computer, or is not installed.",
            "Install it (pip install openvino) and the driver of the graphics, or give --runtime auto.",
            "runtime",
        )


def _are_there() -> bool:
    try:
        return any(place.partition(".")[0] == GRAPHICS.place for place in core().available_devices)
    except (ImportError, OSError, RuntimeError):  # a library that is not whole
        return False


def takes(network: Network, plan: Plan, device: Device, numbers: Numbers) -> bool:
    """Whether the driver can compile a network for the plan's windows; what comes of it is kept."""
    refused = _REFUSED.setdefault(network, {})
    if numbers not in refused:
        try:
            GRAPHICS.ready(network, plan, device, numbers, plan.patch)
        except Exception as error:  # of many kinds: what a driver says of a network that it does not know
            refused[numbers] = f"cannot take this network ({reason_of(error)})"
    return numbers not in refused


@without_gradients
def refusal(network: Network, tensor: Array, plan: Plan, device: Device, numbers: Numbers) -> str:
    """Why graphics shall not compute an image, in words that follow "Intel graphics"; empty where they may.

    Args:
        tensor: (channels, x, y, z) float32.
    """
    if not takes(network, plan, device, numbers):
        return _REFUSED[network][numbers]
    sides = sides_of_a_piece(plan)
    # Borders are looked for in what the CPU finds: a driver that computes nothing would show none.
    exact = usual_runtime(network).ready(network, plan, device, "float32", sides)
    found = piece_with_borders(exact, tensor, plan, device)
    if found is None:
        return "cannot be judged by this image, of which no piece shows a structure"
    window, expected = found
    try:
        other, structures = differing(GRAPHICS.ready(network, plan, device, numbers, sides)(window)[0], expected)
    except Exception as error:  # of many kinds, as above
        why = f"cannot compute this network ({reason_of(error)})"
    else:
        if is_same(other, structures, numbers):
            return ""
        why = f"gave {other} of {structures} voxels other labels than the CPU"
    _REFUSED[network][numbers] = why
    drop(network, GRAPHICS.place)
    return why
