"""Model folders of nnU-Net v2: plans.json, dataset.json and fold_X/checkpoint_final.pth."""

from pathlib import Path
from typing import Any

from dinomix.cohort.modality import Modality
from dinomix.errors import DinomixError, reason_of
from dinomix.files import read_table
from dinomix.importing.converted import Converted, make_plan
from dinomix.importing.inputs import Input, modality_of
from dinomix.importing.label_names import labels_from_names
from dinomix.importing.monai_bundle import make_grid
from dinomix.importing.nnunet_networks import ONLY, Triple, read_architecture, triple
from dinomix.importing.weights import read_checkpoint, state_dict_of
from dinomix.labels import names_by_id
from dinomix.planning.plan import MinMax, Step, StepsWindow, ToRange, ZScore

LARGEST_CONFIGURATION = 8 * 10**6
"""Bytes; dataset.json may list thousands of cases."""
PLANS, DATASET = "plans.json", "dataset.json"
CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
_CONFIGURATIONS = ("3d_fullres", "3d_lowres")
"""Those that can be used, the best first."""


def is_nnunet(folder: Path) -> bool:
    return (folder / PLANS).is_file() and (folder / DATASET).is_file()


def best_of(folders: list[Path]) -> tuple[Path, list[str]]:
    """Of several models of one dataset, as nnU-Net exports them: 3d_fullres, else 3d_lowres, else the first; and a note."""
    by_configuration = {folder.name.rpartition("__")[2]: folder for folder in reversed(folders)}
    best = next((by_configuration[name] for name in _CONFIGURATIONS if name in by_configuration), folders[0])
    names = ", ".join(folder.name for folder in folders)
    return best, [f"Of the models {names}, {best.name} is used."] if len(folders) > 1 else []


def read_nnunet(
    folder: Path, orientation: str | None = None, fold: str | None = None, all_folds: bool = False
) -> Converted:
    """Convert one fold of a trained model, or all of them as an ensemble.

    Args:
        orientation: the direction in which x, y and z of the files increased that the model was trained on, such as
            "LPS"; None for what the model says, or RAS.
        fold: its number, or "all"; None for the first.
        all_folds: those that have a number, as nnU-Net averages them.

    Raises:
        DinomixError: no such fold, one and all are wanted, another network, a cascade, or regions that overlap.
    """
    plans, dataset = _json(folder / PLANS), _json(folder / DATASET)
    notes: list[str] = []
    file, *more_files = _checkpoint_files(folder, fold, all_folds, notes)
    checkpoint = read_checkpoint(file)
    name = _get(checkpoint, "init_args", "configuration") or "3d_fullres"
    configuration = _configuration(plans, str(name), folder)
    order = _axis_order(plans, folder)
    inputs = _inputs(plans, configuration, dataset, folder, notes)
    names = _label_names(dataset, folder)
    architecture = read_architecture(configuration, folder / PLANS, order)
    patch = triple(configuration.get("patch_size"), order, folder / PLANS, "patch_size")
    grid = make_grid(
        [float(configuration["spacing"][axis]) for axis in order],
        _orientation(plans, orientation, notes),
        folder / PLANS,
    )
    network = architecture.network()
    more_networks = (network,) * len(more_files)
    plan = make_plan(folder, inputs, grid=grid, patch=patch, network=network, more_networks=more_networks)
    channels = max(names) + 1
    trainer = str(_get(checkpoint, "trainer_name") or "")
    given = state_dict_of(checkpoint, file)
    if any(weight.endswith("running_mean") for weight in given):
        raise DinomixError(f"{folder} was trained with batch normalization ({trainer or 'trainer unknown'}).", ONLY)
    notes += [
        *_about_configuration(str(name)),
        "Scans are resampled linearly, where nnU-Net takes cubic splines.",
        _about_mirroring(checkpoint),
    ]
    record = {
        "format": "nnU-Net v2",
        "title": str(plans.get("dataset_name") or folder.name),
        "trainer": trainer,
        "plans": str(plans.get("plans_name") or ""),
        "configuration": str(name),
        "fold": ", ".join(each.parent.name for each in (file, *more_files)),
        "mirrored_axes": _mirrored_axes(checkpoint, order),
        "license": str(dataset.get("licence") or dataset.get("license") or ""),
        "data_source": str(dataset.get("reference") or ""),
    }
    return Converted(
        plan,
        labels_from_names(names, channels, folder),
        architecture.weights(given, file),
        {k: v for k, v in record.items() if v},
        notes,
        [architecture.weights(state_dict_of(read_checkpoint(more), more), more) for more in more_files],
    )


