"""The folder for what can be made anew at any time: the user's own for such things, or that of DINOMIX_CACHE."""

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """Where this user's programs keep what they can make again, a folder ``dinomix`` in it; it may not be there yet."""
    if named := os.environ.get("DINOMIX_CACHE"):
        return Path(named).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "dinomix" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "dinomix"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dinomix"
