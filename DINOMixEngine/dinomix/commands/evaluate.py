"""``dinomix evaluate``: compare segmentations with references."""

import json
from pathlib import Path
from typing import Any

import click

from dinomix.errors import DinomixError


@click.command(
    "evaluate",
    epilog="Example: dinomix evaluate --prediction segmented --reference data/labels --labels dataset.json "
    "--out metrics.json",
)
@click.option("--prediction", type=click.Path(path_type=Path), required=True, help="Folder of segmentations.")
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of reference labels; each needs a prediction of the same name, whatever the ending.",
)
@click.option(
    "--labels",
    "labels_path",
    type=click.Path(path_type=Path),
    required=True,
    help='The label set: a model\'s labels.json, a dataset.json, or a JSON file such as {"1": "liver"}.',
)
@click.option(
    "--protocol",
    type=click.Choice(["strict", "dhc-compat"]),
    default="strict",
    show_default=True,
    help="strict: native grid, mm, symmetric, empty references excluded and counted. dhc-compat: as the code of DHC, "
    "GenericSSL and SKCDF computes, on a resized grid, only to set numbers beside published ones.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="metrics.json to write; a .csv is written beside it."
)
@click.option(
    "--tolerance",
    multiple=True,
    metavar="[CLASS=]MM",
    help="Tolerance of the normalized surface Dice in mm, for all classes or for one; may be repeated.  [default: 1]",
)
@click.option(
    "--cohort",
    "cohort_path",
    type=click.Path(path_type=Path),
    help="The cohort file of the references: what it says was not drawn, or not labeled, in a case is not counted for it.",
)
@click.option(
    "--order",
    metavar="FILE|NAME,NAME",
    help="Which structures lie over which where a file has several in one voxel: the later wins.",
)
@click.option("--overwrite", is_flag=True, help="Replace what stands at --out.")
@click.option("--json", "as_json", is_flag=True, help="Events and the result as JSON lines on stdout.")
def command(
    prediction: Path,
    reference: Path,
    labels_path: Path,
    protocol: Any,
    out: Path,
    tolerance: tuple[str, ...],
    cohort_path: Path | None,
    order: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Compare segmentations with references: Dice, NSD, HD95 and ASD per case and class."""
    from dinomix.models.light_monai import import_monai_for_training

    import_monai_for_training()
    from dinomix.cohort.cohort import Cohort
    from dinomix.cohort.overlapping import read_order
    from dinomix.evaluation.evaluate import evaluate_folders, table
    from dinomix.evaluation.references import Known
    from dinomix.evaluation.strict import classes_of
    from dinomix.events import shown_events
    from dinomix.labels import LabelSet, unlabeled_values

    _refuse_to_replace(out, overwrite)
    labels = LabelSet.read(labels_path)
    cohort = Cohort.read(cohort_path) if cohort_path is not None else None
    known = Known.of_cohort(cohort, unlabeled_values(labels_path))
    tolerances = _parse_tolerances(tolerance, tuple(classes_of(labels)))
    with shown_events(as_json) as emit:
        metrics = evaluate_folders(
            prediction,
            reference,
            labels,
            protocol=protocol,
            out=out,
            tolerance=tolerances,
            order=read_order(order) if order is not None else (),
            known=known,
            emit=emit,
        )
    if as_json:
        print(json.dumps({"kind": "metrics", "path": str(out), **metrics}))
        return
    count = len(metrics["cases"])
    print(f"Protocol {protocol}, {count} case{'s' * (count != 1)}\n\n{table(metrics)}\n")
    print(f"Written: {out}, {out.with_suffix('.csv')}")


def _refuse_to_replace(out: Path, overwrite: bool) -> None:
    if out.is_dir():
        raise DinomixError(f"{out} is a folder.", "Give the name of a file, such as metrics.json.")
    if out.suffix.lower() == ".csv":
        raise DinomixError(f"{out} is where the table per case would go.", "Give a name that ends in .json.")
    for path in (out, out.with_suffix(".csv")):
        if path.exists() and not overwrite:
            raise DinomixError(f"{path} exists.", "Add --overwrite to replace it, or choose another name.")


def _parse_tolerances(given: tuple[str, ...], names: tuple[str, ...]) -> dict[str, float]:
    """``("2", "liver=3")`` -> 2 mm for all, 3 mm for the liver."""
    from dinomix.evaluation.evaluate import DEFAULT_TOLERANCE

    everywhere, own = DEFAULT_TOLERANCE, {}
    for text in given:
        name, _, number = text.rpartition("=")
        try:
            mm = float(number)
        except ValueError:
            raise DinomixError(
                f"--tolerance {text} is not a number of mm.", "Write --tolerance 1 or liver=2."
            ) from None
        if name:
            own[name] = mm
        else:
            everywhere = mm
    return {**dict.fromkeys(names, everywhere), **own}
