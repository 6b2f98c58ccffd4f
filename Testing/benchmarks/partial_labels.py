"""What labels that leave something open are worth, for docs/results.md: half of the organs drawn, and a few labeled slices.

    python Testing/benchmarks/partial_labels.py organs deformed-ct --data DATA/ct_multiorgan --out runs/partial --steps 400
    python Testing/benchmarks/partial_labels.py slices hippocampus --data DATA/hippocampus --out runs/slices --steps 400
    python Testing/benchmarks/partial_labels.py slices cardiac --data DATA/cardiac --out runs/cardiac --labeled 3 --test 5
    python Testing/benchmarks/partial_labels.py table --out runs/partial

``organs``: of each two labeled cases one has half of the organs drawn and the other the other half, drawn anew for each two. What
is not drawn is learned as ``background``, as by versions that knew nothing of it, or left ``open``; ``whole`` has all organs.
``slices``: every so manieth slice of the labeled cases, along the files' third axis, has its label; the others are ``open`` or
``background``. All conditions of a seed have the same cases and are tested on whole references. A run that is there already is
not repeated, one that was interrupted is resumed. ``--jobs`` seeds are trained side by side, each on one thread.
"""

import argparse
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from ablation import METHODS, dinomix, prepare, prepare_deformed, run_one

from dinomix.cohort.cohort import Case, Cohort
from dinomix.evaluation.references import reference_of
from dinomix.images.reading import read_geometry
from dinomix.images.volume import Volume
from dinomix.images.writing import write_image

PREPARE = {"hippocampus": prepare, "cardiac": prepare, "deformed-ct": prepare_deformed}
Drawn = Callable[[int, Case, np.ndarray], np.ndarray]
"""From the number of a labeled case, the case and its ids (k, j, i) to those that are drawn, 0 elsewhere."""


