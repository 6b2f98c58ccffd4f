"""The presets to choose from, each with what it will cost on this computer."""

from __future__ import annotations

import html
from typing import Any

import qt
from slicer.i18n import tr as _

from dinomix_slicer.signal import Signal
from dinomix_slicer.window.appearance import setWrappedText
from dinomix_slicer.window.duration import duration

GIB = 2**30


class PresetList:
    """
    Signals:
        chosen(name)
    """

    def __init__(self, layout: Any) -> None:
        self.chosen = Signal()
        self._layout = layout
        self._buttons: dict[str, Any] = {}
        self._labels: dict[str, Any] = {}
        self._presets: list[dict[str, Any]] = []

    def show(self, presets: list[dict[str, Any]], chosen: str, costs: dict[str, dict[str, Any] | None]) -> None:
        """Show the presets that the engine has told, with the estimates that there are; of the chosen one the plan too."""
        if presets != self._presets:
            self._presets = presets
            self._rebuild()
        for preset in presets:
            name = preset["name"]
            button = self._buttons[name]
            blocked = button.blockSignals(True)
            button.checked = name == chosen
            button.blockSignals(blocked)
            cost = costs.get(name)
            lines = [html.escape(preset["description"]), f"<i>{html.escape(costText(cost))}</i>"]
            if name == chosen and cost is not None and "plan" in cost:
                # An estimate that was kept by an earlier version lacks the first.
                lines.append(html.escape(f"{cost.get('pseudo_labels', '')} {cost['plan']}".strip()))
            setWrappedText(self._labels[name], "<br>".join(lines))

    def _rebuild(self) -> None:
        while self._layout.count():
            widget = self._layout.takeAt(0).widget()
            widget.hide()
            widget.deleteLater()
        self._buttons, self._labels = {}, {}
        for preset in self._presets:
            button = qt.QRadioButton(preset["title"])
            button.objectName = f"preset_{preset['name']}"
            font = button.font
            font.setBold(True)
            button.font = font
            button.connect("clicked()", lambda name=preset["name"]: self.chosen.emit(name))
            label = qt.QLabel()
            label.wordWrap = True
            label.indent = 22
            self._layout.addWidget(button)
            self._layout.addWidget(label)
            self._buttons[preset["name"]], self._labels[preset["name"]] = button, label


def costText(cost: dict[str, Any] | None) -> str:
    """What a preset will cost, in one line."""
    if cost is None:
        return _("Not estimated yet with these choices.")
    return _("About {time} on {device}, with {memory:.1f} GB of memory and {disk:.2f} GB of disk.").format(
        time=duration(cost["seconds"]), device=cost["device"], memory=cost["memory_bytes"] / GIB,
        disk=cost["disk_bytes"] / GIB,
    )  # fmt: skip
