"""Going on after a restart of Slicer that an installation needed: the same volume and model are chosen again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import qt
import slicer
from slicer.i18n import tr as _

from dinomix_slicer.stored_text import jsonIn

if TYPE_CHECKING:
    from .parameter_node import DINOMixSegmentParameterNode

RESUME_SETTING = "DINOMix/ResumeAfterRestart"


def remember(parameterNode: DINOMixSegmentParameterNode) -> None:
    """Note what is chosen, before Slicer restarts."""
    storage = parameterNode.inputVolume.GetStorageNode() if parameterNode.inputVolume is not None else None
    file = (storage.GetFileName() or "") if storage is not None else ""
    note = {"volumeFile": file, "modelPath": parameterNode.modelPath}
    qt.QSettings().setValue(RESUME_SETTING, json.dumps(note))


def resumeAfterRestart(parameterNode: DINOMixSegmentParameterNode) -> str:
    """Choose again, once, what was chosen before the restart.

    Returns:
        What could not be, in full sentences; empty when all went well or there was nothing to resume.
    """
    note = jsonIn(qt.QSettings().value(RESUME_SETTING), dict)
    qt.QSettings().remove(RESUME_SETTING)
    file, model = (str(note.get(key) or "") for key in ("volumeFile", "modelPath"))
    if model:
        parameterNode.modelPath = model
    if not file:
        return ""
    try:
        volume = slicer.util.loadVolume(file)
    except RuntimeError:  # the file is gone or damaged, or was read by an extension that is not here any more
        volume = None
    if not isinstance(volume, slicer.vtkMRMLScalarVolumeNode):
        text = _("The volume that was chosen before the restart cannot be loaded ({file}). Choose a volume.")
        return text.format(file=file)
    parameterNode.inputVolume = volume
    return ""
