"""A run's model beside the model that it started from, on the same validation cases, structure by structure."""

import time
from pathlib import Path
from typing import Any

from dinomix.cohort.case_images import read_case_images
from dinomix.cohort.cohort import Case
from dinomix.errors import DinomixError
from dinomix.evaluation.matched_model import MatchedModel, means
from dinomix.evaluation.references import reference_of
from dinomix.events import Emit, Progress, silent
from dinomix.files import folder_written_aside, read_json, write_json
from dinomix.images.volume import Volume
from dinomix.models.folder import load_model
from dinomix.models.installed import describe_model
from dinomix.report.overlays import make_overlay, shown_on, write_overlay_picture
from dinomix.training.run_directory import RunDirectory

FOLDER = "comparison"


def compare_run(run: Path, *, device: str = "auto", emit: Emit = silent) -> dict[str, Any]:
    """Segment the validation cases of a run with its model and with the one it started from; write RUN/comparison.

    Dice is that of protocol `strict`: on the native grid, and a structure that a case's reference lacks does not count.
    A comparison of the same two models that is there already is kept.

    Returns:
        What RUN/comparison/comparison.json holds: ``before`` (None for a run from scratch, or where that model is gone) and
        ``after``, each {title, path, fingerprint}; ``classes`` {name: {before, after}}, means over cases; ``cases`` [{name,
        image, before, after, picture}], ``picture`` relative to the run.

    Raises:
        DinomixError: no run, no model yet, or no validation case.
    """
    began = time.monotonic()
    directory = RunDirectory.open(run)
    cases = directory.cohort.with_role("validation")
    if not cases:
        raise DinomixError(
            f"{run} has no validation case to compare on.",
            "Give some with `dinomix check --validation`, and train again.",
            code="no-validation",
        )
    if not directory.model.is_dir():
        raise DinomixError(f"{run} has no model yet.", "Let the run finish, or stop it; then compare.")
    after = _load(directory.model, directory)
    before = _load_before(directory, emit)
    models = {"before": _described(before), "after": _described(after)}
    known = _read(run)
    if known is not None and {key: known[key] for key in models} == models:
        emit("finished", path=str(run / FOLDER), seconds=time.monotonic() - began)
        return known
    with folder_written_aside(run / FOLDER) as aside:
        compared, progress = [], Progress(emit, "compare", len(cases))
        for number, case in enumerate(cases, 1):
            compared.append(_case(case, before, after, directory, aside, device))
            progress(number)
        names = directory.cohort.labels.names
        of = {key: means(names, [case[key] for case in compared if case[key] is not None]) for key in models}
        classes = {name: {key: of[key][name] for key in models} for name in names}
        result = {**models, "classes": classes, "cases": compared}
        write_json(aside / "comparison.json", result)
    emit("finished", path=str(run / FOLDER), seconds=time.monotonic() - began)
    return result


def _load(path: Path, directory: RunDirectory) -> MatchedModel:
    matched = MatchedModel(load_model(path), directory.cohort.labels, directory.cohort.channel_names)
    matched.model.check_networks()
    return matched


def _load_before(directory: RunDirectory, emit: Emit) -> MatchedModel | None:
    if directory.start_model is None:
        return None
    try:
        return _load(directory.start_model, directory)
    except DinomixError as error:
        emit("notice", message=f"The model that the run started from cannot be compared with: {error}")
        return None


def _described(compared: MatchedModel | None) -> dict[str, str] | None:
    if compared is None:
        return None
    path = compared.model.path
    title = describe_model(path)["title"]
    return {"title": title, "path": str(path.absolute()), "fingerprint": compared.model.fingerprint}


def _case(case: Case, before: MatchedModel | None, after: MatchedModel, directory: RunDirectory, folder: Path,
          device: str) -> dict[str, Any]:  # fmt: skip
    labels = directory.cohort.labels
    images = read_case_images(case, directory.cohort)
    reference = reference_of(case, images[0].geometry)
    rows: dict[str, Volume | None] = {"Reference": reference}
    told: dict[str, Any] = {"name": case.name, "image": str(case.image), "before": None}
    for key, compared in (("before", before), ("after", after)):
        if compared is not None:
            predicted = compared.segment(images, device)
            told[key] = compared.dice(predicted, reference, case)
            rows[key.capitalize()] = predicted
    overlay = make_overlay(case.name, images[0], rows, directory.cohort.modality)
    picture = folder / f"{case.name}.png"
    write_overlay_picture(
        overlay, labels, picture, told["after"], case.name + shown_on(directory.cohort), told["before"]
    )
    return {**told, "picture": f"{FOLDER}/{picture.name}"}


def _read(run: Path) -> dict[str, Any] | None:
    """The comparison that is there, or None where it is none or its pictures are gone."""
    try:
        known: dict[str, Any] = read_json(run / FOLDER / "comparison.json")
        whole = {"before", "after", "classes", "cases"} <= set(known)
        return known if whole and all((run / case["picture"]).is_file() for case in known["cases"]) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None
