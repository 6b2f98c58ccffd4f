"""What every importer gives: a model of elsewhere in our terms. It is tried on a test volume before it is kept."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from dinomix.errors import DinomixError
from dinomix.events import Emit, silent
from dinomix.images.volume import Geometry, Volume
from dinomix.importing.inputs import Input, channel_fields
from dinomix.labels import LabelSet
from dinomix.models.folder import misfit_of
from dinomix.models.network import build_network, footprint
from dinomix.models.writing import write_model
from dinomix.planning.plan import Plan, SpacingGrid, patch_multiple
from dinomix.planning.preprocessing import preprocess

_ANY_PATCH = (
    "AttentionUnet", "BasicUNet", "DynUNet", "ResidualEncoderUNet", "SegResNet", "SegResNetDS", "UNet", "VNet",
)  # fmt: skip
"""Networks without a size of their own: they are tried on a small patch."""


@dataclass
class Converted:
    """A model that was read.

    Attributes:
        weights: the network's state, for ``plan.network`` and ``labels.channels``.
        record: where it came from, as it goes into the model folder.
        more_weights: of an ensemble, the states of the further networks.
        notes: full sentences about what this software does otherwise than the model's own; kept in the record.
    """

    plan: Plan
    labels: LabelSet
    weights: dict[str, Tensor]
    record: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    more_weights: list[dict[str, Tensor]] = field(default_factory=list)


def make_plan(source: Path, inputs: Sequence[Input], **fields: Any) -> Plan:
    """A plan of a model of elsewhere that sees ``inputs`` of each case.

    Raises:
        DinomixError: there are too many inputs; or with the first field that cannot be used.
    """
    reasons = dict.fromkeys(("spacing", "window", "patch", "network"), "the model's own")
    try:
        return Plan(reasons=reasons, **channel_fields(inputs, source), **fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "plan"
        raise DinomixError(
            f"{source}: its {where} cannot be used ({first['msg']}).", "Choose another model."
        ) from error


def write_converted(model: Converted, path: Path, source: Path, emit: Emit = silent) -> None:
    """Try a converted model on a generated volume, then write its model folder.

    Raises:
        DinomixError: weights and network do not fit each other, or the network does not segment the test volume.
    """
    first, *others = (
        _tried(replace(model, plan=plan, weights=weights), source)
        for plan, weights in zip(model.plan.members, (model.weights, *model.more_weights), strict=True)
    )
    record = {**model.record, "notes": model.notes}
    write_model(
        path,
        plan=model.plan,
        labels=model.labels,
        weights=first,
        record=record,
        more_weights=others,
        graphs=True,
        emit=emit,
    )


def _tried(model: Converted, source: Path) -> dict[str, Tensor]:
    """The state of one network, once it has segmented a generated volume."""
    network = loaded_network(model, source)
    try_on_test_volume(network, model, source)
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def loaded_network(model: Converted, source: Path) -> nn.Module:
    """The plan's network with the weights. Raises DinomixError, with the first thing that does not fit."""
    # Before the network is built: what a configuration claims costs nothing until the weights are as large.
    wanted = footprint(model.plan, model.labels.channels).shapes
    if misfit := misfit_of(model.weights, wanted):
        name = next(iter(wanted))
        first = model.weights.get(name)
        if (
            name.endswith(".weight")
            and first is not None
            and first.ndim == 5
            and first.shape[0] == wanted[name][0]
            and first.shape[1] != len(model.plan.channels)
        ):
            raise _other_inputs(source, int(first.shape[1]), len(model.plan.channels))
        kind = str(model.plan.network["_target_"]).rpartition(".")[2]
        raise DinomixError(
            f"{source}: weights and network do not fit ({misfit}).",
            f"Its weights are not those of this {kind}; check that configuration and weights belong together.",
        )
    network = build_network(model.plan, model.labels.channels)
    network.load_state_dict(model.weights)
    return network.eval().requires_grad_(False)


def _other_inputs(source: Path, taken: int, said: int) -> DinomixError:
    return DinomixError(
        f"{source}: its weights are of a network that takes {taken} images of a patient at once, its configuration says {said}.",
        "Check that configuration and weights belong together.",
    )


def try_on_test_volume(network: nn.Module, model: Converted, source: Path) -> None:
    """Run the network on a generated volume through the model's own preprocessing.

    Raises:
        DinomixError: it fails, gives another number of maps than there are classes, or values that are not finite.
    """
    plan = model.plan.model_copy(update={"patch": _small_patch(model.plan)})
    tensor = preprocess([_test_volume(plan)] * len(plan.channels), plan).tensor
    window = torch.zeros(1, len(plan.channels), *plan.patch)
    part = tensor[:, : plan.patch[0], : plan.patch[1], : plan.patch[2]]
    window[0, :, : part.shape[1], : part.shape[2], : part.shape[3]] = part
    try:
        with torch.inference_mode():
            output = network(window)
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise DinomixError(
            f"{source} was read, but its network fails on a test volume ({reason}).", "This model cannot be used."
        ) from error
    wanted = (1, model.labels.channels, *plan.patch)
    if not isinstance(output, Tensor) or tuple(output.shape) != wanted:
        got = tuple(output.shape) if isinstance(output, Tensor) else f"a {type(output).__name__}"
        raise DinomixError(f"{source} gives {got} for a test volume; {wanted} is wanted.", "This model cannot be used.")
    if not torch.isfinite(output).all():
        raise DinomixError(
            f"{source} gives values that are not finite for a test volume.", "Its weights are damaged; get it again."
        )


def _small_patch(plan: Plan) -> tuple[int, int, int]:
    """As small as the network allows, since its full patch can take minutes and gigabytes on a CPU."""
    if str(plan.network["_target_"]).rpartition(".")[2] not in _ANY_PATCH or plan.network.get("resolution"):
        return plan.patch
    x, y, z = (
        min(side, max(2 * factor, 32 // factor * factor))
        for side, factor in zip(plan.patch, patch_multiple(plan.network), strict=True)
    )
    return x, y, z


def _test_volume(plan: Plan) -> Volume:
    """A bright ball in noise, in HU, on voxels of 0.9 of the plan's spacing."""
    size = tuple(max(side + 3, 8) for side in plan.patch)
    spacing = tuple(mm * 0.9 for mm in plan.grid.spacing) if isinstance(plan.grid, SpacingGrid) else (1.0, 1.0, 1.0)
    k, j, i = np.ogrid[: size[2], : size[1], : size[0]]
    x, y, z = ((axis - n / 2) / (n / 3) for axis, n in zip((i, j, k), size, strict=True))
    ball = x**2 + y**2 + z**2 < 1
    noise = np.random.default_rng(0).normal(0, 20, ball.shape)
    array = (np.where(ball, 100.0, -500.0) + noise).astype(np.float32)
    return Volume(array, Geometry(size, spacing, (0.0, 0.0, 0.0), np.diag([-1.0, -1.0, 1.0])))  # type: ignore[arg-type]
