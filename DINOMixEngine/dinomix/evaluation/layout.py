"""The user's copy of a published data set, laid out as it is distributed, as a cohort with a published split's roles.

Synapse (BTCV): ``RawData/Training/img/img0001.nii.gz`` with ``RawData/Training/label/label0001.nii.gz``.
AMOS22: ``imagesTr``, ``labelsTr``, ``imagesVa``, ``labelsVa`` with ``amos_0001.nii.gz`` in each, and ``dataset.json``.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dinomix.cohort.cohort import Case, Cohort, Role
from dinomix.errors import DinomixError
from dinomix.evaluation.splits import DatasetName, Split
from dinomix.events import Emit, Progress, silent
from dinomix.files import sha256
from dinomix.images.reading import read_image, read_label
from dinomix.images.volume import Geometry, Volume
from dinomix.labels import LabelSet
from dinomix.names import listed
from dinomix.planning.preprocessing import nearest_to_ras


@dataclass(frozen=True)
class Dataset:
    """How a data set is distributed.

    Attributes:
        structures: name of each label value.
        folders: (image folder, label folder) pairs, alternatives or parts, below a common root.
        image, label: file names; their group is the case as the splits name it.
    """

    title: str
    structures: dict[int, str]
    folders: tuple[tuple[str, str], ...]
    image: re.Pattern[str]
    label: re.Pattern[str]
    expected: str

    def case_name(self, case: str) -> str:
        """What a case is called in the cohort: its image's name, without the ending."""
        return case if case.startswith("amos") else f"img{case}"


_ABDOMEN = ("spleen", "right kidney", "left kidney", "gallbladder", "esophagus", "liver", "stomach", "aorta",
            "inferior vena cava")  # fmt: skip
_SYNAPSE = (*_ABDOMEN, "portal and splenic veins", "pancreas", "right adrenal gland", "left adrenal gland")
_AMOS = (*_ABDOMEN, "pancreas", "right adrenal gland", "left adrenal gland", "duodenum", "bladder", "prostate/uterus")

DATASETS: dict[DatasetName, Dataset] = {
    "synapse": Dataset(
        title="Synapse (BTCV)",
        structures=dict(enumerate(_SYNAPSE, 1)),
        folders=(("img", "label"), ("imagesTr", "labelsTr")),
        image=re.compile(r"img(\d{4})\.nii(?:\.gz)?"),
        label=re.compile(r"label(\d{4})\.nii(?:\.gz)?"),
        expected="RawData/Training/img/img0001.nii.gz and RawData/Training/label/label0001.nii.gz",
    ),
    "amos": Dataset(
        title="AMOS22",
        structures=dict(enumerate(_AMOS, 1)),
        folders=(("imagesTr", "labelsTr"), ("imagesVa", "labelsVa")),
        image=re.compile(r"(amos_\d{4})\.nii(?:\.gz)?"),
        label=re.compile(r"(amos_\d{4})\.nii(?:\.gz)?"),
        expected="imagesTr/amos_0001.nii.gz and labelsTr/amos_0001.nii.gz, the same with imagesVa and labelsVa",
    ),
}


@dataclass(frozen=True)
class FoundFiles:
    """The files of a data set by case."""

    images: dict[str, Path]
    labels: dict[str, Path]


def find_files(dataset: Dataset, folder: Path, split: Split) -> FoundFiles:
    """Find every file that ``split`` needs in ``folder`` or up to three folders below it.

    Raises:
        DinomixError: nothing is laid out like the original, or an image or label of the split is missing.
    """
    if not folder.is_dir():
        raise DinomixError(f"{folder} is not a folder.", f"Give your copy of {dataset.title}, with {dataset.expected}.")
    images: dict[str, Path] = {}
    labels: dict[str, Path] = {}
    for depth in ("", "*", "*/*", "*/*/*"):
        roots = sorted(p for p in folder.glob(depth) if p.is_dir()) if depth else [folder]
        for root in roots:
            for image_folder, label_folder in dataset.folders:
                _collect(root / image_folder, dataset.image, images)
                _collect(root / label_folder, dataset.label, labels)
    if not images:
        raise DinomixError(
            f"{folder} holds no images laid out like {dataset.title}.", f"Give the folder with {dataset.expected}."
        )
    missing = [f"the image of {case}" for case in split.roles if case not in images]
    missing += [
        f"the label of {case}" for case, role in split.roles.items() if role != "unlabeled" and case not in labels
    ]
    if missing:
        raise DinomixError(
            f"{folder} lacks {listed(missing)}, which the split needs.",
            f"Complete your copy of {dataset.title}: {dataset.expected}.",
        )
    return FoundFiles(images, labels)


