"""The Brain Imaging Data Structure: ``sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz``, and labels in ``derivatives``.

A label is a discrete segmentation, ``derivatives/PIPELINE/sub-01/ses-1/anat/sub-01_ses-1_desc-manual_dseg.nii.gz``. Names of
files are entities (``key-value``) and a suffix; a label and its image have the same but for those of derivatives only.
``*_dseg.tsv`` says what its numbers mean. A data set without any may have masks of structures, ``..._label-lesion_mask.nii.gz``.
See the BIDS specification, "Common principles" and "Imaging derivatives".
"""

import csv
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dinomix.cohort.found import Findings, FoundCase, Pool
from dinomix.cohort.layouts.image_files import ImageFile, files_in
from dinomix.cohort.layouts.several_channels import of_case_folder
from dinomix.cohort.problems import Problem
from dinomix.errors import reason_of
from dinomix.events import Notice
from dinomix.files import read_table
from dinomix.images.formats import case_name
from dinomix.images.masks import mask_files, structure_of
from dinomix.labels import names_by_id
from dinomix.names import listed

DATATYPES = ("anat", "ct", "pet")
LABEL, MASK = "dseg", "mask"
NO_IMAGES = (LABEL, "probseg", MASK)
"""Suffixes of files that are derived from images."""
OF_DERIVATIVES = ("space", "desc", "label", "res", "den", "atlas", "seg", "scale", "hemi")
"""Entities that the name of a label may have and that of its image need not."""
LARGEST_TABLE = 10**6


@dataclass(frozen=True)
class BidsFile:
    """A file and what its name says.

    Attributes:
        entities: by their keys, ``sub`` among them.
        more: where cases have several channels, the further images of the case.
    """

    path: Path
    entities: dict[str, str]
    suffix: str
    more: tuple[Path, ...] = ()

    @property
    def case(self) -> str:
        """What the case of an image is called: like its file, which of several channels is without the suffix."""
        stem = case_name(self.path)
        return stem.removesuffix(f"_{self.suffix}") if self.more else stem

    @property
    def patient(self) -> str:
        return f"sub-{self.entities.get('sub', '')}"


def is_bids(folder: Path) -> bool:
    """Whether it is a data set, or one pipeline's folder in the ``derivatives`` of one."""
    return next(_files(_root(folder)), None) is not None


def cases_of_bids(folder: Path, pool: Pool, found: Findings) -> list[FoundCase]:
    """The images that have a label, with the subject as the patient; how many others there are is told.

    Args:
        folder: the data set; or the folder of the one pipeline whose labels are meant.
    """
    images, labels = _images(folder, found), _labels(folder)
    if not labels:
        found.problems.append(Problem(
            f"{folder} holds no label: no *_{LABEL}.nii.gz and no *_{MASK}.nii.gz in derivatives/.",
            "Put the labels there, or give the folder after --unlabeled.", code="no-label", file=folder,
        ))  # fmt: skip
        return []
    labels_of: dict[Path, list[BidsFile]] = defaultdict(list)
    for label in labels:
        if (image := _image_of(label, images, found)) is not None:
            labels_of[image.path].append(label)
    cases = []
    for image in images:
        of_image = labels_of.get(image.path, [])
        if of_image and of_image[0].suffix == MASK:
            others = any(label.path.parent == of_image[0].path.parent for label in labels if label not in of_image)
            cases += _case_of_masks(image, of_image, others, pool, found)
        elif len(of_image) == 1:
            names, more = _names(of_image[0], _root(folder), found), image.more
            cases.append(FoundCase(
                image.case, image.case, pool, image.path, of_image[0].path, image.patient, names, more_images=more
            ))  # fmt: skip
        elif of_image:
            where = listed([str(label.path.relative_to(_root(folder))) for label in of_image], 3)
            found.problems.append(Problem(
                f"{image.path} has several labels: {where}.",
                "Keep one of them; or give the folder of one pipeline, derivatives/NAME, instead of the whole data set.",
                case=image.case, file=image.path,
            ))  # fmt: skip
    if passed := len(images) - len(labels_of):
        found.notices.append(Notice(f"Images of {folder} without a label were passed over: {passed}."))
    return cases


def _case_of_masks(
    image: BidsFile, masks: Sequence[BidsFile], others: bool, pool: Pool, found: Findings
) -> list[FoundCase]:
    """The case of an image with a mask for each structure.

    Args:
        others: whether masks of other images lie in the same folder: then one file is the label, else the folder.
    """
    label, names = masks[0].path.parent, {}
    if others:
        label = masks[0].path
        names = {1: structure_of(label)}
    if len({mask.path.parent for mask in masks}) > 1 or (others and len(masks) > 1):
        found.problems.append(Problem(
            f"The masks of {image.path} lie in several folders, or beside those of other images: "
            f"{listed([str(mask.path) for mask in masks], 3)}.",
            f"Make one *_{LABEL}.nii.gz of them, or give the folder of one pipeline, derivatives/NAME.",
            case=image.case, file=image.path,
        ))  # fmt: skip
        return []
    drawn = tuple(names.values()) or tuple(mask_files(label))
    return [FoundCase(image.case, image.case, pool, image.path, label, image.patient, names, drawn=drawn,
                      more_images=image.more)]  # fmt: skip


