"""Label sets: the only truth about which number is which structure."""

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from dinomix.errors import DinomixError, printable, reason_of
from dinomix.files import read_table, write_json
from dinomix.names import names_a_side, normalized_name
from dinomix.regions import parts_and_regions
from dinomix.terminology import SIDES, Terminology, color_for, terminology_for

LARGEST_ID = 65535
LONGEST_NAME = 200


def name_that_can_be_written(name: str) -> str:
    """The name of a structure or region; raises ValueError where it cannot stand in headers of files, or in UTF-8."""
    if not name.strip() or len(name) > LONGEST_NAME:
        raise ValueError(f"a structure needs a name of 1 to {LONGEST_NAME} characters")
    # Of a header, each line says one thing.
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        raise ValueError(f"the name {printable(name)} holds characters that are no text")
    return name


class Structure(BaseModel):
    """One foreground structure: ``id`` is its voxel value, ``color`` is RGB in 0..255."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: int = Field(ge=1, le=LARGEST_ID)
    name: str
    color: tuple[int, int, int]
    terminology: Terminology | None = None

    @field_validator("name")
    @classmethod
    def _can_be_written(cls, name: str) -> str:
        return name_that_can_be_written(name)


class Region(BaseModel):
    """A union of structures, by their ids, under a name of its own: the whole tumor of its core and its edema."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    structures: tuple[int, ...] = Field(min_length=2)

    @field_validator("name")
    @classmethod
    def _can_be_written(cls, name: str) -> str:
        return name_that_can_be_written(name)


class LabelSet(BaseModel):
    """The structures of a model or a cohort, sorted by id; background is always 0 and never listed.

    ``regions`` are unions of structures, for those who read results: networks know the structures only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    structures: tuple[Structure, ...] = Field(min_length=1)
    regions: tuple[Region, ...] = ()

    @field_validator("structures")
    @classmethod
    def _sorted_and_unique(cls, structures: tuple[Structure, ...]) -> tuple[Structure, ...]:
        for field in ("id", "name"):
            values = [getattr(s, field) for s in structures]
            if len(set(values)) != len(values):
                raise ValueError(f"two structures have the same {field}")
        return tuple(sorted(structures, key=lambda s: s.id))

    @model_validator(mode="after")
    def _regions_of_structures(self) -> "LabelSet":
        names = [normalized_name(name) for name in (*self.names, *(region.name for region in self.regions))]
        for region in self.regions:
            if not set(region.structures) <= set(self.ids):
                raise ValueError(f'the region "{region.name}" has structures that are not there')
            if names.count(normalized_name(region.name)) > 1:
                raise ValueError(f'two structures or regions are called "{region.name}"')
        return self

    @model_serializer(mode="wrap")
    def _as_data(self, all_fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without regions, what earlier versions read and wrote."""
        data: dict[str, Any] = all_fields(self)
        if not self.regions:
            del data["regions"]
        return data

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(s.id for s in self.structures)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(s.name for s in self.structures)

    @property
    def channels(self) -> int:
        """Output channels of a network for this label set: one per structure and the background."""
        return len(self.structures) + 1

    @property
    def channel_of(self) -> dict[int, int]:
        """Structure id -> channel of a network's output, counted from 1; 0 is the background."""
        return {structure_id: channel for channel, structure_id in enumerate(self.ids, 1)}

    @property
    def has_sides(self) -> bool:
        """Whether some structure is the left or the right one of two, by its codes or a word of its name."""
        return any(
            (s.terminology is not None and s.terminology.modifier in SIDES.values()) or names_a_side(s.name)
            for s in self.structures
        )

    @property
    def without_regions(self) -> "LabelSet":
        return LabelSet(structures=self.structures)

    def only(self, ids: Collection[int]) -> "LabelSet":
        """The structures of these ids, and the regions of which all are among them."""
        return LabelSet(
            structures=tuple(s for s in self.structures if s.id in ids),
            regions=tuple(region for region in self.regions if set(region.structures) <= set(ids)),
        )

    def with_regions(self, regions: Mapping[str, Sequence[int]]) -> "LabelSet":
        """With these regions, of structures' ids, beside those that are there; one that is a single structure is left out.

        Raises:
            ValueError: a region has the name of a structure, or two of a name differ; says in words which.
        """
        more = tuple(
            Region(name=name, structures=tuple(sorted(set(ids)))) for name, ids in regions.items() if len(set(ids)) > 1
        )
        return LabelSet(
            structures=self.structures, regions=(*self.regions, *(r for r in more if r not in self.regions))
        )

    @classmethod
    def from_names(cls, names: dict[int, str]) -> "LabelSet":
        """A label set from id -> name; colors and terminology come from the known structures where the name is known."""
        return cls(structures=tuple(
            Structure(id=i, name=name, color=color_for(name, i), terminology=terminology_for(name))
            for i, name in names.items()
        ))  # fmt: skip

    def without(self, names: Collection[str]) -> "LabelSet":
        """Without the structures of these names, of a set that has no regions yet."""
        return LabelSet(structures=tuple(s for s in self.structures if s.name not in names))

    def with_codes(self, codes: Mapping[str, Terminology]) -> "LabelSet":
        """With codes by ``normalized_name``, of those structures whose names are not known here."""
        return self.model_copy(update={
            "structures": tuple(
                s if s.terminology else s.model_copy(update={"terminology": codes.get(normalized_name(s.name))})
                for s in self.structures
            )
        })  # fmt: skip

    @classmethod
    def read(cls, path: Path) -> "LabelSet":
        """Read a label set: our own JSON, a plain {"1": "liver"} or a ``dataset.json`` ("labels").

        Raises DinomixError when the file is not one of these.
        """
        try:
            data = read_table(path)
            if "structures" in data:
                return cls.model_validate(data)
            table, regions = table_and_regions(data)
            names = names_by_id(table)
            structures = {value: name for value, name in names.items() if not stands_for_unlabeled(name)}
            return cls.from_names(structures).with_regions(regions)
        except (OSError, ValueError) as error:
            raise DinomixError(
                f"{path} is not a label set ({reason_of(error)}).",
                'Give a JSON file such as {"1": "liver", "2": "spleen"} or a dataset.json.',
            ) from error

    def write(self, path: Path) -> None:
        write_json(path, self.model_dump(mode="json"))


