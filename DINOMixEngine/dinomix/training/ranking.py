"""Which unlabeled case to label next: each is segmented by a run's networks, and a strategy puts them into an order."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
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
from dinomix.evaluation.matched_model import MatchedModel
from dinomix.events import Emit, Progress, silent
from dinomix.files import read_json, write_json
from dinomix.images.volume import Volume
from dinomix.images.writing import write_labels
from dinomix.inference.devices import choose_device
from dinomix.inference.entropy import Entropies
from dinomix.inference.expected_dice import PLANES, ExpectedDice
from dinomix.inference.memory import plan_memory
from dinomix.inference.native_grid import NativeLabels
from dinomix.inference.segment import remove_pieces
from dinomix.inference.sliding_window import predict_slabs
from dinomix.models.folder import Model, load_model
from dinomix.models.matching import images_for
from dinomix.planning.preprocessing import preprocess
from dinomix.training.checkpoints import digest_of
from dinomix.training.next_case import DEFAULT, StrategyName, strategy_of
from dinomix.training.next_case.strategy import Pool, Ranked, Seen
from dinomix.training.run_directory import RunDirectory

FOLDER = "ranking"
_STUDENT_PREFIX = "network."


@dataclass
class _Pair:
    """The two that may disagree; each sees images as its own plan says. ``key`` tells them from others."""

    teacher: MatchedModel
    student: MatchedModel | None
    device: torch.device
    key: str


def rank_run(
    run: Path, *, by: StrategyName = DEFAULT, seed: int = 0, device: str = "auto", emit: Emit = silent
) -> dict[str, Any]:
    """Segment the unlabeled cases of a run by its EMA teacher, for some strategies by its student too; write RUN/ranking.

    The teacher is the run's model, or that of the last checkpoint while there is none; the student is the last checkpoint's.
    The run's model may be the one that it started from, with another plan and structures that the cohort lacks, which are
    background then. What an interrupted call finished is kept, for every strategy.

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
    if directory.model.is_dir():
        teacher = load_model(directory.model)
        key = teacher.fingerprint
    else:
        teacher = _model(directory, state["teacher"])
        key = digest_of(teacher.weights)

    def matched(model: Model) -> MatchedModel:
        return MatchedModel(model, directory.cohort.labels, directory.cohort.channel_names)

    second = matched(_model(directory, student)) if needs_student else None
    return _Pair(matched(teacher), second, chosen, f"{key} {digest_of(student)}")


def _model(directory: RunDirectory, weights: dict[str, Tensor]) -> Model:
    return Model(directory.model, directory.cohort.labels, directory.plan, weights, {})


def _see(case: Case, directory: RunDirectory, pair: _Pair) -> Seen:
    """Segment a case, and write its labels and what was seen of it."""
    labels, teacher = directory.cohort.labels, pair.teacher
    known = {labels.names[channel - 1]: there for channel, there in teacher.known.items()}
    images = read_case_images(case, directory.cohort)
    expected, entropies = ExpectedDice(teacher.model.labels.channels), Entropies(1 + len(known))

    def look(logits: Tensor) -> None:
        expected.add(logits)
        for planes in logits.split(PLANES, 1):
            entropies.add(of_channels(planes, list(known.values())))

    by_teacher = _segmented(images, teacher, pair.device, look)
    of_student: dict[str, float | None] = {}
    if pair.student is not None:
        by_student = pair.student.renamed(_segmented(images, pair.student, pair.device))
        differing = disagreements(teacher.renamed(by_teacher).array, by_student.array, labels.ids)
        of_student = dict(zip(labels.names, differing, strict=True))
    remove_pieces(by_teacher.array, by_teacher.geometry, teacher.model, None, silent)
    result = teacher.renamed(by_teacher)
    write_labels(result.array, result.geometry, labels, _pseudo_label(case, directory))
    predicted = _predicted(expected, teacher.model)
    entropy, *of_structures = entropies.means()
    seen = Seen(
        name=case.name,
        patient=case.patient,
        voxels={name: int(expected.labeled[channel]) for name, channel in known.items()},
        predicted_dice={name: predicted[channel - 1] for name, channel in known.items()},
        entropy=entropy,
        entropies=dict(zip(known, of_structures, strict=True)),
        disagreement=of_student,
    )
    write_json(_record(case, directory), {"key": pair.key, "image_sha256": case.images_sha256, "seen": asdict(seen)})
    return seen


def _segmented(
    images: list[Volume], matched: MatchedModel, device: torch.device, look: Callable[[Tensor], None] | None = None
) -> Volume:
    """What a model says of a case's images, by its own ids; ``look`` is shown the logits, slab by slab, in main memory."""
    model, geometry = matched.model, images[0].geometry
    use = plan_memory(geometry, model, None)
    preprocessed = preprocess(images_for(model, matched.channels, images), model.plan, slab_bytes=use.slab_bytes)
    tensor, network = preprocessed.tensor, model.warm_network
    found = NativeLabels(preprocessed, tuple(tensor.shape[1:]), model.labels.ids, use.slab_bytes)
    for slab in predict_slabs(network, tensor, model.plan, device, half_buffers=use.half_buffers):
        logits = slab.cpu()
        found.add(logits)
        if look is not None:
            look(logits)
    return Volume(found.array, geometry)


def of_channels(logits: Tensor, channels: list[int]) -> Tensor:
    """Logits (channels, ...) of the background and of some channels alone: all others are background."""
    others = [channel for channel in range(len(logits)) if channel not in channels]
    return torch.cat([logits[others].float().logsumexp(0, keepdim=True), logits[channels].float()])


def _predicted(expected: ExpectedDice, model: Model) -> list[float | None]:
    """The Dice of each structure that is to be expected, mended where the model is calibrated."""
    dice, calibration = expected.dice(), model.calibration
    if calibration is None:
        return dice
    pairs = zip(model.labels.names, dice, strict=True)
    return [None if value is None else calibration.predicted_dice(name, value) for name, value in pairs]


def disagreements(one: NDArray[Any], other: NDArray[Any], ids: Sequence[int]) -> list[float | None]:
    """1 - Dice of each of ``ids`` in two label volumes of equal shape; None where neither has any voxel."""
    sizes, both = np.zeros((2, max(ids) + 1), np.int64)
    # Plane by plane, since counting makes long integers of what it counts.
    for here, there in zip(one, other, strict=True):
        sizes += np.bincount(here.ravel(), minlength=len(sizes)) + np.bincount(there.ravel(), minlength=len(sizes))
        both += np.bincount(here[here == there], minlength=len(sizes))
    return [float(1 - 2 * both[id] / sizes[id]) if sizes[id] else None for id in ids]


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
