"""Restarting Slicer without losing data."""

from __future__ import annotations

import qt
import slicer
import vtk
from slicer.i18n import tr as _


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
