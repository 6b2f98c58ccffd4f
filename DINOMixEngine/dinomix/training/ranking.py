"""Which unlabeled case to label next: the ones on which a run's EMA teacher and its student disagree most."""

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dinomix.cohort.case_images import read_case_images
from dinomix.cohort.cohort import Case
from dinomix.errors import DEFECTS, DinomixError, told_of
from dinomix.events import Emit, Progress, silent
from dinomix.files import read_json, write_json
from dinomix.images.writing import write_labels
from dinomix.inference.devices import choose_device
from dinomix.inference.memory import plan_memory
from dinomix.inference.native_grid import labels_on_native_grid
from dinomix.inference.sliding_window import predict_logits
from dinomix.models.folder import Model, load_model
from dinomix.planning.preprocessing import preprocess
from dinomix.training.checkpoints import digest_of
from dinomix.training.run_directory import RunDirectory

FOLDER = "ranking"
_STUDENT_PREFIX = "network."


@dataclass
class _Pair:
    """The two that may disagree. ``key`` names their weights."""

    model: Model
    teacher: torch.nn.Module
    student: torch.nn.Module
    device: torch.device
    key: str


def rank_run(run: Path, *, device: str = "auto", emit: Emit = silent) -> dict[str, Any]:
    """Segment the unlabeled cases of a run by its EMA teacher and its student; write RUN/ranking.

    The teacher is the run's model, or that of the last checkpoint while there is none; the student is the last checkpoint's.
    The disagreement of a structure is 1 - Dice of the two on the network's grid. What an interrupted call finished is kept.

    Returns:
        What RUN/ranking/ranking.json holds: ``cases``, the largest disagreement first, [{name, image, disagreement (0..1, a
        mean over the structures that either finds; 0 where neither finds any), classes {name: disagreement, or None where
        neither finds it}, pseudo_label (relative to the run, the teacher's segmentation on the image's own grid)}].

    Raises:
        DinomixError: no run, no checkpoint yet, no unlabeled case; or, after the others are done, some cases failed.
    """
    began = time.monotonic()
    directory = RunDirectory.open(run)
    cases = directory.cohort.with_role("unlabeled")
    if not cases:
        raise DinomixError(
            f"{run} has no unlabeled case to rank.", "Give some with `dinomix check --unlabeled`.", code="no-unlabeled"
        )
    pair = _pair(directory, device, emit)
    ranked, failed = [], 0
    progress = Progress(emit, "rank", len(cases))
    for number, case in enumerate(cases, 1):
        try:
            ranked.append(_ranked_before(case, directory, pair.key) or _rank(case, directory, pair))
        except (DinomixError, OSError, MemoryError, *DEFECTS) as error:
            failed += 1
            told = told_of(error, case.image)
            emit("error", **{**told.fields, "message": f"{case.name}: {told.problem}"})
        progress(number)
    ranked.sort(key=lambda entry: -entry["disagreement"])
    result = {"cases": ranked}
    write_json(run / FOLDER / "ranking.json", result)
    if failed:
        raise DinomixError(f"{failed} of {len(cases)} cases could not be ranked.", "The messages before say why.")
    emit("finished", path=str(run / FOLDER), seconds=time.monotonic() - began)
    return result


def _pair(directory: RunDirectory, device: str, emit: Emit) -> _Pair:
    state = directory.checkpoints.load(emit)
    if state is None:
        raise DinomixError(f"{directory.path} has no checkpoint yet.", "Train it for a while; then rank.")
    chosen, _ = choose_device(device)
    student = {
        name.removeprefix(_STUDENT_PREFIX): tensor
        for name, tensor in state["student"].items()
        if name.startswith(_STUDENT_PREFIX)
    }
    model = load_model(directory.model) if directory.model.is_dir() else _model(directory, state["teacher"])
    key = f"{digest_of(model.weights)} {digest_of(student)}"
    return _Pair(model, model.network(), _model(directory, student).network(), chosen, key)


def _model(directory: RunDirectory, weights: dict[str, Tensor]) -> Model:
    return Model(directory.model, directory.cohort.labels, directory.plan, weights, {})


def _rank(case: Case, directory: RunDirectory, pair: _Pair) -> dict[str, Any]:
    labels, plan = directory.cohort.labels, directory.plan
    images = read_case_images(case, directory.cohort)
    use = plan_memory(images[0].geometry, pair.model, None)
    preprocessed = preprocess(images, plan, slab_bytes=use.slab_bytes)

    def predict(network: torch.nn.Module) -> Tensor:
        return predict_logits(network, preprocessed.tensor, plan, pair.device, silent, half_buffers=use.half_buffers)

    logits = predict(pair.teacher)
    native = labels_on_native_grid(logits, preprocessed, labels.ids, slab_bytes=use.slab_bytes)
    by_teacher = logits.argmax(0).numpy()
    del logits
    by_student = predict(pair.student).argmax(0).numpy()
    path = directory.path / FOLDER / f"{case.name}.seg.nrrd"
    write_labels(np.ascontiguousarray(native.transpose(2, 1, 0)), images[0].geometry, labels, path)
    classes = dict(zip(labels.names, disagreements(by_teacher, by_student, len(labels.names)), strict=True))
    found = [value for value in classes.values() if value is not None]
    ranked = {
        "name": case.name,
        "image": str(case.image),
        "disagreement": fmean(found) if found else 0.0,
        "classes": classes,
        "pseudo_label": path.relative_to(directory.path).as_posix(),
    }
    write_json(_record(case, directory), {"key": pair.key, "image_sha256": case.images_sha256, "ranked": ranked})
    return ranked


def disagreements(one: NDArray[np.integer], other: NDArray[np.integer], classes: int) -> list[float | None]:
    """1 - Dice of channels 1..classes of two label volumes of equal shape; None where neither has any voxel."""
    sizes = np.bincount(one.ravel(), minlength=classes + 1) + np.bincount(other.ravel(), minlength=classes + 1)
    both = np.bincount(one.ravel()[one.ravel() == other.ravel()], minlength=classes + 1)
    return [float(1 - 2 * both[c] / sizes[c]) if sizes[c] else None for c in range(1, classes + 1)]


def _record(case: Case, directory: RunDirectory) -> Path:
    """What is known of a case from an earlier call; hidden, so that a folder of segmentations is what one sees."""
    return directory.path / FOLDER / ".done" / f"{case.name}.json"


def _ranked_before(case: Case, directory: RunDirectory, key: str) -> dict[str, Any] | None:
    try:
        known = read_json(_record(case, directory))
        same = known["key"] == key and known["image_sha256"] == case.images_sha256
        ranked: dict[str, Any] = known["ranked"]
        return ranked if same and (directory.path / ranked["pseudo_label"]).is_file() else None
    except (OSError, ValueError, TypeError, KeyError):
        return None
