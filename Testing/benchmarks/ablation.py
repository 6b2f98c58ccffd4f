"""Trains every method on the same splits and seeds and tabulates Dice on the test cases: the source of docs/results.md.

    python Testing/benchmarks/ablation.py hippocampus --data DATA/hippocampus --out runs/hippocampus --labeled 2 --steps 400
    python Testing/benchmarks/ablation.py cardiac --data DATA/cardiac --out runs/cardiac --labeled 3 --test 5 --steps 300
    python Testing/benchmarks/ablation.py deformed-ct --data DATA/ct_multiorgan --out runs/ct --labeled 4 --steps 400
    python Testing/benchmarks/ablation.py table --out runs/hippocampus

``--jobs`` trains on that many splits side by side, each on one thread. A run that is there already is not repeated, one that was
interrupted is resumed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

METHODS = {
    "labeled-only": ["--method", "labeled-only"],
    "mean-teacher": ["--method", "mean-teacher"],
    "mean-teacher+pic": ["--method", "mean-teacher", "--pic", "on"],
    "mean-teacher+fkd": ["--method", "mean-teacher", "--fkd", "cached"],
    "dino-mix": ["--method", "dino-mix", "--fkd", "cached"],
    "dino-mix-on-the-fly": ["--method", "dino-mix", "--fkd", "on-the-fly"],
    "labeled-only+pic": ["--method", "labeled-only", "--pic", "on"],
}


def dinomix(*arguments: object) -> None:
    """Run one verb on one thread; its last lines are shown where it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "dinomix", *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-2000:]}")


def link_cases(data: Path, names: list[str], folder: Path, *, with_labels: bool) -> None:
    for part in ("images", "labels") if with_labels else ("images",):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for name in names:
            target = folder / part / name
            if not target.exists():
                target.symlink_to((data / part / name).resolve())


def prepare(data: Path, out: Path, labeled: int, test: int, seed: int) -> Path:
    """Seeded folders of links: ``test`` patients are the same for all seeds, the labeled ones are drawn anew for each.

    A patient is what stands before ``_frame`` in a file's name, so that no patient is on two sides.
    """
    import numpy as np

    cohort = out / f"labeled{labeled}-seed{seed}" / "cohort.json"
    if cohort.exists():
        return cohort
    patients: dict[str, list[str]] = {}
    for path in sorted((data / "images").glob("*.nii.gz")):
        patients.setdefault(path.name.partition("_frame")[0], []).append(path.name)
    names = list(patients)
    order = [names[i] for i in np.random.default_rng(0).permutation(len(names))]
    kept, rest = order[:test], order[test:]
    rest = [rest[i] for i in np.random.default_rng(1000 + seed).permutation(len(rest))]
    base = cohort.parent / "cases"
    shutil.rmtree(base, ignore_errors=True)
    parts = {"test": kept, "labeled": rest[:labeled], "unlabeled": rest[labeled:]}
    for part, chosen in parts.items():
        files = [name for patient in chosen for name in patients[patient]]
        link_cases(data, files, base / part, with_labels=part != "unlabeled")
    folders = ["--labeled", base / "labeled", "--unlabeled", base / "unlabeled", "--test", base / "test"]
    labels = out / "labels.json"
    structures = json.loads((data / "dataset.json").read_text())["labels"] if (data / "dataset.json").exists() else {
        "anterior hippocampus": 1, "posterior hippocampus": 2}  # fmt: skip
    labels.write_text(json.dumps({str(number): name for name, number in structures.items() if number}))
    dinomix("check", *folders, "--labels", labels, "--modality", "MR", "--seed", seed, "--out", cohort)
    return cohort


def prepare_deformed(data: Path, out: Path, labeled: int, test: int, seed: int) -> Path:
    """Strongly deformed cases of the abdomen of one trunk CT with 12 organs; the cases of each seed are drawn anew."""
    cohort = out / f"labeled{labeled}-seed{seed}" / "cohort.json"
    if cohort.exists():
        return cohort
    base = cohort.parent / "cases"
    names = data / "labels_synapse13.json"
    command = [sys.executable, "-m", "dinomix.demo.deformed", "--image", data / "ct.nii.gz", "--labels",
               data / "labels_synapse13.nii.gz", "--names", names, "--out", base, "--labeled", labeled, "--unlabeled", 12,
               "--test", test, "--seed", seed, "--margin", 15]  # fmt: skip
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    dinomix("check", "--labeled", base / "labeled", "--unlabeled", base / "unlabeled", "--test", base / "test",
            "--modality", "CT", "--absent", "all", "--seed", seed, "--out", cohort)  # fmt: skip
    return cohort


