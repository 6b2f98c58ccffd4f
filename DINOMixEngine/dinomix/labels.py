"""Label sets: the only truth about which number is which structure."""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from dinomix.errors import DinomixError
from dinomix.files import write_json
from dinomix.terminology import Terminology, color_for, terminology_for


class Structure(BaseModel):
    """One foreground structure: ``id`` is its voxel value, ``color`` is RGB in 0..255."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: int = Field(ge=1, le=65535)
    name: str = Field(min_length=1)
    color: tuple[int, int, int]
    terminology: Terminology | None = None


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
            data = json.loads(path.read_text(encoding="utf-8"))
            if "structures" in data:
                return cls.model_validate(data)
            return cls.from_names(names_by_id(data.get("labels", data)))
        except (OSError, ValueError, TypeError, AttributeError, ValidationError) as error:
            raise DinomixError(
                f"{path} is not a label set ({str(error).splitlines()[0]}).",
                'Give a JSON file such as {"1": "liver", "2": "spleen"} or a dataset.json.',
            ) from error

    def write(self, path: Path) -> None:
        write_json(path, self.model_dump(mode="json"))


def names_by_id(labels: dict[str, object]) -> dict[int, str]:
    """id -> name from either direction: {"1": "liver"} (Decathlon) or {"liver": 1} (nnU-Net v2); background dropped."""
    pairs = [(k, v) if str(k).isdigit() else (v, k) for k, v in labels.items()]
    return {int(str(i)): str(name) for i, name in pairs if int(str(i)) != 0}