def _configuration(plans: dict[str, Any], name: str, folder: Path) -> dict[str, Any]:
    """A configuration with all that it inherits."""
    configurations = plans.get("configurations")
    merged: dict[str, Any] = {}
    at, seen = name, set()
    while isinstance(configurations, dict) and isinstance(configurations.get(at), dict) and at not in seen:
        seen.add(at)
        merged = {**configurations[at], **merged}
        at = str(configurations[at].get("inherits_from", ""))
    if name not in seen:
        raise DinomixError(f"{folder / PLANS} has no configuration {name}.", ONLY)
    if merged.get("previous_stage"):
        raise DinomixError(
            f"{folder} is {name}, the second stage of a cascade: it needs the result of {merged['previous_stage']}.",
            "Import the folder of 3d_fullres, or of the first stage, 3d_lowres.",
        )
    if len(merged.get("patch_size") or ()) != 3 or len(merged.get("spacing") or ()) != 3:
        raise DinomixError(
            f"{folder} is the 2D configuration {name}; volumes are segmented in 3D.",
            "Import the folder of 3d_fullres, or of 3d_lowres.",
        )
    return merged


def _checkpoint_files(folder: Path, fold: str | None, all_folds: bool, notes: list[str]) -> list[Path]:
    """The weights of the fold, or of all folds."""
    if fold is not None and all_folds:
        raise DinomixError("One fold and all folds cannot be taken at once.", "Take one of the two.")
    files = {}
    for name in reversed(CHECKPOINTS):
        files.update({found.parent.name: found for found in folder.glob(f"fold_*/{name}") if found.is_file()})
    if not files:
        raise DinomixError(f"{folder} has no fold_X/{CHECKPOINTS[0]}.", "Give the folder that nnU-Net trained.")
    names = ", ".join(sorted(files))
    chosen = [min(files) if fold is None else f"fold_{fold.removeprefix('fold_')}"]
    if all_folds:
        # That of all cases is no fold of a cross-validation.
        chosen = sorted(name for name in files if name != "fold_all") or list(files)
        notes.append(f"The probabilities of {', '.join(chosen)} are averaged, where nnU-Net averages their logits.")
    elif chosen[0] not in files:
        raise DinomixError(f"{folder} has no {chosen[0]}.", f"It has {names}.")
    elif len(files) > 1:
        notes.append(
            f"Of the model's {len(files)} folds ({names}), {chosen[0]} is used; nnU-Net averages them, "
            "which takes as many times as long. Another one is taken with --fold, all of them with --all-folds."
        )
    for name in chosen:
        if files[name].name != CHECKPOINTS[0]:
            notes.append(f"{name} has no {CHECKPOINTS[0]}, so {files[name].name} is used.")
    return [files[name] for name in chosen]


def _about_configuration(name: str) -> list[str]:
    if name != "3d_lowres":
        return []
    return ["This is nnU-Net's coarse configuration 3d_lowres, which a cascade would refine; 3d_fullres is finer."]


def _about_mirroring(checkpoint: Any) -> str:
    """What a checkpoint says of the axes along which nnU-Net may mirror, or where it says nothing, as nnU-Net reads that."""
    if _get(checkpoint, "inference_allowed_mirroring_axes"):
        return (
            "Each window is seen once, where nnU-Net by default averages its mirror images too; `dinomix segment --mirror` does "
            "so along axes without sides."
        )
    return "Each window is seen once, as nnU-Net itself does with this model, whose checkpoint allows no mirror images."


def _mirrored_axes(checkpoint: Any, order: Triple) -> list[str]:
    """The axes along which nnU-Net may mirror, as x, y and z of the network's grid."""
    allowed = _get(checkpoint, "inference_allowed_mirroring_axes") or ()
    return [name for name, axis in zip("xyz", order, strict=True) if axis in allowed]


def _label_names(dataset: dict[str, Any], folder: Path) -> dict[int, str]:
    labels = dataset.get("labels")
    if not isinstance(labels, dict) or any(isinstance(value, (list, tuple)) for value in labels.values()):
        raise DinomixError(
            f"{folder} segments regions that overlap.", "Models whose labels exclude each other can be used."
        )
    try:
        names = names_by_id({name: value for name, value in labels.items() if name != "ignore"})
    except ValueError as error:
        raise DinomixError(
            f"{folder / DATASET}: its labels cannot be used ({reason_of(error)}).", "Get the model again."
        ) from error
    if sorted(names) != list(range(1, len(names) + 1)) or not names:
        raise DinomixError(f"{folder / DATASET}: its labels are not numbered from 1 on.", "Get the model again.")
    return names


