"""Images and labels of equal names: in two folders, or side by side in one."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from dinomix.cohort.found import Findings, FoundCase, Pool
from dinomix.cohort.layouts.image_files import ImageFile, core_of
from dinomix.cohort.problems import Problem
from dinomix.images.formats import case_name
from dinomix.images.masks import mask_files


def paired(
    images: list[ImageFile], labels: list[Path], where: Path, pool: Pool, names: dict[int, str], found: Findings
) -> list[FoundCase]:
    """Cases of images and labels with equal names; what has no other half, or several, is a problem."""
    fitting = _fitting(images, labels)
    images_of: dict[Path, list[ImageFile]] = defaultdict(list)
    for image, own in zip(images, fitting, strict=True):
        if len(own) == 1:
            images_of[own[0]].append(image)
    cases = []
    for image, own in zip(images, fitting, strict=True):
        if len(own) != 1:
            found.problems.append(_no_pair(image, own, where))
        elif len(images_of[own[0]]) == 1:
            name, drawn = _name(image, own[0]), tuple(mask_files(own[0])) if own[0].is_dir() else None
            cases.append(
                FoundCase(name, name, pool, image.path, own[0], image.patient, names, drawn, more_images=image.more)
            )
    found.problems += [_shared(label, several) for label, several in images_of.items() if len(several) > 1]
    # Of a case that lacks a channel that is told already.
    incomplete = {problem.case for problem in found.problems if problem.code == "channels"}
    used = {label for own in fitting for label in own}
    found.problems.extend(
        Problem(
            f"{label} has no image.",
            "Add the image of the same name, or take the label away.",
            case=case_name(label),
            file=label,
        )
        for label in labels
        if label not in used and case_name(label) not in incomplete
    )
    return cases


def _fitting(images: Sequence[ImageFile], labels: Sequence[Path]) -> list[list[Path]]:
    """Of each image the labels that are called like it; without any, those that are but for the marks of image and label."""
    by_stem: dict[str, list[Path]] = defaultdict(list)
    by_core: dict[str, list[Path]] = defaultdict(list)
    for label in labels:
        by_stem[case_name(label)].append(label)
        by_core[core_of(case_name(label))].append(label)
    return [by_stem.get(image.stem) or by_core.get(core_of(image.stem), []) for image in images]


def _name(image: ImageFile, label: Path) -> str:
    return image.stem if image.stem in (case_name(label), core_of(case_name(label))) else core_of(image.stem)


def _no_pair(image: ImageFile, labels: Sequence[Path], where: Path) -> Problem:
    """What is wrong with an image that has several labels, or none."""
    if labels:
        listed = _names(labels)
        return Problem(
            f"{image.path} has several labels: {listed}.", "Keep one of them.", case=image.stem, file=image.path
        )
    return Problem(
        f"{image.path} has no label in {where}.",
        "Add a label of the same name, or move the image to a folder that is given after --unlabeled.",
        code="no-label", case=image.stem, file=image.path,
    )  # fmt: skip


def _shared(label: Path, images: Sequence[ImageFile]) -> Problem:
    """Taken for a case each, the images of one patient would come to both sides of a split."""
    return Problem(
        f"{label} is the label of several images: {_names(image.path for image in images)}.",
        "Keep one of them, or name them as channels with --channel.", code="shared-label",
        case=_name(images[0], label), file=label,
    )  # fmt: skip


def _names(paths: Iterable[Path]) -> str:
    return " and ".join(sorted(path.name for path in paths))
