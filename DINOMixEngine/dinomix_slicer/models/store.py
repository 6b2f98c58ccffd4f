"""The models on this computer and the published ones: listed, installed, imported and removed by the engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath
from typing import Any

import qt
from slicer.i18n import tr as _

from ..engine_process import EngineProcess
from ..signal import Signal, telling

MIRROR_SETTING = "DINOMix/ModelsMirror"
"""An address or a folder that holds the catalog's files; empty for their publishers."""


class ModelStore:
    """One thing at a time; each runs ``dinomix models ...`` in the background.

    Attributes:
        installed: what the engine says of each model folder; see docs/worker.md, MODEL.
        catalog: the published models, as the catalog's schema has them, with "installed".
        doing: "" while nothing runs, else "list", "install", "import" or "remove".

    Signals; nothing else is emitted after ``end``:
        listed(): ``installed`` and ``catalog`` are new.
        progress(stage, step, total): of an installation or an import; total is 0 while unknown.
        changed(name): a model was installed or imported (its folder's name), or removed (""). A list follows.
        failed(problem, remedy), cancelled(): what ran is over.
    """

    def __init__(self, makeProcess: Callable[[list[str]], EngineProcess] = EngineProcess) -> None:
        self.listed, self.progress, self.changed = Signal(), Signal(), Signal()
        self.failed, self.cancelled = Signal(), Signal()
        self.installed: list[dict[str, Any]] = []
        self.catalog: list[dict[str, Any]] = []
        self.doing = ""
        self._makeProcess = makeProcess
        self._process: EngineProcess | None = None
        self._result = ""

    def refresh(self) -> None:
        """List everything anew."""
        self._run("list", [])

    def install(self, name: str) -> None:
        """Install a model of the catalog; the user has agreed to its license."""
        self._run("install", [name, "--yes", *(["--from", self.mirror()] if self.mirror() else [])])

    def importFrom(self, path: str) -> None:
        """Import a model of the user's own, a file or a folder."""
        self._run("import", [path])

    def remove(self, path: str) -> None:
        """Remove the model folder from the disk."""
        self._run("remove", [path, "--yes"])

    def cancel(self) -> None:
        """Give up what runs; what was fetched of a file is kept, and the next time goes on from there."""
        if self._process is not None:
            self._process.cancel()

    def end(self) -> None:
        """For when the module goes: end what runs, without a word."""
        if self._process is not None:
            self._process.end()
            self.doing, self._process = "", None

    def mirror(self) -> str:
        """Where files come from instead of from their publishers; empty for the publishers."""
        return str(qt.QSettings().value(MIRROR_SETTING) or "").strip()

    def setMirror(self, text: str) -> None:
        """Take files from this address or folder; empty for their publishers."""
        qt.QSettings().setValue(MIRROR_SETTING, text.strip())

    def _run(self, verb: str, arguments: list[str]) -> None:
        if self.doing:
            return
        with telling(self.failed):
            process = self._makeProcess(["models", verb, *arguments])
            self.doing, self._process, self._result = verb, process, ""
            process.event.connect(self._onEvent)
            process.finished.connect(lambda exitCode: self._end(self._tellDone, verb))
            process.failed.connect(lambda *words: self._end(self.failed.emit, *words))
            process.cancelled.connect(lambda: self._end(self.cancelled.emit))
            process.start()

    def _end(self, tell: Callable[..., None], *arguments: str) -> None:
        self.doing, self._process = "", None
        tell(*arguments)

    def _onEvent(self, event: dict[str, Any]) -> None:
        kind = event.get("kind")
        if kind == "models":
            self.installed, self.catalog = event["installed"], event["catalog"]
        elif kind == "progress":
            self.progress.emit(event["stage"], int(event["step"]), int(event["total"] or 0))
        elif kind == "result":
            self._result = str(event["model"])

    def _tellDone(self, verb: str) -> None:
        if verb == "list":
            self.listed.emit()
            return
        self.changed.emit("" if verb == "remove" else PurePath(self._result).name)
        self.refresh()


def sizeText(entry: dict[str, Any]) -> str:
    """What a published model takes to fetch, as far as that is known."""
    exact, about = entry["download"]["bytes"], entry["approximate_bytes"]
    if exact:
        return _("{megabytes:.0f} MB").format(megabytes=exact / 1e6)
    return _("about {megabytes:.0f} MB").format(megabytes=about / 1e6) if about else _("size not known")
