"""JSON in Slicer's settings and in parameters, which anybody may have changed."""

from __future__ import annotations

from typing import TypeVar

from dinomix.files import parse_json

Kind = TypeVar("Kind", dict, list)


def jsonIn(text: object, kind: type[Kind]) -> Kind:
    """The dict or list that a text holds; an empty one where it holds none."""
    try:
        value = parse_json(str(text or "").encode())
    except ValueError:
        return kind()
    return value if isinstance(value, kind) else kind()
