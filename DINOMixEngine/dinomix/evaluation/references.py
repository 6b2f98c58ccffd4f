"""References of which not everything is drawn or labeled: what is not, is not counted."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dinomix.cohort.case_images import read_case_images
from dinomix.cohort.case_label import UNLABELED, outside_slices, read_case_label
from dinomix.cohort.cohort import Case, Cohort
from dinomix.evaluation.label_ids import with_ids
from dinomix.events import Emit, Progress
from dinomix.images.formats import case_name
from dinomix.images.masks import mask_files
from dinomix.images.reading import is_placed, read_label
from dinomix.images.volume import Geometry, Volume
from dinomix.labels import LabelSet, stands_for_unlabeled
from dinomix.names import normalized_name


@dataclass(frozen=True)
class Reference:
    """The label of a case to compare with.

    Attributes:
        volume: its values the ids of a label set; 0 too where nobody labeled.
        unlabeled: (k, j, i), where nobody labeled; None where all was.
        not_drawn: ids of the structures that were not drawn, or not completely.
    """

    volume: Volume
    unlabeled: NDArray[np.bool_] | None = None
    not_drawn: frozenset[int] = frozenset()

    def in_part(self, prediction: Volume) -> Volume:
        """A prediction of the same grid where somebody labeled, 0 elsewhere."""
        if self.unlabeled is None:
            return prediction
        return Volume(np.where(self.unlabeled, 0, prediction.array).astype(prediction.array.dtype), prediction.geometry)


@dataclass(frozen=True)
class Known:
    """What is known of the references of a study beside their files.

    Attributes:
        cases: by the names of cases and of their label files, with the names of the structures that were not drawn completely.
        ignored: values that stand for voxels that nobody labeled, in files without names.
    """

    cases: Mapping[str, tuple[Case, frozenset[str]]] = field(default_factory=dict)
    ignored: tuple[int, ...] = ()

    @classmethod
    def of_cohort(cls, cohort: Cohort | None, ignored: tuple[int, ...]) -> "Known":
        by_file, by_name = {}, {}
        for case in cohort.cases if cohort is not None else ():
            if cohort is None or case.label is None:
                continue
            unknown = frozenset(normalized_name(s.name) for s in cohort.labels.structures if not case.has_drawn(s.id))
            by_file[case_name(case.label)] = by_name[case.name] = case, unknown
        return cls(by_file | by_name, ignored)


ALL_KNOWN = Known()
"""Every reference is drawn and labeled completely."""


def read_reference(
    name: str, path: Path, labels: LabelSet, known: Known, like: Geometry | None = None, order: Sequence[str] = ()
) -> Reference:
    """The reference of the case ``name``; ``like``, ``order`` and what is raised as of ``read_ids``."""
    volume, names = read_label(path, like=like if is_placed(path) else None, order=order)
    case, unknown = known.cases.get(name, (None, frozenset()))
    ignored = [value for value, called in (names or {}).items() if stands_for_unlabeled(called)]
    if names is None:
        ignored = [*known.ignored, *(case.ignored if case is not None else ())]
    unlabeled = np.isin(volume.array, ignored)
    if case is not None and case.labeled_slices is not None:
        unlabeled |= outside_slices(unlabeled.shape, case.labeled_slices)
    if case is None and mask_files(path):  # a structure without a mask was not drawn; an absent one has an empty mask
        unknown |= {normalized_name(name) for name in labels.names} - set(map(normalized_name, (names or {}).values()))
    not_drawn = frozenset(s.id for s in labels.structures if normalized_name(s.name) in unknown)
    if not unlabeled.any():
        return Reference(with_ids(volume, names, labels, path), None, not_drawn)
    labeled = Volume(np.where(unlabeled, 0, volume.array).astype(volume.array.dtype), volume.geometry, volume.notices)
    return Reference(with_ids(labeled, names, labels, path), unlabeled, not_drawn)


def with_references(
    cases: Sequence[Case], cohort: Cohort, stage: str, emit: Emit
) -> Iterator[tuple[Case, list[Volume], Volume]]:
    """Cases one after the other, with their images and reference; progress is told as each is done.

    Raises:
        DinomixError, OSError: a case cannot be read any more, or has changed.
    """
    progress = Progress(emit, stage, len(cases))
    for number, case in enumerate(cases, 1):
        images = read_case_images(case, cohort)
        yield case, images, reference_of(case, images[0].geometry)
        progress(number)


def reference_of(case: Case, geometry: Geometry) -> Volume:
    """The label of a case on the grid of its image, with the cohort's structure ids in place of the file's values.

    ``UNLABELED`` where nobody labeled.
    """
    label = read_case_label(case, geometry)
    if not case.label_values:
        return label
    is_partly_labeled = bool(case.ignored) or case.labeled_slices is not None
    # UNLABELED is negative: among unsigned ids it would be some other number.
    table = np.zeros(max(int(label.array.max()), 0) + 1, np.int32 if is_partly_labeled else np.uint16)
    for value, id in case.label_values.items():
        if value < len(table):
            table[value] = id
    if is_partly_labeled:
        return Volume(np.where(label.array == UNLABELED, UNLABELED, table[label.array]), label.geometry)
    return Volume(table[label.array], label.geometry)
