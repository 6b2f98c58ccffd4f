"""``dinomix models graph``: give a model folder the graphs that OpenVINO computes with."""

import json

import click


@click.command("graph", epilog="Example: dinomix models graph RUN/model")
@click.argument("model", metavar="NAME|FOLDER")
@click.option("--json", "as_json", is_flag=True, help="Events and the result as JSON lines on stdout.")
def command(model: str, as_json: bool) -> None:
    """Write the graph of each network into a model folder: what OpenVINO needs to compute it where there is no PyTorch.

    A graph takes some hundred kilobytes, since its weights stay where they are. It is kept only where its logits are those of
    PyTorch. Models that are trained, joined or imported where OpenVINO is installed have it already. The model's labels stay
    as they are; its fingerprint does not.
    """
    from dinomix.events import shown_events
    from dinomix.importing.installing import folder_or_installed
    from dinomix.models.writing import add_graphs

    folder = folder_or_installed(model)
    with shown_events(as_json) as emit:
        size = add_graphs(folder, emit)
    click.echo(
        json.dumps({"kind": "result", "model": str(folder), "bytes": size})
        if as_json
        else f"The graph takes {size / 1e6:.1f} MB in {folder}."
    )
