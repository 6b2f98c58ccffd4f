"""A cohort of small generated volumes, for tests that train: a large and a small ball in noise."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from dinomix.cohort.cohort import Case, Cohort, Role
from dinomix.files import sha256
from dinomix.labels import LabelSet
from dinomix.planning.plan import Plan
from dinomix.planning.planning import override_plan
from dinomix.training.config import TrainConfig, make_config

LABELS = LabelSet.from_names({1: "liver", 2: "gallbladder"})
SIZE = 32


def write_volume(folder: Path, name: str, seed: int, *, with_label: bool) -> tuple[Path, Path | None, dict[int, int]]:
    rng = np.random.default_rng(seed)
    k, j, i = np.indices((SIZE, SIZE, SIZE))
    label = np.zeros((SIZE, SIZE, SIZE), np.uint8)
    for value, radius in ((1, 9), (2, 4)):
        center = rng.uniform(radius + 1, SIZE - radius - 1, 3)
        label[(k - center[0]) ** 2 + (j - center[1]) ** 2 + (i - center[2]) ** 2 < radius**2] = value
    image = (np.array([-100.0, 60.0, 200.0])[label] + rng.normal(0, 20, label.shape)).astype(np.float32)
    paths: list[Path | None] = []
    for part, array in (("image", image), ("label", label if with_label else None)):
        path = folder / f"{name}-{part}.nii.gz" if array is not None else None
        if path is not None:
            sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
        paths.append(path)
    assert paths[0] is not None
    return paths[0], paths[1], {value: int((label == value).sum()) for value in (1, 2)}


def make_cohort(folder: Path, labeled: int = 2, unlabeled: int = 3, validation: int = 1) -> Cohort:
    """Cases written to ``folder``; unlabeled cases get no label file."""
    folder.mkdir(parents=True, exist_ok=True)
    roles: list[Role] = ["labeled"] * labeled + ["unlabeled"] * unlabeled + ["validation"] * validation
    cases = []
    for number, role in enumerate(roles):
        name = f"case{number}"
        image, label, voxels = write_volume(folder, name, number, with_label=role != "unlabeled")
        cases.append(
            Case(
                name=name,
                role=role,
                image=image,
                label=label,
                patient=name,
                image_sha256=sha256(image),
                label_sha256=sha256(label) if label else None,
                size=(SIZE,) * 3,
                spacing=(1.0, 1.0, 1.0),
                orientation="LPS",
                intensity=(-140.0, -100.0, 220.0),
                foreground_intensity=(20.0, 60.0, 220.0) if label else None,
                voxels=voxels if label else {},
                label_values={1: 1, 2: 2} if label else {},
            )
        )
    return Cohort(modality="CT", labels=LABELS, seed=0, cases=tuple(cases))


def make_plan() -> Plan:
    """A very small network on patches of the whole volume."""
    return override_plan(
        {
            "modality": "CT",
            "grid": {"kind": "spacing", "spacing": [1.0, 1.0, 1.0]},
            "window": {"kind": "range", "low": -150, "high": 250},
            "patch": [SIZE, SIZE, SIZE],
            "network": {"_target_": "monai.networks.nets.UNet", "channels": [4, 8, 8, 8], "strides": [2, 2, 2]},
            "fkd_stage": 8,
            "reasons": {},
        },
        {},
    )


def basic_unet_plan() -> Plan:
    """The same with a network of named stages that refuses patches of 16 voxels, and takes three times as long for a step."""
    network = {"_target_": "monai.networks.nets.BasicUNet", "features": [4, 4, 8, 8, 8, 4]}
    return make_plan().model_copy(update={"network": network, "fkd_stage": "down_3"})


def small_config(method: str = "dino-mix", **settings: object) -> TrainConfig:
    """A CPU configuration with the smallest real teacher architecture that a test can afford."""
    defaults = {
        "steps": 12, "device": "cpu", "optimizer": "adamw", "learning_rate": 0.003, "pseudo_label_start": 0.25,
        "validate_every": 6, "checkpoint_every": 3, "record_every": 2, "fkd.teacher": "random:vit_small_patch16_dinov3",
        "fkd.slice_stride": 8,
        # In a dozen steps no teacher finds everything.
        "wait_until_found": False, "pic.start": 0.0,
    }  # fmt: skip
    fkd = settings.pop("fkd", None)
    pic = settings.pop("pic", None)
    return make_config(method, pic, fkd, **{**defaults, **settings})  # type: ignore[arg-type]


def with_only(cohort: Cohort, name: str, new_name: str = "") -> Cohort:
    """The cohort as if only one structure had been drawn, its other voxels being background."""
    drawn = next(s for s in LABELS.structures if s.name == name)
    labels = LabelSet.from_names({drawn.id: new_name or name})
    cases = []
    for case in cohort.cases:
        update = {"voxels": {drawn.id: case.voxels.get(drawn.id, 0)}} if case.label else {}
        if case.label:
            update["label_values"] = {value: value if value == drawn.id else 0 for value in (1, 2)}
        cases.append(case.model_copy(update=update))
    return cohort.model_copy(update={"labels": labels, "cases": tuple(cases)})
