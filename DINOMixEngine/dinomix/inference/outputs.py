"""Which image becomes which file, and whether that file is already there from an earlier, interrupted batch."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.files import (
    LONGEST_NAME,
    read_json,
    read_table,
    replace,
    sha256,
    shortened_name,
    write_json,
    written_aside,
)
from dinomix.images.channel_files import CaseFiles
from dinomix.images.dicom_results import UNKNOWN_MAKER, Maker
from dinomix.images.dicom_writing import write_dicom_labels
from dinomix.images.file_sets import image_sha256
from dinomix.images.formats import DICOM_RESULTS, ENDINGS, FORMATS, Format, case_name, ending_of, format_of
from dinomix.images.image_headers import is_image_path
from dinomix.images.volume import Geometry
from dinomix.images.writing import write_labels
from dinomix.inference.sureness import PredictedDice
from dinomix.labels import LabelSet

RECORDS = ".dinomix-batch"
LONGEST_SERIES_NAME = 200
"""Bytes; folders of DICOM are often called after identifiers of 64 characters each."""
MadeBy = dict[str, object]
"""What a result depends on beside its image: the model's fingerprint and the options."""
Write = Callable[[Path], None]
"""Writes a file of the name that it is given."""
BESIDE = "beside_sha256"
"""In a record: the hashes of what was written with the labels, masks of regions and a map, by folder and name."""


@dataclass(frozen=True)
class Output:
    """The images of one case and the file that its labels go to.

    ``record`` is the file that remembers from which image, by which model and with which options ``path`` was made;
    None where ``path`` was named by the user, so that nothing is put beside it. ``dicom`` is its format where ``path`` ends in
    .dcm alone.
    """

    name: str
    images: tuple[Path, ...]
    path: Path
    record: Path | None = None
    dicom: Format | None = None

    @property
    def format(self) -> Format | None:
        """What ``path`` is written as."""
        return self.dicom or format_of(self.path)

    @property
    def image(self) -> Path:
        """The first channel, by which the case is named in messages."""
        return self.images[0]

    @property
    def name_of_file(self) -> str:
        """What ``path`` is called, without its ending; it tells images of the same name apart."""
        return case_name(self.path)

    def images_sha256(self) -> str:
        """Of the one image, or of the hashes of all channels; several volumes of one file are hashed once."""
        if len(set(self.images)) == 1:
            return image_sha256(self.image)
        return hashlib.sha256("".join(map(image_sha256, self.images)).encode()).hexdigest()


def find_images(paths: list[Path]) -> list[Path]:
    """Image files and DICOM folders among ``paths``, and in the folders among them; sorted.

    Of a folder, these are the image files in it, and the DICOM series at any depth, as PATIENT/STUDY/SERIES.

    Raises:
        DinomixError: a path does not exist, is not an image, or is a folder without images.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise DinomixError(f"There is no file or folder {path}.", "Check the path of the image.")
        if is_image_path(path):
            found.append(path)
        elif path.is_dir():
            inside = [image for child in sorted(path.iterdir()) for image in _images_of(child)]
            if not inside:
                raise _no_images(path)
            found.extend(inside)
        else:
            raise DinomixError(f"{path} is not an image.", f"Images end in {', '.join(ENDINGS)}, or are DICOM folders.")
    by_place = {os.path.realpath(path): path for path in found}
    return [by_place[place] for place in sorted(by_place)]


def _no_images(folder: Path) -> DinomixError:
    below = next((path for path in sorted(folder.rglob("*")) if is_image_path(path)), None)
    if below is not None:
        return DinomixError(
            f"The folder {folder} holds images in subfolders alone, such as {below}.",
            "Give those folders; of a folder, the files in it are read, and DICOM at any depth.",
        )
    return DinomixError(f"The folder {folder} holds no images.", f"Images end in {', '.join(ENDINGS)}, or are DICOM.")


def _images_of(child: Path) -> list[Path]:
    """What is an image of a file or folder in a folder of images: itself, or the DICOM series below it."""
    if is_image_path(child):
        return [child]
    if child.name.startswith(".") or not child.is_dir():
        return []
    return [path for path in sorted(child.rglob("*")) if path.is_dir() and is_image_path(path)]


def name_of(image: Path, given: Sequence[Path]) -> str:
    """What the results of an image are called: like its file or folder; a DICOM series by the way to it, PATIENT_STUDY_SERIES.

    So each series keeps its name whatever else lies there, and an interrupted batch finds what it has made.

    Args:
        given: the files and folders that the image was found in.
    """
    for folder in given:
        if image != folder and image.is_dir() and image.is_relative_to(folder):
            return shortened_name("_".join(image.relative_to(folder).parts), LONGEST_SERIES_NAME)
    return base_name(image)


def plan_outputs(cases: Sequence[CaseFiles], out: Path, format: Format | None) -> list[Output]:
    """Give each case its file: ``out`` itself when it names a file, else ``out``/NAME.FORMAT.

    Images of the same name from different folders get their folders' names in front, as many as tell them apart.

    Args:
        format: one of ``FORMATS``; None for that of ``out``'s name, or nii.gz.

    Raises:
        DinomixError: ``out`` is a file's name but there are several images, the format contradicts the name, or an
            image would be overwritten by its own labels.
    """
    if out.is_symlink() and not out.exists():
        raise DinomixError(f"{out} is a link that leads nowhere.", "Remove it, or give another --out.", code="output")
    named = _named_format(out, format) if not out.is_dir() else None
    if named and format not in (None, named):
        raise DinomixError(
            f"{out} does not end in {ending_of(format)}.", "Change --out or --format so that they agree.", code="output"
        )
    if named and len(cases) > 1:
        raise DinomixError(
            f"{out} names one file, but there are {len(cases)} images.", "Give a folder as --out.", code="output"
        )
    if named:
        outputs = [Output(cases[0].name, cases[0].images, out, dicom=named if named in DICOM_RESULTS else None)]
    else:
        if not out.is_dir() and (out.exists() or out.name.lower().endswith(ENDINGS)):
            raise DinomixError(
                f"Labels cannot be written to {out}.",
                f"Name a folder, or a file *{' or *'.join(map(ending_of, FORMATS))}.",
            )
        ending = ending_of(format or FORMATS[0])
        outputs = [
            Output(case.name, case.images, out / (name + ending), record_of(out / (name + ending)))
            for case, name in zip(cases, _names(cases), strict=True)
        ]
    places = {os.path.realpath(image) for case in cases for image in case.images}
    for output in outputs:
        if os.path.realpath(output.path) in places:
            raise DinomixError(
                f"The labels would overwrite the image {output.path}.", "Give another --out.", code="output"
            )
    return outputs


def _named_format(out: Path, format: Format | None) -> Format | None:
    """The format that a file's name says; of one that ends in .dcm alone, ``format``."""
    if format_of(out) or not out.name.lower().endswith(".dcm"):
        return format_of(out)
    if format not in DICOM_RESULTS:
        raise DinomixError(
            f"{out} does not say which kind of DICOM it is to be.",
            f"Add --format {' or --format '.join(DICOM_RESULTS)}.",
            "output",
        )
    return format


