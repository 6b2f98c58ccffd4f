"""The message below Apply: what went wrong, or what the user should know of the result."""

from __future__ import annotations

from typing import Any

from .appearance import ERROR, INFO, WARNING, showLevel

SERIOUSNESS = (INFO, WARNING, ERROR)


class MessageBar:
    """Shows messages until they are closed or the next segmentation starts.

    Attributes:
        text: what is shown; empty when nothing is.
    """

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._messages: list[str] = []
        self._level = INFO
        ui.messageCloseButton.connect("clicked()", self.clear)
        self.clear()

    @property
    def text(self) -> str:
        return "\n".join(self._messages)

    def add(self, text: str, level: str) -> None:
        """Show a message below those that are shown; one that is shown already is not repeated."""
        if text in self._messages:
            return
        self._messages.append(text)
        self._level = max(self._level, level, key=SERIOUSNESS.index)
        showLevel(self._ui.messageFrame, self._ui.messageIconLabel, self._level)
        self._ui.messageLabel.text = self.text
        self._ui.messageFrame.visible = True

    def addFailure(self, problem: str, remedy: str) -> None:
        """Show what went wrong and what to do."""
        self.add(f"{problem} {remedy}".strip(), ERROR)

    def clear(self) -> None:
        self._messages, self._level = [], INFO
        self._ui.messageLabel.text = ""
        self._ui.messageFrame.visible = False
