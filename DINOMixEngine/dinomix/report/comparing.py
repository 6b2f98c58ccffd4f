"""A run's model beside the model that it started from, on the same validation cases, structure by structure."""

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from dinomix.cohort.cohort import Case
from dinomix.errors import DinomixError
from dinomix.evaluation.metrics import dice
from dinomix.events import Emit, Progress, silent
from dinomix.files import folder_written_aside, read_json, write_json
from dinomix.images.reading import read_image, read_label
from dinomix.images.volume import Volume
from dinomix.inference.segment import segment_volume
from dinomix.labels import LabelSet
from dinomix.models.folder import Model, load_model
from dinomix.models.installed import describe_model
from dinomix.models.matching import matched_channels
from dinomix.report.overlays import make_overlay, with_ids, write_overlay_picture
from dinomix.training.run_directory import RunDirectory

FOLDER = "comparison"
Dice = dict[str, float | None]


@dataclass
class _Compared:
    """A model with its network at hand, and what it calls the cohort's structures."""

    model: Model
    labels: LabelSet
    network: torch.nn.Module

    def segment(self, image: Volume, device: str) -> Volume:
        """Labels on the image's grid, with the cohort's ids; structures that the cohort lacks are background."""
        own = segment_volume(image, self.model, device=device, precision="float32", network=self.network)
        table = np.zeros(max(self.model.labels.ids) + 1, np.uint16)
        for channel, known in self.known.items():
            table[self.model.labels.ids[known - 1]] = self.labels.ids[channel - 1]
        return Volume(table[own.array], own.geometry)

    @cached_property
    def known(self) -> dict[int, int]:
        """Channel of the cohort -> channel of the model, as a run that starts from it matches them."""
        return matched_channels(self.labels, self.model.labels)

    def dice(self, predicted: Volume, reference: Volume) -> Dice:
        """Per structure, on the native grid; None where the case lacks the structure or the model does not know it."""
        values: Dice = {}
        for channel, structure in enumerate(self.labels.structures, 1):
            expected = reference.array == structure.id
            scored = channel in self.known and expected.any()
            values[structure.name] = dice(predicted.array == structure.id, expected) if scored else None
        return values


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
        result = {**models, "classes": _means(directory.cohort.labels.names, compared), "cases": compared}
        write_json(aside / "comparison.json", result)
    emit("finished", path=str(run / FOLDER), seconds=time.monotonic() - began)
    return result


def _load(path: Path, directory: RunDirectory) -> _Compared:
    model = load_model(path)
    return _Compared(model, directory.cohort.labels, model.network())


def _load_before(directory: RunDirectory, emit: Emit) -> _Compared | None:
    if directory.start_model is None:
        return None
    try:
        return _load(directory.start_model, directory)
    except DinomixError as error:
        emit("notice", message=f"The model that the run started from cannot be compared with: {error}")
        return None


def _described(compared: _Compared | None) -> dict[str, str] | None:
    if compared is None:
        return None
    path = compared.model.path
    title = describe_model(path)["title"]
    return {"title": title, "path": str(path.absolute()), "fingerprint": compared.model.fingerprint}


def _case(case: Case, before: _Compared | None, after: _Compared, directory: RunDirectory, folder: Path,
          device: str) -> dict[str, Any]:  # fmt: skip
    assert case.label is not None
    labels = directory.cohort.labels
    image = read_image(case.image)
    reference = with_ids(read_label(case.label, like=image.geometry)[0], case.label_values)
    rows: dict[str, Volume | None] = {"Reference": reference}
    told: dict[str, Any] = {"name": case.name, "image": str(case.image), "before": None}
    for key, compared in (("before", before), ("after", after)):
        if compared is not None:
            predicted = compared.segment(image, device)
            told[key] = compared.dice(predicted, reference)
            rows[key.capitalize()] = predicted
    overlay = make_overlay(case.name, image, rows, directory.cohort.modality)
    picture = folder / f"{case.name}.png"
    write_overlay_picture(overlay, labels, picture, told["after"], case.name, told["before"])
    return {**told, "picture": f"{FOLDER}/{picture.name}"}


def _means(names: tuple[str, ...], cases: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    def mean(key: str, name: str) -> float | None:
        values = [case[key][name] for case in cases if case[key] is not None and case[key][name] is not None]
        return fmean(values) if values else None

    return {name: {key: mean(key, name) for key in ("before", "after")} for name in names}


def _read(run: Path) -> dict[str, Any] | None:
    """The comparison that is there, or None where it is none or its pictures are gone."""
    try:
        known: dict[str, Any] = read_json(run / FOLDER / "comparison.json")
        whole = {"before", "after", "classes", "cases"} <= set(known)
        return known if whole and all((run / case["picture"]).is_file() for case in known["cases"]) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None
