"""Bundles of the MONAI Model Zoo: their configuration is read as data, and none of it is executed."""

from pathlib import Path
from typing import Any, NamedTuple

from dinomix.cohort.modality import Modality
from dinomix.errors import DinomixError, reason_of
from dinomix.files import read_table
from dinomix.importing.bundle_values import LARGEST_CONFIGURATION, BundleConfig
from dinomix.importing.converted import Converted, make_plan
from dinomix.importing.hints import Hints
from dinomix.importing.inputs import Input, modality_of, renamed
from dinomix.importing.label_names import labels_from_names
from dinomix.importing.networks import network_of, without_supervision
from dinomix.importing.sigmoids import NESTED, labels_of_regions, parts_of, with_background
from dinomix.importing.weights import is_weights, read_checkpoint, state_dict_of
from dinomix.labels import LabelSet
from dinomix.models.matched_weights import class_axes
from dinomix.planning.plan import (
    MinMax,
    PercentileWindow,
    RangeWindow,
    SpacingGrid,
    Step,
    StepsWindow,
    ToRange,
    ZScore,
)

CONFIGURATION = "configs/inference.json"
METADATA = "configs/metadata.json"
MOST_STEPS = 100
_CHANGE_NOTHING = (
    "LoadImage", "EnsureChannelFirst", "AddChannel", "EnsureType", "ToTensor", "CastToType", "Identity", "ToDevice",
    "DeleteItems", "SelectItems",
)  # fmt: skip
_CROPS = ("CropForeground",)
_ONTO_THE_FIRST = ("ResampleToMatch",)
_JOIN = "ConcatItems"
_INFERER = "SlidingWindowInferer"


def is_bundle(folder: Path) -> bool:
    return (folder / CONFIGURATION).is_file() and (folder / METADATA).is_file()


def read_bundle(folder: Path, hints: Hints) -> Converted:
    """Convert a bundle of a 3D segmentation network.

    Args:
        hints: its ``changes``; ``weights``, None for models/model.pt or the only file of weights there is; ``images``,
            ``regions`` and ``structures``.

    Raises:
        DinomixError: what the bundle does cannot be expressed here, or holds code where a value is needed.
    """
    config = BundleConfig(folder / CONFIGURATION, hints.changes)
    metadata = _metadata(folder / METADATA)
    place = "network_def" if config.get("network_def") is not None else "network"
    network, count, outputs = network_of(config.get(place), config.path)
    notes: list[str] = []
    images = _images(config, metadata, count, folder)
    grid, windows = _preprocessing(config, images, count, notes)
    patch, overlap, blend = _inferer(config, notes)
    plan = make_plan(
        folder,
        renamed(
            [Input(name, modality, window) for (name, modality), window in zip(images.kinds, windows, strict=True)],
            hints.images,
            folder,
        ),
        grid=grid,
        patch=patch,
        overlap=overlap,
        blend=blend,
        network=network,
    )
    file = _weights_file(folder, hints.weights)
    axes = class_axes(plan, outputs)
    tensors = without_supervision(state_dict_of(read_checkpoint(file), file), set(axes))
    if _is_sigmoid(config) or outputs == 1:
        labels = _sigmoid_labels(metadata, outputs, hints, folder)
        parts = parts_of(hints.regions, folder) if hints.regions else [[channel] for channel in range(outputs)]
        try:
            tensors = with_background(tensors, axes, parts)
        except ValueError as error:
            raise DinomixError(
                f"{folder} gives a sigmoid per structure, and {error}; this cannot be turned into labels.",
                "Choose a model with a background channel.",
            ) from error
        notes += [NESTED] if hints.regions else []
    else:
        labels = labels_from_names(_channel_names(metadata), outputs, folder)
    notes.append("Logits are brought back to the scan's grid before the likeliest structure is taken.")
    record = {
        "format": "MONAI bundle",
        "title": str(metadata.get("name") or folder.name),
        "version": str(metadata.get("version", "")),
        "author": str(metadata.get("authors") or metadata.get("authorship") or ""),
        "copyright": str(metadata.get("copyright", "")),
        "data_source": str(metadata.get("data_source", "")),
    }
    return Converted(plan, labels, tensors, {key: value for key, value in record.items() if value}, notes)


