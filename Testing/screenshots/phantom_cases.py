"""Folders of phantom abdomens that are only partly drawn, and a model to start from, for the pictures of DINOMix Train."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from dinomix.demo.cohort_folders import phantom_labels
from dinomix.demo.phantom import phantom_case
from dinomix.images.writing import write_image, write_labels
from dinomix.labels import LabelSet
from dinomix.models.network import build_network
from dinomix.models.writing import write_model
from dinomix.planning.planning import override_plan

NETWORK = {"_target_": "monai.networks.nets.BasicUNet", "features": [8, 8, 16, 32, 64, 8]}


def makePhantoms(folder: Path, erase: Callable[[int, np.ndarray, dict[str, int]], None]) -> None:
    """Six labeled phantoms as people have drawn them: ``erase(number, array, ids)`` takes what was not drawn out of a label."""
    labels = phantom_labels()
    ids = {structure.name: structure.id for structure in labels.structures}
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for number in range(1, 7):
        image, drawn = phantom_case((0, number), 5.0)
        erase(number, drawn.array, ids)
        write_image(image, folder / "images" / f"patient{number}.nii.gz")
        shown = LabelSet(structures=tuple(each for each in labels.structures if (drawn.array == each.id).any()))
        write_labels(drawn.array, image.geometry, shown, folder / "labels" / f"patient{number}.seg.nrrd")


def eraseSome(number: int, array: np.ndarray, ids: dict[str, int]) -> None:
    """Of one case only large organs are drawn, of one no gallbladder, of one every fifth slice."""
    if number == 2:
        large = [ids[name] for name in ("spleen", "kidney_right", "kidney_left", "liver", "stomach")]
        array[~np.isin(array, large)] = 0
    elif number == 4:
        array[array == ids["gallbladder"]] = 0
    elif number == 5:
        array[[k for k in range(len(array)) if k % 5]] = 0


def keepPancreas(number: int, array: np.ndarray, ids: dict[str, int]) -> None:
    """Only the pancreas is drawn."""
    array[array != ids["pancreas"]] = 0


def makeModel(folder: Path, without: str) -> None:
    """A model of the phantoms' other organs that looks as a trained one on the page Training: its weights are random."""
    names = [name for name in phantom_labels().names if name != without]
    labels = LabelSet.from_names(dict(enumerate(names, 1)))
    given = {
        "modality": "CT", "grid": {"kind": "spacing", "spacing": [5.0, 5.0, 5.0]}, "window": {"kind": "percentiles"},
        "patch": [32, 32, 32], "network": NETWORK, "fkd_stage": "down_3", "reasons": {},
    }  # fmt: skip
    plan = override_plan(given, {})
    weights = build_network(plan, labels.channels).state_dict()
    write_model(folder, plan=plan, labels=labels, weights=weights, record={"seed": 0}, preview=None)
