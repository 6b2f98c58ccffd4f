"""What there is to choose from, as the engine tells it in the background: models, devices and presets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dinomix.errors import DinomixError
from dinomix_slicer.engine_process import EngineProcess
from dinomix_slicer.models.folders import modelFolders, withReadablePath
from dinomix_slicer.signal import Signal


class Offers:
    """
    Attributes:
        presets: dicts of name, title, description, settings, config (all settings).
        models: those of this computer, MODEL dicts; see docs/worker.md.
        devices: dicts of name, title, memory (bytes).
        automatic: the name of the device that is taken by itself; empty while unknown.

    Signals:
        changed(): some of it is new.
    """

    def __init__(self, makeProcess: Callable[[list[str]], EngineProcess] = EngineProcess) -> None:
        self.changed = Signal()
        self.presets: list[dict[str, Any]] = []
        self.models: list[dict[str, Any]] = []
        self.devices: list[dict[str, Any]] = []
        self.automatic = ""
        self._makeProcess = makeProcess
        self._asked: dict[str, EngineProcess] = {}

    def refresh(self) -> None:
        """Ask for the models anew, and for what is not known yet; where the engine cannot run, Start says why."""
        self._ask("models", ["models", "list", *(f"--folder={folder}" for folder in modelFolders())])
        if not self.presets:
            self._ask("presets", ["train", "--list-presets"])
        if not self.devices:
            self._ask("devices", ["train", "--list-devices"])

    def close(self) -> None:
        """End what was asked of the engine."""
        for process in self._asked.values():
            process.end()
        self._asked = {}

    def preset(self, name: str) -> dict[str, Any] | None:
        """The preset of that name."""
        return next((preset for preset in self.presets if preset["name"] == name), None)

    def model(self, path: str) -> dict[str, Any] | None:
        """The listed model in that folder."""
        return next((model for model in self.models if model["path"] == path), None)

    def _ask(self, kind: str, arguments: list[str]) -> None:
        if kind in self._asked:
            return
        try:
            process = self._asked[kind] = self._makeProcess(arguments)
        except DinomixError:
            return
        process.event.connect(self._onEvent)
        process.finished.connect(lambda exitCode: self._onAsked(kind))
        process.failed.connect(lambda problem, remedy: self._onAsked(kind))
        process.start()

    def _onEvent(self, event: dict[str, Any]) -> None:
        if event["kind"] == "models":
            self.models = [withReadablePath(model) for model in event["installed"]]
        elif event["kind"] == "presets":
            self.presets = event["presets"]
        elif event["kind"] == "devices":
            self.devices, self.automatic = event["devices"], event["automatic"]

    def _onAsked(self, kind: str) -> None:
        del self._asked[kind]
        self.changed.emit()
