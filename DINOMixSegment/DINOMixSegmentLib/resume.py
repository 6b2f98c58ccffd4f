"""Going on after a restart of Slicer that an installation asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from dinomix.errors import DinomixError
from dinomix_slicer.dependencies import rememberForRestart, takeResumption

if TYPE_CHECKING:
    from .parameter_node import DINOMixSegmentParameterNode

MODULE = "DINOMixSegment"


def remember(parameterNode: DINOMixSegmentParameterNode) -> None:
    """Note the chosen model, and the file of the chosen volume where it has one, for the next start of Slicer."""
    volume = parameterNode.inputVolume
    storage = volume.GetStorageNode() if volume is not None else None
    rememberForRestart(MODULE, (storage.GetFullNameFromFileName() or "") if storage else "", parameterNode.modelPath)


def resume(parameterNode: DINOMixSegmentParameterNode) -> bool:
    """Choose again what ``remember`` has noted, loading the volume; False when there is nothing to resume.

    Raises:
        DinomixError: the volume cannot be loaded again; the model is chosen all the same.
    """
    noted = takeResumption(MODULE)
    if noted is None:
        return False
    if noted["modelPath"]:
        parameterNode.modelPath = noted["modelPath"]
    file = noted["volumeFile"]
    if file:
        try:
            if not Path(file).exists():
                raise RuntimeError(_("the file is gone"))
            parameterNode.inputVolume = slicer.util.loadVolume(file)
        except RuntimeError as error:
            raise DinomixError(
                _("{file} could not be loaded again after the restart ({reason}).").format(file=file, reason=error),
                _("Load the volume again and choose it."),
            ) from error
    return True
