"""What is still missing before the first segmentation: one sentence, and a button that does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from dinomix_slicer.setup.notice import Lack, SetupNotice
from dinomix_slicer.signal import Signal

from .checks import whyNotChosenVolume, whyNotModel
from .resume import remember

if TYPE_CHECKING:
    from .logic import DINOMixSegmentLogic
    from .parameter_node import DINOMixSegmentParameterNode


class SegmentSetupNotice(SetupNotice):
    """
    Signals:
        wantsFolder(): the user wants to add a model folder.
        wantsExample(): the user wants to try an example.
    """

    def __init__(self, ui: Any, logic: DINOMixSegmentLogic) -> None:
        self.wantsFolder, self.wantsExample = Signal(), Signal()
        self._logic = logic
        super().__init__(ui, logic)

    def whatIsMissing(self, parameterNode: DINOMixSegmentParameterNode) -> Lack | None:
        if self._logic.state != "idle":
            return None
        lack = super().whatIsMissing(parameterNode)
        if lack is not None:
            return lack
        if self._logic.workerState == "failed":
            text = _("The process that computes has ended.")
            return Lack(text, _("Start again"), _("Start the worker again."), self._logic.restartWorker)
        hasAnswered = self._logic.workerHello is not None
        if hasAnswered and not self._logic.models():
            text = whyNotModel("", [], True) or ""
            return Lack(text, _("Add folder..."), _("Choose a folder that holds models."), self.wantsFolder.emit)
        if parameterNode.inputVolume is None:
            text = whyNotChosenVolume(None) or ""
            return Lack(
                text, _("Try an example"), _("Slicer asks before a scan is downloaded."), self.wantsExample.emit
            )
        return None

    def rememberForRestart(self, parameterNode: DINOMixSegmentParameterNode) -> None:
        remember(parameterNode)
