"""Labeled cases as a model sees them, and models calibrated on them: at the end of a training, or later with other cases."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dinomix.cohort.case_images import read_case_images
from dinomix.cohort.case_label import read_case_label
from dinomix.cohort.cohort import Case, Cohort, Role
from dinomix.errors import DinomixError
from dinomix.evaluation.calibrating import LabeledCase, calibrated
from dinomix.events import Emit, silent
from dinomix.inference.devices import choose_device
from dinomix.models.calibration import KEY, Calibration
from dinomix.models.folder import Model, load_model
from dinomix.models.matching import can_see, images_for, matched_channels
from dinomix.models.writing import changed_aside, write_record
from dinomix.planning.cache import PreparedCase, channels_of, refuse_changed
from dinomix.planning.preprocessing import labels_to_plan_grid, preprocess


def calibrate_model(
    path: str | Path, cohort: Cohort, *, role: Role = "validation", device: str = "auto", emit: Emit = silent
) -> Calibration:
    """Calibrate a model folder on cases of a cohort, and write down in it what was measured; its labels stay as they are.

    Args:
        role: of the cases, none of which the model may have learned from.
        device: see ``choose_device``.

    Raises:
        DinomixError: the model cannot be used or has two stages, or no case can be used.
    """
    model = load_model(path)
    if model.second is not None:
        raise DinomixError(
            f"{path} has two stages, which are calibrated when they are trained.",
            "Train it with validation cases; until then its certainties are those of the networks.",
        )
    cases = cohort.with_role(role)
    if not cases:
        raise DinomixError(
            f"The cohort has no {role} case.",
            "Give cases with `dinomix check --labeled`, and --role labeled where the model has not learned from them.",
        )
    calibration = calibrated_on(model, cohort, cases, device, emit)
    _write_into(model, {**model.record, KEY: calibration.model_dump(mode="json")})
    return calibration


def calibrated_on(model: Model, cohort: Cohort, cases: Sequence[Case], device: str, emit: Emit) -> Calibration:
    """One stage of a model on some cases of a cohort, whose structures and images are matched by name.

    Raises:
        DinomixError: it takes images that the cohort does not have, or knows none of its structures; or a file cannot be read.
    """
    check_seen(model, cohort)

    def read() -> Iterator[LabeledCase]:
        for case in cases:
            yield labeled_case(case, cohort, model)

    return calibrated(model, read(), len(cases), choose_device(device)[0], emit)


def check_seen(model: Model, cohort: Cohort) -> None:
    """Raises DinomixError where a model takes images that a cohort does not have."""
    if not can_see(model.plan, cohort):
        raise DinomixError(
            f"{model.path} takes {' and '.join(model.plan.modalities)} images that the cohort does not have.",
            "Give cases of the images that the model is for.",
            "channels",
        )


def labeled_case(case: Case, cohort: Cohort, model: Model) -> LabeledCase:
    """A case on the grid of a model's plan, with the model's channels.

    Raises:
        DinomixError: a file cannot be read any more, or has changed since it was checked.
    """
    refuse_changed(case)
    images = images_for(model, cohort.channel_names, read_case_images(case, cohort))
    matched = matched_channels(cohort.labels, model.labels)
    own_ids = {cohort.labels.ids[theirs - 1]: model.labels.ids[own - 1] for theirs, own in matched.items()}
    values = case.label_values or {id: id for id in cohort.labels.ids}
    # A structure that the model does not know is background to it.
    renumbered = case.model_copy(update={"label_values": {value: own_ids.get(id, 0) for value, id in values.items()}})
    on_grid = labels_to_plan_grid(read_case_label(case, images[0].geometry), model.plan, case.labeled_slices)
    label = channels_of(on_grid, renumbered, model.labels)
    drawn = {
        own
        for theirs, own in matched.items()
        if case.has_drawn(id := cohort.labels.ids[theirs - 1]) and id not in case.predicted
    }
    image = preprocess(images, model.plan).tensor.numpy().astype(np.float16)
    return LabeledCase(
        PreparedCase(case.name, image, label, {}), frozenset(range(1, model.labels.channels)) - frozenset(drawn)
    )


def with_calibration(
    model: Model, cohort: Cohort, boxes: Cohort | None, device: torch.device | str, emit: Emit
) -> dict[str, Any]:
    """What calibrating a trained model on its validation cases adds to its record; nothing where there are none.

    Args:
        boxes: the cohort of a second stage.
    """
    added: dict[str, Any] = {}
    for stage, of_stage in ((model, cohort), (model.second, boxes)):
        if stage is None or of_stage is None or not (cases := of_stage.with_role("validation")):
            continue
        try:
            calibration = calibrated_on(stage, of_stage, cases, str(device), emit)
        except (DinomixError, OSError) as error:
            emit("notice", message=f"The model was not calibrated: {error}")
            continue
        added[stage.key_of_calibration] = calibration.model_dump(mode="json")
    return added


def _write_into(model: Model, record: dict[str, Any]) -> None:
    """Put another record into a model folder; all of its other files, the weights too, stay byte for byte."""
    with changed_aside(model.path) as aside:
        write_record(aside, model.plan, model.labels, record)
