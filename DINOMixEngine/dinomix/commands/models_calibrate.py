"""``dinomix models calibrate``: measure on labeled cases how sure a model may be."""

import json
from pathlib import Path
from typing import Literal

import click

from dinomix.commands.chosen_cases import chosen_cases


@click.command(
    "calibrate", epilog="Example: dinomix models calibrate abdominal-organs-3mm --cohort cohort.json --role labeled"
)
@click.argument("model", metavar="NAME|FOLDER")
@chosen_cases("Which of its cases; none that the model has learned from.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--json", "as_json", is_flag=True, help="Events and the result as JSON lines on stdout.")
def command(
    model: str, cohort: Path, role: Literal["validation", "labeled", "test"], device: str, as_json: bool
) -> None:
    """Measure on labeled cases how far a model's probabilities and its expected Dice are off, and correct them from then on.

    It is written into the model folder. The labels that the model gives stay as they are; `segment --uncertainty` and the
    predicted Dice of `segment --statistics` go by it. Models that were trained with validation cases have it already.
    """
    from dinomix.cohort.cohort import Cohort
    from dinomix.evaluation.calibration_cases import calibrate_model
    from dinomix.events import shown_events
    from dinomix.importing.installing import folder_or_installed

    folder = folder_or_installed(model)
    with shown_events(as_json) as emit:
        calibration = calibrate_model(folder, Cohort.read(cohort), role=role, device=device, emit=emit)
    if as_json:
        click.echo(json.dumps({"kind": "calibration", "model": str(folder), **calibration.model_dump(mode="json")}))
        return
    click.echo(f"{calibration.in_words}\nWritten into {folder}.")
