"""Cached cases: what preprocessing makes of each volume, kept on disk and read memory-mapped.

An entry is a folder named after what it was made from (contents of the files, grid, window), so it is never stale:

    image.npy       (X, Y, Z) float16 in [0, 1], on the plan's grid; (C, X, Y, Z) of several channels
    label.npy       (X, Y, Z) uint8 or uint16 channel numbers (0 background, k the k-th structure of C - 1); labeled cases only.
                    Of a case that is not whole: C where nothing is drawn, so that a voxel may be what was not drawn in this case,
                    and C + 1 where nobody labeled
    locations.npz   "<channel>": (n, 3) up to 2,000 random voxels of each structure; labeled cases only
    features-<key>.npy  (slices, x tokens, y tokens, width) float16; where FKD reads features from disk
"""

import hashlib
import json
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from dinomix.cohort.case_images import read_case_images
from dinomix.cohort.case_label import UNLABELED, read_case_label
from dinomix.cohort.cohort import Case, Cohort
from dinomix.errors import DinomixError
from dinomix.events import Emit, Progress
from dinomix.files import clear_leftovers, folder_written_aside, written_aside
from dinomix.images.file_sets import image_sha256
from dinomix.images.reading import readers
from dinomix.labels import LabelSet
from dinomix.planning.array_files import mapped, stored
from dinomix.planning.plan import Plan
from dinomix.planning.preprocessing import labels_to_plan_grid, preprocess

FORMAT = 2
"""Raised when the entries of an older version must not be read."""

LOCATIONS = 2000


@dataclass(frozen=True)
class CachedCase:
    """One case on disk; the arrays are opened when asked for and never held."""

    name: str
    folder: Path

    @property
    def image(self) -> NDArray[np.float16]:
        """(channels, X, Y, Z) in [0, 1], memory-mapped."""
        image = mapped(self.folder / "image.npy")
        return image if image.ndim == 4 else image[None]

    @property
    def size(self) -> tuple[int, int, int]:
        """Voxels along (x, y, z)."""
        return self.image.shape[1:]

    @property
    def label(self) -> NDArray[np.unsignedinteger]:
        """(X, Y, Z) channel numbers, memory-mapped."""
        return mapped(self.folder / "label.npy")

    def features(self, key: str) -> NDArray[np.float16]:
        """(slices, x tokens, y tokens, width), memory-mapped."""
        return mapped(self.features_file(key))

    def features_file(self, key: str) -> Path:
        return self.folder / f"features-{key}.npy"

    def has_features(self, key: str) -> bool:
        """Whether they are there, and not cut off."""
        return _opens(lambda: self.features(key))

    def is_whole(self, with_label: bool) -> bool:
        """Whether the entry is there and nothing of it is cut off, as by a disk that was full or a copy that ended early."""
        wanted: list[Callable[[], object]] = [lambda: self.image]
        return all(map(_opens, wanted + ([lambda: self.label, self.locations] if with_label else [])))

    def locations(self) -> dict[int, NDArray[np.int64]]:
        """Channel -> (n, 3) voxels of it; a structure that the case lacks is left out."""
        of_channels = stored(self.folder / "locations.npz")
        return {int(channel): voxels.astype(np.int64) for channel, voxels in of_channels.items()}


@dataclass(frozen=True)
class PreparedCase:
    """One case in memory, with what ``CachedCase`` reads from disk.

    Attributes:
        image, label, points, teacher, size: as ``CachedCase`` has them; without labels ``label`` and ``points`` are empty.
    """

    name: str
    image: NDArray[np.float16]
    label: NDArray[np.unsignedinteger]
    points: dict[int, NDArray[np.int64]]
    teacher: dict[str, NDArray[np.float16]] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int, int]:
        return self.image.shape[1:]

    def features(self, key: str) -> NDArray[np.float16]:
        return self.teacher[key]

    def locations(self) -> dict[int, NDArray[np.int64]]:
        return self.points


def _opens(opened: Callable[[], object]) -> bool:
    try:
        opened()
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return False
    return True


AnyCase = CachedCase | PreparedCase


def cache_cases(cohort: Cohort, plan: Plan, folder: Path, emit: Emit) -> dict[str, CachedCase]:
    """Preprocess all cases but the test cases; entries that are there already are kept.

    Returns:
        Case name -> cached case.

    Raises:
        DinomixError: a file cannot be read any more, or has changed since it was checked.
        OSError: the disk is full.
    """
    wanted = [case for case in cohort.cases if case.role != "test"]
    cached = {case.name: cached_case(case, cohort, plan, folder) for case in wanted}
    folder.mkdir(parents=True, exist_ok=True)
    # Runs that share a cache wait here for each other, and find written what they would have written.
    with FileLock(folder / ".lock"):
        clear_leftovers(folder)
        missing = [case for case in wanted if not is_cached(case, cohort, plan, folder)]
        for case in missing:
            if cached[case.name].folder.exists():
                emit("notice", message=f"The prepared case {case.name} is damaged; it is made again.")
        if missing:
            _write_entries(missing, cohort, plan, cached, emit)
    return cached


