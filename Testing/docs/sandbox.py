"""A folder in which the commands of the documents find what they name: small generated scans, a model, a teacher's file."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from dinomix.images.volume import Geometry, Volume
from dinomix.images.writing import write_image, write_labels
from dinomix.labels import LabelSet
from dinomix.models.network import build_network
from dinomix.models.writing import write_model
from dinomix.planning.planning import override_plan

SIZE = 32
GRID = Geometry(size=(SIZE,) * 3, spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0), direction=np.eye(3))
ABDOMEN = LabelSet.from_names({1: "liver", 2: "gallbladder"})
TUMOR = LabelSet.from_names({1: "tumor"})
HIPPOCAMPUS = LabelSet.from_names({1: "Anterior", 2: "Posterior"})
NETWORK = {"_target_": "monai.networks.nets.UNet", "channels": [4, 8, 8, 8], "strides": [2, 2, 2]}


def fill(folder: Path, home: Path) -> None:
    """Lay out all that the documents' commands read, below ``folder`` (where they run) and ``home``."""
    for number in range(4):
        write_case(folder / "cases" / "labeled", f"case{number}", number, ABDOMEN, ".seg.nrrd")
    for number in range(20, 23):
        write_case(folder / "tumors" / "labeled", f"tumor{number}", number, TUMOR, ".seg.nrrd", balls(number) // 2)
    for number in range(4, 7):
        write_image(image_of(balls(number), number), new(folder / "cases" / "unlabeled" / f"case{number}.nii.gz"))
    for name in ("new_scan.nii.gz", "ct.nii.gz"):
        write_image(image_of(balls(10), 10), folder / name)
    for number in (11, 12):
        write_image(image_of(balls(number), number), new(folder / "scans" / f"scan{number}.nii.gz"))
        for reference, prediction in (("references", "predictions"), ("data/labels", "segmented")):
            write_labels(balls(number), GRID, ABDOMEN, new(folder / reference / f"scan{number}.nii.gz"))
            moved = np.roll(balls(number), 1, axis=2)
            write_labels(moved, GRID, ABDOMEN, new(folder / prediction / f"scan{number}.nii.gz"))
    for number in range(2):
        write_masks(folder / "masks" / f"case{number}", number)
    write_image(image_of(balls(13), 13), new(folder / "beside" / "images" / "case1.nii.gz"))
    shifted = replace(GRID, origin=(2.0, 0.0, 0.0), size=(SIZE - 2, SIZE, SIZE))
    write_image(Volume(np.ascontiguousarray(balls(13)[:, :, 2:]), shifted), new(folder / "beside/labels/case1.nii.gz"))
    write_dataset(folder / "dataset.json", "CT", ABDOMEN)
    write_hippocampus(folder / "Task04_Hippocampus")
    write_started_model(home / ".dinomix" / "models" / "abdomen")
    write_teacher(new(home / "models" / "dinov3_vitb16.safetensors"))
    write_synapse(home / "data" / "Abdomen" / "RawData" / "Training")
    (folder / "api").mkdir()


def new(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def balls(seed: int) -> np.ndarray:
    """A large and a small ball (k, j, i), structures 1 and 2, uint8."""
    rng = np.random.default_rng(seed)
    index = np.indices((SIZE,) * 3)
    labels = np.zeros((SIZE,) * 3, np.uint8)
    for value, radius in ((1, 9), (2, 5)):
        center = rng.uniform(radius + 1, SIZE - radius - 1, (3, 1, 1, 1))
        labels[((index - center) ** 2).sum(0) < radius**2] = value
    return labels


def image_of(labels: np.ndarray, seed: int) -> Volume:
    noise = np.random.default_rng(seed).normal(0, 20, labels.shape)
    return Volume((np.array([-100.0, 60.0, 200.0])[labels] + noise).astype(np.int16), GRID)


def write_case(
    folder: Path, name: str, seed: int, labels: LabelSet, ending: str, drawn: np.ndarray | None = None
) -> None:
    """An image and its label map, in ``images/`` and ``labels/`` of ``folder``; ``drawn`` where not all of its balls are."""
    write_image(image_of(balls(seed), seed), new(folder / "images" / f"{name}.nii.gz"))
    write_labels(balls(seed) if drawn is None else drawn, GRID, labels, new(folder / "labels" / f"{name}{ending}"))


def write_masks(folder: Path, seed: int) -> None:
    """A case as TotalSegmentator's data set has it, with a tumor in the liver."""
    write_image(image_of(balls(seed), seed), new(folder / "ct.nii.gz"))
    liver = (balls(seed) == 1).astype(np.uint8)
    for name, mask in (("liver", liver), ("tumor", liver * (np.indices(liver.shape).sum(0) % 5 == 0))):
        write_image(Volume(mask.astype(np.uint8), GRID), new(folder / "segmentations" / f"{name}.nii.gz"))


def write_dataset(path: Path, modality: str, labels: LabelSet) -> None:
    names = {str(structure.id): structure.name for structure in labels.structures}
    path.write_text(json.dumps({"modality": {"0": modality}, "labels": {"0": "background", **names}}), encoding="utf-8")


def write_hippocampus(folder: Path) -> None:
    """Cases laid out as the Medical Segmentation Decathlon lays out Task04."""
    for number in range(8):
        name = f"hippocampus_{number:03d}.nii.gz"
        write_image(image_of(balls(20 + number), number), new(folder / "imagesTr" / name))
        write_labels(balls(20 + number), GRID, HIPPOCAMPUS, new(folder / "labelsTr" / name))
    write_dataset(folder / "dataset.json", "MRI", HIPPOCAMPUS)


def write_synapse(folder: Path) -> None:
    """Cases laid out as the Synapse data set is distributed."""
    for number in [*range(1, 11), *range(21, 41)]:
        write_image(image_of(balls(number), number), new(folder / "img" / f"img{number:04d}.nii.gz"))
        write_labels(balls(number), GRID, ABDOMEN, new(folder / "label" / f"label{number:04d}.nii.gz"))


def write_started_model(path: Path) -> None:
    """A model of MR, with random weights and other structures than the hippocampus has."""
    plan = override_plan(
        {
            "modality": "MR", "grid": {"kind": "spacing", "spacing": [1.0, 1.0, 1.0]}, "window": {"kind": "percentiles"},
            "patch": [SIZE] * 3, "network": NETWORK, "fkd_stage": 8, "reasons": {},
        },
        {},
    )  # fmt: skip
    weights = build_network(plan, ABDOMEN.channels).state_dict()
    write_model(new(path), plan=plan, labels=ABDOMEN, weights=weights, record={"seed": 0}, preview=None)


def write_teacher(path: Path) -> None:
    """A file of the smallest DINOv3's weights, random ones, as timm would give it."""
    import timm
    from safetensors.torch import save_file

    save_file(timm.create_model("vit_small_patch16_dinov3", num_classes=0).state_dict(), path)
