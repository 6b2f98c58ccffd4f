"""``dinomix models join``: several models as one ensemble."""

import json
from pathlib import Path

import click


@click.command("join", epilog="Example: dinomix models join fold_0/model fold_1/model fold_2/model --out ensemble")
@click.argument("models", nargs=-1, required=True, metavar="NAME|FOLDER...")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, metavar="FOLDER", help="The model folder to write."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as a JSON line.")
def command(models: tuple[str, ...], out: Path, as_json: bool) -> None:
    """Write a model folder whose result is the mean of what several models say of each window.

    They are models that see the same (grid, intensities, patch) and know the same structures, such as runs of the same plan with
    other seeds or cases. Segmenting takes as many times as long.
    """
    from dinomix.events import shown_events
    from dinomix.importing.installing import folder_or_installed
    from dinomix.models.ensemble import join_models

    with shown_events(as_json) as emit:
        join_models([folder_or_installed(model) for model in models], out, emit)
    click.echo(json.dumps({"kind": "result", "model": str(out)}) if as_json else f"The ensemble is in {out}.")
