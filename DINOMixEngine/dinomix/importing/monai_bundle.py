"""Bundles of the MONAI Model Zoo: their configuration is read as data, and none of it is executed."""

from pathlib import Path
from typing import Any

from dinomix.errors import DinomixError, reason_of
from dinomix.files import read_table
from dinomix.importing.bundle_values import LARGEST_CONFIGURATION, BundleConfig
from dinomix.importing.converted import Converted, make_plan, other_channels
from dinomix.importing.label_names import labels_from_names
from dinomix.importing.networks import network_of, with_background, without_supervision
from dinomix.importing.weights import is_weights, read_checkpoint, state_dict_of
from dinomix.models.matching import class_axes
from dinomix.planning.plan import MinMax, PercentileWindow, RangeWindow, SpacingGrid, Step, StepsWindow, ToRange, ZScore

CONFIGURATION = "configs/inference.json"
METADATA = "configs/metadata.json"
MOST_STEPS = 100
_CHANGE_NOTHING = (
    "LoadImage", "EnsureChannelFirst", "AddChannel", "EnsureType", "ToTensor", "CastToType", "Identity", "ToDevice",
    "DeleteItems", "SelectItems",
)  # fmt: skip
_CROPS = ("CropForeground",)
_INFERER = "SlidingWindowInferer"


def is_bundle(folder: Path) -> bool:
    return (folder / CONFIGURATION).is_file() and (folder / METADATA).is_file()


def read_bundle(folder: Path, changes: dict[str, Any] | None = None, weights: str | None = None) -> Converted:
    """Convert a bundle of a 3D segmentation network.

    Args:
        changes: values of its configuration to change, as the catalog gives them.
        weights: the file of weights in the folder; None for models/model.pt, or the only one there is.

    Raises:
        DinomixError: what the bundle does cannot be expressed here, holds code where a value is needed, or takes several
            images.
    """
    config = BundleConfig(folder / CONFIGURATION, changes)
    metadata = _metadata(folder / METADATA)
    place = "network_def" if config.get("network_def") is not None else "network"
    network, outputs = network_of(config.get(place), config.path)
    notes: list[str] = []
    grid, window = _preprocessing(config, notes)
    patch, overlap, blend = _inferer(config, notes)
    plan = make_plan(
        folder,
        modality=_modality(metadata, folder),
        grid=grid,
        window=window,
        patch=patch,
        overlap=overlap,
        blend=blend,
        network=network,
    )
    file = _weights_file(folder, weights)
    axes = class_axes(plan, outputs)
    tensors = without_supervision(state_dict_of(read_checkpoint(file), file), set(axes))
    names = _channel_names(metadata)
    sigmoid = _is_sigmoid(config) or outputs == 1
    if sigmoid:
        try:
            tensors = with_background(tensors, axes)
        except ValueError as error:
            raise DinomixError(
                f"{folder} gives a sigmoid per structure, and {error}; this cannot be turned into labels.",
                "Choose a model with a background channel.",
            ) from error
        names = _moved_by_background(names, outputs)
    channels = outputs + 1 if sigmoid else outputs
    notes.append("Logits are brought back to the scan's grid before the likeliest structure is taken.")
    record = {
        "format": "MONAI bundle",
        "title": str(metadata.get("name") or folder.name),
        "version": str(metadata.get("version", "")),
        "author": str(metadata.get("authors") or metadata.get("authorship") or ""),
        "copyright": str(metadata.get("copyright", "")),
        "data_source": str(metadata.get("data_source", "")),
    }
    labels = labels_from_names(names, channels, folder)
    return Converted(plan, labels, tensors, {key: value for key, value in record.items() if value}, notes)


def _metadata(path: Path) -> dict[str, Any]:
    try:
        return read_table(path, LARGEST_CONFIGURATION)
    except (OSError, ValueError) as error:
        raise DinomixError(f"{path} cannot be read ({reason_of(error)}).", "Get the bundle again.") from error


