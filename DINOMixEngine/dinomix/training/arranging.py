"""What a run is made of, from the choices that ``dinomix train`` and ``dinomix.train`` take alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from dinomix.cohort.cohort import Cohort
from dinomix.errors import DinomixError
from dinomix.evaluation.eight_bits import check_quantizable
from dinomix.events import Emit, silent
from dinomix.images.volume import thick_axis
from dinomix.importing.encoders import as_it_was_trained, encoder_weights, plan_around, read_encoder
from dinomix.inference.devices import choose_device
from dinomix.labels import LabelSet
from dinomix.models.folder import Model, load_model
from dinomix.models.matched_weights import matched_weights
from dinomix.names import normalized_name
from dinomix.planning.plan import Plan, SpacingGrid
from dinomix.planning.planning import make_plan, override_plan
from dinomix.training.backbones import reason_absent, weight_file
from dinomix.training.config import AskedFkd, FkdConfig, FkdMode, TrainConfig, make_config
from dinomix.training.kept_structures import cohort_with_kept
from dinomix.training.memory import training_memory
from dinomix.training.methods import MethodName, method_class
from dinomix.training.overlapping_windows import undecided
from dinomix.training.presets import preset_settings

RATE_OF_A_START = 0.001
"""Learning rate of AdamW where a run begins with a model, whose weights a higher one could undo."""


@dataclass(frozen=True)
class Arranged:
    """Cohort, settings and plan of a run, and the weights to begin with, of the second stage too; None for random ones."""

    cohort: Cohort
    config: TrainConfig
    plan: Plan
    weights: dict[str, Tensor] | None
    second_weights: dict[str, Tensor] | None = None


def arrange(
    cohort: Path,
    *,
    method: MethodName = "dino-mix",
    fkd: AskedFkd | None = None,
    pic: bool | None = None,
    teacher: str | None = None,
    download_teacher: bool = False,
    start: Path | None = None,
    keep_structures: bool = False,
    preset: str | None = None,
    steps: int | None = None,
    time: str | float | None = None,
    seed: int = 0,
    device: str = "auto",
    plan: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    emit: Emit = silent,
) -> Arranged:
    """Read the cohort, and make what a run needs beside it. The arguments are those of ``dinomix.train``.

    Raises:
        DinomixError: a file cannot be read, a setting or the device is unknown, or the start model does not fit.
    """
    chosen = preset_settings(preset) if preset is not None else {}
    if steps is not None or time is not None or {"steps", "time"} & set(settings or {}):
        chosen.pop("time", None)  # what is given is in place of the preset's, not within it
    chosen.update(settings or {})
    overrides = {key.removeprefix("plan."): chosen.pop(key) for key in list(chosen) if key.startswith("plan.")}
    chosen.update(teacher_settings(teacher, download_teacher))
    chosen.update({key: value for key, value in (("steps", steps), ("time", time)) if value is not None})
    if keep_structures:
        chosen["keep_structures"] = True
    wanted = str(chosen.pop("device", device))
    found, _ = choose_device(wanted)
    chosen = {"seed": seed, **chosen, "device": "cpu" if found.type == "cpu" else wanted}
    config = make_config(method, pic, _fkd_mode(fkd, method, chosen, found.type, emit), **chosen)
    if config.eight_bits:
        check_quantizable()
    read = Cohort.read(cohort)
    encoder = read_encoder(start) if start is not None and start.is_file() else None
    model = load_model(start) if start is not None and encoder is None else None
    if config.keep_structures:
        read = cohort_with_kept(read, model, emit)
    given = Plan.read(plan) if plan is not None else model.plan if model is not None else None
    if given is not None and given.more_networks:
        given = given.members[0]
        emit(
            "notice",
            message=f"{plan or start} is an ensemble of several networks; the run trains one, as the first of them.",
        )
    if given is not None:
        # The run's own validation cases decide anew.
        given = undecided(given).model_copy(update={"clean_up": ()})
    if start is not None or plan is not None:
        given = _with_stages(given, overrides.pop("stages", "auto"), read.labels, emit)
    given = _named_as_cohort(given, read)
    if given is not None and (plan is not None or _sees(given) == _sees(read)):
        made = override_plan(given.model_dump(mode="json"), overrides)
    else:
        if given is not None:
            emit("notice", message=f"{start} is for {_told(given)}, the cohort is {_told(read)}: weights are taken over; "
                                   "spacing, intensities and patch are made for the cohort.")  # fmt: skip
        made = make_plan(
            read,
            device_kind="cpu" if found.type == "cpu" else "gpu",
            memory_bytes=training_memory(found),
            # Each student keeps what it needs for its gradient.
            batch=method_class(method).students
            * (config.batch_labeled + (config.batch_unlabeled if config.uses_unlabeled else 0)),
            start=given if encoder is None else plan_around(encoder, read.modality),
            overrides=overrides,
        )
        if encoder is not None:
            made = as_it_was_trained(made, encoder, overrides, emit)
    if config.pic.enabled and config.method != "cps" and _has_thick_slices(made):
        given_by_user = {*chosen, *(["pic.enabled"] if pic is not None else [])}
        config = _mixed_across_thick_slices(config, read, given_by_user, emit)
    weights = _weights(model, read.labels, made, config, emit) if model is not None else None
    if config.keep_structures and model is not None and (weights is None or not _sees_alike(made, model.plan)):
        config = config.model_copy(update={"kept_by": "labels"})
    second = model.second if model is not None else None
    second_weights = None
    if second is not None and made.second is not None:
        second_weights = _weights(second, read.labels, made.second.plan, config, silent)
    if encoder is not None:
        weights = encoder_weights(encoder, made, read.labels.channels, config.seed)
    if weights is not None and not {"learning_rate", "optimizer"} & set(chosen):
        config = config.model_copy(update={"learning_rate": RATE_OF_A_START})
        emit("notice", message=f"The learning rate is {RATE_OF_A_START}, since the run begins with a model.")
    return Arranged(read, config, made, weights, second_weights)


def _weights(model: Model, labels: LabelSet, plan: Plan, config: TrainConfig, emit: Emit) -> dict[str, Tensor] | None:
    """The start model's weights; None where the run has another network, and keeps the model's structures by its predictions.

    Raises:
        DinomixError: the run has another network, and keeps none.
    """
    try:
        return matched_weights(model, labels, plan, config.seed, emit)
    except DinomixError as error:
        if not config.keep_structures:
            raise
        emit(
            "notice",
            message=f"{error.problem} Its weights are not taken over; what it predicts teaches the run all the same.",
        )
        return None


def _named_as_cohort(plan: Plan | None, cohort: Cohort) -> Plan | None:
    """A plan for one image of a case, under the name that the cohort gives it."""
    if (
        plan is None
        or len(plan.channels) > 1
        or len(cohort.channel_names) > 1
        or "" not in (plan.channel, *cohort.channel_names)
    ):
        return plan
    second = plan.second
    name = {"channel": cohort.channel_names[0]}
    if second is not None:
        second = second.model_copy(update={"plan": second.plan.model_copy(update=name)})
    return plan.model_copy(update={**name, "second": second})


def _sees(what: Plan | Cohort) -> list[tuple[str, str]]:
    """The kinds of the images and their names, as they are compared."""
    names = what.channels if isinstance(what, Plan) else what.channel_names
    return [(normalized_name(name), modality) for name, modality in zip(names, what.modalities, strict=True)]


def _sees_alike(plan: Plan, other: Plan) -> bool:
    """Whether a network of one plan can be shown the patches of the other."""
    return (plan.grid, plan.windows, plan.patch) == (other.grid, other.windows, other.patch)


def _told(what: Plan | Cohort) -> str:
    """CT, or t1 and t2."""
    names = [name for name in what.channels if name]
    return " and ".join(names) if len(names) > 1 else what.modality


def _mixed_across_thick_slices(config: TrainConfig, cohort: Cohort, given: set[str], emit: Emit) -> TrainConfig:
    """PIC as it has helped where slices are thick: from labeled cases into unlabeled ones. Without these it is left out.

    Settings that the user has ``given`` stay.
    """
    if config.uses_unlabeled and cohort.with_role("unlabeled"):
        if {"pic.across", "pic.probability"} & given:
            return config
        change = {"across": True, "probability": 1.0}
        told = "Slices are thick, so PIC pastes boxes of labeled cases into all patches (pic.across=true pic.probability=1)."
    elif "pic.enabled" in given:
        return config
    else:
        change = {"enabled": False}
        told = (
            "This run trains without PIC, which has made results worse where slices are thick and no case is unlabeled."
        )
    emit("notice", message=told)
    return config.model_copy(update={"pic": config.pic.model_copy(update=change)})


def _has_thick_slices(plan: Plan) -> bool:
    return isinstance(plan.grid, SpacingGrid) and thick_axis(plan.grid.spacing) is not None


def _with_stages(given: Plan | None, stages: Any, labels: LabelSet, emit: Emit) -> Plan | None:
    """The plan of a file or a start model with as many stages as are wanted, of those that it has.

    Its second stage refines the structures that the cohort has too; places are learned anew.

    Raises:
        DinomixError: a second stage is wanted that it does not have.
    """
    second = given.second if given is not None else None
    if stages not in (1, "auto") and (stages != 2 or second is None):
        raise DinomixError(
            f"plan.stages={stages} is for a run that makes its own plan and starts from scratch, or from a model of two stages.",
            "Leave out plan.stages, or --plan and --start.",
            code="plan",
        )
    if given is None or second is None or stages == 1:
        return given.of_first if given is not None else None
    by_name = {normalized_name(name): name for name in labels.names}
    known = tuple(by_name[name] for name in map(normalized_name, second.structures) if name in by_name)
    if not known:
        emit(
            "notice",
            message="The cohort has none of the structures that the plan's second stage refines; it has one stage.",
        )
        return given.of_first
    return given.model_copy(update={"second": second.model_copy(update={"structures": known, "places": {}})})


def _fkd_mode(
    asked: AskedFkd | None, method: MethodName, chosen: Mapping[str, Any], device: str, emit: Emit
) -> FkdMode | None:
    """Whether and how a run distils.

    DINO-Mix does where the weights of its foundation model are at hand, which is told where they are not. On a processor the
    features of whole cases are cached: seeing each patch would take most of a step's time.
    """
    if asked is not None and asked != "auto":
        return asked
    if asked is None and (method != "dino-mix" or "fkd.mode" in chosen):
        return None
    if asked is None and not {"fkd.teacher", "fkd.download"} & set(chosen):
        absent = reason_absent(FkdConfig().teacher)
        if absent is not None:
            emit("notice", message=f"This run trains without FKD. {absent}")
            return "off"
    return "cached" if device == "cpu" else "on-the-fly"


def teacher_settings(teacher: str | None, download: bool) -> dict[str, Any]:
    """The settings that a teacher's name or file, and the consent to its download, stand for."""
    settings: dict[str, Any] = {}
    if teacher is not None:
        named, file = weight_file(teacher) or (None, Path(teacher))
        # The run may be resumed from another folder.
        absolute = f"{named}={file.absolute()}" if named else str(file.absolute())
        settings["fkd.teacher"] = absolute if file.is_file() else teacher
    if download:
        settings["fkd.download"] = True
    return settings
