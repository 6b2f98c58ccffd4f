"""The data store of a MONAI Label server: images, and in ``labels/final`` the labels that somebody approved.

``labels/original`` holds what models proposed, and is not read. ``datastore_v2.json`` says what the numbers in a label mean.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from dinomix.cohort.found import Findings, FoundCase, Pool
from dinomix.cohort.layouts.image_files import ImageFile, files_in, images_in
from dinomix.cohort.layouts.pairs import paired
from dinomix.cohort.layouts.several_channels import grouped
from dinomix.cohort.problems import Problem
from dinomix.errors import reason_of
from dinomix.events import Notice
from dinomix.files import read_table
from dinomix.images.formats import case_name, is_segmentation
from dinomix.images.masks import mask_folders_in
from dinomix.labels import LARGEST_ID

DATASTORE = "datastore_v2.json"


def is_store(folder: Path) -> bool:
    return (folder / "labels" / "final").is_dir()


def cases_of_store(folder: Path, pool: Pool, names: dict[int, str], found: Findings) -> list[FoundCase]:
    """The images that have a final label; how many others there are is told."""
    final = folder / "labels" / "final"
    images, labeled = images_of_store(folder, found), _labeled(folder)
    with_label = [image for image in images if image.stem in labeled]
    if passed := len(images) - len(with_label):
        found.notices.append(Notice(
            f"Images of {folder} without a label in labels/final were passed over: {passed}. "
            "Give the folder after --unlabeled too to learn from them.", code="no-label",
        ))  # fmt: skip
    cases = paired(with_label, [*files_in(final), *mask_folders_in(final)], final, pool, names, found)
    data = _datastore(folder, found)
    return [case if _has_names(case) else replace(case, names=_names(data, case.short_name) or names) for case in cases]


def images_without_label(folder: Path, found: Findings) -> list[ImageFile]:
    """The images that nobody has labeled yet; no label is opened."""
    labeled = _labeled(folder)
    return [image for image in images_of_store(folder, found) if image.stem not in labeled]


def images_of_store(folder: Path, found: Findings) -> list[ImageFile]:
    named = _datastore(folder, found).get("images_dir")
    choices = [str(named)] if isinstance(named, str) else []
    inner = next((folder / name for name in [*choices, "images"] if (folder / name).is_dir()), folder)
    images = [image for image in images_in(inner) if not image.path.is_relative_to(folder / "labels")]
    return grouped(images, inner, found) if found.channels else images


def _labeled(folder: Path) -> set[str]:
    """The names of the images that have a final label."""
    final = folder / "labels" / "final"
    return {case_name(path) for path in (*files_in(final), *mask_folders_in(final))}


def _datastore(folder: Path, found: Findings) -> dict[str, Any]:
    path = folder / DATASTORE
    if not path.is_file():
        return {}
    try:
        return read_table(path)
    except (OSError, ValueError) as error:
        problem = Problem(f"{path} cannot be read ({reason_of(error)}).", "Mend it, or take it away.", file=path)
        if str(problem) not in map(str, found.problems):
            found.problems.append(problem)
        return {}


def _has_names(case: FoundCase) -> bool:
    return case.label is not None and (is_segmentation(case.label) or case.label.is_dir())


def _names(data: dict[str, Any], image: str) -> dict[int, str]:
    """Value -> name, as the Slicer plugin of MONAI Label notes it where a label is saved; nothing where it does not."""
    try:
        told = data["objects"][image]["labels"]["final"]["info"]["label_info"]
        names = {int(entry["idx"]): str(entry["name"]) for entry in told}
    except (KeyError, TypeError, ValueError):
        return {}
    return names if all(0 < value <= LARGEST_ID and name.strip() for value, name in names.items()) else {}
