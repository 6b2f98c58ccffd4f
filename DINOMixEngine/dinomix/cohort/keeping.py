"""The cohort file on the disk: where it may be written, and that no other cohort is written over."""

import json
import os
import tempfile
from collections import Counter
from pathlib import Path

from dinomix.cohort.cohort import Cohort
from dinomix.errors import DinomixError


def check_writable(out: Path, overwrite: bool) -> None:
    """Raises DinomixError where no cohort file could be written, before anything is read."""
    if out.is_symlink() and not out.exists():
        raise DinomixError(f"{out} is a link that leads nowhere.", "Remove it, or choose another name.")
    if out.is_dir():
        raise DinomixError(f"{out} is a folder.", "Give the name of a file, such as cohort.json.")
    if out.exists() and not overwrite and not _is_cohort(out):
        raise DinomixError(
            f"{out} exists and is no cohort file.", "Choose another name, or add --overwrite.", code="exists"
        )
    folder = next(path for path in out.absolute().parents if path.exists())
    try:
        # Found out before everything is read, which may take long.
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise DinomixError(
            f"{out} cannot be written ({error.strerror}).", "Choose a folder with free space that you may write to."
        ) from error


def _is_cohort(path: Path) -> bool:
    try:
        Cohort.read(path)
    except DinomixError:
        return False
    return True


def write_cohort(cohort: Cohort, out: Path, overwrite: bool) -> None:
    """Write a cohort file. The same cohort again changes nothing; another one raises DinomixError unless ``overwrite``."""
    if out.exists() and not overwrite:
        earlier = Cohort.read(out)
        before, now = (_comparable(c, out) for c in (earlier, cohort))
        if before != now:
            roles = [", ".join(f"{n} {role}" for role, n in sorted(Counter(c.role for c in x.cases).items()))
                     for x in (earlier, cohort)]  # fmt: skip
            raise DinomixError(
                f"{out} holds another cohort ({roles[0]}; this one has {roles[1]}).",
                "Choose another name, or add --overwrite to replace it.",
                code="exists",
            )
        if any(case.thickness for case in earlier.cases):
            return
    cohort.write(out)


def _comparable(cohort: Cohort, out: Path) -> str:
    data = cohort.model_dump(mode="json")
    for structure in data["labels"]["structures"]:
        del structure["terminology"]  # which earlier versions did not take from label files
    for case in data["cases"]:
        del case["thickness"]  # which earlier versions did not measure
        for key in ("image", "label"):
            if case[key] is not None:
                case[key] = os.path.realpath(out.parent / case[key])
        case["more_images"] = [os.path.realpath(out.parent / image) for image in case.get("more_images", ())]
    return json.dumps(data, sort_keys=True)
