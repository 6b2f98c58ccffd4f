"""Cases found in folders: which file is an image, which its label, and what the structures are called.

Layouts that are recognized in a labeled folder, in this order:

- ``images/`` and ``labels/`` (also ``img/`` and ``label/``) with equal file names;
- ``imagesTr/`` and ``labelsTr/`` with ``dataset.json``, as nnU-Net and the Medical Segmentation Decathlon have them;
- images and labels side by side (``case.nii.gz`` with ``case.seg.nrrd``, ``case_seg.nii.gz``, ``case-label.nrrd``);
- one subfolder for each case with an image and a label.

Wherever an image file may be, a folder with one DICOM series may be, too.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from dinomix.cohort.problems import Problem
from dinomix.errors import reason_of
from dinomix.events import Notice
from dinomix.files import read_table, shortened_name
from dinomix.images.formats import ENDINGS, case_name, is_segmentation
from dinomix.images.reading import is_image_path
from dinomix.labels import LabelSet, names_by_id

LONGEST_CASE_NAME = 180
"""Bytes: files are called after cases, with something before and behind."""
Pool = Literal["labeled", "unlabeled", "validation", "test"]

PAIRS = {
    "labeled": (("images", "labels"), ("imagesTr", "labelsTr"), ("img", "label")),
    "test": (("images", "labels"), ("imagesTs", "labelsTs"), ("imagesVa", "labelsVa"), ("img", "label"),
             ("imagesTr", "labelsTr")),
}  # fmt: skip
IMAGES_ONLY = ("images", "imagesTs", "imagesTr", "img")

_WORD = r"(?:segmentation|seg|labelmap|labels|label|mask|gt)"
_LABEL_NAME = re.compile(rf"^(?:(?P<before>.+?)[._ -]{_WORD}|{_WORD}[._ -]?(?P<after>.+)|{_WORD})$", re.IGNORECASE)
_IMAGE_NAME = re.compile(
    r"^(?:(?P<before>.+?)[._ -](?:image|img|ct|mr)|(?:image|img)[._ -]?(?P<after>.+))$", re.IGNORECASE
)


@dataclass(frozen=True)
class FoundCase:
    """An image and, unless the case is unlabeled, its label.

    Attributes:
        name: unique in the cohort.
        short_name: as in its folder; what patterns and split files speak of.
        pool: which option brought it in, or the part that a list of cases gives it.
        patient: the folder that holds several series of one patient, else None.
        names: voxel value -> name, where the folder's ``dataset.json`` says so.
    """

    name: str
    short_name: str
    pool: Pool
    image: Path
    label: Path | None
    patient: str | None = None
    names: dict[int, str] = field(default_factory=dict)


@dataclass
class Findings:
    """What was found; ``modality`` is what the ``dataset.json`` files say, if anything."""

    cases: list[FoundCase] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    modality: str | None = None


def find_cases(
    labeled: list[Path],
    unlabeled: list[Path],
    test: list[Path],
    listed: Sequence[FoundCase] = (),
    exclude: Sequence[str] = (),
) -> Findings:
    """Find and pair the cases of all folders; opens no image and no label, and lists no label of an unlabeled folder.

    Args:
        listed: cases beside those of the folders; see ``listing``. Where a folder has the same image, its case makes way.
        exclude: names of cases to leave out, with what is wrong with them.

    Returns:
        The cases with unique names, and a problem for everything that could not be paired.
    """
    found = Findings()
    seen: dict[str, Pool] = {}
    pools: tuple[tuple[Pool, list[Path]], ...] = (("labeled", labeled), ("unlabeled", unlabeled), ("test", test))
    for pool, folders in pools:
        for folder in folders:
            if not folder.is_dir():
                what = "is not a folder" if folder.exists() else "does not exist"
                found.problems.append(
                    Problem(f"{folder} {what}.", f"Give a folder after --{pool}.", code="folder", file=folder)
                )
                continue
            place = os.path.realpath(folder)
            if (first := seen.get(place)) and (first, pool) != ("labeled", "unlabeled"):
                twice = f"twice as {pool}" if first == pool else f"as {first} and as {pool}"
                found.problems.append(Problem(f"{folder} was given {twice}.", "Give each folder once.", file=folder))
                continue
            both = seen.setdefault(place, pool) != pool
            before = len(found.problems)
            cases = _find_unlabeled(folder, both, found) if pool == "unlabeled" else _find_labeled(folder, pool, found)
            if not cases and len(found.problems) == before:
                found.problems.append(Problem(
                    f"{folder} holds no case.", f"Put images ({', '.join(ENDINGS)} or DICOM folders) there.", file=folder
                ))  # fmt: skip
            found.cases += cases
    found.cases = _with_unique_names(
        _with_names_that_are_text([*_without_listed(found, listed), *listed], found), found
    )
    _leave_out(exclude, found)
    return found


def _without_listed(found: Findings, listed: Sequence[FoundCase]) -> list[FoundCase]:
    """The folders' cases whose images are not listed: a case that was labeled later is unlabeled no more."""
    images = {os.path.realpath(case.image) for case in listed}
    kept = [case for case in found.cases if os.path.realpath(case.image) not in images]
    if len(kept) < len(found.cases):
        taken = len(found.cases) - len(kept)
        found.notices.append(
            Notice(f"Cases of folders that are in the list of cases too are taken from the list: {taken}.")
        )
    return kept


