"""Small generated cases, and the engine's own command line that makes a cohort of them and trains on it."""

import json
import subprocess
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from dinomix_slicer.worker.command import engineCommand

SIZE = 32
NETWORK = {"_target_": "monai.networks.nets.UNet", "channels": [4, 8, 8, 8], "strides": [2, 2, 2]}
QUICK = {
    "plan.network": NETWORK, "plan.patch": [SIZE, SIZE, SIZE], "plan.grid": {"kind": "spacing", "spacing": [1.0, 1.0, 1.0]},
    "optimizer": "adamw", "learning_rate": 0.003, "pseudo_label_start": 0.25, "validate_every": 4, "checkpoint_every": 4,
    "record_every": 2, "wait_until_found": False, "pic.start": 0.0,
}  # fmt: skip
"""Settings of a run that takes a fraction of a second a step."""


def writeCase(folder, name, seed, isLabeled):
    """A large and a small ball in noise."""
    rng = np.random.default_rng(seed)
    k, j, i = np.indices((SIZE, SIZE, SIZE))
    label = np.zeros((SIZE, SIZE, SIZE), np.uint8)
    for value, radius in ((1, 9), (2, 4)):
        center = rng.uniform(radius + 1, SIZE - radius - 1, 3)
        label[(k - center[0]) ** 2 + (j - center[1]) ** 2 + (i - center[2]) ** 2 < radius**2] = value
    image = (np.array([-100.0, 60.0, 200.0])[label] + rng.normal(0, 20, label.shape)).astype(np.int16)
    for kind, array in (("images", image), ("labels", label if isLabeled else None)):
        if array is not None:
            (folder / kind).mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / kind / f"{name}.nii.gz"))


def makeStudy(study, labeled=3, unlabeled=2):
    """A study folder whose cohort.json names the cases; one labeled case is for validation."""
    for number in range(labeled):
        writeCase(study / "labeled", f"labeled{number}", number, True)
    (study / "labeled" / "dataset.json").write_text(json.dumps({"labels": {"1": "liver", "2": "gallbladder"}}))
    for number in range(unlabeled):
        writeCase(study / "unlabeled", f"unlabeled{number}", 100 + number, False)
    done = engine(
        "check", "--labeled", study / "labeled", "--unlabeled", study / "unlabeled" / "images", "--validation", "1",
        "--out", study / "cohort.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return study / "cohort.json"


def engine(*arguments):
    """Run the engine's command line to its end."""
    command = engineCommand()
    words = [*command.arguments, *map(str, arguments)]
    return subprocess.run(words, env=command.environment, capture_output=True, encoding="utf-8", check=False)


def setOptions(settings):
    """``--set`` options of settings."""
    return [word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(value)}")]


def trainOptions(cohort, steps=12, **settings):
    """The options of a run that is soon over, but for ``--out``."""
    return [
        "--cohort", str(cohort), "--fkd", "off", "--device", "cpu", "--steps", str(steps), "--seed", "3",
        *setOptions({**QUICK, **settings}),
    ]  # fmt: skip


def events(run, *kinds):
    """The events of a run, of these kinds or all."""
    path = Path(run) / "events.jsonl"
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    found = [json.loads(line) for line in lines]
    return [event for event in found if not kinds or event["kind"] in kinds]


def numbers(run):
    """What must not differ between two runs of the same seed: losses and validations, without times."""
    return [
        {key: value for key, value in event.items() if key not in ("time", "seconds")}
        for event in events(run, "loss", "validation")
    ]


def isAlive(process):
    """Whether there is a process of that number which has not ended."""
    from dinomix_slicer.processes import isThere

    return isThere(process)