def _sigmoid_labels(metadata: dict[str, Any], outputs: int, hints: Hints, folder: Path) -> LabelSet:
    """The structures of ``outputs`` channels that have no background before them."""
    if hints.regions is None:
        return labels_from_names(_moved_by_background(_channel_names(metadata), outputs), outputs + 1, folder)
    if len(hints.regions) != outputs:
        raise DinomixError(
            f"{folder}: {len(hints.regions)} regions are named, its network gives {outputs}.", "Get the bundle again."
        )
    return labels_of_regions(hints.regions, hints.structures, folder)


def _metadata(path: Path) -> dict[str, Any]:
    try:
        return read_table(path, LARGEST_CONFIGURATION)
    except (OSError, ValueError) as error:
        raise DinomixError(f"{path} cannot be read ({reason_of(error)}).", "Get the bundle again.") from error


class _Images(NamedTuple):
    """The images of a case.

    Attributes:
        kinds: the name and modality of each, in the network's order.
        keys: under which the preprocessing has each until it joins them; empty where one key has them all from the start.
    """

    kinds: list[tuple[str, Modality]]
    keys: tuple[str, ...]


def _images(config: BundleConfig, metadata: dict[str, Any], count: int, folder: Path) -> _Images:
    inputs = _inputs(metadata)
    if (said := inputs.get("num_channels", count)) != count:
        raise DinomixError(
            f"{folder}: its network takes {count} images of a patient at once, {METADATA} says {said!r}.",
            "Get the bundle again.",
        )
    keys = _joined_keys(config)
    if keys and len(keys) != count:
        raise DinomixError(
            f"{config.path} joins {len(keys)} images, its network takes {count}.", "Choose another model."
        )
    channels = inputs.get("channel_def")
    named = channels if isinstance(channels, dict) else {}
    names = [key if key else str(named.get(str(number), "")) for number, key in enumerate(keys or [""] * count)]
    return _Images([(name, _modality(name, inputs, folder)) for name in names], keys)


def _joined_keys(config: BundleConfig) -> tuple[str, ...]:
    """The keys that ``ConcatItemsd`` makes one of; none without it."""
    for number, step in enumerate(_transforms(config, "preprocessing")):
        if _name_of(step) == _JOIN:
            return _keys_of(step, f"preprocessing#transforms#{number}", config)
    return ()


def _keys_of(step: dict[str, Any], place: str, config: BundleConfig) -> tuple[str, ...]:
    keys = config.resolve(step.get("keys", []), f"{place}#keys")
    return tuple(map(str, keys)) if isinstance(keys, list) else (str(keys),)


def _name_of(step: dict[str, Any]) -> str:
    """The name of a transform without its package, and without what MONAI writes after those for dictionaries."""
    name = str(step.get("_target_", "")).rpartition(".")[2]
    ending = next((ending for ending in ("Dict", "D", "d") if name.endswith(ending)), "")
    return name.removesuffix(ending)


def _modality(name: str, inputs: dict[str, Any], folder: Path) -> Modality:
    """Of an image, by its own name or else by what the metadata says of all."""
    modality = str(inputs.get("modality", ""))
    if (known := modality_of(name) or modality_of(modality)) is None:
        raise DinomixError(
            f"{folder} is a model for {modality or 'an unknown modality'}.", "Models for CT, MR or PET can be used."
        )
    return known


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
    for number, step in enumerate(_transforms(config, "postprocessing")):
        if _name_of(step) == "Activations":
            value = config.resolve(step.get("sigmoid"), f"postprocessing#transforms#{number}#sigmoid")
            if any(value) if isinstance(value, list) else value:  # of each key, or of all
                return True
    return False


