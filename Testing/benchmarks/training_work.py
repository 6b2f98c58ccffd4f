"""The work of the training benchmark: a cohort of one trunk CT, its plan, and the methods' settings.

The cohort's cases are one scan, each with other intensities by a few HU, so that they are different files of a real size. What is
learned from them is of no use; how long a step takes does not depend on that.
"""

from pathlib import Path
from typing import Any

import SimpleITK as sitk

from dinomix.cohort.checking import check_cohort
from dinomix.cohort.cohort import Cohort
from dinomix.labels import LabelSet
from dinomix.planning.plan import Plan
from dinomix.planning.planning import make_plan
from dinomix.training.config import TrainConfig, make_config

TEACHER = "random:vit_base_patch16_dinov3"
"""The architecture of the paper's teacher with random weights, which cost what trained ones do."""

METHODS: dict[str, dict[str, Any]] = {
    "mean-teacher": {"method": "mean-teacher"},
    "DINO-Mix, FKD cached": {"method": "dino-mix", "fkd": "cached"},
    "DINO-Mix, FKD on the fly": {"method": "dino-mix", "fkd": "on-the-fly"},
    "DINO-Mix, FKD cached, workers=1": {"method": "dino-mix", "fkd": "cached", "workers": 1},
}
DEFAULT_PATCH, CLASSES = 0, 14
"""The plan's own patch, and the structures of the scan with the background."""
STEPS = 10_000
"""Of the runs that the steps are taken from; all are taken from their second half, where pseudo-labels count."""


def make_cohort(data: Path, folder: Path, labeled: int = 4, unlabeled: int = 4) -> Cohort:
    """Write the cases into ``folder`` once and check them."""
    for role, count, first in (("labeled", labeled, 0), ("unlabeled", unlabeled, labeled)):
        (folder / role / "images").mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            _write_case(data, folder / role, f"case{number:02d}", number, with_label=role == "labeled")
    names = (data / "labels_synapse13.json").read_text()
    (folder / "labeled" / "labels.json").write_text(names)
    return check_cohort([folder / "labeled"], [folder / "unlabeled"], [], modality="CT")


def _write_case(data: Path, folder: Path, name: str, number: int, *, with_label: bool) -> None:
    image, label = folder / "images" / f"{name}.nii.gz", folder / "labels" / f"{name}.nii.gz"
    if image.exists():
        return
    if with_label:
        label.parent.mkdir(exist_ok=True)
        sitk.WriteImage(sitk.ReadImage(str(data / "labels_synapse13.nii.gz"), sitk.sitkUInt8), str(label))
    sitk.WriteImage(sitk.ReadImage(str(data / "ct.nii.gz"), sitk.sitkInt16) + number, str(image))


def plan_for(cohort: Cohort, device: str, patch: int | None = None) -> Plan:
    """The plan that dinomix makes for such a device, with another patch where one is given."""
    overrides = {} if patch is None else {"patch": [patch] * 3}
    kind = "cpu" if device == "cpu" else "gpu"
    return make_plan(cohort, device_kind=kind, memory_bytes=64 << 30, batch=4, overrides=overrides)


def with_classes(cohort: Cohort, channels: int) -> Cohort:
    """The same cases in a cohort of ``channels - 1`` structures, most of which no case has."""
    known = cohort.labels.structures
    free = [i for i in range(1, channels + len(known)) if i not in cohort.labels.ids][: channels - 1 - len(known)]
    more = LabelSet.from_names({i: f"structure {i}" for i in free}).structures
    return cohort.model_copy(update={"labels": LabelSet(structures=(*known, *more))})


def config_for(name: str, device: str, **settings: Any) -> TrainConfig:
    settings = {"steps": STEPS, "device": device, "fkd.teacher": TEACHER, **METHODS[name], **settings}
    return make_config(settings.pop("method"), None, settings.pop("fkd", None), wait_until_found=False, **settings)
