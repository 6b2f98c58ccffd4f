"""``dinomix compare``: before and after a run."""

import json
from pathlib import Path

import click


@click.command("compare", epilog="Example: dinomix compare run1")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--json", "as_json", is_flag=True, help="Events and the result as JSON lines on stdout.")
def command(run: Path, device: str, as_json: bool) -> None:
    """Compare a run's model with the one it started from, on the validation cases.

    Writes RUN/comparison: comparison.json and a picture of each case. The run must have a model.
    """
    from dinomix.events import shown_events
    from dinomix.models.light_monai import import_monai_for_training

    import_monai_for_training()
    from dinomix.report.comparing import compare_run

    with shown_events(as_json) as emit:
        result = compare_run(run, device=device, emit=emit)
    if as_json:
        click.echo(json.dumps({"kind": "comparison", "path": str(run / "comparison" / "comparison.json"), **result}))
        return
    width = max(len(name) for name in result["classes"])
    for name, dice in result["classes"].items():
        shown = " -> ".join("-" if value is None else f"{value:.3f}" for value in (dice["before"], dice["after"]))
        click.echo(f"{name.ljust(width)}  {shown}")
