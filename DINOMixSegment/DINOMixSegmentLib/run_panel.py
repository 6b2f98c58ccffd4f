"""Apply, which is Cancel while something runs, with the progress bar and one line of status below."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from dinomix_slicer.signal import Signal
from dinomix_slicer.window.appearance import paintIcon
from dinomix_slicer.window.duration import duration
from dinomix_slicer.window.progress_bar import showPart


class RunPanel:
    """
    Signals:
        applied(): the user wants to segment.
        cancelled(): the user wants what runs to end.
    """

    def __init__(self, ui: Any) -> None:
        self.applied, self.cancelled = Signal(), Signal()
        self._ui = ui
        self._state = "idle"
        ui.applyButton.connect("clicked()", self._onClicked)
        # The bar keeps its place while it is hidden, so that nothing below it jumps.
        policy = ui.progressBar.sizePolicy
        policy.setRetainSizeWhenHidden(True)
        ui.progressBar.sizePolicy = policy
        self.showState("idle", None)
        self.showStatus("")

    def showState(self, state: str, whyNot: str | None) -> None:
        """``state`` of the logic; ``whyNot`` is the sentence why Apply cannot work now, None when it can."""
        button, self._state = self._ui.applyButton, state
        if state == "idle":
            button.text = _("Apply")
            button.enabled = whyNot is None
            button.toolTip = whyNot or _("Segment the volume with the chosen model.")
        elif state == "running":
            button.text = _("Cancel")
            button.enabled = True
            button.toolTip = _("End what runs. The scene stays as it was before.")
        else:
            button.text = _("Cancelling...")
            button.enabled = False
            button.toolTip = _("What runs is being ended.")
        self._ui.progressBar.visible = state != "idle"
        if state == "idle":
            showPart(self._ui.progressBar, 0, 1)
        elif state == "cancelling":
            showPart(self._ui.progressBar, 0, 0)

    def showProgress(self, stage: str, step: int, total: int, eta: float | None) -> None:
        """How far it is; ``total`` 0 where it is not known, ``eta`` in seconds."""
        if self._state != "running":
            return
        showPart(self._ui.progressBar, step, total)
        stage = stage[:1].upper() + stage[1:]
        if eta is None:
            self.showStatus(_("{stage}...").format(stage=stage))
        else:
            self.showStatus(_("{stage}: {duration} left.").format(stage=stage, duration=duration(eta)))

    def showStatus(self, text: str, level: str | None = None) -> None:
        """One line below the bar; with an icon where ``level`` is given."""
        self._ui.statusLabel.text = text
        self._ui.statusIconLabel.visible = level is not None
        if level is not None:
            paintIcon(self._ui.statusIconLabel, level)

    def _onClicked(self) -> None:
        (self.applied if self._state == "idle" else self.cancelled).emit()
