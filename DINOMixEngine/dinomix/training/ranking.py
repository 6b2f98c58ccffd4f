"""Which unlabeled case to label next: each is segmented by a run's networks, and a strategy puts them into an order."""

import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dinomix.cohort.case_images import read_case_images
from dinomix.cohort.cohort import Case, Cohort
from dinomix.errors import DEFECTS, DinomixError, told_of
from dinomix.events import Emit, Progress, silent
from dinomix.files import read_json, write_json
from dinomix.images.writing import write_labels
from dinomix.inference.devices import choose_device
from dinomix.inference.entropy import Entropies
from dinomix.inference.expected_dice import ExpectedDice
from dinomix.inference.memory import plan_memory
from dinomix.inference.native_grid import labels_on_native_grid
from dinomix.inference.sliding_window import predict_logits
from dinomix.models.folder import Model, load_model
from dinomix.planning.preprocessing import preprocess
from dinomix.training.checkpoints import digest_of
from dinomix.training.next_case import DEFAULT, StrategyName, strategy_of
from dinomix.training.next_case.strategy import Pool, Ranked, Seen
from dinomix.training.run_directory import RunDirectory

FOLDER = "ranking"
_STUDENT_PREFIX = "network."


@dataclass
class _Pair:
    """The two that may disagree. ``key`` names their weights."""

    model: Model
    teacher: torch.nn.Module
    student: torch.nn.Module | None
    device: torch.device
    key: str


def rank_run(
    run: Path, *, by: StrategyName = DEFAULT, seed: int = 0, device: str = "auto", emit: Emit = silent
) -> dict[str, Any]:
    """Segment the unlabeled cases of a run by its EMA teacher, for some strategies by its student too; write RUN/ranking.

    The teacher is the run's model, or that of the last checkpoint while there is none; the student is the last checkpoint's.
    What an interrupted call finished is kept, for every strategy.

    Args:
        by: the strategy, see ``next_case``.
        seed: of what it leaves to chance.

    Returns:
        What RUN/ranking/ranking.json holds: ``by``, ``seed`` and ``cases``, the one to label first at the beginning, [{name,
        image, score (what the strategy goes by, 0..1, or None), classes {name: the same of each structure, or None where it is
        not found}, pseudo_label (relative to the run, the teacher's segmentation on the image's own grid)}]. By disagreement the
        score stands there as ``disagreement`` too, as in files of earlier versions.

    Raises:
        DinomixError: no run, no checkpoint yet, no unlabeled case; or, after the others are done, some cases failed.
    """
    began = time.monotonic()
    directory, strategy = RunDirectory.open(run), strategy_of(by)
    cases = directory.cohort.with_role("unlabeled")
    if not cases:
        raise DinomixError(
            f"{run} has no unlabeled case to rank.", "Give some with `dinomix check --unlabeled`.", code="no-unlabeled"
        )
    pair = _pair(directory, device, strategy.needs_student, emit)
    seen: dict[str, Seen] = {}
    failed = 0
    progress = Progress(emit, "rank", len(cases))
    for number, case in enumerate(cases, 1):
        try:
            seen[case.name] = _seen_before(case, directory, pair) or _see(case, directory, pair)
        except (DinomixError, OSError, MemoryError, *DEFECTS) as error:
            failed += 1
            told = told_of(error, case.image)
            emit("error", **{**told.fields, "message": f"{case.name}: {told.problem}"})
        progress(number)
    ranked = strategy.rank(pool_of(directory.cohort, list(seen.values())), seed)
    images = {case.name: case.image for case in cases}
    result = {"by": by, "seed": seed, "cases": [_told(place, images[place.case.name], by) for place in ranked]}
    write_json(run / FOLDER / "ranking.json", result)
    if failed:
        raise DinomixError(f"{failed} of {len(cases)} cases could not be ranked.", "The messages before say why.")
    emit("finished", path=str(run / FOLDER), seconds=time.monotonic() - began)
    return result


def pool_of(cohort: Cohort, seen: list[Seen]) -> Pool:
    """What a strategy is asked about the cases that were seen."""
    labeled = cohort.with_role("labeled")
    everywhere = (s.name for s in cohort.labels.structures if all(case.voxels.get(s.id) for case in labeled))
    return Pool(seen, Counter(case.patient for case in labeled), frozenset(everywhere))


def _pair(directory: RunDirectory, device: str, needs_student: bool, emit: Emit) -> _Pair:
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
    network = _model(directory, student).module() if needs_student else None
    return _Pair(model, model.module(), network, chosen, key)


