"""Label sets: the only truth about which number is which structure."""

import unicodedata
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from dinomix.errors import DinomixError, printable, reason_of
from dinomix.files import read_table, write_json
from dinomix.names import names_a_side
from dinomix.terminology import SIDES, Terminology, color_for, terminology_for

LARGEST_ID = 65535
LONGEST_NAME = 200


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
        # Into headers of files, of which each line says one thing, and into UTF-8.
        if not name.strip() or len(name) > LONGEST_NAME:
            raise ValueError(f"a structure needs a name of 1 to {LONGEST_NAME} characters")
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
            raise ValueError(f"the name {printable(name)} holds characters that are no text")
        return name


class LabelSet(BaseModel):
    """The structures of a model or a cohort, sorted by id; background is always 0 and never listed."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    structures: tuple[Structure, ...] = Field(min_length=1)

    @field_validator("structures")
    @classmethod
    def _sorted_and_unique(cls, structures: tuple[Structure, ...]) -> tuple[Structure, ...]:
        for field in ("id", "name"):
            values = [getattr(s, field) for s in structures]
            if len(set(values)) != len(values):
                raise ValueError(f"two structures have the same {field}")
        return tuple(sorted(structures, key=lambda s: s.id))

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

    @classmethod
    def from_names(cls, names: dict[int, str]) -> "LabelSet":
        """A label set from id -> name; colors and terminology come from the known structures where the name is known."""
        return cls(structures=tuple(
            Structure(id=i, name=name, color=color_for(name, i), terminology=terminology_for(name))
            for i, name in names.items()
        ))  # fmt: skip

    @classmethod
    def read(cls, path: Path) -> "LabelSet":
        """Read a label set: our own JSON, a plain {"1": "liver"} or a ``dataset.json`` ("labels").

        Raises DinomixError when the file is not one of these.
        """
        try:
            data = read_table(path)
            if "structures" in data:
                return cls.model_validate(data)
            return cls.from_names(names_by_id(data.get("labels", data)))
        except (OSError, ValueError) as error:
            raise DinomixError(
                f"{path} is not a label set ({reason_of(error)}).",
                'Give a JSON file such as {"1": "liver", "2": "spleen"} or a dataset.json.',
            ) from error

    def write(self, path: Path) -> None:
        write_json(path, self.model_dump(mode="json"))


def names_by_id(labels: Any) -> dict[int, str]:
    """id -> name from either direction: {"1": "liver"} (Decathlon) or {"liver": 1} (nnU-Net v2); background dropped.

    Raises:
        ValueError: it is no such table; says in words why.
    """
    if not isinstance(labels, dict):
        raise ValueError("its labels are no table of names and numbers")
    names: dict[int, str] = {}
    for key, value in labels.items():
        number, name = (key, value) if _is_number(key) else (value, key)
        if isinstance(number, (list, tuple)):
            raise ValueError(
                f'"{name}" is a region of several numbers; only structures with one number each can be used so far'
            )
        if not _is_number(number) or int(number) > LARGEST_ID:
            raise ValueError(f'the number of "{name}" is {number}; 1 to {LARGEST_ID} are possible')
        if int(number) == 0:
            continue
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"the structure of the number {number} has no name")
        if name.strip().casefold() == "ignore":
            raise ValueError(
                '"ignore" stands for voxels that nobody labeled, which cannot be used so far: set them to 0'
            )
        if int(number) in names:
            raise ValueError(f'"{names[int(number)]}" and "{name}" have the same number {number}')
        names[int(number)] = name
    return names


def _is_number(value: Any) -> bool:
    """Whether it is a whole number of 0 or more, perhaps as a text."""
    if isinstance(value, str):
        return value.isascii() and value.isdigit() and len(value) < 10
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