def unlabeled_of_bids(folder: Path, also_labeled: bool, found: Findings) -> list[ImageFile]:
    """All images; of a folder that is the labeled one too, those without a label, of the kinds that have labels."""
    images = _images(folder, found)
    if also_labeled:
        of_labels = [_image_of(label, images, Findings()) for label in _labels(folder)]
        labeled = {image.path: image.suffix for image in of_labels if image is not None}
        images = [i for i in images if i.path not in labeled and i.suffix in labeled.values()]
    return [ImageFile(image.case, image.path, image.patient, image.more) for image in images]


def _root(folder: Path) -> Path:
    return folder.parent.parent if folder.parent.name == "derivatives" else folder


def _images(folder: Path, found: Findings) -> list[BidsFile]:
    """The images, or where cases have several channels, the first one of each session, with the others."""
    images = [file for file in _files(_root(folder)) if file.suffix not in NO_IMAGES]
    if not found.channels:
        return images
    sessions: dict[str, list[BidsFile]] = defaultdict(list)
    for image in images:
        sessions["_".join(f"{key}-{image.entities[key]}" for key in ("sub", "ses") if key in image.entities)].append(
            image
        )
    cases = []
    for name, of_session in sessions.items():
        files = [ImageFile(case_name(image.path), image.path) for image in of_session]
        if (case := of_case_folder(_root(folder) / name, files, found)) is not None:
            first = next(image for image in of_session if image.path == case.path)
            cases.append(replace(first, more=case.more))
    return cases


def _labels(folder: Path) -> list[BidsFile]:
    """The segmentations, in the data set's own folders and in those of its pipelines; where it has none, the masks.

    Beside segmentations, masks are by-products of pipelines, such as the brain's.
    """
    if folder != _root(folder):
        trees = [folder]
    else:
        derivatives = folder / "derivatives"
        trees = (
            [folder, *(p for p in sorted(derivatives.iterdir()) if p.is_dir())] if derivatives.is_dir() else [folder]
        )
    derived = [file for tree in trees for file in _files(tree)]
    return [file for file in derived if file.suffix == LABEL] or [file for file in derived if file.suffix == MASK]


def _files(tree: Path) -> Iterator[BidsFile]:
    """Image files of all subjects and sessions, sorted by subject."""
    for subject in sorted(path for path in tree.glob("sub-*") if path.is_dir()):
        for place in (subject, *sorted(path for path in subject.glob("ses-*") if path.is_dir())):
            for datatype in DATATYPES:
                if (place / datatype).is_dir():
                    yield from map(_parsed, files_in(place / datatype))


def _parsed(path: Path) -> BidsFile:
    *parts, suffix = case_name(path).split("_")
    pairs = [part.partition("-") for part in parts]
    return BidsFile(path, {key: value for key, _, value in pairs}, suffix)


def _image_of(label: BidsFile, images: Sequence[BidsFile], found: Findings) -> BidsFile | None:
    """The one image that a label was drawn on; a problem where none or several may be it."""
    own = {key: value for key, value in label.entities.items() if key not in OF_DERIVATIVES}
    fitting = [image for image in images if own.items() <= image.entities.items()]
    for narrower in (
        [image for image in fitting if image.path.name in _sources(label)],
        [image for image in fitting if image.suffix == label.entities.get("space")],
        [image for image in fitting if image.entities == own],
    ):
        if len(fitting) > 1 and narrower:
            fitting = narrower
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = listed([image.path.name for image in fitting], 3)
        problem = f"may have been drawn on several images: {names}"
        remedy = 'Name the one under "Sources" in the .json beside the label.'
    else:
        problem, remedy = "has no image", "Add the image with the same entities in its name, or take the label away."
    found.problems.append(Problem(f"{label.path} {problem}.", remedy, case=case_name(label.path), file=label.path))
    return None


def _sources(label: BidsFile) -> set[str]:
    """Names of the files that a label's sidecar names as what it was made from."""
    try:
        data = read_table(label.path.with_name(case_name(label.path) + ".json"))
    except (OSError, ValueError):
        return set()
    told = [data.get("Sources"), data.get("SpatialReference")]
    paths = [path for value in told for path in (value if isinstance(value, list) else [value])]
    return {path.replace("\\", "/").rpartition("/")[2] for path in paths if isinstance(path, str)}


def _names(label: BidsFile, root: Path, found: Findings) -> dict[int, str]:
    """Value -> name from the nearest ``*_dseg.tsv`` above a label that speaks of it; nothing where there is none."""
    for folder in label.path.parents:
        tables = [_parsed(path) for path in sorted(folder.glob(f"*{LABEL}.tsv"))]
        fitting = [table for table in tables if table.entities.items() <= label.entities.items()]
        if fitting:
            return _read_names(max(fitting, key=lambda table: len(table.entities)).path, found)
        if folder == root:
            break
    return {}


def _read_names(path: Path, found: Findings) -> dict[int, str]:
    """The columns "index" and "name" of a table."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file.read(LARGEST_TABLE).splitlines(), delimiter="\t"))
        names = {row["index"].strip(): row["name"] for row in rows}
        if len(names) < len(rows):
            raise ValueError("a number stands in it twice")
        return names_by_id(names)
    except (OSError, ValueError, KeyError, AttributeError, csv.Error) as error:
        problem = Problem(
            f"The names in {path} cannot be used ({reason_of(error)}).",
            'Write a table with the columns "index" and "name", separated by tabs.', file=path,
        )  # fmt: skip
        if str(problem) not in map(str, found.problems):
            found.problems.append(problem)
        return {}