def _leave_out(exclude: Sequence[str], found: Findings) -> None:
    known = {case.name for case in found.cases} | {problem.case for problem in found.problems}
    found.notices += [Notice(f"There is no case {name} to leave out.") for name in exclude if name not in known]
    found.cases = [case for case in found.cases if case.name not in exclude]
    found.problems = [problem for problem in found.problems if problem.case not in exclude]


@dataclass(frozen=True)
class _Image:
    stem: str
    path: Path
    patient: str | None = None


def _find_labeled(folder: Path, pool: Pool, found: Findings) -> list[FoundCase]:
    folder = folder.absolute()
    names = _names_of(folder, found)
    for images_name, labels_name in PAIRS[pool]:
        images_dir, labels_dir = folder / images_name, folder / labels_name
        if images_dir.is_dir() and labels_dir.is_dir():
            label_files = _files_in(labels_dir)
            images = _without_channel(_images_in(images_dir), label_files)
            return _paired(images, label_files, labels_dir, pool, names, found)
    for images_name, labels_name in PAIRS[pool]:
        if (folder / images_name).is_dir():
            found.problems.append(Problem(
                f"{folder} has {images_name}/ but no {labels_name}/.",
                f"Put the labels into {labels_name}/ with the names of the images, or give the folder after --unlabeled.",
                code="no-label",
                file=folder,
            ))  # fmt: skip
            return []
    images, labels = _told_apart(_images_in(folder))
    if not labels:
        subfolders = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
        cases = [case for path in subfolders for case in _case_folder(path, pool, names)]
        if cases:
            return cases
    return _paired(images, [label.path for label in labels], folder, pool, names, found)


def _case_folder(folder: Path, pool: Pool, names: dict[int, str]) -> list[FoundCase]:
    """The case of a subfolder with one image and one label, else nothing."""
    files = [_Image(case_name(path), path) for path in _files_in(folder)]
    folders = [folder, *(path for path in sorted(folder.iterdir()) if path.is_dir())]
    dicom = [_Image(path.name, path) for path in folders if is_image_path(path)]
    images, labels = _told_apart([*files, *dicom])
    if len(images) != 1 or len(labels) != 1:
        return []
    return [FoundCase(folder.name, folder.name, pool, images[0].path, labels[0].path, None, names)]


