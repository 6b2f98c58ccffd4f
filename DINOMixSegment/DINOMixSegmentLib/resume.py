"""Going on after a restart of Slicer that an installation needed: the same volume and model are chosen again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from dinomix_slicer.setup.restart import takeResumption

if TYPE_CHECKING:
    from .parameter_node import DINOMixSegmentParameterNode


def resumeAfterRestart(parameterNode: DINOMixSegmentParameterNode) -> str:
    """Choose again what was chosen before the restart.

    Returns:
        What could not be, in full sentences; empty when all went well or there was nothing to resume.
    """
    note = takeResumption("DINOMixSegment")
    if note is None:
        return ""
    if note["modelPath"]:
        parameterNode.modelPath = note["modelPath"]
    if not note["volumeFile"]:
        return ""
    try:
        volume = slicer.util.loadVolume(note["volumeFile"])
    except RuntimeError:  # the file is gone or damaged, or was read by an extension that is not here any more
        volume = None
    if not isinstance(volume, slicer.vtkMRMLScalarVolumeNode):
        return _("The volume that was chosen before the restart cannot be loaded ({file}). Choose a volume.").format(
            file=note["volumeFile"]
        )
    parameterNode.inputVolume = volume
    return ""
