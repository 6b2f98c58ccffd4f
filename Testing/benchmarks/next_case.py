"""What choosing the next case is worth, for docs/results.md: from 2 to 10 labeled cases in rounds, by each strategy.

    python Testing/benchmarks/next_case.py run --data DATA --out runs/next
    python Testing/benchmarks/next_case.py run --data DATA --out runs/next --data-sets cardiac --seeds 0 --strategies random
    python Testing/benchmarks/next_case.py table --out runs/next --picture docs/next_case.png

A seed draws the first two cases, of two patients, and the weights and patches of each run. All strategies share the first round.
Each further round trains on from the model of the one before, as the window's **Train on** does, on all cases that are labeled by
then, for the same steps, labeled-only: so what differs between two strategies is which cases are labeled. It is tested on
patients of whom no case is ever labeled; then the strategy ranks the others by ``dinomix rank``, and its first two are labeled.
``cold`` is a first round on the two cases that represent a half of the pool best.
What is there already is not repeated, what was interrupted goes on. ``--jobs`` data sets and seeds are run side by side, each on
one thread.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ablation import dinomix, link_cases

import dinomix as engine
from dinomix.cohort.case_images import read_case_images
from dinomix.cohort.cohort import Case, Cohort
from dinomix.evaluation.matched_model import MatchedModel, means
from dinomix.evaluation.references import reference_of
from dinomix.training.next_case import STRATEGIES, StrategyName, strategy_of
from dinomix.training.next_case.representing import Imaged, rank_images
from dinomix.training.next_case.strategy import Seen
from dinomix.training.ranking import pool_of, rank_run

ROUNDS = (2, 4, 6, 8, 10)
"""Labeled cases."""
FIRST_STEPS, STEPS = 400, 100
"""Of the first round, and of each further one."""
COLD = "cold"
COLORS = {
    "disagreement": "#2a6fbb", "predicted-dice": "#c8553d", "clasp-pe": "#3a9d5d", "foreground-random": "#b08a2e",
    "random": "#777777",
}  # fmt: skip


@dataclass(frozen=True)
class Data:
    """Patients kept to test, the structures by value, and a plan that one core trains in a minute."""

    test: int
    structures: dict[str, str]
    plan: dict[str, Any]


DATA = {
    "hippocampus": Data(40, {"1": "anterior hippocampus", "2": "posterior hippocampus"}, {
        "plan.network": {"_target_": "monai.networks.nets.BasicUNet", "features": [8, 16, 32, 64, 64, 8]},
        "plan.grid": {"kind": "spacing", "spacing": [1.25, 1.25, 1.25]}, "plan.patch": [32, 48, 32],
        "plan.overlap": [0.25, 0.25, 0.25],
    }),
    "cardiac": Data(4, {"1": "right ventricle", "2": "myocardium", "3": "left ventricle"}, {
        "plan.network.filters": [8, 16, 32, 64, 80], "plan.grid": {"kind": "spacing", "spacing": [3.0, 3.0, 10.0]},
        "plan.patch": [64, 64, 10], "plan.overlap": [0.25, 0.25, 0.25],
    }),
}  # fmt: skip


def pool(name: str, data: Path, out: Path) -> Cohort:
    """All cases with their labels: those to test on, which are the same for all seeds, and the others as labeled ones."""
    file = out / name / "cohort.json"
    if not file.exists():
        patients: dict[str, list[str]] = defaultdict(list)
        for path in sorted((data / name / "images").glob("*.nii.gz")):
            patients[path.name.partition("_frame")[0]].append(path.name)
        order = np.random.default_rng(0).permutation(sorted(patients)).tolist()
        parts = {"test": order[: DATA[name].test], "pool": order[DATA[name].test :]}
        base = file.parent / "cases"
        shutil.rmtree(base, ignore_errors=True)
        for part, chosen in parts.items():
            link_cases(data / name, [n for patient in chosen for n in patients[patient]], base / part, with_labels=True)
        labels = base / "labels.json"
        labels.write_text(json.dumps(DATA[name].structures))
        dinomix("check", "--labeled", base / "pool", "--test", base / "test", "--labels", labels, "--modality", "MR",
                "--patient-pattern", r"^(.+?)(?:_frame\d+)?$", "--absent", "all", "--out", file)  # fmt: skip
    return Cohort.read(file)


def first_two(cohort: Cohort, seed: int) -> list[str]:
    """Drawn of two patients."""
    rng = np.random.default_rng(1000 + seed)
    cases = cohort.with_role("labeled")
    order = [cases[number] for number in rng.permutation(len(cases))]
    second = next(case for case in order if case.patient != order[0].patient)
    return [order[0].name, second.name]


def with_labels_of(cohort: Cohort, names: list[str]) -> Cohort:
    """The cohort of a round: these cases labeled, the others of the pool unlabeled, and nothing of the test cases."""
    cases = [case if case.name in names else without_label(case) for case in cohort.with_role("labeled")]
    return cohort.model_copy(update={"cases": tuple(cases)})


def without_label(case: Case) -> Case:
    kept = {"image_sha256", "intensity", "size", "spacing", "orientation", "name", "image", "patient"}
    return Case.model_validate({"role": "unlabeled", **case.model_dump(include=kept)})


def trained(cohort: Cohort, names: list[str], run: Path, start: Path | None, seed: int, data: Data, out: Path) -> float:
    """Train a round from a run's model, or the first one, and test it; returns the mean Dice, which run/result.json holds with
    each structure's."""
    result = run / "result.json"
    if not result.exists():
        run.mkdir(parents=True, exist_ok=True)
        with_labels_of(cohort, names).write(run / "asked.json")
        if (run / "config.json").exists():
            engine.resume(run)
        else:
            steps, settings = (STEPS, {}) if start is not None else (FIRST_STEPS, data.plan)
            engine.train(run / "asked.json", run, method="labeled-only", fkd="off", steps=steps, seed=seed, device="cpu",
                         start=start and start / "model", cache=out / "cache", settings=settings)  # fmt: skip
        dice = tested(cohort, run)
        known = [value for value in dice.values() if value is not None]
        result.write_text(json.dumps({"labeled": names, "dice": dice, "mean": sum(known) / len(known)}))
    mean: float = json.loads(result.read_text())["mean"]
    return mean


