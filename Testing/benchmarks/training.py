"""How long a training step takes, where its time goes and how it grows: dinomix's methods beside SSL4MIS's plain mean teacher.

    python Testing/benchmarks/training.py --data FOLDER [--only PART] [--write docs/performance.md]

FOLDER is that of the test data (by default DINOMIX_TEST_DATA). The parts are "methods"; "patches", "classes" and "processes",
what a step's time grows with; "memory", "check" and "features", what a cohort costs. What a part found is kept in --cache, so
that they can be run one at a time and the report is of all. Contenders have a process each and take turns of some steps, so that
whatever else the machine does hits all alike; the first step of a turn is not counted. Given are medians, with the quartiles over
all counted steps. On a GPU the methods are measured as well; where there is none, that is said.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from statistics import median, quantiles
from typing import Any

HERE = Path(__file__).resolve().parent
ENGINE = HERE.parents[1] / "DINOMixEngine"
sys.path[:0] = [str(ENGINE), str(HERE)]

import torch  # noqa: E402
import training_cohorts  # noqa: E402
import training_growth  # noqa: E402
from inference import machine, write_between_marks  # noqa: E402
from training_turns import Contender, take_turns  # noqa: E402
from training_work import CLASSES, DEFAULT_PATCH, METHODS, make_cohort  # noqa: E402

PARTS = ("methods", "patches", "classes", "processes", "memory", "check", "features")
MEASURES = {"memory": training_cohorts.peaks_of_training, "features": training_cohorts.compare_formats}
PEER, BASE = "SSL4MIS", "mean-teacher"


def main() -> None:
    arguments = read_arguments()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    if not (arguments.cache / "cohort.json").exists():
        make_cohort(arguments.data / "ct_multiorgan", arguments.cache / "cases").write(arguments.cache / "cohort.json")
    file = arguments.cache / "results.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    for part in arguments.only or PARTS:
        if part == "methods":
            results |= {device: measure_methods(device, arguments) for device in devices()}
        elif part in MEASURES:
            results[part] = MEASURES[part](arguments.cache)
        elif part == "check":
            results[part] = training_cohorts.check_twice(arguments.cache, arguments.check_cases)
        else:
            results[part] = training_growth.measure(part, arguments.cache)
        file.write_text(json.dumps(results))
    report = "\n".join(reported(results, arguments.write))
    print(report)
    if arguments.write:
        write_between_marks(arguments.write, "training", report)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("DINOMIX_TEST_DATA"), help="folder of test data")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "dinomix-benchmark" / "training")
    parser.add_argument("--only", action="append", choices=PARTS, help="this part alone; may be repeated")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="of a turn that are counted")
    parser.add_argument("--check-cases", type=int, default=10_000, help="of the cohort that is checked twice")
    parser.add_argument("--write", type=Path, help="put the table into this file, and the plot beside it")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the folder of test data with --data or DINOMIX_TEST_DATA")
    arguments.data = Path(arguments.data)
    return arguments


def devices() -> list[str]:
    if not torch.cuda.is_available():
        print("SKIPPED: there is no GPU, so nothing is measured on one", file=sys.stderr)
        return ["cpu"]
    return ["cpu", "cuda"]


def measure_methods(device: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """All methods and the peer in turns; then a profile of each method's step."""
    contenders = [Contender(n, arguments.cache, device, DEFAULT_PATCH, CLASSES) for n in (PEER, *METHODS)]
    times = take_turns(contenders, arguments.turns, arguments.steps)
    profiles = {}
    for contender in contenders[1:]:
        answer = contender.ask("profile", 2 * arguments.steps)
        count = len(answer["times"])
        parts = {name: seconds / count for name, seconds in answer["parts"].items()}
        parts["waiting for data"] = sum(wait for wait, _ in answer["times"]) / count
        profiles[contender.name] = {"parts": parts, "whole": sum(whole for _, whole in answer["times"]) / count}
    for contender in contenders:
        contender.end()
    name = torch.cuda.get_device_name(0) if device == "cuda" else machine()
    return {"machine": name, "patch": contenders[0].patch, "times": times, "profiles": profiles}


def reported(results: dict[str, Any], write: Path | None) -> list[str]:
    """The report in Markdown, of whatever was measured."""
    lines: list[str] = []
    for device in ("cpu", "cuda"):
        if device in results:
            lines += methods_table(results[device])
    if "cuda" not in results:
        lines.append("There was no GPU: that part is skipped.\n")
    if write and set(training_growth.TITLES) & set(results):
        training_growth.plot(results, write.with_name("performance_training.png"))
        lines.append("![Step time against patch, classes and processes](performance_training.png)\n")
    lines += training_growth.reported(results)
    return lines + training_cohorts.reported(results)


def methods_table(result: dict[str, Any]) -> list[str]:
    patch = " x ".join(map(str, result["patch"]))
    base = [median(whole for _, whole in turn) for turn in result["times"][BASE]]
    turns, steps = len(base), len(result["times"][BASE][0])
    lines = [
        f"On {result['machine']}; the plan's own patch of {patch} voxels, 2 labeled and 2 unlabeled patches, {CLASSES} classes, "
        f"the same network; {turns} turns of {steps} steps each.\n",
        "| a step of | seconds, median (quartiles) | times mean-teacher's, median of turns (range) | waiting for data |",
        "|---|---|---|---|",
    ]
    for name, taken in result["times"].items():
        steps_taken = [whole for turn in taken for _, whole in turn]
        low, middle, high = quantiles(steps_taken, n=4)
        ratios = [median(w for _, w in turn) / other for turn, other in zip(taken, base, strict=True)]
        waiting = sum(wait for turn in taken for wait, _ in turn) / sum(steps_taken)
        shown = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if name != BASE else "1"
        title = "SSL4MIS's plain mean teacher" if name == PEER else name
        lines.append(f"| {title} | {middle:.3f} ({low:.3f} to {high:.3f}) | {shown} | {waiting:.1%} |")
    lines += ["", "Where the step's time goes, in milliseconds:\n"]
    names = list(result["profiles"])
    parts = dict.fromkeys(part for name in names for part in result["profiles"][name]["parts"])
    lines += ["| part | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for part in sorted(parts, key=lambda p: -max(result["profiles"][n]["parts"].get(p, 0) for n in names)):
        cells = [result["profiles"][name]["parts"].get(part) for name in names]
        lines.append(f"| {part} | " + " | ".join("" if c is None else f"{1000 * c:.1f}" for c in cells) + " |")
    rest = [result["profiles"][n]["whole"] - sum(result["profiles"][n]["parts"].values()) for n in names]
    lines.append("| the rest | " + " | ".join(f"{1000 * value:.1f}" for value in rest) + " |")
    whole = [f"{1000 * result['profiles'][name]['whole']:.1f}" for name in names]
    return [*lines, "| all | " + " | ".join(whole) + " |", ""]


if __name__ == "__main__":
    main()
