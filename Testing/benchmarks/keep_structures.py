"""What a model forgets when it learns one more organ: Dice of the old ones and of the new one on held-out cases.

    python Testing/benchmarks/keep_structures.py --data DATA/ct_multiorgan --out runs/keep --organ pancreas
    python Testing/benchmarks/keep_structures.py --data DATA/ct_multiorgan --out runs/keep --organ pancreas --start RUN

Deformed cases of a trunk CT; in the labeled ones only one organ is drawn. Rows: the start model (``--start``, a run or its model
folder, that does not know the organ; without it, one is trained here in which all others are drawn), a run that keeps its
structures, one that does not, and one for which all organs are drawn. What is there already is not repeated, a run that was
interrupted goes on.
"""

import argparse
import json
import os
from pathlib import Path

from ablation import dinomix, prepare_deformed
from evidence import prepare_trunk

ROWS = {"keep": ("one", ["--keep-structures"]), "do-not-keep": ("one", []), "all-drawn": ("all", [])}
"""Of a run that starts from the model: which cohort it sees, and its options."""


def with_drawn(cohort: Path, names: list[str], part: str, validation: int, seed: int) -> Path:
    """The cohort as if only these organs had been drawn; some labeled cases are kept to validate on."""
    out = cohort.with_name(f"{part}.json")
    if not out.exists():
        cases, everything = cohort.parent / "cases", names_of(cohort)
        renames = cohort.with_name(f"{part}-renames.json")
        renames.write_text(json.dumps({name: None for name in everything if name not in names}))
        dinomix("check", "--labeled", cases / "labeled", "--unlabeled", cases / "unlabeled", "--rename", renames,
                "--modality", "CT", "--absent", "all", "--validation", validation, "--seed", seed, "--out", out)  # fmt: skip
    return out


def names_of(cohort: Path) -> list[str]:
    return [structure["name"] for structure in json.loads(cohort.read_text())["labels"]["structures"]]


def trained(run: Path, *options: object) -> Path:
    """The model folder of a run, which is begun, resumed, or there already."""
    if not (run / "model").is_dir():
        if (run / "config.json").exists():
            dinomix("train", "--resume", run)
        else:
            dinomix("train", "--out", run, *options)
    return run / "model"


def measured(model: Path, cohort: Path, out: Path) -> dict[str, float | None]:
    """Dice of each organ on the test cases; None of one that the model does not know."""
    metrics, test = out / "metrics.json", cohort.parent / "cases" / "test"
    if not metrics.exists():
        labels = cohort.with_name("all-labels.json")
        structures = json.loads(cohort.read_text())["labels"]["structures"]
        labels.write_text(json.dumps({str(structure["id"]): structure["name"] for structure in structures}))
        # With names, since the models number their structures differently.
        dinomix("segment", "--model", model, *sorted((test / "images").iterdir()), "--out", out / "test",
                "--format", "seg.nrrd", "--device", "cpu")  # fmt: skip
        dinomix("evaluate", "--prediction", out / "test", "--reference", test / "labels", "--labels", labels,
                "--out", metrics)  # fmt: skip
    classes = json.loads(metrics.read_text())["classes"]
    known = {structure["name"] for structure in json.loads((model / "labels.json").read_text())["structures"]}
    return {name: values["dice"] if name in known else None for name, values in classes.items()}


def measure_seed(arguments: argparse.Namespace, seed: int) -> dict[str, dict[str, float | None]]:
    """Row -> organ -> Dice, of one draw of cases."""
    prepare = prepare_trunk if arguments.clinical else prepare_deformed
    cohort = prepare(arguments.data, arguments.out, arguments.labeled, arguments.test, seed)
    names, runs = names_of(cohort), cohort.parent / arguments.organ
    if arguments.organ not in names:
        raise SystemExit(f"The scan has no {arguments.organ}; it has {', '.join(names)}.")
    others = [name for name in names if name != arguments.organ]
    common = ["--method", arguments.method, "--fkd", "off", "--seed", seed, "--device", "cpu",
              "--cache", arguments.out / "cache"]  # fmt: skip
    settings = [item for setting in arguments.settings for item in ("--set", setting)]
    if arguments.start is None:
        drawn = with_drawn(cohort, others, f"{arguments.organ}-others", arguments.validation, seed)
        plan = [item for setting in arguments.start_settings for item in ("--set", setting)]
        start = trained(runs / "start", "--cohort", drawn, "--steps", arguments.start_steps, *common, *plan)
    else:
        start = arguments.start / "model" if (arguments.start / "model").is_dir() else arguments.start
    cohorts = {
        "one": with_drawn(cohort, [arguments.organ], f"{arguments.organ}-only", arguments.validation, seed),
        "all": with_drawn(cohort, names, "all-drawn", arguments.validation, seed),
    }
    rows = {"start": measured(start, cohort, runs / "start-measured")}
    for row, (drawn_as, options) in ROWS.items():
        if row in arguments.rows:
            model = trained(runs / row, "--cohort", cohorts[drawn_as], "--start", start, "--steps", arguments.steps, *options,
                            *common, *settings)  # fmt: skip
            rows[row] = measured(model, cohort, runs / row)
    return rows


def show(results: dict[int, dict[str, dict[str, float | None]]], organ: str) -> None:
    """A line for each row and seed: the mean of the old organs, what it lost to the start, and the new one."""
    print("| seed | run | old organs | lost | most lost | new organ |\n|---|---|---|---|---|---|")
    for seed, rows in results.items():
        before = {name: dice for name, dice in rows["start"].items() if name != organ and dice is not None}
        for row, dice in rows.items():
            lost = {name: was - (dice[name] or 0.0) for name, was in before.items()}
            mean = sum(dice[name] or 0.0 for name in before) / len(before)
            worst = max(lost, key=lambda name: lost[name])
            new = "-" if dice[organ] is None else f"{dice[organ]:.3f}"
            total = sum(lost.values()) / len(lost)
            print(f"| {seed} | {row} | {mean:.3f} | {total:+.4f} | {worst} {lost[worst]:+.3f} | {new} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with ct.nii.gz and labels_synapse13.nii.gz")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--organ", default="pancreas", help="the new one, as the data set calls it")
    parser.add_argument("--start", type=Path, help="a run, or a model folder; without it one is trained")
    parser.add_argument("--start-steps", type=int, default=1500)
    parser.add_argument("--start-set", dest="start_settings", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--set", dest="settings", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--method", default="mean-teacher")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--labeled", type=int, default=5)
    parser.add_argument("--validation", type=int, default=1, help="of the labeled ones")
    parser.add_argument("--test", type=int, default=6)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--clinical", action="store_true", help="voxels of 0.8 x 0.8 x 1.5 mm, as evidence.py has them")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    show({seed: measure_seed(arguments, seed) for seed in arguments.seeds}, arguments.organ)


if __name__ == "__main__":
    main()
