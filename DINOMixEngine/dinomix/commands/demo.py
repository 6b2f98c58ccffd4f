"""``dinomix demo``: from generated scans to an evaluated model and a report."""

from pathlib import Path

import click


@click.command("demo", epilog="Example: dinomix demo --out demo")
@click.option("--out", type=click.Path(path_type=Path), default="dinomix-demo", show_default=True, help="A new folder.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the phantoms and of training."
)
@click.option("--steps", type=click.IntRange(min=1), help="Training steps.  [default: 560, within 4 minutes]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--json", "as_json", is_flag=True, help="Events and the result as JSON lines on stdout.")
def command(out: Path, seed: int, steps: int | None, device: str, as_json: bool) -> None:
    """Generate phantom abdomens, train on them, segment and evaluate held-out ones, and write a report.

    Needs no data and no download. Interrupt it at any moment; the same command goes on where it stopped.
    """
    import json

    from dinomix.memory import keep_freed_memory

    keep_freed_memory()
    from dinomix.models.light_monai import import_monai_for_training

    import_monai_for_training()
    from dinomix.demo.demo import run_demo
    from dinomix.evaluation.evaluate import table
    from dinomix.events import shown_events

    if not as_json:
        click.echo(
            "Phantom abdomens are generated, then a model is trained on them for 4 minutes at most.\n"
            "FKD learns from DINOv3's architecture with random weights here, since the trained ones are not bundled.\n"
        )
    with shown_events(as_json) as emit:
        result = run_demo(out, seed=seed, steps=steps, device=device, emit=emit)
    if as_json:
        paths = {"report": str(result.report), "model": str(result.model), "segmented": str(result.segmented)}
        click.echo(json.dumps({"kind": "result", **paths, "metrics": result.metrics}))
        return
    count = len(result.metrics["cases"])
    click.echo(f"\nHeld-out phantoms ({count} cases, native grid)\n\n{table(result.metrics)}\n")
    click.echo(f"The model is in {result.model}, its segmentations in {result.segmented}.")
    click.echo(f"The report is {result.report}; open it in a browser.")
