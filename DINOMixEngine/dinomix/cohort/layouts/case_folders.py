"""A folder for each case, which holds the case's image and its label.

The label is a file, or a folder with a mask file for each structure, as TotalSegmentator's data set has it:
``CASE/segmentations/liver.nii.gz`` beside ``CASE/ct.nii.gz``.
"""

from pathlib import Path

from dinomix.cohort.found import Findings, FoundCase, Pool
from dinomix.cohort.layouts.image_files import ImageFile, files_in, told_apart
from dinomix.cohort.layouts.several_channels import of_case_folder
from dinomix.cohort.problems import Problem
from dinomix.events import Notice
from dinomix.images.formats import case_name
from dinomix.images.image_headers import is_image_path
from dinomix.images.masks import MASK_FOLDERS, mask_files, masks_in_case
from dinomix.names import listed


def case_folders(folder: Path, pool: Pool, names: dict[int, str], found: Findings) -> list[FoundCase]:
    """The cases of the subfolders; a subfolder that is none, beside others that are, is a problem.

    Returns:
        The cases; nothing, and no problem, where no subfolder is a case.
    """
    cases: list[FoundCase] = []
    problems: list[Problem] = []
    both = []
    for path in _subfolders(folder):
        images, labels, masks = _parts(path)
        if not images and not labels and masks is None:
            continue
        if masks is not None and labels:
            both.append(path.name)
        label = masks or (labels[0].path if len(labels) == 1 else None)
        if found.channels and images and label is not None:
            if (own := of_case_folder(path, images, found)) is None:
                continue
            images = [own]
        if len(images) == 1 and label is not None:
            drawn = tuple(mask_files(masks)) if masks is not None else None
            image = images[0]
            cases.append(
                FoundCase(path.name, path.name, pool, image.path, label, None, names, drawn, more_images=image.more)
            )
        else:
            problems.append(_no_case(path, images, labels))
    if not cases:
        return []
    if both:
        found.notices.append(Notice(
            f"Of cases that have a label file and a folder of masks, the masks were taken, which have names: {listed(both, 3)}."
        ))  # fmt: skip
    found.problems += problems
    return cases


def image_folders(folder: Path) -> list[ImageFile]:
    """The image of each subfolder that holds one only, called like the subfolder; for unlabeled cases."""
    images = []
    for path in _subfolders(folder):
        there, _labels, _masks = _parts(path)
        if len(there) == 1:
            images.append(ImageFile(path.name, there[0].path))
    return images


def is_case_folder(folder: Path) -> bool:
    """Whether a folder holds the image and the label of one case."""
    images, labels, masks = _parts(folder)
    return len(images) == 1 and (masks is not None or len(labels) == 1)


def _subfolders(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]


def _parts(folder: Path) -> tuple[list[ImageFile], list[ImageFile], Path | None]:
    """Images, label files, and the folder of masks of a case's folder."""
    inside = _subfolders(folder)
    masks = masks_in_case(folder)
    dicom = [ImageFile(path.name, path) for path in (folder, *inside) if path != masks and is_image_path(path)]
    files = [ImageFile(case_name(path), path) for path in files_in(folder)]
    images, labels = told_apart([*files, *dicom])
    return images, labels, masks


def _no_case(folder: Path, images: list[ImageFile], labels: list[ImageFile]) -> Problem:
    if not images:
        return Problem(
            f"{folder} holds a label but no image.",
            "Add the image, or take the folder away.",
            case=folder.name,
            file=folder,
        )
    if len(images) > 1:
        return Problem(
            f"{folder} holds several images: {listed([image.path.name for image in images])}.",
            "Keep the one that the label was drawn on.",
            case=folder.name, file=folder,
        )  # fmt: skip
    if len(labels) > 1:
        return Problem(
            f"{folder} has several labels: {listed([label.path.name for label in labels])}.",
            "Keep one of them, or put a mask for each structure into a folder segmentations/.",
            case=folder.name, file=folder,
        )  # fmt: skip
    return Problem(
        f"{folder} holds an image but no label.",
        f"Add a label or a folder of masks ({MASK_FOLDERS[0]}/), or move it to a folder that is given after --unlabeled.",
        code="no-label", case=folder.name, file=folder,
    )  # fmt: skip