def _find_unlabeled(folder: Path, also_labeled: bool, found: Findings) -> list[FoundCase]:
    folder = folder.absolute()
    # A folder that is also the labeled one gives its labeled images there; what is left over is in imagesTs.
    choices = ("imagesTs",) if also_labeled else IMAGES_ONLY
    inner = next((folder / name for name in choices if (folder / name).is_dir()), None)
    if also_labeled and inner is None:
        found.problems.append(Problem(
            f"{folder} was given as labeled and as unlabeled.",
            "Give it after --labeled only; --labeled-count N then takes all but N of its cases as unlabeled.",
            code="folder-twice",
            file=folder,
        ))  # fmt: skip
        return []
    if is_image_path(folder):
        images = [_Image(folder.name, folder)]
    elif inner is not None:
        images = _without_channel(_images_in(inner), [])
    else:
        images, labels = _told_apart(_images_in(folder))
        images = _without_channel(images, [])
        if labels:
            found.notices.append(
                Notice(f"Files named like labels were passed over in the unlabeled folder {folder}: {len(labels)}.")
            )
    return [FoundCase(i.stem, i.stem, "unlabeled", i.path, None, i.patient) for i in images]


def _paired(
    images: list[_Image], labels: list[Path], where: Path, pool: Pool, names: dict[int, str], found: Findings
) -> list[FoundCase]:
    by_stem: dict[str, list[Path]] = defaultdict(list)
    by_core: dict[str, list[Path]] = defaultdict(list)
    for label in labels:
        by_stem[case_name(label)].append(label)
        by_core[_core(case_name(label))].append(label)
    cases, used = [], set()
    for image in images:
        exact = by_stem.get(image.stem)
        candidates = exact or by_core.get(_core(image.stem), [])
        used.update(candidates)
        if len(candidates) == 1:
            name = image.stem if exact or _core(case_name(candidates[0])) == image.stem else _core(image.stem)
            cases.append(FoundCase(name, name, pool, image.path, candidates[0], image.patient, names))
        elif candidates:
            listed = " and ".join(sorted(path.name for path in candidates))
            found.problems.append(
                Problem(
                    f"{image.path} has several labels: {listed}.", "Keep one of them.", case=image.stem, file=image.path
                )
            )
        else:
            found.problems.append(Problem(
                f"{image.path} has no label in {where}.",
                "Add a label of the same name, or move the image to a folder that is given after --unlabeled.", code="no-label",
                case=image.stem, file=image.path,
            ))  # fmt: skip
    found.problems.extend(
        Problem(
            f"{label} has no image.",
            "Add the image of the same name, or take the label away.",
            case=case_name(label),
            file=label,
        )
        for label in labels
        if label not in used
    )
    return cases


def _told_apart(files: list[_Image]) -> tuple[list[_Image], list[_Image]]:
    """Images and labels of one folder. ``.seg.nrrd`` is a label, and so is what is named like one beside its image."""
    stems = {file.stem.casefold() for file in files}
    images: list[_Image] = []
    labels: list[_Image] = []
    for file in files:
        match = _LABEL_NAME.match(file.stem)
        beside = match is not None and (
            match["before"] is not None or match["after"] is None or match["after"].casefold() in stems
        )
        is_label = is_segmentation(file.path) or beside
        (labels if is_label and not file.path.is_dir() else images).append(file)
    return images, labels


def _images_in(folder: Path) -> list[_Image]:
    """Image files and DICOM folders, at any depth; a subfolder's series belong to one patient."""
    images = [_Image(case_name(path), path) for path in _files_in(folder)]
    for path in sorted(folder.iterdir()):
        if not path.is_dir() or path.name.startswith("."):
            continue
        if is_image_path(path):
            images.append(_Image(path.name, path))
            continue
        series = sorted(p for p in path.rglob("*") if p.is_dir() and is_image_path(p))
        if len(series) == 1:
            images.append(_Image(path.name, series[0]))
        else:
            images += [_Image("_".join(p.relative_to(folder).parts), p, path.name) for p in series]
    return images


