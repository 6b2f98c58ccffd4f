"""Networks as configurations of elsewhere name them, in the few terms that a plan allows."""

from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from dinomix.cohort.cohort import MOST_CHANNELS
from dinomix.errors import DinomixError
from dinomix.labels import LARGEST_ID
from dinomix.models.network import NETWORKS, PACKAGE, not_plain

_DECIDED = ("spatial_dims", "dimensions", "in_channels", "out_channels")


class NamedNetwork(NamedTuple):
    """A network as a plan has it, and how many channels go in and come out."""

    definition: dict[str, Any]
    inputs: int
    outputs: int


def network_of(definition: Any, source: Path) -> NamedNetwork:
    """The network that MONAI's configuration language defines.

    Deep supervision is switched off: only the last output segments.

    Raises:
        DinomixError: not one of ``NETWORKS``, arguments that are code, 2D, or channels that are no number.
    """
    if not isinstance(definition, dict) or not isinstance(definition.get("_target_"), str):
        raise DinomixError(f"{source} does not say which network it is.", "Its network needs a _target_ of MONAI.")
    name = definition["_target_"].rpartition(".")[2]
    module = definition["_target_"].rpartition(".")[0]
    if name not in NETWORKS or (module and not f"{module}.".startswith(PACKAGE)):
        raise DinomixError(
            f"{source} names the network {definition['_target_']}, which cannot be used.",
            f"Networks that can be used: {', '.join(NETWORKS)}.",
        )
    arguments = {key: value for key, value in definition.items() if key != "_target_"}
    if what := not_plain(arguments):
        raise DinomixError(
            f"{source}: the arguments of its network hold {what}; nothing of it was run.", "Write them as plain values."
        )
    dimensions = arguments.get("spatial_dims", arguments.get("dimensions", 3))
    channels, inputs = arguments.get("out_channels", 2), arguments.get("in_channels", 1)
    if dimensions != 3:
        raise DinomixError(f"{source} is a network of {dimensions} dimensions.", "Choose a 3D model.")
    if not isinstance(inputs, int) or not 1 <= inputs <= MOST_CHANNELS:
        raise DinomixError(
            f"{source} takes {inputs!r} images of a patient at once (in_channels).",
            f"1 to {MOST_CHANNELS} are possible.",
        )
    if not isinstance(channels, int) or not 1 <= channels <= LARGEST_ID:
        raise DinomixError(
            f"{source} does not say how many classes there are (out_channels {channels!r}).",
            f"1 to {LARGEST_ID} are possible.",
        )
    arguments = {key: value for key, value in arguments.items() if key not in _DECIDED}
    if "dsdepth" in arguments:
        arguments["dsdepth"] = 1
    if "deep_supervision" in arguments:
        arguments["deep_supervision"] = False
    norm = arguments.get("norm")
    kind, rest = (norm[0], norm[1:]) if isinstance(norm, (list, tuple)) and norm else (norm, [])
    if isinstance(kind, str) and kind.upper() == "INSTANCE_NVFUSER":
        # NVIDIA's faster form of the same, with the same parameters; only where apex is installed.
        arguments["norm"] = ["INSTANCE", *rest] if rest else "INSTANCE"
    return NamedNetwork({"_target_": PACKAGE + name, **arguments}, inputs, channels)


def without_supervision(weights: dict[str, Tensor], wanted: set[str]) -> dict[str, Tensor]:
    """Weights without the heads that only training needs."""
    heads = ("deep_supervision_heads.", ".super_head.", ".head.", "ds_heads.")
    return {name: w for name, w in weights.items() if name in wanted or not any(head in f".{name}" for head in heads)}
