"""Makes the plan of a cohort: spacing, intensity window, patch and network, each with its reason."""

import json
from typing import Any

import numpy as np
from pydantic import ValidationError

from dinomix.cohort.cohort import Case, Cohort
from dinomix.errors import DinomixError
from dinomix.planning.field_of_view import field_of_view
from dinomix.planning.networks import planned_network
from dinomix.planning.plan import PercentileWindow, Plan, RangeWindow, patch_multiple, takes_one_size
from dinomix.planning.ras_axes import spacing_in_ras
from dinomix.planning.second_stage import with_stages

PATCH_VOXELS = {"cpu": 48 * 48 * 48, "gpu": 128 * 128 * 64}
"""Largest patch by default: on a CPU a step of it takes seconds; on a GPU it is the size of the published methods."""

START_CHANNELS = {"cpu": 16, "gpu": 32}

BYTES_PER_VOXEL_AND_CHANNEL = 115
"""Peak memory of a training step of the default network per voxel of the batch and start channel, measured in float32."""
BYTES_PER_VOXEL_AND_CLASS = 35
"""What each class adds, likewise: logits, probabilities and gradients, also of the heads that deep supervision adds."""


def make_plan(cohort: Cohort, *, device_kind: str, memory_bytes: int, batch: int, start: Plan | None = None,
              overrides: dict[str, Any] | None = None) -> Plan:  # fmt: skip
    """The plan of a cohort.

    Args:
        device_kind: "cpu" or "gpu".
        memory_bytes: what a training step may take.
        batch: patches in a step of one process, labeled and unlabeled.
        start: the plan of a model whose weights are the beginning; its network is taken.
        overrides: fields of ``Plan`` (or of its grid and window, dotted) that the user fixes; and ``stages``, see
            ``second_stage.with_stages``.

    Raises:
        DinomixError: the cohort has no labeled case; an override is unknown or impossible; a second stage has nothing to do.
    """
    if not cohort.with_role("labeled"):
        raise DinomixError(
            "The cohort has no labeled case.", "Give at least one with `dinomix check --labeled`.", code="no-labeled"
        )
    cases = [case for case in cohort.cases if case.role in ("labeled", "unlabeled")]
    spacing, why_spacing = _spacing(cases)
    windows = [_window(cohort, number) for number in range(len(cohort.channel_names))]
    window, why_window = windows[0]
    if len(windows) > 1:
        why_window = "; ".join(f"{name}: {why}" for name, (_, why) in zip(cohort.channels, windows, strict=True))
    channels = START_CHANNELS[device_kind]
    stage: int | str = 8
    bytes_per_voxel = BYTES_PER_VOXEL_AND_CHANNEL * channels + BYTES_PER_VOXEL_AND_CLASS * cohort.labels.channels
    limit = min(PATCH_VOXELS[device_kind], int(memory_bytes / (bytes_per_voxel * batch)))
    view = field_of_view(cases, spacing, limit)
    if start is None:
        network = planned_network(view.levels, channels)
        patch = view.patch
        why_network = (
            f"a U-Net of {len(view.levels.strides)} levels and {channels} start channels for a {device_kind.upper()}; an axis is "
            "halved and mixed only while its voxels are less than twice as long as the finest"
        )
    else:
        network, stage, why_network = start.network, start.fkd_stage, "that of the model it starts from"
        patch = _fitting(view.patch, start)
    data: dict[str, Any] = {
        "modality": cohort.modality,
        "grid": {"kind": "spacing", "spacing": view.spacing},
        "window": window.model_dump(),
        "channel": cohort.channel_names[0],
        "more_channels": [
            {"name": name, "modality": modality, "window": of_channel.model_dump()}
            for name, modality, (of_channel, _) in zip(
                cohort.channel_names[1:], cohort.more_modalities, windows[1:], strict=True
            )
        ],
        "patch": patch,
        "network": network,
        "fkd_stage": stage,
        "reasons": {
            "spacing": why_spacing + view.why_spacing,
            "window": why_window,
            "patch": view.why_patch,
            "network": why_network,
        },
    }
    wanted = dict(overrides or {})
    stages = wanted.pop("stages", 1)
    of_second = {key: wanted.pop(key) for key in list(wanted) if key.split(".")[0] == "second"}
    made = with_stages(override_plan(data, wanted), stages, cohort, spacing, limit, channels)
    return override_plan(made.model_dump(mode="json"), of_second) if of_second else made


