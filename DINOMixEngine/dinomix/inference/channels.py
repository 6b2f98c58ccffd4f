"""What a model of several channels is given: as many images as it takes, in its order, on one grid; else a refusal by name."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from dinomix.cohort.modality import looks_like_hu
from dinomix.errors import DinomixError
from dinomix.events import Emit
from dinomix.images.channel_files import CaseFiles, channels_of, group, in_folder, one_case
from dinomix.images.channels import in_one_file, on_first_grid
from dinomix.images.formats import is_dicom_result
from dinomix.images.image_headers import is_dicom, is_image_path, read_header
from dinomix.images.volume import Volume
from dinomix.inference.outputs import base_name, find_images, name_of
from dinomix.planning.plan import Plan


def as_channels(volumes: Sequence[Volume], plan: Plan, emit: Emit) -> list[Volume]:
    """The images of a case as ``preprocess`` takes them: all on the grid of the first.

    Raises:
        DinomixError: there are more or fewer than the plan's channels, they show different places, or a channel that holds
            Hounsfield units for the network has the image of another one.
    """
    if len(volumes) != len(plan.channels):
        raise other_number(len(volumes), plan)
    if len(volumes) == 1:
        return list(volumes)
    refuse_swapped(volumes, plan)
    aligned, notices = on_first_grid(volumes, plan.channels)
    for notice in notices:
        emit("notice", message=notice)
    return aligned


def refuse_swapped(volumes: Sequence[Volume], plan: Plan) -> None:
    """Raises DinomixError where the intensities show that the images of a case are in each other's place."""
    if len(volumes) == len(plan.channels) > 1 and (swapped := in_wrong_places(volumes, plan)):
        raise DinomixError(
            f"The images seem to be in each other's place: {swapped}.",
            f"Give them in the order {', '.join(plan.channels)}.",
            "channels",
        )


def in_wrong_places(volumes: Sequence[Volume], plan: Plan) -> str:
    """What the intensities show to be swapped, in words; empty where nothing does. Only CT tells itself from the others."""
    is_hu = [looks_like_hu(_percentiles(volume)) for volume in volumes]
    wanted = [modality == "CT" for modality in plan.modalities]
    without = [name for name, hu, ct in zip(plan.channels, is_hu, wanted, strict=True) if ct and not hu]
    instead = [name for name, hu, ct in zip(plan.channels, is_hu, wanted, strict=True) if hu and not ct]
    if not (without and instead):
        return ""
    return f"that for {without[0]} holds no Hounsfield units, and that for {instead[0]} does"


def find_case_images(
    paths: list[Path], names: Sequence[str], given: Mapping[str, str | Path] | None = None
) -> list[CaseFiles]:
    """The images of each case, in the channels' order, among files, DICOM folders and folders of either.

    Args:
        names: of the channels; one for a model that sees one image.
        given: by the channels' names, the one case's images where ``paths`` is empty; else patterns, see ``channel_files``.

    Raises:
        DinomixError: a path does not exist or is no image; a channel of a case is missing, or is not plain to see.
    """
    given = given or {}
    if given and list(names) == [""]:
        raise DinomixError(
            f"The model takes one image of a case, which has no name such as {next(iter(given))}.",
            "Give the image alone, without --channel.",
            "channels",
        )
    if not paths:
        return [_named_case(names, given)]
    channels = channels_of(names, {name: str(pattern) for name, pattern in given.items()})
    if len(names) == 1 and not given:
        images = [path for path in find_images(paths) if not is_dicom_result(path)]
        if not images:
            raise DinomixError(f"There is no image in {paths[0]}, but results.", "Give the series they were made of.")
        return [CaseFiles(name_of(path, paths), (path,)) for path in images]
    problems: list[DinomixError] = []
    cases: list[CaseFiles] = []
    loose: list[Path] = []
    for path in paths:
        if not path.exists():
            raise DinomixError(f"There is no file or folder {path}.", "Check the path of the image.")
        if path.is_dir() and not is_image_path(path):
            inside = in_folder(path, channels, problems)
            if not inside and not problems:
                raise DinomixError(
                    f"The folder {path} holds no images.",
                    f"Each case needs the channels {', '.join(names)}.",
                    "channels",
                )
            cases += inside
        else:
            loose += find_images([path])
    if loose:
        alone = one_case(base_name(loose[0].parent), loose, channels) if len(loose) == len(names) else None
        cases += [alone] if alone is not None else group(loose, channels, problems)
    if problems:
        more = f" So it is with {len(problems) - 1} more." if len(problems) > 1 else ""
        raise DinomixError(problems[0].problem + more, problems[0].remedy, "channels")
    by_images = {case.images: case for case in cases}
    return [by_images[images] for images in sorted(by_images)]


def _named_case(names: Sequence[str], given: Mapping[str, str | Path]) -> CaseFiles:
    channels_of(names, dict.fromkeys(given, ""))  # refuses names that there are not
    if missing := [name for name in names if name not in given]:
        raise DinomixError(
            f"No image was given for the channel {' and '.join(missing)}.",
            f"The model takes {', '.join(names)}; name a file for each with --channel NAME=FILE.",
            "channels",
        )
    files = [find_images([Path(given[name])]) for name in names]
    if several := [name for name, found in zip(names, files, strict=True) if len(found) != 1]:
        raise DinomixError(
            f"{given[several[0]]} holds several images.", f"Give one image for the channel {several[0]}.", "channels"
        )
    images = tuple(found[0] for found in files)
    _refuse_one_image_twice(names, images)
    return CaseFiles(base_name(images[0]), images)


def _refuse_one_image_twice(names: Sequence[str], images: Sequence[Path]) -> None:
    """Of a file of several volumes all channels may be: it is then named for each."""
    first: dict[Path, str] = {}
    for name, image in zip(names, images, strict=True):
        other = first.setdefault(image, name)
        if other != name and not (in_one_file(images) and _has_volumes(image)):
            raise DinomixError(
                f"{image} was given for the channels {other} and {name}.",
                "Name a file for each with --channel NAME=FILE.",
                "channels",
            )


def _has_volumes(image: Path) -> bool:
    if is_dicom(image):
        return False
    header = read_header(image)
    return header.frames * header.values > 1


def other_number(count: int, plan: Plan) -> DinomixError:
    """What is said of a case with more or fewer images than the plan has channels."""
    wanted, given = len(plan.channels), f"{count} {'was' if count == 1 else 'were'} given"
    if wanted == 1:
        return DinomixError(f"The model takes one image of a case; {given}.", "Give one image.", "channels")
    return DinomixError(
        f"The model takes {wanted} images of a case ({', '.join(plan.channels)}); {given}.",
        "Give an image for each channel, in this order.",
        "channels",
    )


def _percentiles(volume: Volume) -> tuple[float, float, float]:
    some = volume.array[tuple(slice(None, None, max(1, size // 64)) for size in volume.array.shape)].astype(np.float32)
    low, middle, high = (float(value) for value in np.percentile(some, [0.5, 50, 99.5]))
    return low, middle, high