def table_and_regions(data: Mapping[str, Any]) -> tuple[Any, dict[str, tuple[int, ...]]]:
    """The table of names and numbers in a file of them or in a ``dataset.json``, and its regions. Raises ValueError as below."""
    labels = data.get("labels", data)
    if not isinstance(labels, dict):
        return labels, {}
    return parts_and_regions(labels, data.get("regions_class_order"))


def stands_for_unlabeled(name: str) -> bool:
    """Whether what a label file calls so are voxels that nobody labeled, as nnU-Net has it."""
    return normalized_name(name) == "ignore"


def unlabeled_values(path: Path) -> tuple[int, ...]:
    """The values that a ``dataset.json`` says stand for voxels that nobody labeled. Raises DinomixError as ``LabelSet.read``."""
    LabelSet.read(path)
    data = read_table(path)
    names = {} if "structures" in data else names_by_id(table_and_regions(data)[0])
    return tuple(value for value, name in names.items() if stands_for_unlabeled(name))


def names_by_id(labels: Any) -> dict[int, str]:
    """id -> name from either direction: {"1": "liver"} (Decathlon) or {"liver": 1} (nnU-Net v2); background dropped.

    "ignore" is among them, which is no structure; see ``stands_for_unlabeled``.

    Raises:
        ValueError: it is no such table; says in words why.
    """
    if not isinstance(labels, dict):
        raise ValueError("its labels are no table of names and numbers")
    names: dict[int, str] = {}
    for key, value in labels.items():
        number, name = (key, value) if _is_number(key) else (value, key)
        if isinstance(number, (list, tuple)):
            raise ValueError(f'"{name}" has several numbers')
        if not _is_number(number) or int(number) > LARGEST_ID:
            raise ValueError(f'the number of "{name}" is {number}; 1 to {LARGEST_ID} are possible')
        if int(number) == 0:
            continue
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"the structure of the number {number} has no name")
        if int(number) in names:
            raise ValueError(f'"{names[int(number)]}" and "{name}" have the same number {number}')
        names[int(number)] = name
    return names


def _is_number(value: Any) -> bool:
    """Whether it is a whole number of 0 or more, perhaps as a text."""
    if isinstance(value, str):
        return value.isascii() and value.isdigit() and len(value) < 10
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
