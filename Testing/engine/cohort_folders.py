"""Small folders of cases for the tests of ``dinomix check``: every image is different, every label holds 1 and 2."""

import shutil
from pathlib import Path

import numpy as np
import SimpleITK as sitk

SHAPE = (6, 8, 10)


def image_array(seed: int) -> np.ndarray:
    """(k, j, i), like an MR scan."""
    return np.random.default_rng(seed).integers(0, 500, SHAPE).astype(np.int16)


def label_array() -> np.ndarray:
    label = np.zeros(SHAPE, np.uint8)
    label[1:5, 2:6, 2:5] = 1
    label[1:3, 2:4, 5:7] = 2
    return label


def write(path: Path, array: np.ndarray, *, origin: tuple[float, float, float] = (0, 0, 0), vector: bool = False,
          names: dict[int, str] | None = None) -> Path:  # fmt: skip
    """Write (k, j, i) to a file; ``names`` are written as 3D Slicer writes segments."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array, isVector=vector)
    if array.ndim == 3 or vector:
        image.SetOrigin(origin)
        image.SetSpacing((1.0, 1.0, 2.0))
    for number, (value, name) in enumerate((names or {}).items()):
        fields = {"ID": f"Segment_{number + 1}", "Name": name, "LabelValue": str(value), "Layer": "0"}
        for key, text in fields.items():
            image.SetMetaData(f"Segment{number}_{key}", text)
    sitk.WriteImage(image, str(path))
    return path


def labeled_folder(folder: Path, names: list[str], first_seed: int = 0) -> Path:
    """``images/`` and ``labels/``; the first case is written once more as a template for all labels."""
    for number, name in enumerate(names):
        write(folder / "images" / f"{name}.nii.gz", image_array(first_seed + number))
        target = folder / "labels" / f"{name}.nii.gz"
        if number == 0:
            write(target, label_array())
        else:
            shutil.copyfile(folder / "labels" / f"{names[0]}.nii.gz", target)
    return folder