def _modality(metadata: dict[str, Any], folder: Path) -> str:
    inputs = _inputs(metadata)
    if (channels := inputs.get("num_channels", 1)) != 1:
        raise other_channels(folder, channels)
    modality = str(inputs.get("modality", "")).upper()
    if modality.startswith("CT"):
        return "CT"
    if modality.startswith("MR"):
        return "MR"
    raise DinomixError(
        f"{folder} is a model for {modality or 'an unknown modality'}.", "Models for CT or MR can be used."
    )


def _inputs(metadata: dict[str, Any]) -> dict[str, Any]:
    try:
        inputs = next(iter(metadata["network_data_format"]["inputs"].values()))
    except (KeyError, TypeError, AttributeError, StopIteration):
        return {}
    return inputs if isinstance(inputs, dict) else {}


def _channel_names(metadata: dict[str, Any]) -> dict[int, str]:
    try:
        channels = next(iter(metadata["network_data_format"]["outputs"].values()))["channel_def"]
        return {int(key): str(name) for key, name in channels.items()}
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration):
        return {}


def _moved_by_background(names: dict[int, str], outputs: int) -> dict[int, str]:
    """Names of channels that had no background before them; metadata of one output may count from 0 or from 1."""
    structures = {k: name for k, name in names.items() if name.casefold() != "background"}
    if structures and max(structures) < outputs:
        structures = {k + 1: name for k, name in structures.items()}
    return structures


def _is_sigmoid(config: BundleConfig) -> bool:
    steps = _transforms(config, "postprocessing")
    return any(step.get("_target_") == "Activationsd" and bool(step.get("sigmoid")) for step in steps)


def _transforms(config: BundleConfig, place: str) -> list[dict[str, Any]]:
    """Transforms as they stand; their arguments are still to be resolved."""
    value = config.data.get(place)
    steps = value.get("transforms") if isinstance(value, dict) else value
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        return []
    return steps


def _preprocessing(config: BundleConfig, notes: list[str]) -> tuple[SpacingGrid, Any]:
    steps = _transforms(config, "preprocessing")
    if len(steps) > MOST_STEPS:
        raise DinomixError(f"{config.path} prepares a scan in {len(steps)} steps.", f"Up to {MOST_STEPS} can be used.")
    orientation, spacing = None, None
    before: list[Step | PercentileWindow] = []
    after: list[Step | PercentileWindow] = []
    for number, step in enumerate(steps):
        name = str(step.get("_target_", "")).rpartition(".")[2].removesuffix("d")
        place = f"preprocessing#transforms#{number}"
        if name in _CHANGE_NOTHING:
            continue
        arguments = {
            key: config.resolve(value, f"{place}#{key}")
            for key, value in step.items()
            if key not in ("_target_", "keys", "_disabled_", "allow_missing_keys")
        }
        if name in _CROPS:
            notes.append("The model's own pipeline crops a scan to its foreground; here the whole scan is segmented.")
        elif name == "Orientation":
            orientation = str(arguments.get("axcodes"))
        elif name == "Spacing":
            spacing = arguments.get("pixdim")
        else:
            (before if spacing is None else after).append(_intensity(name, arguments, config, place))
    if not isinstance(spacing, list) or len(spacing) != 3:
        raise DinomixError(
            f"{config.path} does not resample scans to a spacing of 3 numbers (Spacingd).", "Choose another model."
        )
    if before and after:
        raise DinomixError(f"{config.path} scales intensities before and after resampling.", "Choose another model.")
    if orientation is None:
        notes.append("The model does not say how its scans were turned; RAS axes are assumed.")
    scaling = before or after
    if not scaling:
        raise DinomixError(f"{config.path} does not scale intensities.", "Choose another model.")
    return make_grid(spacing, orientation or "RAS", config.path), _window(scaling, bool(after), config.path)


def make_grid(spacing: list[Any], orientation: str, path: Path) -> SpacingGrid:
    """Raises DinomixError for a spacing or an orientation that is none."""
    try:
        return SpacingGrid(spacing=spacing, orientation=orientation)  # type: ignore[arg-type]
    except ValueError as error:
        raise DinomixError(
            f"{path}: scans cannot be brought to {spacing} mm in {orientation} axes.", "Choose another model."
        ) from error


