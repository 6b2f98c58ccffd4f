"""Folders of cases that come as an archive, zip or tar: unpacked once, beside the cohort file."""

from pathlib import Path

from dinomix.archive_entries import contents_sha256, is_archive, without_ending
from dinomix.cohort.found import Findings
from dinomix.cohort.layouts.case_folders import is_case_folder
from dinomix.cohort.problems import Problem
from dinomix.errors import DinomixError
from dinomix.events import Emit, Notice
from dinomix.files import folder_written_aside
from dinomix.images.formats import ENDINGS
from dinomix.images.image_headers import is_image_path
from dinomix.names import file_name
from dinomix.unpacking import Limits, unpack

LIMITS = Limits(largest=2**42, files=2_000_000, ratio=1100, remedy="or write the cohort file to another disk")
"""Label maps that are not compressed themselves shrink as far as deflating can; what is left is held against the disk."""
PARTS_OF_LAYOUTS = frozenset((
    "images", "labels", "imagestr", "labelstr", "imagests", "labelsts", "imagesva", "labelsva", "img", "image", "label", "masks",
    "derivatives",
))  # fmt: skip


def unpacked_folders(folders: list[Path], out: Path | None, found: Findings, emit: Emit) -> list[Path]:
    """The folders, with what is in an archive in its place; one that cannot be unpacked is a problem, and is left out."""
    given = []
    for path in folders:
        if not is_archive(path) or path.is_dir() or not path.exists():
            given.append(path)
            continue
        try:
            given.append(_unpacked(path, out, found, emit))
        except DinomixError as error:
            found.problems.append(Problem(error.problem, error.remedy, error.code, file=path))
        except OSError as error:
            found.problems.append(Problem(
                f"{path} cannot be unpacked ({error.strerror}).", "Free some disk space, or unpack it yourself.", file=path
            ))  # fmt: skip
    return given


def _unpacked(path: Path, out: Path | None, found: Findings, emit: Emit) -> Path:
    if out is None:
        raise DinomixError(
            f"{path} is an archive, and there is no place to unpack it to.", "Give the name of a cohort file."
        )
    # Named after what is in it, so that neither a renamed archive is unpacked twice, nor a new one taken for the old one.
    mark, where = contents_sha256(path)[:12], out.absolute().parent / f"{out.stem}_unpacked"
    place = next(where.glob(f"*-{mark}"), where / f"{file_name(without_ending(path), 'cases')}-{mark}")
    if place.is_dir():
        if not any(str(place) in notice.message for notice in found.notices):
            found.notices.append(Notice(f"{path} is unpacked already, in {place}."))
    else:
        try:
            with folder_written_aside(place) as aside:
                unpack(path, aside, LIMITS, emit)
        except DinomixError:
            _remove_if_empty(where)
            raise
        found.notices.append(Notice(f"{path} was unpacked into {place}, where the cohort's files lie from now on."))
    return _inner(place)


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _inner(folder: Path) -> Path:
    """The folder below those that hold nothing but one other: archives often have one around their contents."""
    while True:
        inside = [path for path in folder.iterdir() if path.is_dir() or path.name.lower().endswith((*ENDINGS, ".json"))]
        inside = [path for path in inside if not path.name.startswith((".", "__MACOSX"))]
        if len(inside) != 1 or not inside[0].is_dir() or _belongs_to_layout(inside[0]):
            return folder
        folder = inside[0]


def _belongs_to_layout(folder: Path) -> bool:
    name = folder.name.lower()
    return name in PARTS_OF_LAYOUTS or name.startswith("sub-") or is_image_path(folder) or is_case_folder(folder)
