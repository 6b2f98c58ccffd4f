"""How well a frozen teacher's tokens tell organs apart, without training a student: what FKD could teach at best.

    python Testing/benchmarks/teacher_probe.py --run RUN [--teacher tf_efficientnet_lite0=lite0.safetensors ...]

RUN is a run directory whose cohort has test cases; its plan gives spacing and window. Tokens are averaged over cells as those of
a student's stage, then taken at voxels of each structure and of the background alike. A ridge regression learns from the labeled
cases to tell the structures; the share that it tells rightly in the test cases, averaged over the structures, is printed.
Knowing nothing gives 1 / (structures + 1).
"""

import argparse
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from dinomix.cohort.cohort import Case, Cohort, Role
from dinomix.planning.cache import prepared_case
from dinomix.planning.plan import Plan
from dinomix.training import fkd
from dinomix.training.config import FkdConfig
from dinomix.training.foundation import FoundationModel

PER_CLASS = 200
"""Voxels of each class and case."""
RIDGE = 0.01
"""Added to the features' variances, which are 1."""
ROLES: tuple[Role, Role] = ("labeled", "test")
Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]


def samples(case: Case, cohort: Cohort, plan: Plan, teacher: FoundationModel, cells: list[int],
            stride: int) -> tuple[list[list[Floats]], Numbers]:  # fmt: skip
    """Features (n, width) at voxels of each class, for each of ``cells`` and layer after layer; and the classes (n,)."""
    prepared = prepared_case(case, cohort, plan)
    image = torch.from_numpy(np.array(prepared.image, dtype=np.float32))
    tokens = torch.from_numpy(fkd.features_of_volume(teacher, image, stride).astype(np.float32)).permute(0, 3, 1, 2)
    label, rng = np.asarray(prepared.label), np.random.default_rng(0)
    voxels = {channel: np.argwhere(label == channel) for channel in range(cohort.labels.channels)}
    places = [found[rng.integers(len(found), size=PER_CLASS)] for found in voxels.values() if len(found)]
    classes = np.repeat([channel for channel, found in voxels.items() if len(found)], PER_CLASS)
    at = (np.concatenate(places) + 0.5) / np.array(label.shape) * 2 - 1
    grid = torch.from_numpy(at[:, ::-1].astype(np.float32).copy()).view(1, -1, 1, 1, 3)
    features = []
    for cell in cells:
        x, y, z = (max(1, round(side / cell)) for side in image.shape[1:])
        # In the plane and along the slices as features_on_the_fly does it.
        plane = F.interpolate(tokens, size=(x, y), mode="bilinear", align_corners=False)
        averaged = F.adaptive_avg_pool3d(plane.permute(1, 2, 3, 0), (x, y, z))[None]
        found = F.grid_sample(averaged, grid, mode="bilinear", padding_mode="border", align_corners=False)
        layers = found[0, :, :, 0, 0].T.split(teacher.widths, 1)
        features.append([F.normalize(layer, dim=1).double().numpy() for layer in layers])
    return features, classes


def told_rightly(known: list[tuple[Floats, Numbers]], asked: list[tuple[Floats, Numbers]], channels: int) -> float:
    """Mean over the classes of the share that is told rightly."""
    features, classes = np.concatenate([f for f, _ in known]), np.concatenate([c for _, c in known])
    mean, deviation = features.mean(0), features.std(0) + 1e-6
    one, wanted = (features - mean) / deviation, np.eye(channels)[classes] - 1 / channels
    weights = np.linalg.solve(one.T @ one + RIDGE * len(one) * np.eye(one.shape[1]), one.T @ wanted)
    told = [(((f - mean) / deviation @ weights).argmax(1), c) for f, c in asked]
    guesses, truth = np.concatenate([g for g, _ in told]), np.concatenate([c for _, c in told])
    return float(np.mean([(guesses[truth == c] == c).mean() for c in np.unique(truth)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--teacher", nargs="+", default=["random:tf_efficientnet_lite0"])
    parser.add_argument("--scale", type=float, nargs="+", default=[1.0, 2.0, 4.0, 8.0])
    parser.add_argument("--layer", type=int, nargs="+", default=[-1, -2, -3], help="from the end")
    parser.add_argument("--cell", type=int, nargs="+", default=[8, 4], help="of the student's stage, voxels")
    parser.add_argument("--cases", type=int, default=6, help="at most so many labeled and so many test cases")
    parser.add_argument("--stride", type=int, default=4, help="every k-th slice is seen")
    arguments = parser.parse_args()
    cohort, plan = Cohort.read(arguments.run / "cohort.json"), Plan.read(arguments.run / "plan.json")
    print("| teacher | scale | layer |", " | ".join(f"cells of {cell} voxels" for cell in arguments.cell), "|")
    print("|---|---|---|" + "---|" * len(arguments.cell))
    for name, scale in product(arguments.teacher, arguments.scale):
        teacher = fkd.teacher_of(FkdConfig(teacher=name, layers=tuple(arguments.layer), scale=scale), plan, cohort)
        of_cases = {
            role: [
                samples(case, cohort, plan, teacher, arguments.cell, arguments.stride)
                for case in cohort.with_role(role)[: arguments.cases]
            ]
            for role in ROLES
        }
        for number, layer in enumerate(sorted(arguments.layer)):
            shares = []
            for cell in range(len(arguments.cell)):
                known, asked = ([(f[cell][number], c) for f, c in of_cases[role]] for role in ROLES)
                shares.append(told_rightly(known, asked, cohort.labels.channels))
            told = " | ".join(f"{share:.3f}" for share in shares)
            print(f"| {teacher.name} | {scale:g} | {layer} | {told} |", flush=True)


if __name__ == "__main__":
    main()
