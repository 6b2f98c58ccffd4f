"""``dinomix models quantize``: give a model folder graphs that compute with 8 bits."""

import json
from pathlib import Path
from typing import Literal

import click

from dinomix.commands.chosen_cases import chosen_cases


@click.command("quantize", epilog="Example: dinomix models quantize RUN/model --cohort cohort.json")
@click.argument("model", metavar="NAME|FOLDER")
@chosen_cases("Which of its cases decide, at least two; none that the model has learned from.")
@click.option("--json", "as_json", is_flag=True, help="Events and the result as JSON lines on stdout.")
def command(model: str, cohort: Path, role: Literal["validation", "labeled", "test"], as_json: bool) -> None:
    """Let a model segment with 8 bits on a processor, which takes about half of the time, where no structure loses by it.

    A graph of 8 bits is written into the model folder, unless a structure would lose more than 0.002 of its mean Dice in the
    cases; one of before is taken away then. `segment` takes it from then on; `--precision float32` does not. It takes NNCF
    (pip install 'dinomix[quantize]').
    """
    from dinomix.cohort.cohort import Cohort
    from dinomix.evaluation.eight_bits import quantize_model
    from dinomix.events import shown_events
    from dinomix.importing.installing import folder_or_installed

    folder = folder_or_installed(model)
    with shown_events(as_json) as emit:
        found = quantize_model(folder, Cohort.read(cohort), role=role, emit=emit)
    click.echo(
        json.dumps({"kind": "eight_bits", "model": str(folder), "replaces": found.replaces, **found.as_data})
        if as_json
        else found.in_words
    )