def started(cohort: Path, steps: int, seed: int, settings: list[str], cache: Path, teacher: str) -> Path:
    """A labeled-only model that all methods of a split start from; returns the model folder."""
    run = cohort.parent / f"start-{steps}"
    run_one(cohort, "labeled-only", steps, seed, settings, cache, teacher, run=run)
    return run / "model"


def run_one(cohort: Path, method: str, steps: int, seed: int, settings: list[str], cache: Path, teacher: str, *,
            run: Path | None = None, start: Path | None = None) -> Path:  # fmt: skip
    """Train, segment the test cases and evaluate them; returns the metrics file."""
    run = run or cohort.parent / f"{method}-{steps}"
    metrics = run / "metrics.json"
    if metrics.exists():
        return metrics
    if (run / "config.json").exists():
        dinomix("train", "--resume", run)
    else:
        options = [item for setting in settings for item in ("--set", setting)]
        dinomix("train", "--cohort", cohort, "--out", run, *METHODS[method], "--teacher", teacher, "--steps", steps,
                "--seed", seed, "--device", "cpu", "--cache", cache, *(["--start", start] if start else []),
                *options)  # fmt: skip
    test = cohort.parent / "cases" / "test"
    dinomix("segment", "--model", run / "model", *sorted((test / "images").iterdir()), "--out", run / "test",
            "--device", "cpu")  # fmt: skip
    dinomix("evaluate", "--prediction", run / "test", "--reference", test / "labels",
            "--labels", run / "model" / "labels.json", "--out", metrics)  # fmt: skip
    return metrics


def run_split(cohort: Path, seed: int, arguments: argparse.Namespace) -> list[Path]:
    """All methods on one split, one after the other."""
    settings, cache, teacher = arguments.settings, arguments.out / "cache", arguments.teacher
    start = started(cohort, arguments.start_steps, seed, settings, cache, teacher) if arguments.start_steps else None
    return [run_one(cohort, m, arguments.steps, seed, settings, cache, teacher, start=start) for m in arguments.methods]


def table(out: Path) -> None:
    """Mean and standard deviation over seeds of the mean test Dice, and every seed's value, per class."""
    import numpy as np

    rows: dict[tuple[str, str], dict[int, dict]] = {}
    for metrics in sorted(out.glob("*-seed*/*/metrics.json")):
        split, _, seed = metrics.parent.parent.name.rpartition("-seed")
        rows.setdefault((split, metrics.parent.name), {})[int(seed)] = json.loads(metrics.read_text())
    names = next(iter(next(iter(rows.values())).values()))["classes"]
    print("| cases | method-steps | seconds |", " | ".join(names), "| mean | per seed |")
    print("|" + "---|" * (len(names) + 5))
    for (split, method), seeds in rows.items():
        cells = []
        for name in names:
            dice = [seeds[s]["classes"][name]["dice"] for s in sorted(seeds)]
            cells.append(f"{np.mean(dice):.3f} ± {np.std(dice):.3f}")
        means = [seeds[s]["mean"]["dice"] for s in sorted(seeds)]
        each = ", ".join(f"{value:.3f}" for value in means)
        print(f"| {split} | {method} | {seconds(out, split, method, sorted(seeds)):.0f} |", " | ".join(cells),
              f"| {np.mean(means):.3f} ± {np.std(means):.3f} | {each} |")  # fmt: skip


def seconds(out: Path, split: str, method: str, seeds: list[int]) -> float:
    """Mean wall time of the training steps alone."""
    times = []
    for seed in seeds:
        events = (out / f"{split}-seed{seed}" / method / "events.jsonl").read_text().splitlines()
        steps = [json.loads(line)["time"] for line in events if '"stage": "train"' in line]
        times.append(steps[-1] - steps[0])
    return sum(times) / len(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["hippocampus", "cardiac", "deformed-ct", "table"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--labeled", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=list(METHODS)[:5], choices=list(METHODS))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument(
        "--start-steps", type=int, default=0, help="of a labeled-only model that all methods start from"
    )
    parser.add_argument("--test", type=int, default=40)
    parser.add_argument(
        "--teacher", default="random:vit_small_patch16_dinov3", help="of FKD, as dinomix train takes it"
    )
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--set", dest="settings", nargs="*", default=[])
    arguments = parser.parse_args()
    if arguments.what != "table":
        prepare_cohort = prepare_deformed if arguments.what == "deformed-ct" else prepare
        tasks = []
        for seed in arguments.seeds:
            for labeled in arguments.labeled:
                cohort = prepare_cohort(arguments.data, arguments.out, labeled, arguments.test, seed)
                tasks.append((cohort, seed))
        with ThreadPoolExecutor(arguments.jobs) as pool:
            for job in [pool.submit(run_split, *task, arguments) for task in tasks]:
                for metrics in job.result():
                    print(metrics, flush=True)
    table(arguments.out)


if __name__ == "__main__":
    main()