def _fitting(patch: tuple[int, int, int], start: Plan) -> tuple[int, int, int]:
    """The patch with sides that the network of another plan takes."""
    if takes_one_size(start.network):
        return start.patch
    x, y, z = (
        -(-side // multiple) * multiple for side, multiple in zip(patch, patch_multiple(start.network), strict=True)
    )
    return x, y, z


def override_plan(data: dict[str, Any], overrides: dict[str, Any]) -> Plan:
    """A plan from its fields and the user's changes. Raises DinomixError for what is unknown or impossible."""
    reasons = data["reasons"]
    for key, value in overrides.items():
        *parents, leaf = key.split(".")
        target: Any = data
        for parent in parents:
            target = _part(target, parent)
        known = isinstance(target, dict) and (leaf in target or not parents or parents == ["network"])
        if not known or (not parents and leaf not in Plan.model_fields):
            raise DinomixError(f"A plan has no field {key}.", f"It has {', '.join(Plan.model_fields)}.")
        target[leaf] = value
        if key != "reasons":
            reasons[key.split(".")[0]] = "given by the user"
    try:
        return Plan.model_validate(json.loads(json.dumps(data)))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DinomixError(
            f"The plan's {where or 'fields'} cannot be used: {first['msg']}.", "Correct --set plan.*.", code="plan"
        ) from error


def _part(data: Any, key: str) -> Any:
    """A field of a table, or an entry of a list by its number; None where there is none."""
    if isinstance(data, list):
        return data[int(key)] if key.isdigit() and int(key) < len(data) else None
    return data.get(key) if isinstance(data, dict) else None


def _spacing(cases: list[Case]) -> tuple[tuple[float, float, float], str]:
    all_spacings = np.array([spacing_in_ras(case) for case in cases])
    median = np.median(all_spacings, axis=0)
    reason = f"median of {len(cases)} cases"
    coarse = int(median.argmax())
    if median[coarse] > 3 * np.delete(median, coarse).max():
        # As nnU-Net does: the coarse axis of anisotropic cohorts keeps the detail of its finer cases.
        median[coarse] = max(np.percentile(all_spacings[:, coarse], 10), np.delete(median, coarse).max())
        reason += f"; the coarse axis {'xyz'[coarse]} takes the 10th percentile"
    x, y, z = (round(float(v), 4) for v in median)
    return (x, y, z), reason


def _window(cohort: Cohort, channel: int) -> tuple[RangeWindow | PercentileWindow, str]:
    if (modality := cohort.modalities[channel]) != "CT":
        return PercentileWindow(), f"{'MR' if modality == 'MR' else 'PET'} has no unit; each volume's own percentiles"
    # Of labeled cases only: the labels of validation and test cases must not have a say in the plan.
    labeled = [case.foreground_intensities[channel] for case in cohort.with_role("labeled")]
    inside = [intensity for intensity in labeled if intensity is not None]
    low, _, high = np.median(inside, axis=0) if inside else (-100.0, 0.0, 200.0)
    # Wide enough to tell the structures from what surrounds them: fat on the dark side, contrast and bone on the other.
    low = max(5 * np.floor((min(low, -100) - 50) / 5), -1000)
    high = min(5 * np.ceil((max(high, 200) + 50) / 5), 2000)
    return RangeWindow(
        low=float(low), high=float(high)
    ), "HU percentiles 0.5 to 99.5 inside the structures, widened by 50 HU"
