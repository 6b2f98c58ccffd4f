"""Where in an opened source a model may lie, and finding a model folder of DINOMix there, for which PyTorch is not needed."""

from collections.abc import Iterator
from pathlib import Path

from dinomix.files import read_json
from dinomix.models.manifest import FORMAT, MANIFEST

_DEPTH = 5


def own_model(folder: Path) -> Path | None:
    """A model folder of DINOMix in an opened source; None where there is none."""
    for path in places(folder):
        try:
            if read_json(path / MANIFEST)["format"] == FORMAT:
                return path
        except (OSError, ValueError, TypeError, KeyError):
            continue
    return None


def places(folder: Path) -> Iterator[Path]:
    """A folder and those below it, the nearest first."""
    level = [folder]
    for _ in range(_DEPTH):
        yield from level
        level = sorted(
            child for parent in level for child in parent.iterdir() if child.is_dir() and not child.is_symlink()
        )
