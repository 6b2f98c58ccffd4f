"""What the defaults are worth: every method, and nnU-Net, on every data set, for the same processor time; for docs/results.md.

    python Testing/benchmarks/evidence.py run --data DATA --out runs/evidence --nnunet PYTHON_WITH_NNUNETV2
    python Testing/benchmarks/evidence.py run --data DATA --out runs/evidence --cohorts cardiac-3 --rows labeled-only --seeds 0
    python Testing/benchmarks/evidence.py table --out runs/evidence

A run takes one core, for ``--minutes`` of its processor time, by ``dinomix train --time``, whose clock counts that time here.
What is there already is not repeated, what was interrupted goes on. ``--jobs`` runs are made side by side. Programs that share
a processor's caches and memory slow each other's processor time, too: with ``--gigaflops`` the clock counts convolutions
(``evidence_clock.py``), and a busy machine gives the same table, later.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ablation import dinomix, prepare, prepare_deformed

FKD = ["--method", "dino-mix", "--fkd", "cached", "--teacher"]
ROWS = {
    "labeled-only": ["--method", "labeled-only"],
    "mean-teacher": ["--method", "mean-teacher"],
    "dino-mix-without-fkd": ["--method", "dino-mix", "--fkd", "off"],
    "dino-mix-trained-teacher": [*FKD, "TEACHER"],
    "dino-mix-untrained-teacher": [*FKD, "random:tf_efficientnet_lite0"],
}
NNUNET, ALL_LABELS = "nnunet", "all-labels"
CLOCK = [
    "-c",
    "import time; time.monotonic = time.perf_counter = time.process_time; from dinomix.cli import main; main()",
]
"""The command line, whose clock stands still while another program has the processor."""
CONVOLUTIONS = Path(__file__).with_name("evidence_clock.py")


@dataclass(frozen=True)
class Data:
    """A data set, how many of its patients are labeled, and how many are kept to test."""

    folder: str
    prepare: Callable[[Path, Path, int, int, int], Path]
    labeled: int
    all: int
    test: int


COHORTS = {
    "hippocampus-2": Data("hippocampus", prepare, 2, 94, 40),
    "hippocampus-4": Data("hippocampus", prepare, 4, 94, 40),
    "hippocampus-24": Data("hippocampus", prepare, 24, 94, 40),
    "cardiac-3": Data("cardiac", prepare, 3, 7, 5),
    "lesions-24": Data("hippocampus", lambda *arguments: prepare_lesions(*arguments), 24, 94, 40),
    "trunk-4": Data("ct_multiorgan", lambda *arguments: prepare_trunk(*arguments), 4, 16, 6),
}
CLINICAL = (0.8, 0.8, 1.5)
"""Spacing, mm, of the trunk CT's cases: that of routine scans, not the 3 mm of the scan that they are made from."""


def prepare_trunk(data: Path, out: Path, labeled: int, test: int, seed: int) -> Path:
    """The deformed cases of ``ablation.py`` at clinical resolution."""
    import SimpleITK as sitk

    cohort = out / f"labeled{labeled}-seed{seed}" / "cohort.json"
    if cohort.exists():
        return cohort
    coarse = prepare_deformed(data, out / "coarse", labeled, test, seed).parent / "cases"
    base = cohort.parent / "cases"
    for path in sorted(coarse.rglob("*.nii.gz")):
        target = base / path.relative_to(coarse)
        if target.exists():
            continue
        image = sitk.ReadImage(str(path))
        size = [round(n * mm / fine) for n, mm, fine in zip(image.GetSize(), image.GetSpacing(), CLINICAL, strict=True)]
        how = sitk.sitkLabelGaussian if path.parent.name == "labels" else sitk.sitkLinear
        target.parent.mkdir(parents=True, exist_ok=True)
        fine = sitk.Resample(image, size, sitk.Transform(), how, image.GetOrigin(), CLINICAL, image.GetDirection())
        sitk.WriteImage(fine, str(target.with_name(f"partial-{target.name}")), True)
        target.with_name(f"partial-{target.name}").replace(target)
    for part in ("labeled", "test"):
        shutil.copy(coarse / part / "dataset.json", base / part / "dataset.json")
    dinomix("check", "--labeled", base / "labeled", "--unlabeled", base / "unlabeled", "--test", base / "test",
            "--modality", "CT", "--absent", "all", "--seed", seed, "--out", cohort)  # fmt: skip
    return cohort


