"""``dinomix worker``."""

from pathlib import Path

import click


@click.command(
    "worker", epilog='Example: ssh gpu-box dinomix worker, as "Worker command" in the window of DINOMixSegment.'
)
@click.option(
    "--models",
    "folders",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A folder with model folders; several are possible. [default: DINOMIX_MODELS, else ~/.dinomix/models]",
)
def command(folders: tuple[Path, ...]) -> None:
    """Keep models warm and segment what a client sends, as JSON lines and frames over stdin and stdout.

    The Slicer module starts it and speaks with it; docs/worker.md describes the protocol. It ends with its input.
    """
    from dinomix.models.installed import model_folders
    from dinomix.worker.serve import serve

    serve(list(folders) or model_folders())
