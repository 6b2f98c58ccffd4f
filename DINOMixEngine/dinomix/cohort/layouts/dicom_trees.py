"""Folders as an archive exports them: DICOM series at any depth, and the segmentations or structure sets drawn on them.

Which series a label was drawn on is told by UIDs, not by names or places: ``PATIENT/STUDY/SERIES/`` may lie beside
``PATIENT/STUDY/SEG/``, and several series and labels may lie in one folder.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from dinomix.cohort.found import Findings, FoundCase, Pool
from dinomix.cohort.layouts.image_files import ImageFile, files_in, told_apart
from dinomix.cohort.layouts.several_channels import of_case_folder
from dinomix.cohort.problems import Problem
from dinomix.errors import DinomixError
from dinomix.events import Notice
from dinomix.images.dicom import describe_series
from dinomix.images.dicom_drawn import DrawnOn, drawn_on
from dinomix.images.dicom_header import STRUCTURE_SET, DicomHeader, is_dicom_file, read_dicom_header
from dinomix.images.formats import ENDINGS, case_name
from dinomix.names import listed


@dataclass
class DicomTree:
    """The DICOM files of a folder, at any depth; what is said of all of them is found once, since archives have many.

    Attributes:
        series: UID of a series -> the headers of its slices, by path.
        labels: the headers of segmentations and structure sets.
    """

    folder: Path
    series: dict[str, list[DicomHeader]] = field(default_factory=lambda: defaultdict(list))
    labels: list[DicomHeader] = field(default_factory=list)

    @cached_property
    def images(self) -> dict[str, Path]:
        """UID of a series -> its folder, or one of its files where another series lies there too."""
        folders = {uid: {header.path.parent for header in headers} for uid, headers in self.series.items()}
        count = Counter(folder for own in folders.values() for folder in own)
        first = {uid: headers[0].path for uid, headers in self.series.items()}
        return {uid: path if count[path.parent] > 1 else path.parent for uid, path in first.items()}

    @cached_property
    def images_of(self) -> dict[tuple[str, ...], list[Path]]:
        """Subfolder -> the images of the series whose first slice lies there, at any depth."""
        images: dict[tuple[str, ...], list[Path]] = defaultdict(list)
        for uid, headers in self.series.items():
            images[self.subfolder(headers[0].path.parent)].append(self.images[uid])
        return images

    @cached_property
    def with_slices(self) -> set[tuple[str, ...]]:
        """The subfolders that hold slices, at any depth."""
        folders = {header.path.parent for headers in self.series.values() for header in headers}
        return {self.subfolder(folder) for folder in folders}

    def subfolder(self, place: Path) -> tuple[str, ...]:
        """The name of the subfolder that a folder lies in or is; () for the tree's own folder."""
        return place.relative_to(self.folder).parts[:1]


def dicom_tree(folder: Path) -> DicomTree:
    """All DICOM below a folder; damaged files are passed over, since reading their series will tell of them."""
    tree = DicomTree(folder)
    for path in sorted(folder.rglob("*")):
        if path.name.startswith(".") or path.name.lower().endswith(ENDINGS) or not path.is_file():
            continue
        try:
            header = read_dicom_header(path) if is_dicom_file(path) else None
        except (DinomixError, OSError):
            continue
        if header is not None and header.is_label:
            tree.labels.append(header)
        elif header is not None and header.is_image:
            tree.series[header.tags.get("0020|000e", "")].append(header)
    return tree


def tree_cases(tree: DicomTree, pool: Pool, names: dict[int, str], found: Findings) -> list[FoundCase]:
    """Each label with what it was drawn on; a label without its image, and a subfolder without a label, are problems.

    Where the cohort has several channels, they are found among the series of the same subfolder.
    """
    drawn: dict[ImageFile, list[DicomHeader]] = defaultdict(list)
    for label in tree.labels:
        path = _image_of(label, tree, found)
        image = _with_channels(path, tree, found) if path is not None else None
        if image is not None:
            drawn[image].append(label)
    places = {image: _place(image.path).relative_to(tree.folder).parts for image in drawn}
    count = Counter(parts[:1] for parts in places.values())
    cases = []
    for image, labels in drawn.items():
        chosen, parts = _chosen(image.path, labels, found), places[image]
        if chosen is None:
            continue
        alone = count[parts[:1]] == 1
        name = (parts[0] if alone else "_".join(parts)) if parts else image.stem
        patient = parts[0] if parts and not alone else None
        cases.append(FoundCase(name, name, pool, image.path, chosen.path, patient, names, more_images=image.more))
    _tell_the_rest(tree, {path for image in drawn for path in (image.path, *image.more)}, found)
    return cases