def _write_entries(missing: list[Case], cohort: Cohort, plan: Plan, cached: dict[str, CachedCase], emit: Emit) -> None:
    progress = Progress(emit, "preprocess", len(missing))
    with ThreadPoolExecutor(readers()) as pool:
        jobs = [pool.submit(_write_entry, case, cohort, plan, cached[case.name].folder) for case in missing]
        try:
            for number, job in enumerate(as_completed(jobs), 1):
                job.result()
                progress(number)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def cache_features(
    cases: list[CachedCase], key: str, features_of: Callable[[NDArray[np.float16]], NDArray[np.float16]], emit: Emit, *,
    share: tuple[int, int] = (0, 1),
) -> None:  # fmt: skip
    """Keep the teacher's features of each case beside its image; what is there already is kept.

    Args:
        key: names teacher, stride and scale.
        share: the number of this process and of all; each takes its part of the cases.
    """
    number, processes = share
    mine = cases[number::processes]
    if not mine:
        return
    # Runs that share a cache wait here for each other, and find written what they would have written.
    with FileLock(mine[0].folder.parent / f".lock-features-{number}"):
        missing = [case for case in mine if not case.has_features(key)]
        if not missing:
            return
        progress = Progress(emit, "teacher features", len(missing))
        for done, case in enumerate(missing, 1):
            with written_aside(case.features_file(key)) as aside:
                np.save(aside, features_of(case.image))
            progress(done)


def _key(case: Case, cohort: Cohort, plan: Plan) -> str:
    source = {
        "format": FORMAT,
        "image": case.image_sha256,
        "label": case.label_sha256,
        "values": case.label_values,
        "ids": cohort.labels.ids,
        "grid": plan.grid.model_dump(mode="json"),
        "window": plan.window.model_dump(mode="json"),
    }
    if case.more_images:
        source["channels"] = [
            case.more_image_sha256, [channel.window.model_dump(mode="json") for channel in plan.more_channels],
            len(set(case.images)),
        ]  # fmt: skip
    if case.order:
        source["order"] = case.order
    if not case.is_whole:
        slices = case.labeled_slices.model_dump(mode="json") if case.labeled_slices is not None else None
        source["unlabeled"] = [case.drawn is not None, case.ignored, slices]
        if slices is not None:
            source["nearest_plane"] = True  # earlier versions lost labeled slices that no plane of the grid lies at
    return hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()[:24]


def cached_case(case: Case, cohort: Cohort, plan: Plan, folder: Path) -> CachedCase:
    """Where ``folder`` holds the case as this cohort and plan want it, or will hold it."""
    return CachedCase(case.name, folder / _key(case, cohort, plan))


def is_cached(case: Case, cohort: Cohort, plan: Plan, folder: Path) -> bool:
    """Whether ``folder`` holds the case as this cohort and plan want it."""
    return cached_case(case, cohort, plan, folder).is_whole(with_label=case.role != "unlabeled")


def _write_entry(case: Case, cohort: Cohort, plan: Plan, folder: Path) -> None:
    prepared = prepared_case(case, cohort, plan)
    with folder_written_aside(folder) as aside:
        np.save(aside / "image.npy", prepared.image if len(prepared.image) > 1 else prepared.image[0])
        if not prepared.label.size:
            return
        np.save(aside / "label.npy", prepared.label)
        locations = {str(channel): voxels.astype(np.int16) for channel, voxels in prepared.points.items()}
        np.savez(aside / "locations.npz", **locations)  # type: ignore[arg-type]


def prepared_case(case: Case, cohort: Cohort, plan: Plan) -> PreparedCase:
    """Read a case and bring it onto the plan's grid.

    Raises:
        DinomixError: a file cannot be read any more, or has changed since it was checked.
    """
    refuse_changed(case)
    images = read_case_images(case, cohort)
    image = preprocess(images, plan).tensor.numpy().astype(np.float16)
    if case.label is None:
        return PreparedCase(case.name, image, np.empty(0, np.uint8), {})
    volume = read_case_label(case, images[0].geometry)
    label = channels_of(labels_to_plan_grid(volume, plan, case.labeled_slices), case, cohort.labels)
    rng = np.random.default_rng(0)
    points = {}
    for channel in range(1, cohort.labels.channels):
        voxels = np.argwhere(label == channel)
        if len(voxels):
            chosen = rng.permutation(len(voxels))[:LOCATIONS]
            points[channel] = voxels[np.sort(chosen)]
    return PreparedCase(case.name, image, label, points)


def refuse_changed(case: Case) -> None:
    """Raises DinomixError where a file of the case is not what it was when it was checked."""
    of_images = dict(zip(case.images, (case.image_sha256, *case.more_image_sha256), strict=True))
    for path, expected in (*of_images.items(), (case.label, case.label_sha256)):
        if path is not None and path.exists() and image_sha256(path) != expected:
            raise DinomixError(f"{path} has changed since it was checked.", "Run `dinomix check` again.", "cohort")


def channels_of(values: NDArray[np.generic], case: Case, labels: LabelSet) -> NDArray[np.unsignedinteger]:
    """Values of ``read_case_label`` to channel numbers of the network: 0 background, k the k-th structure of the label set.

    Of a case that is not whole, C (the number of channels) is where nothing is drawn, and C + 1 where nobody labeled. A structure
    that was left out is background in any case: it is none of those that were not drawn.
    """
    nothing, unlabeled = labels.channels, labels.channels + 1
    dtype = np.uint8 if (labels.channels if case.is_whole else unlabeled + 1) <= 256 else np.uint16
    channels = np.zeros(values.shape, dtype)
    channel_of = labels.channel_of
    for value in np.unique(values):
        structure_id = case.label_values.get(int(value), int(value))
        if value == UNLABELED:
            channels[values == value] = unlabeled
        elif structure_id in channel_of:
            channels[values == value] = channel_of[structure_id]
        elif value == 0 and case.drawn is not None:
            channels[values == value] = nothing
    return channels


def structures_in(label: NDArray[np.unsignedinteger], channels: int) -> NDArray[np.unsignedinteger]:
    """A cached label with 0 wherever it shows no structure.

    Args:
        channels: C, with the background.
    """
    return np.where(label < channels, label, 0).astype(label.dtype, copy=False)
