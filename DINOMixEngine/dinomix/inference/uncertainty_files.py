"""Where the maps of uncertainty of a call go: a file for one image, else a folder with one for each case."""

import os
from collections.abc import Sequence
from pathlib import Path

from dinomix.errors import DinomixError
from dinomix.images.formats import format_of
from dinomix.inference.outputs import Output

ENDINGS = (".nii.gz", ".nrrd")
REMEDY = "Give another --uncertainty: a new file *.nii.gz or *.nrrd for one image, else a folder of its own."


def uncertainty_files(outputs: Sequence[Output], given: Path | None, overwrite: bool) -> dict[Path, Path]:
    """The map of each result, by the path of its labels; in a folder it is called as these, and lies in NRRD where they do.

    Raises:
        DinomixError: it names one file for several images, or would take the place of an image, of labels or of another file.
    """
    if given is None:
        return {}
    is_file = given.name.lower().endswith(ENDINGS) and not given.is_dir()
    if is_file and len(outputs) > 1:
        raise DinomixError(f"{given} names one file, but there are {len(outputs)} images.", REMEDY, "output")
    if given.exists() and not given.is_dir() and not is_file:
        raise DinomixError(f"{given} is no folder, and no *.nii.gz or *.nrrd.", REMEDY, "output")
    maps = {output.path: given if is_file else given / _name(output) for output in outputs}
    taken = {os.path.realpath(path) for output in outputs for path in (*output.images, output.path)}
    for path in maps.values():
        if os.path.realpath(path) in taken:
            raise DinomixError(f"The map of uncertainty would overwrite {path}.", REMEDY, "output")
    for output in outputs:
        # Beside labels that are there, it is theirs: whether these are this call's is found out case by case.
        if maps[output.path].exists() and not overwrite and not output.path.exists():
            raise DinomixError(f"{maps[output.path]} exists.", f"{REMEDY} Or give --overwrite.", "exists")
    return maps


def _name(output: Output) -> str:
    is_nrrd = (format_of(output.path) or "").endswith("nrrd")
    return output.name_of_file + (".nrrd" if is_nrrd else ".nii.gz")