def _transforms(config: BundleConfig, place: str) -> list[dict[str, Any]]:
    """Transforms as they stand; their arguments are still to be resolved."""
    value = config.data.get(place)
    steps = value.get("transforms") if isinstance(value, dict) else value
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        return []
    return steps


def _preprocessing(
    config: BundleConfig, images: _Images, count: int, notes: list[str]
) -> tuple[SpacingGrid, list[Any]]:
    """The grid, and the window of each of ``count`` images."""
    steps = _transforms(config, "preprocessing")
    if len(steps) > MOST_STEPS:
        raise DinomixError(f"{config.path} prepares a scan in {len(steps)} steps.", f"Up to {MOST_STEPS} can be used.")
    orientation, spacing, are_joined = None, None, not images.keys
    scalings = [_Scaling([], []) for _ in range(count)]
    for number, step in enumerate(steps):
        name = _name_of(step)
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
        elif name in _ONTO_THE_FIRST:
            notes.append("Further images are brought onto the grid of the first by linear interpolation.")
        elif name == _JOIN:
            are_joined = True
        elif name == "Orientation":
            orientation = str(arguments.get("axcodes"))
        elif name == "Spacing":
            spacing = arguments.get("pixdim")
        else:
            keys = _keys_of(step, place, config)
            seen = range(count) if are_joined else [n for n, key in enumerate(images.keys) if key in keys]
            scaling = _intensity(name, arguments, config, place, count if are_joined else 1)
            for index in seen:
                (scalings[index].before if spacing is None else scalings[index].after).append(scaling)
    if not isinstance(spacing, list) or len(spacing) != 3:
        raise DinomixError(
            f"{config.path} does not resample scans to a spacing of 3 numbers (Spacingd).", "Choose another model."
        )
    if orientation is None:
        notes.append("The model does not say how its scans were turned; RAS axes are assumed.")
    grid = make_grid(spacing, orientation or "RAS", config.path)
    return grid, [_window_of(scaling, config.path) for scaling in scalings]


class _Scaling(NamedTuple):
    """How the intensities of one image are scaled, before and after resampling."""

    before: list[Step | PercentileWindow]
    after: list[Step | PercentileWindow]


def _window_of(scaling: _Scaling, path: Path) -> Any:
    if scaling.before and scaling.after:
        raise DinomixError(f"{path} scales intensities before and after resampling.", "Choose another model.")
    if not (steps := scaling.before or scaling.after):
        raise DinomixError(f"{path} does not scale intensities.", "Choose another model.")
    return _window(steps, bool(scaling.after), path)


def make_grid(spacing: list[Any], orientation: str, path: Path) -> SpacingGrid:
    """Raises DinomixError for a spacing or an orientation that is none."""
    try:
        return SpacingGrid(spacing=spacing, orientation=orientation)  # type: ignore[arg-type]
    except ValueError as error:
        raise DinomixError(
            f"{path}: scans cannot be brought to {spacing} mm in {orientation} axes.", "Choose another model."
        ) from error


def _intensity(
    name: str, arguments: dict[str, Any], config: BundleConfig, place: str, count: int
) -> Step | PercentileWindow:
    """What a transform does to each of the ``count`` images that it is given as one."""
    known: dict[str, set[str]] = {
        "ScaleIntensityRange": {"a_min", "a_max", "b_min", "b_max", "clip"},
        "ScaleIntensityRangePercentiles": {"lower", "upper", "b_min", "b_max", "clip", "relative", "channel_wise"},
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
    if count > 1 and name != "ScaleIntensityRange" and not given.get("channel_wise"):
        raise DinomixError(
            f"{config.path} scales its {count} images by what they have in common ({name}d, {place}).",
            "Models that scale each image by itself (channel_wise) can be used.",
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