def tested(cohort: Cohort, run: Path) -> dict[str, float | None]:
    model = MatchedModel(engine.load_model(run / "model"), cohort.labels)
    found = []
    for case in cohort.with_role("test"):
        predicted = model.segment(read_case_images(case, cohort), "cpu")
        found.append(model.dice(predicted, reference_of(case, predicted.geometry), case))
    return means(cohort.labels.names, found)


def run_seed(name: str, seed: int, arguments: argparse.Namespace) -> None:
    """All strategies of a seed, one after the other."""
    out, data = arguments.out, DATA[name]
    cohort = pool(name, arguments.data, out)
    base = out / name / f"seed{seed}"
    first = base / "first"
    said(name, seed, "first", 2, trained(cohort, first_two(cohort, seed), first, None, seed, data, out))
    for strategy in (strategy for strategy in arguments.strategies if strategy != COLD):
        run, names = first, first_two(cohort, seed)
        for count in ROUNDS[1:]:
            names = [*names, *ranked(cohort, names, run, strategy, seed)[: count - len(names)]]
            before, run = run, base / f"{strategy}-{count}"
            mean = trained(cohort, names, run, before, seed, data, out)
            said(name, seed, strategy, count, mean)
    if COLD in arguments.strategies:
        said(name, seed, COLD, 2, trained(cohort, represented(cohort, seed), base / COLD, None, seed, data, out))


def ranked(cohort: Cohort, names: list[str], run: Path, strategy: StrategyName, seed: int) -> list[str]:
    """The other cases of the pool, the one to label next at the beginning."""
    if strategy == "random":  # for which nobody has to segment them
        asked = with_labels_of(cohort, names)
        unseen = [Seen(case.name, case.patient, {}, {}, None, {}) for case in asked.with_role("unlabeled")]
        return [place.case.name for place in strategy_of("random").rank(pool_of(asked, unseen), seed)]
    return [case["name"] for case in rank_run(run, by=strategy, seed=seed, device="cpu")["cases"]]