def base_name(path: Path) -> str:
    """A file's name without its image ending; a folder's whole name."""
    if path.is_dir():
        return _place(path).name
    return case_name(path)


def is_done(output: Output, made_by: MadeBy, beside: Sequence[Path] = ()) -> bool:
    """Whether ``output.path`` is there, whole, was made from this image with ``made_by``, and with it the files ``beside``.

    Raises:
        DinomixError: there is a file, but another model or image, other options or something else made it.
    """
    has_labels = _has_labels(output, made_by)
    return _has_beside(output, beside) and has_labels


def _has_labels(output: Output, made_by: MadeBy) -> bool:
    if not output.path.exists():
        return False
    other = f"{output.path} is already there and"
    remedy = "Give --overwrite to replace it, or another --out."
    if output.record is None:
        raise DinomixError(f"{output.path} is already there.", remedy, "exists")
    try:
        record = read_json(output.record)
        hashes = record.pop("labels_sha256"), record.pop("image_sha256")
    except FileNotFoundError:
        raise DinomixError(f"{other} was not made by this command.", remedy, "exists") from None
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        raise DinomixError(f"{other} the record of how it was made is damaged.", remedy, "exists") from None
    if hashes[0] != sha256(output.path):
        raise DinomixError(f"{other} was changed since it was made.", remedy, "exists")
    if hashes[1] != output.images_sha256():
        raise DinomixError(f"{other} was made from another image.", remedy, "exists")
    differing = [key.replace("_", " ") for key in made_by if record.get(key) != made_by[key]]
    if differing:
        raise DinomixError(f"{other} was not made with the same {' and '.join(differing)}.", remedy, "exists")
    return True


def _has_beside(output: Output, beside: Sequence[Path]) -> bool:
    known = _hashes_beside(_recorded(output))
    there = [path for path in beside if path.exists()]
    for path in there:
        if known.get(_in_record(path)) != sha256(path):
            raise DinomixError(
                f"{path} is already there and was not made together with {output.path}, or was changed since.",
                "Give --overwrite to replace it, or name another folder.",
                "exists",
            )
    return len(there) == len(beside)


def _recorded(output: Output) -> dict[str, Any]:
    """How a file was made, as far as that can be read."""
    try:
        return read_table(output.record) if output.record is not None else {}
    except (OSError, ValueError):
        return {}


def _hashes_beside(record: dict[str, Any]) -> dict[str, Any]:
    hashes = record.get(BESIDE)
    return hashes if isinstance(hashes, dict) else {}


def _in_record(path: Path) -> str:
    return "/".join(path.absolute().parts[-2:])


