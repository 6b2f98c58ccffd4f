"""``dinomix models``: what can be done with model folders."""

import click

from dinomix.commands.models_export import command as export_command


@click.group("models")
def command() -> None:
    """Models on this computer."""


command.add_command(export_command)
