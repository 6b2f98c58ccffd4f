"""Structures under other names: what label files call them, and what the cohort does."""

from dataclasses import dataclass, field
from pathlib import Path

from dinomix.errors import DinomixError, reason_of
from dinomix.files import read_table
from dinomix.names import normalized_name


@dataclass(frozen=True)
class Renames:
    """New names of structures; ``new`` maps a normalized name to the new one, or to None for a structure to drop."""

    new: dict[str, str | None] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return normalized_name(name) in self.new

    def drops(self, name: str) -> bool:
        return self.new.get(normalized_name(name), name) is None

    def __call__(self, name: str) -> str:
        """The name in the cohort of a structure that is not dropped."""
        return self.new.get(normalized_name(name)) or name

    @classmethod
    def read(cls, path: Path) -> "Renames":
        """Read {"name in label files": "name in the cohort" or null}. Raises DinomixError when the file is not one."""
        remedy = 'Write {"name in the label files": "name in the cohort"}, and null for a structure to leave out.'
        try:
            data = read_table(path)
        except (OSError, ValueError) as error:
            raise DinomixError(f"{path} cannot be read ({reason_of(error)}).", remedy) from error
        if not all(new is None or (isinstance(new, str) and new.strip()) for new in data.values()):
            raise DinomixError(f"{path} is not a table of names.", remedy)
        renames = {normalized_name(name): new for name, new in data.items()}
        if len(renames) < len(data):
            raise DinomixError(
                f"{path} has the same name twice.", "Case, separators and the order of words do not count."
            )
        return cls(renames)
