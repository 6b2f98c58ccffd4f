"""Models of MONAI's Auto3DSeg (algorithm segresnet): one file of weights that carries its own configuration."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dinomix.cohort.modality import Modality
from dinomix.errors import DinomixError
from dinomix.importing.converted import Converted, make_plan
from dinomix.importing.hints import Hints
from dinomix.importing.inputs import Input, renamed
from dinomix.importing.label_names import labels_from_names, read_labels_csv
from dinomix.importing.networks import network_of, without_supervision
from dinomix.importing.sigmoids import NESTED, labels_of_regions, parts_of, with_background
from dinomix.importing.weights import state_dict_of
from dinomix.labels import LabelSet
from dinomix.models.matched_weights import class_axes
from dinomix.planning.plan import Sigmoid, SpacingGrid, Step, StepsWindow, Tanh, ToRange, ZScore

DEFAULT_BOUNDS = (-250.0, 250.0)
"""Where ``intensity_bounds`` is missing, as in the algorithm."""
OVERLAP = 0.625
_CT_MODES = ("range", "ct")
"""Scalings of Hounsfield units."""


def is_auto3dseg(checkpoint: Any) -> bool:
    """Whether a file of weights is one of this algorithm's checkpoints."""
    return (
        isinstance(checkpoint, dict)
        and isinstance(checkpoint.get("config"), dict)
        and "state_dict" in checkpoint
        and "network" in checkpoint["config"]
    )


def read_auto3dseg(checkpoint: dict[str, Any], path: Path, labels_csv: Path | None, hints: Hints) -> Converted:
    """Convert a checkpoint; see ``segmenter.py`` of the algorithm's template for what its configuration means.

    Args:
        labels_csv: the table of labels that the extension MONAIAuto3DSeg puts beside the weights.
        hints: ``images``, ``regions`` and ``structures``, where the model's own configuration lacks them.

    Raises:
        DinomixError: regions that overlap without one lying in the other, an image that is scaled as PET, or a network that
            cannot be used.
    """
    config = checkpoint["config"]
    network, count, outputs = network_of({**config["network"], **_counts(config, path)}, path)
    if config.get("anisotropic_scales") and not network.get("resolution"):
        network["resolution"] = _numbers(config, "resample_resolution", 3, path)
    sigmoid = bool(config.get("sigmoid", False))
    regions = _regions(config, outputs, hints, path) if sigmoid else None
    parts = parts_of(regions, path) if regions else [[channel] for channel in range(outputs)]
    channels = len(parts) + 1 if sigmoid else outputs
    notes = [NESTED] if regions else []
    labels = _labels(config, channels, regions, hints, path, labels_csv)
    plan = make_plan(
        path,
        renamed(_inputs(config, count, path), hints.images, path),
        grid=SpacingGrid(spacing=_spacing(config, path, notes)),
        patch=_numbers(config, "roi_size", 3, path),
        overlap=(OVERLAP, OVERLAP, OVERLAP),
        network=network,
    )
    axes = class_axes(plan, outputs)
    weights = without_supervision(state_dict_of(checkpoint, path), set(axes))
    if sigmoid:
        weights = with_background(weights, axes, parts)
    if config.get("crop_foreground", True):
        notes.append("The model's own pipeline crops a scan to its foreground first; here the whole scan is segmented.")
    if not config.get("orientation_ras", False):
        notes.append("The model does not say how its scans were turned; RAS axes are assumed.")
    record = {"format": "MONAI Auto3DSeg, segresnet"}
    if isinstance(checkpoint.get("epoch"), int):
        record["epoch"] = checkpoint["epoch"]
    if (metric := _float(checkpoint.get("best_metric"))) is not None:
        record["best_metric"] = metric  # type: ignore[assignment]
    return Converted(plan, labels, weights, record, notes)