def represented(cohort: Cohort, seed: int) -> list[str]:
    """The two cases that represent best those of a half of the pool's patients, which are drawn anew for each seed."""
    patients = sorted({case.patient for case in cohort.with_role("labeled")})
    half = set(np.random.default_rng(2000 + seed).permutation(patients)[: len(patients) // 2])
    images = [Imaged(case.name, case.images, False) for case in cohort.with_role("labeled") if case.patient in half]
    return [case["name"] for case in rank_images(images, 2)["cases"]]


def said(*words: object) -> None:
    print(*words, flush=True)


def results(out: Path) -> dict[tuple[str, str], dict[int, dict[int, float]]]:
    """Data set and strategy -> seed -> labeled cases -> mean Dice."""
    found: dict[tuple[str, str], dict[int, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for file in sorted(out.glob("*/seed*/*/result.json")):
        seed, what = int(file.parents[1].name.removeprefix("seed")), file.parent.name
        strategy, _, count = what.rpartition("-") if what not in ("first", COLD) else (what, "", "2")
        found[file.parents[2].name, strategy][seed][int(count)] = json.loads(file.read_text())["mean"]
    for (name, strategy), seeds in found.items():
        for seed, curve in seeds.items() if strategy in STRATEGIES else ():
            curve[ROUNDS[0]] = found[name, "first"][seed][ROUNDS[0]]
    return found


def area(curve: dict[int, float]) -> float:
    """Under the curve over the labeled cases, by trapezoids; 1 for a Dice of 1 all along."""
    return float(np.trapezoid([curve[count] for count in ROUNDS], ROUNDS) / (ROUNDS[-1] - ROUNDS[0]))


def table(out: Path) -> None:
    """Each strategy's curve, mean and standard deviation over the seeds that are whole, and the area under it."""
    found = results(out)
    print("| data | strategy |", " | ".join(f"{count} labeled" for count in ROUNDS), "| area | area, seeds |")
    print("|" + "---|" * (len(ROUNDS) + 4))
    for (name, strategy), seeds in sorted(found.items()):
        whole = {seed: curve for seed, curve in sorted(seeds.items()) if set(curve) == set(ROUNDS)}
        if strategy not in STRATEGIES or not whole:
            continue
        areas = {seed: area(curve) for seed, curve in whole.items()}
        cells = [spread([curve[count] for curve in whole.values()]) for count in ROUNDS]
        each = ", ".join(f"{seed}: {value:.3f}" for seed, value in areas.items())
        print(f"| {name} | {strategy} |", " | ".join(cells), f"| {spread(list(areas.values()))} | {each} |")
    print("\n| data | the first two | Dice | Dice, seeds |\n|---|---|---|---|")
    for (name, what), seeds in sorted(found.items()):
        if what in ("first", COLD):
            title = "drawn" if what == "first" else "represent the others"
            each = ", ".join(f"{seed}: {curve[2]:.3f}" for seed, curve in sorted(seeds.items()))
            print(f"| {name} | {title} | {spread([curve[2] for curve in seeds.values()])} | {each} |")


def picture(out: Path, file: Path) -> None:
    """The curves of all strategies, a panel for each data set: means over the whole seeds, and the seeds as points."""
    from dinomix.report.figures import new_figure, plot_axes

    found = results(out)
    figure = new_figure(10, 3.6)
    for number, name in enumerate(DATA, 1):
        axes = plot_axes(figure, 1, len(DATA), number, f"{name}: mean test Dice", "labeled cases")
        for place, strategy in enumerate(STRATEGIES):
            curves = [curve for curve in found[name, strategy].values() if set(curve) == set(ROUNDS)]
            values = np.array([[curve[count] for count in ROUNDS] for curve in curves])
            if not len(values):
                continue
            color, aside = COLORS[strategy], np.array(ROUNDS) + 0.12 * (place - 2)
            axes.plot(ROUNDS, values.mean(0), color=color, linewidth=1.8, label=strategy)
            axes.plot(np.tile(aside, len(values)), values.ravel(), ".", color=color, alpha=0.4, markersize=4)
        axes.set_xticks(ROUNDS)
        axes.legend(fontsize=8, frameon=False, loc="lower right")
    figure.savefig(file, dpi=110)


def spread(values: list[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "what", choices=["run", "seed", "table"], help="seed: one seed of one data set, in this process"
    )
    parser.add_argument("--data", type=Path, help="the folder of data sets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data-sets", nargs="+", default=list(DATA), choices=list(DATA))
    parser.add_argument("--strategies", nargs="*", default=[COLD, *STRATEGIES], choices=[COLD, *STRATEGIES])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--picture", type=Path, help="a file for the curves")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.what == "seed":
        import torch

        torch.set_num_threads(1)
        run_seed(arguments.data_sets[0], arguments.seeds[0], arguments)
        return
    if arguments.what == "run":
        cells = [(name, seed) for seed in arguments.seeds for name in arguments.data_sets]
        common = ["--data", arguments.data, "--out", arguments.out, "--strategies", *arguments.strategies]
        commands = [[sys.executable, __file__, "seed", *common, "--data-sets", n, "--seeds", s] for n, s in cells]
        with ThreadPoolExecutor(arguments.jobs) as jobs:
            for done in jobs.map(lambda command: subprocess.run([str(c) for c in command], check=False), commands):
                if done.returncode:
                    print(f"Failed: {' '.join(map(str, done.args))}", file=sys.stderr)
    table(arguments.out)
    if arguments.picture is not None:
        picture(arguments.out, arguments.picture)


if __name__ == "__main__":
    main()
