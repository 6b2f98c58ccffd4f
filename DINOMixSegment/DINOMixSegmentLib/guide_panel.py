""" "Show me how" in the window: the explanation, and a frame around the part that it is about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from dinomix_slicer.signal import Signal
from dinomix_slicer.timer import timer
from dinomix_slicer.window.appearance import INFO, paintFrame, setColor

from .show_me_how import ShowMeHow

if TYPE_CHECKING:
    from .logic import DINOMixSegmentLogic
    from .parameter_node import DINOMixSegmentParameterNode

FRAME_WIDTH = 3


class GuidePanel:
    """
    Signals:
        failed(problem, remedy)
    """

    def __init__(self, ui: Any, root: Any, logic: DINOMixSegmentLogic) -> None:
        """``root`` is the widget that holds all others."""
        self.failed = Signal()
        self._ui, self._root, self._logic = ui, root, logic
        self._guide: ShowMeHow | None = None
        self._target: Any = None
        self._highlight = makeHighlight(root)
        # Sections open and close and the window is resized: the frame follows.
        self._follow = timer(100, self._placeHighlight)
        self._targets = {
            "volume": ui.volumeSelector,
            "model": ui.modelFrame,
            "apply": ui.applyButton,
            "views": ui.resultsCollapsibleButton,
            "output": ui.outputCollapsibleButton,
        }
        ui.guideNextButton.connect("clicked()", self._onNext)
        ui.guideCloseButton.connect("clicked()", self.end)
        paintFrame(ui.guideFrame, INFO)
        self._hide()

    def begin(self, parameterNode: DINOMixSegmentParameterNode) -> None:
        """Ask, load the example and show the first step."""
        self.end()
        guide = ShowMeHow(self._logic, parameterNode)
        if not slicer.util.confirmYesNoDisplay(guide.question()):
            return
        self._guide = guide
        guide.changed.connect(self._onStep)
        guide.failed.connect(self.failed.emit)
        guide.begin()

    def end(self) -> None:
        """Show no more steps."""
        if self._guide is not None:
            self._guide.end()

    def showState(self, state: str) -> None:
        """While something runs, the next step waits."""
        self._ui.guideNextButton.enabled = state == "idle"
        self._ui.showMeHowButton.enabled = state == "idle" and self._guide is None

    def _onNext(self) -> None:
        if self._guide is not None:
            self._guide.next()

    def _onStep(self, index: int) -> None:
        if index < 0:
            self._guide = None
            self._hide()
            return
        ui, steps = self._ui, self._guide.steps()
        ui.guideTitleLabel.text = steps[index].title
        ui.guideTextLabel.text = steps[index].text
        ui.guideStepLabel.text = _("Step {n} of {all}").format(n=index + 1, all=len(steps))
        isLast = index + 1 == len(steps)
        ui.guideNextButton.text = _("Finish") if isLast else _("Continue")
        ui.guideCloseButton.visible = not isLast
        ui.guideFrame.visible = True
        self.showState(self._logic.state)
        self._target = self._targets[steps[index].target]
        if steps[index].target == "output":
            ui.outputCollapsibleButton.collapsed = False
        self._follow.start()

    def _hide(self) -> None:
        self._follow.stop()
        self._target = None
        self._highlight.visible = False
        self._ui.guideFrame.visible = False
        self.showState(self._logic.state)

    def _placeHighlight(self) -> None:
        target = self._target
        isSeen = target is not None and target.isVisibleTo(self._root)
        self._highlight.visible = isSeen
        if isSeen:
            corner = target.mapTo(self._root, qt.QPoint(-FRAME_WIDTH, -FRAME_WIDTH))
            self._highlight.setGeometry(
                corner.x(), corner.y(), target.width + 2 * FRAME_WIDTH, target.height + 2 * FRAME_WIDTH
            )


def makeHighlight(root: Any) -> Any:
    """A frame to lay over a part of the window; the mouse goes through it."""
    frame = qt.QFrame(root)
    frame.objectName = "guideHighlight"
    frame.setAttribute(qt.Qt.WA_TransparentForMouseEvents)
    frame.setFrameStyle(qt.QFrame.Box | qt.QFrame.Plain)
    frame.lineWidth = FRAME_WIDTH - 1
    setColor(frame, qt.QPalette.WindowText, qt.QColor(63, 143, 210))
    return frame
