"""Which files and folders are images and which are labels, by their names; none is opened."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from dinomix.images.formats import ENDINGS, case_name, is_segmentation
from dinomix.images.image_headers import is_image_path

_WORD = r"(?:segmentation|seg|labelmap|labels|label|mask|gt)"
_LABEL_NAME = re.compile(rf"^(?:{_WORD}|(?P<before>.+?)[._ -]{_WORD}|{_WORD}[._ -]?(?P<after>.+))$", re.IGNORECASE)
_IMAGE_NAME = re.compile(
    r"^(?:(?P<before>.+?)[._ -](?:image|img|ct|mr)|(?:image|img)[._ -]?(?P<after>.+))$", re.IGNORECASE
)


@dataclass(frozen=True)
class ImageFile:
    """An image by its name without ending or marks; ``patient`` is the folder that holds several series of one.

    ``more`` are the case's further channels.
    """

    stem: str
    path: Path
    patient: str | None = None
    more: tuple[Path, ...] = ()


def told_apart(files: list[ImageFile]) -> tuple[list[ImageFile], list[ImageFile]]:
    """Images and labels of one folder. ``.seg.nrrd`` is a label, and so is what is named like one beside its image."""
    stems = {file.stem.casefold() for file in files}
    images: list[ImageFile] = []
    labels: list[ImageFile] = []
    for file in files:
        match = _LABEL_NAME.match(file.stem)
        beside = match is not None and (
            match["before"] is not None or match["after"] is None or match["after"].casefold() in stems
        )
        is_label = is_segmentation(file.path) or beside
        (labels if is_label and not file.path.is_dir() else images).append(file)
    return images, labels


def images_in(folder: Path) -> list[ImageFile]:
    """Image files and DICOM folders, at any depth; a subfolder's series belong to one patient."""
    images = [ImageFile(case_name(path), path) for path in files_in(folder)]
    for path in sorted(folder.iterdir()):
        if not path.is_dir() or path.name.startswith("."):
            continue
        if is_image_path(path):
            images.append(ImageFile(path.name, path))
            continue
        series = sorted(p for p in path.rglob("*") if p.is_dir() and is_image_path(p))
        if len(series) == 1:
            images.append(ImageFile(path.name, series[0]))
        else:
            images += [ImageFile("_".join(p.relative_to(folder).parts), p, path.name) for p in series]
    return images


def files_in(folder: Path) -> list[Path]:
    # Symbolic links count as files even where they are broken, so that reading them tells which one is.
    return [p for p in sorted(folder.iterdir()) if not p.is_dir() and p.name.lower().endswith(ENDINGS)
            and not p.name.startswith(".")]  # fmt: skip


def without_channel(images: list[ImageFile], labels: list[Path]) -> list[ImageFile]:
    """Names without nnU-Net's channel number, where all images carry it and no label does."""
    named_alike = {image.stem for image in images} & {case_name(label) for label in labels}
    if not named_alike and images and all(image.stem.endswith("_0000") for image in images):
        return [replace(image, stem=image.stem.removesuffix("_0000")) for image in images]
    return images


def core_of(stem: str) -> str:
    """A name without what marks it as an image or a label: ``case_seg``, ``label0007`` and ``img0007`` lose it."""
    for pattern in (_LABEL_NAME, _IMAGE_NAME):
        if match := pattern.match(stem):
            return match["before"] or match["after"] or stem
    return stem
