"""The host's ``slicer.packaging``, or Slicer's own where SLICER_SOURCE names a checkout that has it."""

import os
from pathlib import Path

_source = os.environ.get("SLICER_SOURCE")
_path = Path(_source) / "Base/Python/slicer/packaging.py" if _source else Path(__file__).parents[2] / "packaging.py"
if not _path.is_file():
    raise ImportError("this Slicer has no slicer.packaging")
exec(compile(_path.read_text(encoding="utf-8"), str(_path), "exec"))