def _intensity(name: str, arguments: dict[str, Any], config: BundleConfig, place: str) -> Step | PercentileWindow:
    known: dict[str, set[str]] = {
        "ScaleIntensityRange": {"a_min", "a_max", "b_min", "b_max", "clip"},
        "ScaleIntensityRangePercentiles": {"lower", "upper", "b_min", "b_max", "clip", "relative"},
        "NormalizeIntensity": {"nonzero", "channel_wise"},
        "ScaleIntensity": {"minv", "maxv", "channel_wise"},
    }
    if name not in known:
        raise DinomixError(f"{config.path} uses {name}d ({place}), which cannot be done here.", "Choose another model.")
    given = {key: value for key, value in arguments.items() if value is not None and key != "dtype"}
    if unknown := given.keys() - known[name]:
        raise DinomixError(
            f"{config.path} uses {name}d with {min(unknown)}, which cannot be done here.", "Choose another."
        )
    try:
        if name == "ScaleIntensityRange":
            to = (given.get("b_min", given["a_min"]), given.get("b_max", given["a_max"]))
            return ToRange(low=given["a_min"], high=given["a_max"], to=to, clip=bool(given.get("clip", False)))
        if name == "NormalizeIntensity":
            return ZScore(nonzero=bool(given.get("nonzero", False)))
        if name == "ScaleIntensity":
            return MinMax(to=(given.get("minv", 0.0), given.get("maxv", 1.0)))
        if given.get("relative") or not given.get("clip") or (given.get("b_min"), given.get("b_max")) != (0, 1):
            raise ValueError("only percentiles clipped and scaled to 0 to 1 can be used")
        return PercentileWindow(lower=given["lower"], upper=given["upper"])
    except (KeyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DinomixError(f"{config.path}: {place} cannot be used ({reason}).", "Choose another model.") from error


def _window(steps: list[Step | PercentileWindow], on_grid: bool, path: Path) -> Any:
    if len(steps) == 1 and not on_grid:
        only = steps[0]
        if isinstance(only, PercentileWindow):
            return only
        if isinstance(only, ToRange) and only.clip and only.to == (0.0, 1.0):
            return RangeWindow(low=only.low, high=only.high)
    if any(isinstance(step, PercentileWindow) for step in steps):
        raise DinomixError(
            f"{path} scales by percentiles together with other steps or after resampling.", "Choose another model."
        )
    return StepsWindow(on="grid" if on_grid else "file", steps=steps)  # type: ignore[arg-type]


def _inferer(config: BundleConfig, notes: list[str]) -> tuple[Any, tuple[float, ...], str]:
    inferer = config.data.get("inferer")
    name = str(inferer.get("_target_", "")).rpartition(".")[2] if isinstance(inferer, dict) else ""
    if not name.startswith(_INFERER):
        raise DinomixError(f"{config.path} does not segment by a sliding window ({name}).", "Choose another model.")
    overlap = config.get("inferer#overlap", 0.25)
    overlaps = tuple(overlap) if isinstance(overlap, list) else (overlap,) * 3
    if (padding := config.get("inferer#padding_mode", "constant")) != "constant":
        notes.append(
            f"Where a scan is smaller than a window, the model's own pipeline pads it by {padding!r}; here by zeros."
        )
    blend = config.get("inferer#mode", "constant")
    return config.get("inferer#roi_size"), overlaps, str(getattr(blend, "value", blend))


def _weights_file(folder: Path, wanted: str | None) -> Path:
    if wanted is not None:
        if (folder / wanted).is_file():
            return folder / wanted
        raise DinomixError(f"{folder} has no {wanted}.", "Get the bundle again.")
    usual = folder / "models/model.pt"
    files = [usual] if usual.is_file() else sorted(p for p in (folder / "models").glob("*") if is_weights(p))
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise DinomixError(f"{folder}/models holds no model.pt ({found}).", "Get the bundle again, with its weights.")
    return files[0]
