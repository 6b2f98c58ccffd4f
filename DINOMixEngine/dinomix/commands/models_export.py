"""``dinomix models export``: a model as one zip file."""

import json
from pathlib import Path

import click


@click.command("export", epilog="Example: dinomix models export RUN/model --out liver.zip")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE.zip", help="The file to write.")
@click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
@click.option("--json", "as_json", is_flag=True, help="Events and the result as JSON lines on stdout.")
def command(model: Path, out: Path, overwrite: bool, as_json: bool) -> None:
    """Write the model folder MODEL into a zip file, after every file of it was compared with its hash."""
    from dinomix.events import shown_events
    from dinomix.models.archive import export_model

    with shown_events(as_json) as emit:
        export_model(model, out, overwrite=overwrite, emit=emit)
    click.echo(json.dumps({"kind": "result", "archive": str(out)}) if as_json else f"The model is in {out}.")
