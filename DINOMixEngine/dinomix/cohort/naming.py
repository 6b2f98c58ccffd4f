"""One label set for the whole cohort: structures are matched by name, and by number only where no name is known."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dinomix.cohort.problems import Problem
from dinomix.cohort.renaming import Renames
from dinomix.errors import reason_of
from dinomix.events import Notice
from dinomix.labels import LabelSet, stands_for_unlabeled
from dinomix.names import listed, normalized_name
from dinomix.terminology import Terminology, terminology_of

# A label map without names and with more values than this is more likely an image in the wrong folder.
MOST_UNNAMED = 256


@dataclass(frozen=True)
class LabelContent:
    """What a label file holds.

    Attributes:
        values: its voxel values but 0, and but the dropped ones.
        own_names: value -> name, as the file itself says.
        folder_names: value -> name, as the folder's ``dataset.json`` says; only asked where the file says nothing.
        case: the name of the case, for messages.
        dropped: values of structures that become background.
        renamed: values whose name was changed, so that two of one name are meant to be one structure.
    """

    path: Path
    values: tuple[int, ...]
    own_names: dict[int, str] = field(default_factory=dict)
    folder_names: dict[int, str] = field(default_factory=dict)
    case: str | None = None
    dropped: tuple[int, ...] = ()
    renamed: frozenset[int] = frozenset()

    @property
    def names(self) -> dict[int, str]:
        return self.own_names or self.folder_names

    def with_renames(self, renames: Renames) -> "LabelContent":
        names = self.names
        dropped = {value for value, name in names.items() if renames.drops(name)}

        def renamed(table: dict[int, str]) -> dict[int, str]:
            return {value: renames(name) for value, name in table.items() if value not in dropped}

        return replace(
            self,
            values=tuple(value for value in self.values if value not in dropped),
            own_names=renamed(self.own_names),
            folder_names={} if self.own_names else renamed(self.folder_names),
            dropped=tuple(sorted(dropped)),
            renamed=frozenset(value for value, name in names.items() if value not in dropped and name in renames),
        )


def without_unlabeled(names: dict[int, str]) -> dict[int, str]:
    """Value -> name of what are structures."""
    return {value: name for value, name in names.items() if not stands_for_unlabeled(name)}


def with_numbers_as_names(
    contents: dict[str, LabelContent], given: LabelSet | None, renames: Renames
) -> dict[str, LabelContent]:
    """Label files without names, named by their numbers where such a name (``class_v`` of value v) is to be changed.

    Their other values keep what the number means in the given label set. Files that stand beside ones with names are left
    as they are: there a value is a number of the cohort's label set.
    """
    if given is None and any(content.names for content in contents.values()):
        return contents
    meant = dict(zip(given.ids, given.names, strict=True)) if given else {}

    def named(content: LabelContent) -> LabelContent:
        by_number = {value: f"class_{value}" for value in content.values}
        if content.names or not any(name in renames for name in by_number.values()):
            return content
        names = {v: name if name in renames else meant.get(v, name) for v, name in by_number.items()}
        return replace(content, folder_names=names)

    return {name: named(content) for name, content in contents.items()}


def unused_renames(contents: Iterable[LabelContent], renames: Renames) -> list[Notice]:
    """What is to be renamed and is in no label file: a misspelled name changes nothing, and a dropped structure is learned."""
    contents = list(contents)
    numbered = {f"class_{value}" for content in contents for value in content.values}
    known = {normalized_name(name) for content in contents for name in content.names.values()}
    unknown = sorted(set(renames.new) - known - {normalized_name(name) for name in numbered})
    unknown = [name for name in unknown if not stands_for_unlabeled(name)]
    if not unknown:
        return []
    by_number = (
        "" if all(content.names for content in contents) else ' Of files without names, write "class_1" for number 1.'
    )
    return [Notice(f"No label file has a structure {listed(unknown)}, which is to be renamed or left out.{by_number}")]


def cohort_label_set(contents: list[LabelContent], problems: list[Problem]) -> LabelSet | None:
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
        try:
            return LabelSet.from_names(by_id)
        except ValueError as error:
            problems.append(Problem(
                f"The structures of the label files make no label set ({reason_of(error)}).",
                "Rename them in the files, or with --rename.", "structures",
            ))  # fmt: skip
            return None
    values = {value for content in contents for value in content.values}
    images = [content for content in contents if len(content.values) > MOST_UNNAMED]
    problems.extend(
        Problem(
            f"{content.path} holds {len(content.values)} different values, more like an image than a label map.",
            "Put a label map in its place, or name all structures with --labels.",
            code="label-map",
            case=content.case,
            file=content.path,
        )
        for content in images
    )
    return LabelSet.from_names({value: f"class_{value}" for value in values}) if values and not images else None


def codes_by_name(files: Iterable[Mapping[str, str]], renames: Renames) -> dict[str, Terminology]:
    """``normalized_name`` in the cohort -> codes, the first that a label file gives.

    Args:
        files: of each file, name -> terminology entry.
    """
    found: dict[str, Terminology] = {}
    for entries in files:
        for name, entry in entries.items():
            if not renames.drops(name) and (codes := terminology_of(entry)) is not None:
                found.setdefault(normalized_name(renames(name)), codes)
    return found


def with_regions(
    labels: LabelSet, regions: Mapping[str, Sequence[str]], renames: Renames, problems: list[Problem]
) -> LabelSet:
    """The label set with the regions of the ``dataset.json`` files, of what is left of them after renaming.

    Args:
        regions: region -> names of its structures, as the files have them.
    """
    id_of_name = {normalized_name(s.name): s.id for s in labels.structures}
    ids = {
        region: [id_of_name[name] for part in parts if not renames.drops(part)
                 and (name := normalized_name(renames(part))) in id_of_name]
        for region, parts in regions.items()
    }  # fmt: skip
    try:
        return labels.with_regions(ids)
    except ValueError as error:
        problems.append(Problem(
            f"The regions of the cohort cannot be used ({reason_of(error)}).",
            "Give structures other names than regions, in the files or with --rename.", "structures",
        ))  # fmt: skip
        return labels


def values_to_ids(content: LabelContent, labels: LabelSet, source: str, problems: list[Problem]) -> dict[int, int]:
    """Value in the label file -> structure id, 0 where it was dropped. A value that is not in the label set is a problem,
    and is left out.

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
        problems.append(Problem(
            f"{content.path} holds the {'label' if len(unknown) == 1 else 'labels'} {listed(unknown)}, not in {source}.",
            "Add what is missing to the label set, rename or drop it with --rename, or set those voxels to 0.", code="structures",
            case=content.case, file=content.path,
        ))  # fmt: skip
    twice = [id for id, count in Counter(mapped.values()).items() if count > 1]
    for id in twice:
        if any(other == id and value in content.renamed for value, other in mapped.items()):
            continue
        name = labels.names[labels.ids.index(id)]
        problems.append(
            Problem(
                f'{content.path} has two structures named "{name}".',
                "Rename or merge one of them.",
                case=content.case,
                file=content.path,
            )
        )
    return mapped | dict.fromkeys(content.dropped, 0)
