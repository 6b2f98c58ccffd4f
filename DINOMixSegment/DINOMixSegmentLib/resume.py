"""Going on after a restart of Slicer that an installation needed: the same volume and model are chosen again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import slicer

from dinomix_slicer.setup.dependencies import takeResumption

if TYPE_CHECKING:
    from .parameter_node import DINOMixSegmentParameterNode


def resumeAfterRestart(parameterNode: DINOMixSegmentParameterNode) -> None:
    """Choose again what was chosen before the restart; nothing happens when there was none."""
    note = takeResumption("DINOMixSegment")
    if note is None:
        return
    if note["modelPath"]:
        parameterNode.modelPath = note["modelPath"]
    if note["volumeFile"] and Path(note["volumeFile"]).is_file():
        parameterNode.inputVolume = slicer.util.loadVolume(note["volumeFile"])