def _with_channels(path: Path, tree: DicomTree, found: Findings) -> ImageFile | None:
    """The case whose image was drawn on; None, and a problem, where it lacks a channel of the cohort."""
    if not found.channels:
        return ImageFile(case_name(path), path)
    patient = tree.subfolder(_place(path))
    beside = [ImageFile(case_name(other), other) for other in tree.images_of.get(patient, [])]
    return of_case_folder(tree.folder.joinpath(*patient), beside, found)


def _image_of(label: DicomHeader, tree: DicomTree, found: Findings) -> Path | None:
    """What a label was drawn on: a series of the tree, as its folder or one of its files, or the only other image beside it."""
    try:
        said = drawn_on(label.path)
    except DinomixError as error:
        found.problems.append(Problem(error.problem, error.remedy, file=label.path))
        return None
    fitting = _series_of(said, tree)
    if len(fitting) == 1:
        return tree.images[fitting[0]]
    if len(fitting) > 1:
        first = [tree.series[uid][0] for uid in fitting]
        described = listed([f"{describe_series(header)} ({header.path.parent})" for header in first])
        found.problems.append(Problem(
            f"{label.path} does not say on which of several series it was drawn: {described}.",
            "Put it into a folder with the one that it belongs to, and give that folder.", file=label.path,
        ))  # fmt: skip
        return None
    images, _ = told_apart([ImageFile(case_name(path), path) for path in files_in(label.path.parent)])
    if len(images) == 1:
        return images[0].path
    on = f"the series {listed(sorted(said.series), 3)}" if said.series else "a series that it does not name"
    found.problems.append(Problem(
        f"{label.path} was drawn on {on}, which does not lie in {tree.folder}.",
        "Put the series beside it, or take the file away.", file=label.path,
    ))  # fmt: skip
    return None


def _series_of(said: DrawnOn, tree: DicomTree) -> list[str]:
    """The series that a label may be of: those that it names, else those of the slices or of the space that it names."""
    named = [uid for uid in said.series if uid in tree.series]
    if named:
        return sorted(named, key=lambda uid: tree.series[uid][0].path)
    return [uid for uid, headers in tree.series.items() if said.fits(headers)]


def _chosen(image: Path, labels: list[DicomHeader], found: Findings) -> DicomHeader | None:
    """The label of an image: its only one, or its only segmentation, which has voxels where a structure set has contours."""
    if len(labels) == 1:
        return labels[0]
    segmentations = [label for label in labels if label.tags["0008|0016"] != STRUCTURE_SET]
    if len(segmentations) == 1:
        found.notices.append(
            Notice(f"Of several labels of {image}, the segmentation was taken: {segmentations[0].path}.")
        )
        return segmentations[0]
    found.problems.append(Problem(
        f"{image} has several labels: {listed([str(label.path) for label in labels], 5)}.", "Keep one of them.", file=image,
    ))  # fmt: skip
    return None


def _place(image: Path) -> Path:
    return image if image.is_dir() else image.parent


def _tell_the_rest(tree: DicomTree, used: set[Path], found: Findings) -> None:
    """Subfolders without any label are problems; other series beside labeled ones, such as scouts, are passed over."""
    labeled = {path.relative_to(tree.folder).parts[:1] for path in [header.path for header in tree.labels]}
    for path in sorted(tree.folder.iterdir()):
        inside = path.is_dir() and not path.name.startswith(".")
        if inside and (path.name,) not in labeled and (files_in(path) or (path.name,) in tree.with_slices):
            found.problems.append(Problem(
                f"{path} holds no DICOM segmentation or structure set, as other folders beside it do.",
                "Add it, or put the case into another folder that is given after --labeled or --unlabeled.",
                code="no-label", case=path.name, file=path,
            ))  # fmt: skip
    other = [
        headers
        for uid, headers in tree.series.items()
        if tree.images[uid] not in used and headers[0].path.relative_to(tree.folder).parts[:1] in labeled
    ]
    if other:
        found.notices.append(Notice(
            f"Series on which nothing was drawn were passed over in {tree.folder}: {len(other)}, such as "
            f"{describe_series(other[0][0])} in {other[0][0].path.parent}."
        ))  # fmt: skip
