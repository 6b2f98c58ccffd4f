"""Options that name labeled cases of a cohort on which a model is measured."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def chosen_cases(which: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds the options ``--cohort`` and ``--role``; ``which`` says what the cases are for."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        role: Any = click.option(
            "--role",
            type=click.Choice(["validation", "labeled", "test"]),
            default="validation",
            show_default=True,
            help=which,
        )
        cohort: Any = click.option(
            "--cohort",
            required=True,
            type=click.Path(path_type=Path),
            help="The cohort.json of `dinomix check` with the cases.",
        )
        return cohort(role(command))

    return add
