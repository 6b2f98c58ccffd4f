"""Which names mean the same structure: by how they are spelled, else by the terminology of their segments."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
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
    region: str = ""
    regionModifier: str = ""


def conceptOf(entry: str) -> Concept | None:
    """The concept of a segment's terminology entry; None where it says nothing.

    Args:
        entry: context~category~type~modifier~regionContext~region~regionModifier, each code scheme^value^meaning.
    """
    parts = entry.split("~")
    if len(parts) < 4:
        return None
    codes = (part.split("^")[1] if part.count("^") == 2 else "" for part in (*parts[2:4], *parts[5:7]))
    concept = Concept(*codes)
    return concept if concept.type not in GENERIC else None


def namesInFile(path: Path) -> dict[str, Concept]:
    """Names of the segments of a ``.seg.nrrd`` -> their concepts; empty where it cannot be read."""
    concepts = {each["name"].strip(): conceptOf(each["terminology_entry"]) for each in structuresIn(path)}
    return {name: concept for name, concept in concepts.items() if concept is not None}


def sameByTerminology(
    found: Iterable[tuple[str, int]], concepts: Mapping[str, Concept], wanted: Mapping[str, Concept | None],
    files: Collection[Collection[str]] = (),
) -> dict[str, str]:  # fmt: skip
    """Names that are spelled unlike all that is wanted, or unlike each other, and mean the same.

    Args:
        found: names in the label files and how many cases have them.
        concepts: of those names, by their normalized forms.
        wanted: names of the structures of a model, and their concepts; empty without a model.
        files: the normalized names that stand in one file each, and are different structures therefore.

    Returns:
        Name -> the name that it should have: that of the model, else the one that most cases have.
    """
    known = {normalized_name(name) for name in wanted}
    targets = {concept: name for name, concept in wanted.items() if concept is not None}
    members = {concept: {normalized_name(name)} for concept, name in targets.items()}
    renamed: dict[str, str] = {}
    for name, _cases in sorted(found, key=lambda pair: -pair[1]):
        concept = concepts.get(normalized_name(name))
        if normalized_name(name) in known or concept is None:
            continue
        target, own = targets.setdefault(concept, name), normalized_name(name)
        alike = members.setdefault(concept, {own})
        if any(own in file and alike.intersection(file) - {own} for file in files):
            continue
        alike.add(own)
        if normalized_name(target) != own:
            renamed[name] = target
    return renamed
