"""All labels of a folder put on the grids of their images, into a new folder."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from dinomix.cohort.found import Findings
from dinomix.cohort.layouts.image_files import files_in, images_in, without_channel
from dinomix.cohort.layouts.pairs import paired
from dinomix.errors import DinomixError
from dinomix.events import Emit, Progress, silent
from dinomix.files import written_aside
from dinomix.images.file_sets import files_of
from dinomix.images.mending import AlreadyThere, mend


def mend_folder(
    images: Path, labels: Path, out: Path, axes: str | None = None, order: Sequence[str] = (), *, emit: Emit = silent
) -> dict[Path, tuple[str, ...]]:
    """Mend each label file of a folder; those that lie on their images' grids are copied, so that the new folder is whole.

    Args:
        images: a folder of images, files or DICOM folders, called like the labels.
        out: a folder; files of the same names are replaced.
        axes, order: as of ``mend``, of all labels.
        emit: gets the progress.

    Returns:
        New file -> what was done, full sentences; none for a copy.

    Raises:
        DinomixError: nothing fits together; or, once all the others are done, labels that have no image or cannot be mended.
        OSError: a file cannot be written.
    """
    found, label_files = Findings(), files_in(labels)
    cases = paired(without_channel(images_in(images), label_files), label_files, labels, "labeled", {}, found)
    failed: list[DinomixError] = [problem for problem in found.problems if problem.code != "no-label"]
    if not cases:
        raise DinomixError(
            f"No label of {labels} is called like an image of {images}.",
            "Give the folders images/ and labels/ of a study.",
        )
    done: dict[Path, tuple[str, ...]] = {}
    progress = Progress(emit, "mend", len(cases))
    for number, case in enumerate(cases, 1):
        assert case.label is not None
        target = out / case.label.name
        try:
            done[target] = mend(case.image, case.label, target, axes, order)
        except AlreadyThere:
            _copy(case.label, out)
            done[target] = ()
        except DinomixError as error:
            failed.append(error)
        progress(number)
    if failed:
        more = f" {len(failed) - 1} others could not either." if len(failed) > 1 else ""
        written = f"{len(done)} of {len(label_files)} labels are in {out}."
        raise DinomixError(f"{failed[0].problem}{more} {written}", failed[0].remedy, failed[0].code)
    return done


def _copy(label: Path, out: Path) -> None:
    """Copy a label with the files of its voxels, which keep the names by which its header refers to them."""
    for file in reversed(files_of(label)):  # the header last, so that none stands there without its voxels
        with written_aside(out / file.relative_to(label.parent)) as aside:
            shutil.copyfile(file, aside)
