"""Cohorts of generated cases, written as `dinomix check` finds them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from dinomix.demo.anatomy import SYNAPSE_ORGANS
from dinomix.demo.phantom import phantom_case
from dinomix.events import Emit, Progress, silent
from dinomix.files import write_json
from dinomix.images.volume import Volume
from dinomix.images.writing import write_image, write_labels
from dinomix.labels import LabelSet


def write_cohort(out: Path, make_case: Callable[[int], tuple[Volume, Volume]], labels: LabelSet, *, labeled: int,
                 unlabeled: int, test: int, emit: Emit = silent) -> None:  # fmt: skip
    """Write ``labeled/{images,labels}``, ``unlabeled/`` and ``test/{images,labels}`` below ``out``.

    The labels of unlabeled cases are written nowhere. Cases that are there already are kept, so that an interrupted
    call can be repeated.

    Args:
        make_case: number -> (image, label map); numbered from 0 through labeled, then test, then unlabeled cases, so
            that more unlabeled cases change nothing of the others.
    """
    progress = Progress(emit, "generate cases", labeled + unlabeled + test)
    parts = [("labeled", "labeled", labeled), ("test", "test", test), ("unlabeled", "unlabeled", unlabeled)]
    number = 0
    for folder, prefix, count in parts:
        for position in range(count):
            name = f"{prefix}_{position + 1:03}.nii.gz"
            images = out / folder / "images" if folder != "unlabeled" else out / folder
            last_written = out / folder / "labels" / name if folder != "unlabeled" else images / name
            if not last_written.exists():
                image, label = make_case(number)
                # Whole HU in two bytes, as scanners store them.
                stored = np.clip(np.round(image.array.astype(np.float32)), -32768, 32767).astype(np.int16)
                write_image(Volume(stored, image.geometry), images / name)
                if folder != "unlabeled":
                    write_labels(label.array, label.geometry, labels, out / folder / "labels" / name)
            number += 1
            progress(number)
    for folder, count in (("labeled", labeled), ("test", test)):
        if count:
            names = {str(structure.id): structure.name for structure in labels.structures}
            description = {"channel_names": {"0": "CT"}, "labels": {"0": "background", **names}}
            write_json(out / folder / "dataset.json", description)


def phantom_labels() -> LabelSet:
    return LabelSet.from_names(SYNAPSE_ORGANS)


def write_phantom_cohort(out: Path, *, labeled: int, unlabeled: int, test: int, seed: int = 0, spacing: float = 4.5,
                         emit: Emit = silent) -> None:  # fmt: skip
    """Write a cohort of phantoms; see ``write_cohort`` for its layout.

    Args:
        seed: case n of a cohort is ``phantom_case((seed, n), spacing)``.
    """

    def make_case(number: int) -> tuple[Volume, Volume]:
        return phantom_case((seed, number), spacing)

    write_cohort(out, make_case, phantom_labels(), labeled=labeled, unlabeled=unlabeled, test=test, emit=emit)