def _files_in(folder: Path) -> list[Path]:
    # Symbolic links count as files even where they are broken, so that reading them tells which one is.
    return [p for p in sorted(folder.iterdir()) if not p.is_dir() and p.name.lower().endswith(ENDINGS)
            and not p.name.startswith(".")]  # fmt: skip


def _without_channel(images: list[_Image], labels: list[Path]) -> list[_Image]:
    """Names without nnU-Net's channel number, where all images carry it and no label does."""
    named_alike = {image.stem for image in images} & {case_name(label) for label in labels}
    if not named_alike and images and all(image.stem.endswith("_0000") for image in images):
        return [replace(image, stem=image.stem.removesuffix("_0000")) for image in images]
    return images


def _core(stem: str) -> str:
    """A name without what marks it as an image or a label: ``case_seg``, ``label0007`` and ``img0007`` lose it."""
    for pattern in (_LABEL_NAME, _IMAGE_NAME):
        if match := pattern.match(stem):
            return match["before"] or match["after"] or stem
    return stem


def _names_of(folder: Path, found: Findings) -> dict[int, str]:
    """Voxel value -> name from the folder's ``dataset.json`` or ``labels.json``; nothing where there is none."""
    path = next((folder / name for name in ("dataset.json", "labels.json") if (folder / name).is_file()), None)
    if path is None:
        return {}
    try:
        data = read_table(path)
        channels = data.get("channel_names", data.get("modality", {}))
        if isinstance(channels, dict) and len(channels) > 1:
            found.problems.append(Problem(
                f"{path} describes images of {len(channels)} channels.", "Keep one channel; images have one here.", file=path
            ))  # fmt: skip
        elif isinstance(channels, dict) and channels:
            found.modality = str(next(iter(channels.values()))).upper()
        if "structures" in data:
            label_set = LabelSet.model_validate(data)
            return dict(zip(label_set.ids, label_set.names, strict=True))
        return names_by_id(data.get("labels", data))
    except (OSError, ValueError) as error:
        found.problems.append(Problem(
            f"The labels of {path} cannot be used ({reason_of(error)}).",
            'Give each structure one number: {"labels": {"1": "liver"}}.',
            file=path,
        ))  # fmt: skip
        return {}


def _with_names_that_are_text(cases: list[FoundCase], found: Findings) -> list[FoundCase]:
    """Names of files may be any bytes, but a cohort file is text: cases of other names are problems."""
    good = []
    for case in cases:
        try:
            f"{case.image}{case.label}{case.name}".encode()
            good.append(case)
        except UnicodeEncodeError:
            found.problems.append(Problem(
                f"The name of {case.image}, or that of its label, is not text in UTF-8.",
                "Rename the files and their folders, in plain letters and digits.",
            ))  # fmt: skip
    return good


def _with_unique_names(cases: list[FoundCase], found: Findings) -> list[FoundCase]:
    """Cases of the same name get their folder's name before it. Of a very long name the end is a hash."""
    cases = [replace(case, name=shortened_name(case.name, LONGEST_CASE_NAME)) for case in cases]
    count = Counter(case.name for case in cases)
    taken = {name for name, n in count.items() if n == 1}
    unique = []
    for case in cases:
        name = case.name
        if count[name] > 1:
            base = name = f"{case.pool}_{name}"
            number = 1
            while name in taken:
                number += 1
                name = f"{base}_{number}"
            taken.add(name)
        unique.append(replace(case, name=name))
    shared = sorted(
        name for name in count
        if len({case.pool for case in cases if case.short_name == name and case.pool != "unlabeled"}) > 1
    )  # fmt: skip
    if shared:
        found.notices.append(Notice(
            f"Labeled and test cases share names ({', '.join(shared[:3])}{' and others' if len(shared) > 3 else ''}); "
            "they are taken for different patients.",
            "If they are not, say so with --patient-pattern.", "patients",
        ))  # fmt: skip
    return unique
