"""A model's source: a folder, or a zip that is unpacked for as long as it is read."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dinomix.errors import DinomixError
from dinomix.events import Emit, silent
from dinomix.unpacking import Limits, unpack

LIMITS = Limits(largest=24 * 2**30, files=20_000, ratio=30, remedy="or choose another models folder (DINOMIX_MODELS)")
"""The largest of the published models unpack to less than 2 GB, and weights hardly compress."""


@contextmanager
def opened(source: Path, near: Path, emit: Emit = silent) -> Iterator[Path]:
    """A folder with the source's files: itself, or a zip unpacked beside where the model will lie, and removed after.

    Raises:
        DinomixError: there is no such file, or the archive is refused.
    """
    if not source.exists():
        raise DinomixError(f"There is no file or folder {source}.", "Check the path.")
    if not source.is_dir() and not source.is_file():
        raise DinomixError(f"{source} is neither a file nor a folder.", "Give the file or the folder of a model.")
    if source.is_dir() or source.suffix.lower() != ".zip":
        yield source
        return
    near.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".partial-", suffix="-unpacked", dir=near))
    try:
        unpack(source, folder, LIMITS, emit)
        yield folder
    except DinomixError as error:
        # The folder will be gone when the message is read.
        raise DinomixError(error.problem.replace(str(folder), str(source)), error.remedy, error.code) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
