"""What the window shows of a model: picture, organs, licence, training record."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any, NamedTuple

from slicer.i18n import tr as _


class Organ(NamedTuple):
    """A structure that a model finds: its name and its color, red, green, blue of 0 to 255."""

    name: str
    color: tuple[int, int, int]


@dataclass(frozen=True)
class ModelInfo:
    """What to show of a model.

    Attributes:
        picture: a PNG file's bytes; None where the model has none.
        rows: (label, text), such as the licence and how it was trained, for a table.
        problem: a sentence when the model cannot be used, else None.
        card: its model card, in Markdown.
    """

    path: str
    title: str
    picture: bytes | None
    organs: tuple[Organ, ...]
    rows: tuple[tuple[str, str], ...]
    problem: str | None
    card: str


def modelInfo(model: dict[str, Any]) -> ModelInfo:
    """``model`` is what the worker says of a model."""
    return ModelInfo(
        path=model["path"],
        title=model["title"],
        picture=_picture(model.get("preview")),
        organs=tuple(Organ(s["name"], tuple(s["color"])) for s in model.get("structures", ())),
        rows=tuple((label, text) for label, text in _rows(model) if text),
        problem=model.get("problem"),
        card=model.get("card") or "",
    )


def facts(model: dict[str, Any]) -> str:
    """The most important of a model in one line: images, license, cases and validation Dice."""
    record = model.get("record") or {}
    parts = [_images(model), model.get("license") or _("license not stated")]
    if "labeled_cases" in record:
        labeled, unlabeled = record["labeled_cases"], record.get("unlabeled_cases", 0)
        if unlabeled:
            cases = _("{labeled} labeled and {unlabeled} unlabeled cases")
        else:
            cases = _("one labeled case") if labeled == 1 else _("{labeled} labeled cases")
        parts.append(cases.format(labeled=labeled, unlabeled=unlabeled))
    validation = record.get("validation")
    if isinstance(validation, dict) and isinstance(validation.get("mean"), float | int):
        parts.append(_("validation Dice {dice:.2f}").format(dice=validation["mean"]))
    return " \N{MIDDLE DOT} ".join(part for part in parts if part)


def _picture(preview: str | None) -> bytes | None:
    try:
        return base64.b64decode(preview, validate=True) if preview else None
    except binascii.Error:
        return None


def _images(model: dict[str, Any]) -> str:
    """The kind of images; of several for each case, their names too: "t1 and t2 (MR)"."""
    channels = model.get("channels") or []
    if len(channels) < 2:
        return str(model.get("modality") or "")
    kinds = ", ".join(dict.fromkeys(channel["modality"] for channel in channels))
    names = [channel["name"] for channel in channels]
    return _("{names} and {last} ({kinds})").format(names=", ".join(names[:-1]), last=names[-1], kinds=kinds)


def _rows(model: dict[str, Any]) -> list[tuple[str, str]]:
    record = model.get("record") or {}
    size = model.get("bytes")
    return [
        (_("Images"), _images(model)),
        (_("License"), model.get("license") or _("not stated")),
        (_("Author"), model.get("author") or ""),
        (_("Trained on"), model.get("data_source") or ""),
        (_("Method"), str(record.get("method") or "")),
        (_("Ensemble of"), _members(record)),
        (_("Cases"), _cases(record)),
        (_("Training steps"), str(record.get("steps") or "")),
        (_("Validation"), _validation(record)),
        (_("To cite"), str(record.get("citation") or "")),
        (_("Differences"), " ".join(map(str, record.get("notes") or []))),
        (_("Size"), _("{megabytes:.1f} MB").format(megabytes=size / 1e6) if size else ""),
        (_("Folder"), model["path"]),
    ]


def _members(record: dict[str, Any]) -> str:
    """The titles of the models that an ensemble was made of."""
    members = record.get("ensemble_of")
    return ", ".join(str(each["title"]) for each in members) if isinstance(members, list) else ""


def _cases(record: dict[str, Any]) -> str:
    if "labeled_cases" not in record:
        return ""
    return _("{labeled} labeled, {unlabeled} unlabeled").format(
        labeled=record["labeled_cases"], unlabeled=record.get("unlabeled_cases", 0)
    )


def _validation(record: dict[str, Any]) -> str:
    """The mean Dice, and each organ's, the worst first."""
    validation = record.get("validation")
    if not isinstance(validation, dict) or not isinstance(validation.get("mean"), float | int):
        return ""
    dice = {name: value for name, value in (validation.get("dice") or {}).items() if value is not None}
    each = ", ".join(f"{name} {value:.2f}" for name, value in sorted(dice.items(), key=lambda pair: pair[1]))
    mean = _("Dice {mean:.3f}").format(mean=validation["mean"])
    return f"{mean} ({each})" if each else mean
