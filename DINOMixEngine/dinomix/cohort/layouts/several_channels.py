"""The channels of a cohort, such as T1 and T2, and which images of a folder are those of one case."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dinomix.cohort.found import Findings
from dinomix.cohort.layouts.image_files import ImageFile, core_of, files_in, images_in, told_apart
from dinomix.cohort.problems import Problem
from dinomix.errors import DinomixError
from dinomix.files import read_table
from dinomix.images.channel_files import (
    CaseFiles,
    Channel,
    ChannelProblem,
    group,
    in_folder,
    numbered,
    one_case,
    text_of,
)
from dinomix.images.formats import case_name
from dinomix.images.masks import masks_in_case
from dinomix.names import channel_name, normalized_name

IMAGES_AND_LABELS = (("images", "labels"), ("imagesTr", "labelsTr"), ("img", "label"))
Kinds = list[str]
"""What the images of one case are told apart by, in one order for all cases."""


def channels_shown(labeled: Sequence[Path]) -> tuple[Channel, ...]:
    """The channels that labeled folders have, by ``dataset.json``, numbered files or a file for each in every case's folder.

    Returns:
        Two or more, else none: each case has one image, or it is not plain to see.
    """
    for of_folder in (_declared, _numbers, _kinds):
        for folder in labeled:
            if folder.is_dir() and len(names := of_folder(folder)) > 1:
                return tuple(Channel(name) for name in _usable(names))
    return ()


def with_numbers(channels: Sequence[Channel], labeled: Sequence[Path]) -> tuple[Channel, ...]:
    """Channels that a user names, with the numbers that ``dataset.json`` gives channels of the same names."""
    for folder in labeled:
        declared = [normalized_name(name) for name in _usable(_declared(folder))] if folder.is_dir() else []
        if channels and all(not channel.pattern and normalized_name(channel.name) in declared for channel in channels):
            return tuple(replace(c, number=declared.index(normalized_name(c.name))) for c in channels)
    return tuple(channels)


def channel_images(folder: Path, found: Findings) -> list[ImageFile]:
    """The cases of a folder of images, each by its first channel; what is missing or unclear is a problem."""
    problems: list[DinomixError] = []
    cases = in_folder(folder, found.channels, problems, _without_labels)
    found.problems += map(_problem, problems)
    return [_image(case) for case in cases]


def grouped(images: Sequence[ImageFile], folder: Path, found: Findings) -> list[ImageFile]:
    """The cases of images that lie side by side in a folder, as ``channel_images`` has them."""
    paths, problems = [image.path for image in images], list[DinomixError]()
    alone = one_case(folder.name, paths, found.channels)
    cases = [alone] if alone is not None else group(paths, found.channels, problems)
    found.problems += map(_problem, problems)
    return [_image(case) for case in cases]


def of_case_folder(folder: Path, images: Sequence[ImageFile], found: Findings) -> ImageFile | None:
    """The case whose images lie in a folder of its own, called like it; None, and a problem, where a channel is missing."""
    paths, problems = [image.path for image in images], list[DinomixError]()
    case = one_case(folder.name, paths, found.channels)
    if case is None:
        cases = group(paths, found.channels, problems, folder.name)
        case = cases[0] if len(cases) == 1 else None
    found.problems += map(_problem, problems)
    return ImageFile(folder.name, case.images[0], None, case.images[1:]) if case is not None else None


def _image(case: CaseFiles) -> ImageFile:
    return ImageFile(case.name, case.images[0], None, case.images[1:])


def _problem(error: DinomixError) -> Problem:
    case, file = (error.case, error.file) if isinstance(error, ChannelProblem) else (None, None)
    return Problem(error.problem, error.remedy, error.code, case=case, file=file)


def _without_labels(paths: list[Path]) -> list[Path]:
    return [image.path for image in told_apart([ImageFile(case_name(path), path) for path in paths])[0]]


def _declared(folder: Path) -> Kinds:
    """nnU-Net's and the Decathlon's tables of channels, by their numbers."""
    try:
        data = read_table(folder / "dataset.json")
        channels = data.get("channel_names", data.get("modality", {}))
        return [str(channels[number]) for number in sorted(channels, key=int)] if isinstance(channels, dict) else []
    except (OSError, ValueError):
        return []  # whoever reads the names of structures says so


def _numbers(folder: Path) -> Kinds:
    """Where files are numbered _0000, _0001, ... and labels are called like them without the number."""
    for images_name, labels_name in IMAGES_AND_LABELS:
        if (folder / images_name).is_dir() and (folder / labels_name).is_dir():
            images = [image.path for image in images_in(folder / images_name)]
            labels = [case_name(path) for path in files_in(folder / labels_name)]
            break
    else:
        of_images, of_labels = told_apart(images_in(folder))
        images, labels = [image.path for image in of_images], [core_of(label.stem) for label in of_labels]
    cases = {name: files for name, files in numbered(images).items() if name in labels}
    if any(case_name(path) in labels for path in images):
        return []  # a label for each number: these are cases
    count = max((max(files) + 1 for files in cases.values()), default=0)
    return [f"channel_{number}" for number in range(count)]


def _kinds(folder: Path) -> Kinds:
    """Where most cases' folders have the same two or more images beside one label: what these are called."""
    found: list[set[str]] = []
    for path in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        files, labels = told_apart([ImageFile(case_name(file), file) for file in files_in(path)])
        series = [image for image in images_in(path) if image.path.is_dir()]
        if labels or masks_in_case(path) is not None:
            found.append({_kind(image.path, path.name) for image in (*files, *series)})
    count = Counter(kind for kinds in found for kind in kinds)
    common = sorted(kind for kind, cases in count.items() if kind and 2 * cases > len(found))
    return common if len(common) > 1 else []


def _kind(path: Path, case: str) -> str:
    text = text_of(path)
    return text.removeprefix(case).strip(" _-.") if text != case else ""


def _usable(names: Kinds) -> list[str]:
    """As channels may be called; of equal ones the later get a number."""
    usable: list[str] = []
    for name in map(channel_name, names):
        taken, again = {normalized_name(other) for other in usable}, 2
        new = name
        while normalized_name(new) in taken:
            new, again = f"{name} {again}", again + 1
        usable.append(new)
    return usable