def _model(directory: RunDirectory, weights: dict[str, Tensor]) -> Model:
    return Model(directory.model, directory.cohort.labels, directory.plan, weights, {})


def _see(case: Case, directory: RunDirectory, pair: _Pair) -> Seen:
    """Segment a case, and write its labels and what was seen of it."""
    labels, plan = directory.cohort.labels, directory.plan
    images = read_case_images(case, directory.cohort)
    use = plan_memory(images[0].geometry, pair.model, None)
    preprocessed = preprocess(images, plan, slab_bytes=use.slab_bytes)

    def predict(network: torch.nn.Module) -> Tensor:
        return predict_logits(network, preprocessed.tensor, plan, pair.device, silent, half_buffers=use.half_buffers)

    logits = predict(pair.teacher)
    native = labels_on_native_grid(logits, preprocessed, labels.ids, slab_bytes=use.slab_bytes)
    write_labels(
        np.ascontiguousarray(native.transpose(2, 1, 0)), images[0].geometry, labels, _pseudo_label(case, directory)
    )
    by_teacher, expected, entropies = logits.argmax(0).numpy(), ExpectedDice(len(logits)), Entropies(len(logits))
    expected.add(logits)
    entropies.add(logits)
    del logits
    voxels = np.bincount(by_teacher.ravel(), minlength=labels.channels)[1:].tolist()
    entropy, *of_structures = entropies.means()
    of_student: dict[str, float | None] = {}
    if pair.student is not None:
        by_student = predict(pair.student).argmax(0).numpy()
        of_student = dict(zip(labels.names, disagreements(by_teacher, by_student, len(labels.names)), strict=True))
    seen = Seen(
        name=case.name,
        patient=case.patient,
        voxels=dict(zip(labels.names, voxels, strict=True)),
        predicted_dice=dict(zip(labels.names, _predicted(expected, pair.model), strict=True)),
        entropy=entropy,
        entropies=dict(zip(labels.names, of_structures, strict=True)),
        disagreement=of_student,
    )
    write_json(_record(case, directory), {"key": pair.key, "image_sha256": case.images_sha256, "seen": asdict(seen)})
    return seen


def _predicted(expected: ExpectedDice, model: Model) -> list[float | None]:
    """The Dice of each structure that is to be expected, mended where the model is calibrated."""
    dice, calibration = expected.dice(), model.calibration
    if calibration is None:
        return dice
    pairs = zip(model.labels.names, dice, strict=True)
    return [None if value is None else calibration.predicted_dice(name, value) for name, value in pairs]


def disagreements(one: NDArray[np.integer], other: NDArray[np.integer], classes: int) -> list[float | None]:
    """1 - Dice of channels 1..classes of two label volumes of equal shape; None where neither has any voxel."""
    sizes = np.bincount(one.ravel(), minlength=classes + 1) + np.bincount(other.ravel(), minlength=classes + 1)
    both = np.bincount(one.ravel()[one.ravel() == other.ravel()], minlength=classes + 1)
    return [float(1 - 2 * both[c] / sizes[c]) if sizes[c] else None for c in range(1, classes + 1)]


def _told(place: Ranked, image: Path, by: StrategyName) -> dict[str, Any]:
    told = {"name": place.case.name, "image": str(image), "score": place.score, "classes": dict(place.classes)}
    of_earlier_versions = {"disagreement": place.score} if by == "disagreement" else {}
    return {**told, **of_earlier_versions, "pseudo_label": f"{FOLDER}/{place.case.name}.seg.nrrd"}


def _pseudo_label(case: Case, directory: RunDirectory) -> Path:
    return directory.path / FOLDER / f"{case.name}.seg.nrrd"


def _record(case: Case, directory: RunDirectory) -> Path:
    """What is known of a case from an earlier call; hidden, so that a folder of segmentations is what one sees."""
    return directory.path / FOLDER / ".done" / f"{case.name}.json"


def _seen_before(case: Case, directory: RunDirectory, pair: _Pair) -> Seen | None:
    try:
        known = read_json(_record(case, directory))
        same = known["key"] == pair.key and known["image_sha256"] == case.images_sha256
        seen = Seen(**known["seen"])
        suffices = bool(seen.disagreement) or pair.student is None
        return seen if same and suffices and _pseudo_label(case, directory).is_file() else None
    except (OSError, ValueError, TypeError, KeyError):
        return None