def write_output(
    array: NDArray[Any],
    geometry: Geometry,
    labels: LabelSet,
    output: Output,
    made_by: MadeBy,
    maker: Maker = UNKNOWN_MAKER,
    predicted_dice: PredictedDice | None = None,
    beside: Mapping[Path, Write] | None = None,
) -> None:
    """Write labels (k, j, i), and how they were made. Whatever interrupts this is seen by ``is_done`` later.

    Args:
        maker: for files that name what made them.
        predicted_dice: written down too, for ``predicted_dice_of``.
        beside: what else is written of this case, and how.
    """

    def write(path: Path) -> None:
        if output.format in DICOM_RESULTS:
            write_dicom_labels(array, geometry, labels, output.image, maker, output.format, path)
        else:
            write_labels(array, geometry, labels, path)

    with ExitStack() as placed_last:
        hashes = {}
        for path, write_file in (beside or {}).items():
            aside = placed_last.enter_context(written_aside(path))
            write_file(aside)
            hashes[_in_record(path)] = sha256(aside)
        told = {"predicted_dice": predicted_dice} if predicted_dice else {}
        _write_recorded(write, output, made_by, hashes, told)


def _write_recorded(
    write: Write, output: Output, made_by: MadeBy, beside: dict[str, str], told: dict[str, PredictedDice]
) -> None:
    """Write labels and, where there is a place for it, how they were made."""
    if output.record is None:
        write(output.path)
        return
    # Named so that no name is too long, and that what a kill left is written over.
    mark = hashlib.sha256(output.path.name.encode()).hexdigest()[:16]
    aside = output.record.parent / f"partial-{mark}{ending_of(output.format or FORMATS[0])}"
    aside.parent.mkdir(parents=True, exist_ok=True)
    try:
        write(aside)
        # The record first: a record without its file is harmless, a file without its record is a stranger's.
        facts = {**made_by, "labels_sha256": sha256(aside), "image_sha256": output.images_sha256()}
        before = _recorded(output)
        # What an earlier call wrote beside the same labels is theirs still.
        known = _hashes_beside(before) if all(before.get(key) == facts[key] for key in facts) else {}
        write_json(output.record, {**facts, **told, BESIDE: {**known, **beside}})
        replace(aside, output.path)
    finally:
        aside.unlink(missing_ok=True)


def record_of(labels: Path) -> Path:
    """Where a batch remembers how it made a file."""
    return labels.parent / RECORDS / shortened_name(labels.name + ".json")


def predicted_dice_of(labels: Path) -> PredictedDice:
    """What a batch has written down of a file that is still as it made it; else empty."""
    try:
        record = read_json(record_of(labels))
        predicted, known = record.get("predicted_dice"), record.get("labels_sha256")
    except (OSError, ValueError, AttributeError):
        return {}
    if not isinstance(predicted, dict) or known != sha256(labels):
        return {}
    return {str(name): value if isinstance(value, float) else None for name, value in predicted.items()}


def check_name(output: Output) -> None:
    """Raises DinomixError where no file can be called as ``output.path`` is, before anything is computed for it."""
    try:
        length = len(output.path.name.encode())
        str(output.image).encode()
    except UnicodeEncodeError as error:
        raise DinomixError(
            f"The name of {output.image} is not text in UTF-8.", "Rename the file, in plain letters and digits."
        ) from error
    if length > LONGEST_NAME:
        raise DinomixError(
            f"The name of {output.path} has {length} bytes; a file's name can have {LONGEST_NAME}.",
            f"Rename the image {output.image}, or give it a name of its own with --out.",
            "name",
        )
    if output.path.is_symlink() and not output.path.exists():
        raise DinomixError(
            f"{output.path} is a link that leads nowhere.", "Remove it, or give another --out.", "output"
        )


def _place(path: Path) -> Path:
    # Path.resolve raises a RuntimeError for links that lead to each other.
    return Path(os.path.realpath(path))


def _names(cases: Sequence[CaseFiles]) -> list[str]:
    names, images = [case.name for case in cases], [case.images[0] for case in cases]
    for depth in range(1, max(len(_place(image).parts) for image in images)):
        # Without regard to case, since file systems may have none.
        count = Counter(name.casefold() for name in names)
        if max(count.values()) == 1:
            break
        names = [
            "_".join((*_place(image).parts[-1 - depth : -1], case.name)) if count[name.casefold()] > 1 else name
            for image, case, name in zip(images, cases, names, strict=True)
        ]
    _refuse_one_name(names, images)
    return names


def _refuse_one_name(names: Sequence[str], images: Sequence[Path]) -> None:
    first: dict[str, Path] = {}
    for name, image in zip(names, images, strict=True):
        other = first.setdefault(name.casefold(), image)
        if other != image:
            raise DinomixError(
                f"{other} and {image} would be written to the same file.",
                "Move one of them into another folder, and segment that by itself with another --out.",
                "output",
            )