def _inputs(
    plans: dict[str, Any], configuration: dict[str, Any], dataset: dict[str, Any], folder: Path, notes: list[str]
) -> list[Input]:
    """The images of a case in the order of their numbers, each with its own normalization."""
    names = _image_names(dataset, folder)
    schemes, masks = configuration.get("normalization_schemes") or [], configuration.get("use_mask_for_norm") or []
    if len(schemes) != len(names):
        raise DinomixError(
            f"{folder} names {len(names)} images of a case ({', '.join(names)}) and {len(schemes)} normalizations.",
            "Get the model again.",
        )
    inputs: list[Input] = []
    for number, (name, scheme) in enumerate(zip(names, schemes, strict=True)):
        masked = bool(masks[number]) if number < len(masks) else False
        step = _step(str(scheme), number, masked, plans, folder)
        said: Modality | None = "CT" if scheme == "CTNormalization" else modality_of(name)
        if said is None:
            notes.append(f"The model calls its images {name!r}; they are taken for MR.")
        inputs.append(Input(name, said or "MR", StepsWindow(on="file", steps=(step,))))
        if masked and len(names) > 1:
            notes.append(
                f"The z-score of {name} is of that image's voxels that are not 0; nnU-Net takes those not 0 in any image."
            )
    return inputs


def _image_names(dataset: dict[str, Any], folder: Path) -> list[str]:
    named = dataset.get("channel_names", dataset.get("modality")) or {"0": "?"}
    try:
        return [str(named[key]) for key in sorted(named, key=int)]
    except (TypeError, ValueError) as error:
        raise DinomixError(
            f"{folder / DATASET}: its channel_names cannot be used ({reason_of(error)}).", "Get the model again."
        ) from error


def _step(scheme: str, number: int, masked: bool, plans: dict[str, Any], folder: Path) -> Step:
    """What nnU-Net's normalization of the image with this number does; each scheme is a class of that name."""
    match scheme:
        case "CTNormalization":
            return _ct_step(plans, number, folder)
        case "ZScoreNormalization":
            return ZScore(nonzero=masked)
        case "RescaleTo01Normalization":
            return MinMax(to=(0.0, 1.0))
        case "RGBTo01Normalization":
            return ToRange(low=0.0, high=255.0, to=(0.0, 1.0), clip=False)
        case "NoNormalization":
            return ToRange(low=0.0, high=1.0, to=(0.0, 1.0), clip=False)
    raise DinomixError(
        f"{folder} scales intensities by {scheme or 'nothing'}.", "nnU-Net's own normalizations can be used."
    )


def _ct_step(plans: dict[str, Any], number: int, folder: Path) -> ToRange:
    properties = plans.get("foreground_intensity_properties_per_channel") or plans.get(
        "foreground_intensity_properties_by_modality"
    )
    try:
        of_channel = properties[str(number)]  # type: ignore[index]
        low, high = float(of_channel["percentile_00_5"]), float(of_channel["percentile_99_5"])
        mean, deviation = float(of_channel["mean"]), max(float(of_channel["std"]), 1e-8)
        return ToRange(low=low, high=high, to=((low - mean) / deviation, (high - mean) / deviation), clip=True)
    except (KeyError, TypeError, ValueError) as error:
        raise DinomixError(
            f"{folder / PLANS} lacks the intensities of its CTs ({reason_of(error)}).", "Get the model again."
        ) from error


def _orientation(plans: dict[str, Any], wanted: str | None, notes: list[str]) -> str:
    if wanted is not None:
        return wanted.upper()
    if "Reorient" not in str(plans.get("image_reader_writer", "")):
        notes.append(
            "nnU-Net does not say how the scans were turned that it was trained on; RAS axes are assumed. If left and "
            "right come out exchanged, import the model again with --orientation LPS, or what its scans have."
        )
    return "RAS"


def _axis_order(plans: dict[str, Any], folder: Path) -> Triple:
    """nnU-Net's axis that is x, y and z: its files are read as (z, y, x), then transposed."""
    forward = plans.get("transpose_forward", [0, 1, 2])
    if sorted(forward) != [0, 1, 2]:
        raise DinomixError(f"{folder / PLANS}: transpose_forward is {forward!r}.", "Get the model again.")
    return forward.index(2), forward.index(1), forward.index(0)


def _get(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _json(path: Path) -> dict[str, Any]:
    try:
        return read_table(path, LARGEST_CONFIGURATION)
    except (OSError, ValueError) as error:
        raise DinomixError(f"{path} cannot be read ({reason_of(error)}).", "Get the model again.") from error
