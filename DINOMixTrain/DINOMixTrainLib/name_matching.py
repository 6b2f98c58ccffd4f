"""Which names mean the same structure: by how they are spelled, else by the terminology of their segments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dinomix.names import normalized_name
from dinomix_slicer.scene.label_file import structuresIn

GENERIC = ("85756007", "123037004", "")
"""Type codes that say nothing of a segment: tissue, anatomical structure; Slicer gives the first to every new segment."""


@dataclass(frozen=True)
class Concept:
    """A structure's codes: of its type, and of a side or other modifier (empty without one)."""

    type: str
    modifier: str = ""


def conceptOf(entry: str) -> Concept | None:
    """The concept of a segment's terminology entry; None where it says nothing.

    Args:
        entry: context~category~type~modifier~regionContext~region~regionModifier, each code scheme^value^meaning.
    """
    parts = entry.split("~")
    if len(parts) < 4:
        return None
    type, modifier = (part.split("^")[1] if part.count("^") == 2 else "" for part in parts[2:4])
    return Concept(type, modifier) if type not in GENERIC else None


def namesInFile(path: Path) -> dict[str, Concept]:
    """Names of the segments of a ``.seg.nrrd`` -> their concepts; empty where it cannot be read."""
    concepts = {each["name"].strip(): conceptOf(each["terminology_entry"]) for each in structuresIn(path)}
    return {name: concept for name, concept in concepts.items() if concept is not None}


def sameByTerminology(
    found: Iterable[tuple[str, int]], concepts: Mapping[str, Concept], wanted: Mapping[str, Concept | None]
) -> dict[str, str]:
    """Names that are spelled unlike all that is wanted, or unlike each other, and mean the same.

    Args:
        found: names in the label files and how many cases have them.
        concepts: of those names, by their normalized forms.
        wanted: names of the structures of a model, and their concepts; empty without a model.

    Returns:
        Name -> the name that it should have: that of the model, else the one that most cases have.
    """
    known = {normalized_name(name) for name in wanted}
    targets = {concept: name for name, concept in wanted.items() if concept is not None}
    renamed: dict[str, str] = {}
    for name, _cases in sorted(found, key=lambda pair: -pair[1]):
        concept = concepts.get(normalized_name(name))
        if normalized_name(name) in known or concept is None:
            continue
        target = targets.setdefault(concept, name)
        if normalized_name(target) != normalized_name(name):
            renamed[name] = target
    return renamed