def make_cohort(dataset: Dataset, found: FoundFiles, split: Split, emit: Emit = silent) -> Cohort:
    """Read every file of the split once and describe it; unlabeled cases get no label, though a file lies there.

    The modality is CT for all, since the released code windows AMOS's MR volumes like CT ones.

    Raises:
        DinomixError: a file cannot be read, an image and its label differ in size, or a label value is unknown.
    """
    labels = LabelSet.from_names(dataset.structures)
    progress = Progress(emit, "check the data", len(split.roles))
    cases = []
    for done, (case, role) in enumerate(split.roles.items(), start=1):
        label = None if role == "unlabeled" else found.labels[case]
        cases.append(_describe(dataset.case_name(case), role, found.images[case], label, labels, emit))
        progress(done)
    return Cohort(modality="CT", labels=labels, seed=0, cases=tuple(cases))


def _collect(folder: Path, pattern: re.Pattern[str], into: dict[str, Path]) -> None:
    for path in sorted(folder.glob("*")) if folder.is_dir() else []:
        match = pattern.fullmatch(path.name)
        if match is not None:
            into.setdefault(match[1], path.resolve())


def _describe(name: str, role: Role, image_path: Path, label_path: Path | None, labels: LabelSet, emit: Emit) -> Case:
    image = read_image(image_path)
    inside: tuple[float, float, float] | None = None
    voxels: dict[int, int] = {}
    if label_path is not None:
        label, _ = read_label(label_path, like=image.geometry)
        _check_label(image, image_path, label, label_path, labels, emit)
        counts = np.bincount(label.array.ravel(), minlength=1)
        voxels = {id: int(counts[id]) for id in labels.ids if id < len(counts) and counts[id]}
        inside = _percentiles(image.array[label.array != 0]) if voxels else None
    return Case(
        name=name,
        role=role,
        image=image_path,
        label=label_path,
        patient=name,
        image_sha256=sha256(image_path),
        label_sha256=sha256(label_path) if label_path else None,
        size=image.geometry.size,
        spacing=image.geometry.spacing,
        orientation=_orientation(image.geometry),
        intensity=_percentiles(image.array),
        foreground_intensity=inside,
        voxels=voxels,
        label_values={id: id for id in voxels},
    )


def _check_label(
    image: Volume, image_path: Path, label: Volume, label_path: Path, labels: LabelSet, emit: Emit
) -> None:
    difference = image.geometry.difference(label.geometry)
    if image.geometry.size != label.geometry.size:
        raise DinomixError(f"{image_path} and {label_path} differ: {difference}.", "Download this case again.")
    if difference:
        # The protocol works on voxels and looks at no position, so this case can take part.
        emit("notice", message=f"{image_path} and {label_path} differ in {difference}; compared voxel by voxel.")
    unknown = [int(value) for value in np.unique(label.array) if value and int(value) not in labels.ids]
    if unknown:
        raise DinomixError(
            f"{label_path} holds the label {unknown[0]}; the data set has 1 to {max(labels.ids)}.",
            "Use the labels as they were published, not a version with other numbers.",
        )


def _percentiles(values: NDArray[Any]) -> tuple[float, float, float]:
    low, middle, high = np.percentile(values, [0.5, 50, 99.5])
    return float(low), float(middle), float(high)


def _orientation(geometry: Geometry) -> str:
    """nibabel's axis code, such as "LPS"."""
    reorientation = nearest_to_ras(geometry)
    letters = ["", "", ""]
    for world, (axis, flip) in enumerate(zip(reorientation.axes, reorientation.flips, strict=True)):
        letters[axis] = "LPI"[world] if flip else "RAS"[world]
    return "".join(letters)
