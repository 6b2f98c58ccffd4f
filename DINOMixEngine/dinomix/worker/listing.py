"""The models that a worker lists: each as far as it can be told, in a line that any client takes."""

from pathlib import Path
from typing import Any

from dinomix.models.installed import describe_model, find_models, undescribed_model
from dinomix.worker.stream import encode

LARGEST_MODEL = 2**21
"""Bytes of one model in the list; with a picture they have about 100,000."""
LARGEST_LIST = 2**25
"""Bytes of the list, half of a line."""


def listed_models(folders: list[Path]) -> list[dict[str, Any]]:
    """MODEL (docs/worker.md) of each model in ``folders``; one that is damaged or says too much keeps no other from the list."""
    models: dict[str, dict[str, Any]] = {}
    for folder in folders:
        for model in _models_in(folder):
            models.setdefault(model["path"], model)
    return _within_a_line(list(models.values()))


def _models_in(folder: Path) -> list[dict[str, Any]]:
    try:
        return [_described(path) for path in find_models([folder])]
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "its name or its links lead nowhere"
        return [undescribed_model(folder, f"The folder {folder} cannot be looked into: {reason}.")]


def _described(path: Path) -> dict[str, Any]:
    model = describe_model(path)
    try:
        _size(model)
    except ValueError:
        return undescribed_model(path, f"The record of the model folder {path} holds numbers that are none. {_COPY}")
    return model


def _within_a_line(models: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = []
    room = LARGEST_LIST
    for number, model in enumerate(models):
        model = _of_at_most(min(LARGEST_MODEL, room), model)
        room -= _size(model)
        if room < 0:
            problem = f"{len(models) - number} more models are there than can be listed. Name fewer folders."
            return [*kept, undescribed_model(Path(model["path"]), problem)]
        kept.append(model)
    return kept


def _of_at_most(size: int, model: dict[str, Any]) -> dict[str, Any]:
    """The model, without what is long where it is larger than ``size`` bytes."""
    if _size(model) <= size:
        return model
    shortened = {**model, "record": {}, "preview": None, "card": _ONLY_THERE}
    if _size(shortened) <= size:
        return shortened
    problem = f"The model folder {model['path']} says more of itself than can be listed. {_COPY}"
    return undescribed_model(Path(model["path"]), problem)


_ONLY_THERE = "The record and the card of this model are too long to be shown here; they are in its folder."
_COPY = "Copy it again from where it came from."


def _size(model: dict[str, Any]) -> int:
    return len(encode({"type": "models", "models": [model]}))