def _counts(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """Input and output channels, which the network's definition may take from the rest of the configuration."""
    network, counts = config["network"], {}
    if not isinstance(network, dict):
        raise DinomixError(f"{path} does not say which network it is.", "Its network needs a _target_ of MONAI.")
    for key, elsewhere in (("in_channels", "input_channels"), ("out_channels", "output_classes")):
        value = network.get(key)
        counts[key] = config.get(elsewhere) if value in (None, f"@{elsewhere}") else value
    return counts


def _regions(config: dict[str, Any], outputs: int, hints: Hints, path: Path) -> Mapping[str, Sequence[int]] | None:
    """The structures of each channel where channels share some; None where they exclude each other."""
    regions = hints.regions
    if regions is None:
        index, names = config.get("class_index"), config.get("class_names")
        groups = [group if isinstance(group, list) else [group] for group in index] if isinstance(index, list) else []
        flat = [value for group in groups for value in group]
        if len(set(flat)) == len(flat):
            return None
        if not isinstance(names, list) or len(set(map(str, names))) != len(groups):
            names = [f"region {number}" for number in range(1, len(groups) + 1)]
        regions = {str(name): group for name, group in zip(names, groups, strict=True)}
    if len(regions) != outputs:
        raise DinomixError(
            f"{path} has {len(regions)} regions, and its network gives {outputs}.", "Check its configuration."
        )
    return regions


def _labels(
    config: dict[str, Any],
    channels: int,
    regions: Mapping[str, Sequence[int]] | None,
    hints: Hints,
    path: Path,
    labels_csv: Path | None,
) -> LabelSet:
    if labels_csv is not None:
        return read_labels_csv(labels_csv, channels).with_regions(regions or {})
    if regions:
        return labels_of_regions(regions, hints.structures, path)
    names = config.get("class_names")
    if not isinstance(names, list):
        return labels_from_names({}, channels, path)
    # With softmax the first class is the background, which the list may name or leave out.
    start = 1 if len(names) == channels - 1 else 0
    return labels_from_names({k: str(name) for k, name in enumerate(names, start) if k}, channels, path)


def _inputs(config: dict[str, Any], count: int, path: Path) -> list[Input]:
    """The images of a case: the first and ``extra_modalities``, or without these, the volumes of a 4D file."""
    modality, mode = _modality(config, path), str(config.get("normalize_mode", "")).lower()
    first = Input("image", modality, _window(config, mode, path))
    extra = config.get("extra_modalities") or {}
    if not isinstance(extra, dict) or (extra and len(extra) != count - 1):
        raise DinomixError(
            f"{path}: its extra_modalities are {extra!r}; its network takes {count} images.",
            "The model's configuration is damaged.",
        )
    if not extra:
        return [first._replace(name=f"image {number}") for number in range(1, count + 1)]
    return [first, *(_extra_input(str(name), str(how).lower(), config, path) for name, how in extra.items())]


def _extra_input(name: str, mode: str, config: dict[str, Any], path: Path) -> Input:
    return Input(name, "CT" if mode in _CT_MODES else "MR", _window(config, mode, path))


def _modality(config: dict[str, Any], path: Path) -> Modality:
    modality = str(config.get("modality", "")).lower()
    if modality in ("ct", "mri", "mr"):
        return "CT" if modality == "ct" else "MR"
    raise DinomixError(
        f"{path} is a model for {modality or 'an unknown modality'}.", "Models for CT or MR can be used."
    )


def _window(config: dict[str, Any], mode: str, path: Path) -> StepsWindow:
    steps: tuple[Step, ...]
    if mode in _CT_MODES:
        bounds = DEFAULT_BOUNDS
        if config.get("intensity_bounds") is not None:
            bounds = _numbers(config, "intensity_bounds", 2, path)
        steps = (ToRange(low=bounds[0], high=bounds[1], to=(-1.0, 1.0), clip=False), Sigmoid())
    elif mode in ("meanstd", "mri"):
        steps = (ZScore(nonzero=True),)
    elif mode == "meanstdtanh":
        steps = (ZScore(nonzero=True), Tanh(limit=3.0))
    else:
        raise DinomixError(
            f"{path} scales intensities by {mode!r}, which cannot be done here.", "Choose another model."
        )
    return StepsWindow(on="grid", steps=steps)


def _spacing(config: dict[str, Any], path: Path, notes: list[str]) -> Any:
    if not config.get("resample", True):
        notes.append(
            "The model's own pipeline keeps each scan's spacing; here scans are resampled to its median spacing."
        )
    return _numbers(config, "resample_resolution", 3, path)


def _numbers(config: dict[str, Any], key: str, count: int, path: Path) -> Any:
    value = config.get(key)
    if not isinstance(value, (list, tuple)) or len(value) != count or any(_float(v) is None for v in value):
        raise DinomixError(
            f"{path}: its {key} is {value!r}, not {count} numbers.", "The model's configuration is damaged."
        )
    return tuple(value)


def _float(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