LESION = 3.0
"""Radius, mm, of the lesions that are drawn into the hippocampus; ``FAINT`` standard deviations of it brighter than without."""
FAINT = 0.3


def prepare_lesions(data: Path, out: Path, labeled: int, test: int, seed: int) -> Path:
    """The hippocampus with a lesion that few labels cannot teach well: a faint ball somewhere in two cases of three."""
    import numpy as np
    import SimpleITK as sitk

    drawn = out / "drawn"
    for number, path in enumerate(sorted((data / "images").glob("*.nii.gz"))):
        if (drawn / "labels" / path.name).exists():
            continue
        image, label = (sitk.ReadImage(str(data / part / path.name)) for part in ("images", "labels"))
        voxels, structures = sitk.GetArrayFromImage(image).astype(np.float32), sitk.GetArrayFromImage(label)
        rng = np.random.default_rng(number)
        centre = rng.choice(np.argwhere(structures > 0))
        away = (np.indices(structures.shape).T - centre).T * np.reshape(image.GetSpacing()[::-1], (3, 1, 1, 1))
        ball = ((away**2).sum(0) <= LESION**2) & bool(rng.random() < 2 / 3)
        voxels[ball] += FAINT * voxels[structures > 0].std()
        structures[ball] = 3
        for part, array in (("images", voxels), ("labels", structures)):
            made = sitk.GetImageFromArray(array)
            made.CopyInformation(image)
            (drawn / part).mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(made, str(drawn / part / path.name), True)
    (drawn / "dataset.json").write_text(
        json.dumps({"labels": {"anterior hippocampus": 1, "posterior hippocampus": 2, "lesion": 3}})
    )
    return prepare(drawn, out, labeled, test, seed)


def train(cohort: Path, run: Path, options: list[str], arguments: argparse.Namespace, cache: Path) -> None:
    """Train for the minutes asked for, as ``--time`` has it."""
    by = CLOCK if arguments.gigaflops is None else [str(CONVOLUTIONS), f"{arguments.gigaflops:g}"]
    if (run / "config.json").exists():
        trained(by, "train", "--resume", run)
        return
    common = ["train", "--cohort", cohort, "--device", "cpu", "--cache", cache, *options]
    first = run.with_name(f"first-{run.name}")
    shutil.rmtree(first, ignore_errors=True)
    trained(by, *common, "--out", first, "--steps", "1")  # prepares the cases for all runs
    shutil.rmtree(first)
    trained(by, *common, "--out", run, "--time", f"{arguments.minutes:g}m")


