"""``--set KEY=VALUE``, as several verbs take it."""

import json
from typing import Any

import click


def parse_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    """KEY=VALUE with a JSON value, a list "96,96,64", or a plain word."""
    parsed: dict[str, Any] = {}
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator:
            raise click.UsageError(f"--set {setting} is not KEY=VALUE.")
        try:
            parsed[key] = json.loads(text)
        except ValueError:
            try:
                parsed[key] = json.loads(f"[{text}]") if "," in text else text
            except ValueError:
                parsed[key] = text
    return parsed
