"""One label set for the whole cohort: structures are matched by name, and by number only where no name is known."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from dinomix.errors import DinomixError
from dinomix.labels import LabelSet, normalized_name

# A label map without names and with more values than this is more likely an image in the wrong folder.
MOST_UNNAMED = 256


@dataclass(frozen=True)
class LabelContent:
    """What a label file holds.

    Attributes:
        values: its voxel values but 0.
        own_names: value -> name, as the file itself says.
        folder_names: value -> name, as the folder's ``dataset.json`` says; only asked where the file says nothing.
    """

    path: Path
    values: tuple[int, ...]
    own_names: dict[int, str] = field(default_factory=dict)
    folder_names: dict[int, str] = field(default_factory=dict)

    @property
    def names(self) -> dict[int, str]:
        return self.own_names or self.folder_names


def cohort_label_set(contents: list[LabelContent], problems: list[DinomixError]) -> LabelSet | None:
    """The structures of all label files, or None (and a problem) when they cannot be told.

    A name keeps the first number that it was met with where that is free, ``dataset.json`` before the files' own
    numbers; without any names, value v is ``class_v``.
    """
    by_id: dict[int, str] = {}
    known: set[str] = set()
    next_free = 1 + max((value for c in contents for value in (*c.values, *c.own_names, *c.folder_names)), default=0)
    for names in (*(c.folder_names for c in contents if not c.own_names), *(c.own_names for c in contents)):
        for value, name in names.items():
            if normalized_name(name) in known:
                continue
            known.add(normalized_name(name))
            if value in by_id:
                value, next_free = next_free, next_free + 1
            by_id[value] = name
    if by_id:
        return LabelSet.from_names(by_id)
    values = {value for content in contents for value in content.values}
    images = [content for content in contents if len(content.values) > MOST_UNNAMED]
    problems.extend(
        DinomixError(
            f"{content.path} holds {len(content.values)} different values, more like an image than a label map.",
            "Put a label map in its place, or name all structures with --labels.",
        )
        for content in images
    )
    return LabelSet.from_names({value: f"class_{value}" for value in values}) if values and not images else None


def values_to_ids(content: LabelContent, labels: LabelSet, source: str, problems: list[DinomixError]) -> dict[int, int]:
    """Value in the label file -> structure id. A value that is not in the label set is a problem, and is left out.

    ``source`` says, for the message, where the label set is from.
    """
    id_of_name = {normalized_name(s.name): s.id for s in labels.structures}
    mapped: dict[int, int] = {}
    unknown: list[str] = []
    for value in sorted({*content.values, *content.names}):
        if content.names:
            name = content.names.get(value)
            id = id_of_name.get(normalized_name(name)) if name is not None else None
            shown = f'{value} ("{name}")' if name is not None else str(value)
        else:
            id, shown = (value if value in labels.ids else None), str(value)
        if id is not None:
            mapped[value] = id
        elif value in content.values:
            unknown.append(shown)
    if unknown:
        listed = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
        problems.append(DinomixError(
            f"{content.path} holds the {'label' if len(unknown) == 1 else 'labels'} {listed}, not in {source}.",
            "Add what is missing to the label set, or set those voxels to 0.",
        ))  # fmt: skip
    twice = [id for id, count in Counter(mapped.values()).items() if count > 1]
    for id in twice:
        name = labels.names[labels.ids.index(id)]
        problems.append(
            DinomixError(f'{content.path} has two structures named "{name}".', "Rename or merge one of them.")
        )
    return mapped