def trained(by: list[str], *arguments: object) -> None:
    """Run one verb on one thread, by a clock of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *by, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-2000:]}")


def make(name: str, row: str, seed: int, arguments: argparse.Namespace) -> Path:
    """One cell of the table; returns its metrics file."""
    data, out = COHORTS[name], arguments.out / name
    labeled = data.all if row == ALL_LABELS else data.labeled
    cohort = data.prepare(arguments.data / data.folder, out, labeled, data.test, seed)
    counted = "" if arguments.gigaflops is None else f"-{arguments.gigaflops:g}gigaflops"
    run = cohort.parent / f"{row}-{arguments.minutes:g}min{counted}"
    metrics = run / "metrics.json"
    if metrics.exists():
        return metrics
    test = cohort.parent / "cases" / "test"
    if row == NNUNET:
        script = Path(__file__).with_name("evidence_nnunet.py")
        command = [arguments.nnunet, script, "--cohort", cohort, "--out", run, "--minutes", arguments.minutes]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run([str(c) for c in command], env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"nnU-Net: {done.stderr[-2000:]}")
        labels = cohort.parent / "labels.json"
        structures = json.loads(cohort.read_text())["labels"]["structures"]
        labels.write_text(json.dumps({str(structure["id"]): structure["name"] for structure in structures}))
    else:
        options = [arguments.teacher if o == "TEACHER" else o for o in ROWS.get(row, ROWS["labeled-only"])]
        more = [item for setting in arguments.settings for item in ("--set", setting)]
        train(cohort, run, [*options, *more, "--seed", str(seed)], arguments, out / "cache")
        dinomix("segment", "--model", run / "model", *sorted((test / "images").iterdir()), "--out", run / "test",
                "--device", "cpu")  # fmt: skip
        labels = run / "model" / "labels.json"
    dinomix(
        "evaluate", "--prediction", run / "test", "--reference", test / "labels", "--labels", labels, "--out", metrics
    )
    return metrics


def table(out: Path) -> None:
    """Mean and standard deviation over seeds, and each seed's Dice; the smallest structure by its share of the test labels."""
    import numpy as np

    rows: dict[tuple[str, str], dict[int, dict]] = {}
    for metrics in sorted(out.glob("*/labeled*-seed*/*/metrics.json")):
        seed = int(metrics.parents[1].name.rpartition("-seed")[2])
        rows.setdefault((metrics.parents[2].name, metrics.parent.name), {})[seed] = json.loads(metrics.read_text())
    print("| data | method | Dice | NSD | worst structure | Dice, seeds |\n|---|---|---|---|---|---|")
    for (data, method), seeds in rows.items():
        each = [seeds[s] for s in sorted(seeds)]
        dice, nsd = [m["mean"]["dice"] for m in each], [m["mean"]["nsd"] for m in each]
        by_name = {name: float(np.mean([m["classes"][name]["dice"] for m in each])) for name in each[0]["classes"]}
        worst = min(by_name, key=lambda name: by_name[name])
        told = ", ".join(f"{s}: {seeds[s]['mean']['dice']:.3f}" for s in sorted(seeds))
        print(f"| {data} | {method} | {np.mean(dice):.3f} ± {np.std(dice):.3f} | {np.mean(nsd):.3f} ± {np.std(nsd):.3f} "
              f"| {worst} {by_name[worst]:.3f} | {told} |")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--data", type=Path, help="the folder of data sets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cohorts", nargs="+", default=list(COHORTS), choices=list(COHORTS))
    parser.add_argument("--rows", nargs="+", choices=[*ROWS, NNUNET, ALL_LABELS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--minutes", type=float, default=12, help="of processor time for each run, or as --gigaflops has it"
    )
    parser.add_argument("--gigaflops", type=float, help="billions of operations of convolutions that count as a second")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--teacher", help="of the row with a trained one, as `dinomix train --teacher` takes it")
    parser.add_argument("--nnunet", help="a Python with nnunetv2")
    parser.add_argument("--set", dest="settings", nargs="*", default=[])
    arguments = parser.parse_args()
    if arguments.what == "run":
        wanted = arguments.rows or [*ROWS, NNUNET, ALL_LABELS]
        lacking = {"dino-mix-trained-teacher": not arguments.teacher,
                   NNUNET: not arguments.nnunet or arguments.gigaflops is not None}  # fmt: skip
        left_out = [row for row in wanted if lacking.get(row)]
        if left_out:
            print(
                f"Left out for want of --teacher or --nnunet, or as nnU-Net has no other clock: {', '.join(left_out)}",
                file=sys.stderr,
            )
        cells = [
            (c, row, seed)
            for seed in arguments.seeds
            for c in arguments.cohorts
            for row in wanted
            if row not in left_out
        ]
        with ThreadPoolExecutor(arguments.jobs) as pool:
            for metrics in pool.map(lambda cell: make(*cell, arguments), cells):
                print(metrics, flush=True)
    table(arguments.out)


if __name__ == "__main__":
    main()
