"""DICOM segmentations and structure sets, right and broken."""

import warnings
from pathlib import Path

import numpy as np

from dicom_files import GRID, in_patient, write_ct, write_seg, write_structures
from dinomix.images.dicom_drawn import drawn_on
from dinomix.images.reading import read_codes, read_label
from fuzzing.mutations import Rng, broken_bytes, pick
from fuzzing.promise import Act, WrongResult


def drawn(rng: Rng, folder: Path, model: Path) -> Act:
    """A segmentation or a structure set with up to three changes, read onto its image's grid or its own."""
    slices = write_ct(folder / "series", np.zeros(GRID.size[::-1], np.int16))
    array = rng.integers(0, 3, GRID.size[::-1]).astype(np.uint8)
    array[0, 0, :2] = 1, 2
    path = folder / "drawn.dcm"
    kind = pick(rng, ("BINARY", "LABELMAP", "structures"))
    if kind == "structures":
        array = np.zeros_like(array)
        array[2, 1:4, 1:5] = 1
        square = in_patient([(0.5, 0.5, 2), (4.5, 0.5, 2), (4.5, 3.5, 2), (0.5, 3.5, 2)])
        write_structures(path, slices, {"cord": [square]})
    else:
        write_seg(path, slices, array, kind=kind)
    changes = int(rng.integers(4))
    data = path.read_bytes()
    for _ in range(changes):
        data = data[:132] + broken_bytes(rng, data[132:])  # what is no DICOM any more is no matter of these readers
    path.write_bytes(data)
    like = GRID if kind == "structures" or rng.random() < 0.7 else None
    expected = array if not changes and like is not None else None

    def act(out: Path) -> None:
        with warnings.catch_warnings(action="ignore"):  # pydicom's, of values that it finds odd
            label, _names = read_label(path, like=like)
            read_codes(path)
            drawn_on(path)
        if expected is not None and not np.array_equal(label.array, expected):
            raise WrongResult("other labels than were written")

    return act