def half_of_the_organs(ids: tuple[int, ...], seed: int) -> Drawn:
    def drawn(number: int, case: Case, label: np.ndarray) -> np.ndarray:
        order = np.random.default_rng([seed, number // 2]).permutation(ids)
        half = order[: len(ids) // 2] if number % 2 == 0 else order[len(ids) // 2 :]
        return np.where(np.isin(label, half), label, 0)

    return drawn


def labeled_slices(label: np.ndarray, share: float) -> list[int]:
    """Slices at equal distances along k, one of them through the middle of what the label shows."""
    step = round(1 / share)
    shown = np.flatnonzero(label.any(axis=(1, 2)))
    return list(range(int(shown[len(shown) // 2]) % step, len(label), step))


def some_slices(share: float) -> Drawn:
    def drawn(number: int, case: Case, label: np.ndarray) -> np.ndarray:
        kept = np.zeros_like(label)
        numbers = labeled_slices(label, share)
        kept[numbers] = label[numbers]
        return kept

    return drawn


def derived(cohort_file: Path, name: str, drawn: Drawn, share: float | None, options: list[str]) -> Path:
    """The cohort with other labels of its labeled cases, beside it; ``share`` is that of the labeled slices, if only some are."""
    out = cohort_file.with_name(f"{name}.json")
    if out.exists():
        return out
    cohort, folder = Cohort.read(cohort_file), cohort_file.parent / name
    folder.mkdir(exist_ok=True)
    entries: list[dict[str, Any]] = []
    for case in cohort.cases:
        entry: dict[str, Any] = {
            "name": case.name,
            "image": str(case.image),
            "role": case.role,
            "patient": case.patient,
        }
        if case.label is not None:
            entry["label"] = str(case.label)
        entries.append(entry)
    labeled = [entry for entry in entries if entry["role"] == "labeled"]
    for number, (entry, case) in enumerate(zip(labeled, cohort.with_role("labeled"), strict=True)):
        label = reference_of(case, read_geometry(case.image))
        entry["label"] = str(folder / f"{case.name}.nii.gz")
        array = drawn(number, case, label.array).astype(np.uint8)
        write_image(Volume(array, label.geometry), Path(entry["label"]))
        if share is not None:
            entry["labeled_slices"] = labeled_slices(label.array, share)
    (folder / "cases.json").write_text(json.dumps(entries))
    cohort.labels.write(folder / "labels.json")
    dinomix("check", "--cases", folder / "cases.json", "--labels", folder / "labels.json", "--modality", cohort.modality,
            "--seed", cohort.seed, *options, "--out", out)  # fmt: skip
    return out


def conditions(what: str, cohort_file: Path, shares: list[float], seed: int) -> dict[str, Path]:
    """Name of a condition -> its cohort file."""
    cohort = Cohort.read(cohort_file)
    whole = {"whole": derived(cohort_file, "whole", lambda number, case, label: label, None, ["--absent", "all"])}
    if what == "organs":
        half = half_of_the_organs(cohort.labels.ids, seed)
        ways = {"background": ["--absent", "all", "--labeled-slices", "all"], "open": ["--partial"]}
        return whole | {name: derived(cohort_file, f"half-{name}", half, None, option) for name, option in ways.items()}
    found = whole
    for share in shares:
        least = min(case.size[2] for case in cohort.with_role("labeled"))
        if share >= 1 or least < 1 / share / 2:
            print(f"{share:.0%} of {least} slices is none, or all; left out.")
            continue
        as_background = ["--absent", "all", "--labeled-slices", "all"]
        for name, known, options in (("open", share, ["--absent", "all"]), ("background", None, as_background)):
            of_share = f"{share:.0%}-{name}"
            found[of_share] = derived(cohort_file, f"slices-{of_share}", some_slices(share), known, options)
    return found


def run_seed(seed: int, arguments: argparse.Namespace) -> list[Path]:
    """All conditions and methods of one seed, one after the other."""
    cohort = PREPARE[arguments.data_set](arguments.data, arguments.out, arguments.labeled, arguments.test, seed)
    done = []
    for name, cohort_file in conditions(arguments.what, cohort, arguments.shares, seed).items():
        for method in arguments.methods:
            run = cohort.parent / f"{name}.{method}.{arguments.steps}"
            done.append(run_one(cohort_file, method, arguments.steps, seed, arguments.settings, arguments.out / "cache",
                                "random:vit_small_patch16_dinov3", run=run))  # fmt: skip
            print(done[-1], flush=True)
    return done


def table(out: Path) -> None:
    """Mean and standard deviation over seeds, per structure; and by how much ``open`` is better than ``background``."""
    found: dict[tuple[str, str], dict[int, dict]] = {}
    for metrics in sorted(out.glob("*-seed*/*/metrics.json")):
        condition, method, steps = metrics.parent.name.split(".")
        seed = int(metrics.parent.parent.name.rpartition("-seed")[2])
        found.setdefault((f"{method}, {steps} steps", condition), {})[seed] = json.loads(metrics.read_text())
    if not found:
        print(f"{out} holds no result yet.")
        return
    names = [*next(iter(next(iter(found.values())).values()))["classes"], "mean"]
    print("| method | labels |", " | ".join(names), "| seeds |")
    print("|" + "---|" * (len(names) + 3))
    for (method, condition), seeds in found.items():
        cells = [f"{np.mean(values):.3f} ± {np.std(values):.3f}" for values in columns(seeds, names)]
        print(f"| {method} | {condition} |", " | ".join(cells), f"| {len(seeds)} |")
    for (method, condition), seeds in found.items():
        other = found.get((method, condition.replace("open", "background")), {})
        both = sorted(set(seeds) & set(other))
        if "open" not in condition or not both:
            continue
        pairs = zip(*(columns({s: each[s] for s in both}, names) for each in (seeds, other)), strict=True)
        cells = [f"{np.mean(a) - np.mean(b):+.3f}" for a, b in pairs]
        print(f"| {method} | {condition}, gain |", " | ".join(cells), f"| {len(both)} |")


def columns(seeds: dict[int, dict], names: list[str]) -> list[list[float]]:
    """The Dice of each name, seed by seed; a structure that no test case has counts 0."""
    rows = [{**{n: c["dice"] for n, c in m["classes"].items()}, "mean": m["mean"]["dice"]} for m in seeds.values()]
    return [[row[name] or 0.0 for row in rows] for name in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["organs", "slices", "table"])
    parser.add_argument("data_set", nargs="?", choices=list(PREPARE))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--labeled", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=["labeled-only", "mean-teacher"], choices=list(METHODS))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument(
        "--shares", type=float, nargs="+", default=[0.25, 0.1, 0.05], help="of the slices that are labeled"
    )
    parser.add_argument("--test", type=int, default=40)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--set", dest="settings", nargs="*", default=[])
    arguments = parser.parse_args()
    if arguments.what != "table":
        if arguments.data_set is None or arguments.data is None:
            parser.error("name a data set, and its folder after --data")
        with ThreadPoolExecutor(arguments.jobs) as pool:
            for job in [pool.submit(run_seed, seed, arguments) for seed in arguments.seeds]:
                job.result()
    table(arguments.out)


if __name__ == "__main__":
    main()
