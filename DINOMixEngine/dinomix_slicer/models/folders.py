"""Where the user has said that models are, which one was used last, and models in folders whose names cannot be shown."""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

FOLDERS_SETTING, LAST_MODEL_SETTING = "DINOMix/ModelFolders", "DINOMix/LastModel"


def modelFolders() -> list[str]:
    """Folders that hold model folders, or are some, from the setting DINOMix/ModelFolders."""
    value = qt.QSettings().value(FOLDERS_SETTING)
    return [value] if isinstance(value, str) and value else list(value or ())


def printable(name: object) -> str:
    """A file's name or path for the window, also where its bytes are not UTF-8."""
    return str(name).encode("utf-8", "replace").decode("utf-8")


def withReadablePath(model: dict[str, Any]) -> dict[str, Any]:
    """A MODEL dict whose folder's name is not UTF-8 cannot be shown or chosen; it says so instead."""
    path, title = printable(model["path"]), printable(model["title"])
    if path == model["path"]:
        return model
    problem = _("Its path {path} has letters that are not valid UTF-8. Rename the folder.").format(path=path)
    return {**model, "path": path, "title": title, "problem": problem}
