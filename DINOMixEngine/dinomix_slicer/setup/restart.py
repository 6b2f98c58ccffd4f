"""Restarting Slicer without losing data, and the way back to where the user was."""

from __future__ import annotations

import json

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from dinomix.files import parse_json

RESUME_SETTING = "DINOMix/ResumeAfterRestart"


def mayRestart() -> bool:
    """Ask whether to restart Slicer, and to save first what is not saved; whether the user agrees.

    ``slicer.util.restart`` asks nothing, and no window closes that would. ``slicer.app.confirmRestart`` does not tell of data
    that is not saved, and a user may have told it to ask no more.
    """
    if not slicer.mrmlScene.GetModifiedSinceRead():
        return bool(slicer.util.confirmOkCancelDisplay(_("Slicer closes and starts again. Restart now?")))
    box = qt.QMessageBox
    answer = slicer.util.messageBox(
        _("The scene has changes that are not saved. They are lost when Slicer restarts. Save them first?"),
        windowTitle=_("Save before restart?"),
        icon=box.Warning,
        standardButtons=box.Save | box.Discard | box.Cancel,
        detailedText="\n".join(unsavedData()) or _("Only the scene itself was changed; all data is saved."),
    )
    if answer == box.Save:
        return bool(slicer.util.openSaveDataDialog()) and not unsavedData()
    return bool(answer == box.Discard)


def unsavedData() -> list[str]:
    """Names of the nodes whose data is not saved as it is now."""
    nodes = vtk.vtkCollection()
    slicer.mrmlScene.GetStorableNodesModifiedSinceRead(nodes)
    return [nodes.GetItemAsObject(n).GetName() for n in range(nodes.GetNumberOfItems())]


def rememberForRestart(module: str, volumeFile: str = "", modelPath: str = "") -> None:
    """Note where the user is, before Slicer restarts."""
    note = json.dumps({"module": module, "volumeFile": volumeFile, "modelPath": modelPath})
    qt.QSettings().setValue(RESUME_SETTING, note)


def takeResumption(module: str) -> dict[str, str] | None:
    """What ``rememberForRestart`` has noted for this module, once; None when there is nothing to resume."""
    settings = qt.QSettings()
    try:
        note = parse_json(str(settings.value(RESUME_SETTING) or "null").encode())
    except ValueError:
        note = None
    if not isinstance(note, dict) or note.get("module") != module:
        return None
    settings.remove(RESUME_SETTING)
    return {key: str(note.get(key, "")) for key in ("module", "volumeFile", "modelPath")}
