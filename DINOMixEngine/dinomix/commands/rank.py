"""``dinomix rank``: which case to label next."""

import json
from pathlib import Path

import click


@click.command("rank", epilog="Example: dinomix rank run1")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--json", "as_json", is_flag=True, help="Events and the result as JSON lines on stdout.")
def command(run: Path, device: str, as_json: bool) -> None:
    """Rank a run's unlabeled cases by how much EMA teacher and student disagree.

    Writes RUN/ranking: ranking.json and the teacher's segmentation of each case, to be corrected. What an interrupted
    call finished is kept.
    """
    from dinomix.events import shown_events
    from dinomix.training.ranking import rank_run

    with shown_events(as_json) as emit:
        result = rank_run(run, device=device, emit=emit)
    if as_json:
        click.echo(json.dumps({"kind": "ranking", "path": str(run / "ranking" / "ranking.json"), **result}))
        return
    for case in result["cases"]:
        worst = sorted(((v, name) for name, v in case["classes"].items() if v is not None), reverse=True)[:3]
        click.echo(f"{case['disagreement']:.3f}  {case['name']}  " + ", ".join(f"{name} {v:.2f}" for v, name in worst))
