"""Structures that the start model knows and the labels do not show: its own predictions stand in for labels of them.

A run that keeps them has a label set of all, in its cohort.json. In its labeled cases what is drawn wins over what is predicted:
a predicted structure is only where nothing is drawn, so that it gives way to a new one; and of the structures that are drawn, the
start model's idea does not count. A structure that no labeled case shows is one of those to keep, whatever the labels are said to
tell: from its absence alone the model would unlearn it. The labels so merged lie in RUN/kept, and RUN/cohort.json names them from
then on.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from dinomix.cohort.case_label import UNLABELED
from dinomix.cohort.cohort import Case, Cohort
from dinomix.errors import DinomixError
from dinomix.evaluation.references import reference_of
from dinomix.events import Emit, Progress, silent
from dinomix.files import sha256
from dinomix.images.volume import Volume
from dinomix.images.writing import write_image
from dinomix.labels import LabelSet
from dinomix.models.folder import Model
from dinomix.models.joining import joined_labels
from dinomix.models.matching import can_see
from dinomix.names import listed
from dinomix.planning.plan import SecondStage
from dinomix.training.control import Control
from dinomix.training.run_directory import RunDirectory
from dinomix.training.start_model import StartModel

FOLDER = "kept"


def cohort_with_kept(cohort: Cohort, model: Model | None, emit: Emit) -> Cohort:
    """The cohort with all structures of ``model`` in its label set, and those of the labels under the model's ids and names.

    Args:
        model: that the run starts from; None where it starts from none.

    Raises:
        DinomixError: there is no model, it is of another modality or of images that the cases lack, or knows nothing more; or
            names cannot be told apart.
    """
    if model is None:
        raise DinomixError(
            "To keep the structures of a model, a run must start from one, and from no encoder.",
            "Give its folder with --start, or leave out --keep-structures.",
            code="keep-structures",
        )
    if model.plan.modality != cohort.modality:
        raise DinomixError(
            f"{model.path} is for {model.plan.modality}, the cohort is {cohort.modality}: what it says of these images cannot "
            "stand in for labels.",
            "Start from a model of the same modality, or leave out --keep-structures.",
            code="keep-structures",
        )
    if not can_see(model.plan, cohort):
        raise DinomixError(
            f"{model.path} sees {listed(model.plan.channels)}, and the cases have {listed(cohort.channel_names)}: it cannot say "
            "what they show.",
            "Start from a model of these images, or leave out --keep-structures.",
            code="keep-structures",
        )
    labels, ids = joined_labels(model.labels, cohort.labels)
    never = _never_shown(cohort) & {own for own, id in ids.items() if id in model.labels.ids}
    taught = {id for own, id in ids.items() if own not in never}
    kept = [structure.name for structure in labels.structures if structure.id not in taught]
    if not kept:
        raise DinomixError(
            f"{model.path} knows no structure that the labels do not show, so there is nothing to keep.",
            "Leave out --keep-structures; what both know is taken over by its name.",
            code="keep-structures",
        )
    _tell_names(cohort.labels, labels, ids, model, emit)
    emit(
        "notice",
        message=f"The labels do not show {listed(kept, 20)}: kept as {model.path} predicts "
        f"{'it' if len(kept) == 1 else 'them'}.",
    )
    return cohort.model_copy(
        update={"labels": labels, "cases": tuple(_under_ids(case, ids, never) for case in cohort.cases)},
    )


def _never_shown(cohort: Cohort) -> set[int]:
    """The ids of the structures without a voxel in any labeled case."""
    return {id for id in cohort.labels.ids if not any(case.voxels.get(id) for case in cohort.with_role("labeled"))}


def _tell_names(of_cohort: LabelSet, joined: LabelSet, ids: Mapping[int, int], model: Model, emit: Emit) -> None:
    name_of = dict(zip(joined.ids, joined.names, strict=True))
    taken_for = [
        f"{structure.name} for {name_of[ids[structure.id]]}"
        for structure in of_cohort.structures
        if structure.name != name_of[ids[structure.id]]
    ]
    if taken_for:
        emit("notice", message=f"Of the labels, {listed(taken_for)} of {model.path} is taken.")


def _under_ids(case: Case, ids: Mapping[int, int], never: Collection[int]) -> Case:
    """The case under other ids: of the larger label set it has drawn what it had, but for what it lacks of ``never``."""
    if case.label is None:
        return case
    drawn = [id for id in (case.drawn if case.drawn is not None else ids) if id not in never or case.voxels.get(id)]
    # A value that the table lacks is its own id.
    values = {id: id for id in ids} | case.label_values
    return case.model_copy(
        update={
            "label_values": {value: ids.get(id, id) for value, id in values.items()},
            "voxels": {ids[id]: count for id, count in case.voxels.items()},
            "thickness": {ids[id]: mm for id, mm in case.thickness.items()},
            "drawn": tuple(sorted(ids[id] for id in drawn)),
            "undecided": tuple(sorted(ids[id] for id in case.undecided)),
        }
    )


def with_predictions(directory: RunDirectory, start: StartModel, control: Control, emit: Emit) -> RunDirectory:
    """Merge what the start model predicts into the labels of the labeled cases, once; RUN/cohort.json names them from then on.

    Raises:
        Asked: within a case; what is done is kept.
        DinomixError: a file cannot be read any more, or has changed since it was checked; or a second stage has no box.
    """
    cohort = directory.cohort
    labeled = cohort.with_role("labeled")
    if is_merged(cohort):
        return directory
    merged = {}
    progress = Progress(control.obeying(emit), "predict kept structures", len(labeled))
    for number, case in enumerate(labeled, 1):
        merged[case.name] = _merged(
            case, cohort.labels, start.labels_of(case, control.obeying(silent)), start.model, directory
        )
        progress(number)
    cases = tuple(merged.get(case.name, case) for case in cohort.cases)
    whole = cohort.model_copy(update={"cases": cases})
    _refuse_stage_without_boxes(whole, directory.plan.second)
    whole.write(directory.path / "cohort.json")
    return replace(directory, cohort=whole)


def _refuse_stage_without_boxes(cohort: Cohort, second: SecondStage | None) -> None:
    """Now, not after the first stage, that the start model finds nothing of what the second one is to refine."""
    refined = [s for s in cohort.labels.structures if second is not None and s.name in second.structures]
    if refined and not any(case.voxels.get(s.id) for s in refined for case in cohort.with_role("labeled")):
        raise DinomixError(
            f"Neither the labels nor what the start model predicts show any {listed([s.name for s in refined])}, which the "
            "second stage of the run is to refine.",
            "Train one stage, with --set plan.stages=1, or give a labeled case that shows it.",
            code="keep-structures",
        )


def is_merged(cohort: Cohort) -> bool:
    """Whether the labels of a run that keeps structures hold the predictions already."""
    return all(case.predicted for case in cohort.with_role("labeled"))


def _merged(case: Case, labels: LabelSet, predicted: Volume, model: Model, directory: RunDirectory) -> Case:
    """The case with a label that also says where the start model sees what is not drawn."""
    kept = tuple(id for id in model.labels.ids if not case.has_drawn(id))
    label = reference_of(case, predicted.geometry).array
    array = np.where((label == 0) & np.isin(predicted.array, kept), predicted.array, label)
    unlabeled = max(labels.ids) + 1
    array[label == UNLABELED] = unlabeled
    array = array.astype(np.uint8 if unlabeled < 256 else np.uint16)
    path = directory.path / FOLDER / f"{case.name}.nrrd"
    write_image(Volume(array, predicted.geometry), path)
    counts = np.bincount(array.ravel(), minlength=unlabeled)
    known = {*kept, *(id for id in labels.ids if case.has_drawn(id))}
    return case.model_copy(
        update={
            "label": path,
            "label_sha256": sha256(path),
            "label_values": {id: id for id in labels.ids},
            "order": (),
            "voxels": {id: int(counts[id]) for id in labels.ids},
            "drawn": None if known == set(labels.ids) else tuple(sorted(known)),
            "undecided": tuple(id for id in case.undecided if id not in known),
            "ignored": (unlabeled,) if case.ignored or case.labeled_slices is not None else (),
            "labeled_slices": None,
            "predicted": kept,
        }
    )


def kept_names(cohort: Cohort) -> list[str]:
    """The structures of a run's cohort that somebody drew in no case to learn from: its labels hold predictions of them."""
    labeled = cohort.with_role("labeled")
    return [s.name for s in cohort.labels.structures if all(s.id in case.predicted for case in labeled)]
