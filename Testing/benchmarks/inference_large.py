"""A volume of 1024 x 1024 x 1000 voxels and 100 classes: does it segment within 8 GB of main memory?"""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from inference_work import PLAN

from dinomix.labels import LabelSet
from dinomix.models.network import build_network
from dinomix.models.writing import write_model

SIZE, SPACING, CLASSES, LIMIT = (1024, 1024, 1000), (0.75, 0.75, 0.75), 100, "8G"
NETWORK = {"_target_": "monai.networks.nets.BasicUNet", "features": [4, 4, 8, 8, 8, 4]}


def segment_large(folder: Path) -> None:
    """Make the volume and a tiny network with random weights, segment in a process of its own, print time and peak."""
    image, model, out = folder / "large.nii", folder / "large_model", folder / "large_labels.nii.gz"
    if not image.exists():
        write_volume(image)
    torch.manual_seed(0)
    labels = LabelSet.from_names({number: f"structure {number}" for number in range(1, CLASSES + 1)})
    plan = PLAN.model_copy(update={"network": NETWORK, "fkd_stage": "down_3"})
    write_model(model, plan=plan, labels=labels, weights=build_network(plan, CLASSES + 1).state_dict(), record={})
    command = [sys.executable, "-W", "ignore", "-m", "dinomix", "segment", "--model", str(model), str(image)]
    command += ["--out", str(out), "--overwrite", "--max-memory", LIMIT, "--device", "cpu"]
    # By default a network of random weights, which is unsure of its labels, would be computed twice.
    command += ["--precision", "float32"]
    began = time.perf_counter()
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    _, status, usage = os.wait4(process.pid, 0)
    seconds, peak = time.perf_counter() - began, usage.ru_maxrss * 1024
    if status:
        sys.exit("dinomix segment failed")
    print(
        f"{SIZE[0]} x {SIZE[1]} x {SIZE[2]} voxels with {CLASSES} classes, a tiny network: {seconds:.0f} s, "
        f"peak {peak / 2**30:.2f} GB of {LIMIT} allowed"
    )


def write_volume(path: Path) -> None:
    """A body of smooth noise in air, int16, written slice by slice into a file that ITK has begun."""
    rng = np.random.default_rng(0)
    noise = rng.normal(40, 60, (11, 64, 64)).astype(np.float32)
    j, i = np.ogrid[: SIZE[1], : SIZE[0]]
    body = ((j / SIZE[1] - 0.5) / 0.3) ** 2 + ((i / SIZE[0] - 0.5) / 0.42) ** 2 < 1
    aside = path.with_name("partial-" + path.name)
    header = sitk.GetImageFromArray(np.zeros((2, 2, 2), np.int16))
    header.SetSpacing(SPACING)
    sitk.WriteImage(header, str(aside))
    start = bytearray(aside.read_bytes()[:352])
    start[42:48] = np.array(SIZE, "<i2").tobytes()
    with open(aside, "wb") as file:
        file.write(start)
        for k in range(SIZE[2]):
            at = k / SIZE[2] * (len(noise) - 1)
            low = int(at)
            plane = noise[low] * (1 - at + low) + noise[low + 1] * (at - low)
            plane = np.kron(plane, np.ones((SIZE[1] // 64, SIZE[0] // 64), np.float32))
            file.write(np.where(body, plane, -1000).astype("<i2").tobytes())
    aside.replace(path)
