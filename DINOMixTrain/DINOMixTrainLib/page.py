"""What every page of the window has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dinomix_slicer.signal import Listener, Signal

if TYPE_CHECKING:
    from .parameter_node import DINOMixTrainParameterNode


class Page(Listener):
    """One tab of the window.

    Attributes:
        ui: the widgets of the page's ``.ui`` file by their names.
        node: the parameter node; None while the scene is emptied.
        isEntered: whether the user is in the module.

    Signals:
        failed(problem, remedy): something that the user asked for could not be done.
        notice(text): the user should know this.
        changed(): something that other pages depend on.
        wantsPage(name): the user goes on to "cases", "training", "run" or "result".
    """

    def __init__(self, ui: Any) -> None:
        super().__init__()
        self.ui = ui
        self.node: DINOMixTrainParameterNode | None = None
        self.isEntered = False
        self.failed, self.notice, self.changed, self.wantsPage = Signal(), Signal(), Signal(), Signal()

    def offer(self, box: Any, name: str) -> None:
        """Make what the user chooses in a combo box the parameter of that name; see ``showChoices``."""
        box.connect("activated(int)", lambda row: setattr(self.node, name, box.itemData(row)))

    def enter(self) -> None:
        """The user comes to the module; only now may something be started or asked of the engine."""

    def show(self) -> None:
        """Show what is so now; called after every change, and when the scene was closed or another loaded."""

    def release(self) -> None:
        """The scene is about to be emptied: let go of nodes."""

    def close(self) -> None:
        """Let go of everything; runs go on."""
        self.stopHearing()
