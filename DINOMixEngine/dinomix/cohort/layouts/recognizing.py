"""Which layout a folder has, and its cases.

Layouts that are recognized in a labeled folder, in this order:

- ``images/`` and ``labels/`` (also ``img/`` or ``image/`` and ``label/``, ``images/`` and ``masks/``) with equal file names;
- ``imagesTr/`` and ``labelsTr/`` with ``dataset.json``, as nnU-Net and the Medical Segmentation Decathlon have them;
- images and labels side by side (``case.nii.gz`` with ``case.seg.nrrd``, ``case_seg.nii.gz``, ``case-label.nrrd``);
- DICOM series with DICOM segmentations or structure sets, at any depth, told apart by their UIDs;
- one subfolder for each case with an image and a label.

Before these, a data set in BIDS and the data store of a MONAI Label server are told by their folders.

A label may be a folder with a mask file for each structure: ``labels/CASE/liver.nii.gz``, ``CASE/segmentations/liver.nii.gz``.

Wherever an image file may be, a folder with one DICOM series may be, too; and wherever a label file, a DICOM segmentation or
structure set, or a folder with one. Where cases have several channels, their images are the files that ``images.channel_files``
knows.
"""

from pathlib import Path

from dinomix.cohort.found import Findings, FoundCase, Pool
from dinomix.cohort.layouts.bids import cases_of_bids, is_bids, unlabeled_of_bids
from dinomix.cohort.layouts.case_folders import case_folders, image_folders
from dinomix.cohort.layouts.dataset_json import names_of
from dinomix.cohort.layouts.dicom_trees import dicom_tree, tree_cases
from dinomix.cohort.layouts.image_files import (
    ImageFile,
    files_in,
    images_in,
    told_apart,
    without_channel,
)
from dinomix.cohort.layouts.monai_label import cases_of_store, images_of_store, images_without_label, is_store
from dinomix.cohort.layouts.pairs import paired
from dinomix.cohort.layouts.several_channels import channel_images, grouped
from dinomix.cohort.problems import Problem
from dinomix.events import Notice
from dinomix.images.dicom_drawn import drawn_in
from dinomix.images.image_headers import is_image_path
from dinomix.images.masks import mask_folders_in

PAIRS = {
    "labeled": (("images", "labels"), ("imagesTr", "labelsTr"), ("img", "label"), ("image", "label"), ("images", "masks")),
    "test": (("images", "labels"), ("imagesTs", "labelsTs"), ("imagesVa", "labelsVa"), ("img", "label"),
             ("image", "label"), ("images", "masks"), ("imagesTr", "labelsTr")),
}  # fmt: skip
IMAGES_ONLY = ("images", "imagesTs", "imagesTr", "img", "image")


def labeled_cases(folder: Path, pool: Pool, found: Findings) -> list[FoundCase]:
    folder = folder.absolute()
    if is_bids(folder):
        return cases_of_bids(folder, pool, found)
    names = names_of(folder, found)
    if is_store(folder):
        return cases_of_store(folder, pool, names, found)
    for images_name, labels_name in PAIRS[pool]:
        images_dir, labels_dir = folder / images_name, folder / labels_name
        if images_dir.is_dir() and labels_dir.is_dir():
            label_files = [*files_in(labels_dir), *mask_folders_in(labels_dir), *drawn_in(labels_dir)]
            images = (
                channel_images(images_dir, found)
                if found.channels
                else without_channel(images_in(images_dir), label_files)
            )
            return paired(images, label_files, labels_dir, pool, names, found)
    for images_name, labels_name in PAIRS[pool]:
        if (folder / images_name).is_dir():
            found.problems.append(Problem(
                f"{folder} has {images_name}/ but no {labels_name}/.",
                f"Put the labels into {labels_name}/ with the names of the images, or give the folder after --unlabeled.",
                code="no-label",
                file=folder,
            ))  # fmt: skip
            return []
    images, labels = told_apart(images_in(folder))
    if not labels and not files_in(folder):
        tree = dicom_tree(folder)
        if tree.labels:
            return tree_cases(tree, pool, names, found)
        if cases := case_folders(folder, pool, names, found):
            return cases
    if found.channels:
        images = grouped([image for image in images if image.path.parent == folder], folder, found)
    return paired(images, [*(label.path for label in labels), *drawn_in(folder)], folder, pool, names, found)


def unlabeled_cases(folder: Path, also_labeled: bool, found: Findings) -> list[FoundCase]:
    folder = folder.absolute()
    if is_bids(folder):
        return _unlabeled(unlabeled_of_bids(folder, also_labeled, found))
    if is_store(folder):
        return _unlabeled((images_without_label if also_labeled else images_of_store)(folder, found))
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
    if found.channels:
        images = channel_images(inner or folder, found)
    elif is_image_path(folder):
        images = [ImageFile(folder.name, folder)]
    elif inner is not None:
        images = without_channel(images_in(inner), [])
    else:
        images, labels = told_apart(images_in(folder))
        images = without_channel(images, []) or image_folders(folder)
        if labels:
            found.notices.append(
                Notice(f"Files named like labels were passed over in the unlabeled folder {folder}: {len(labels)}.")
            )
        _tell_deeper(folder, images, found)
    return _unlabeled(images)


def _tell_deeper(folder: Path, images: list[ImageFile], found: Findings) -> None:
    """A notice of image files in subfolders, which are not looked into."""
    taken = {image.path for image in images}
    deeper = [
        path for inner in sorted(folder.rglob("*")) if inner.is_dir() for path in files_in(inner) if path not in taken
    ]
    if deeper:
        found.notices.append(Notice(
            f"Image files in subfolders of the unlabeled folder {folder} were passed over: {len(deeper)}, such as {deeper[0]}. "
            "Give their folders, too."
        ))  # fmt: skip


def _unlabeled(images: list[ImageFile]) -> list[FoundCase]:
    return [FoundCase(i.stem, i.stem, "unlabeled", i.path, None, i.patient, more_images=i.more) for i in images]
