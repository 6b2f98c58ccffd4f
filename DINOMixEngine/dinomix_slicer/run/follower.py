"""Following a training run by its directory: its events as they are written, and what has become of it.

The run may train on this computer or elsewhere over a shared folder, and more than one window may follow it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ..signal import Signal
from ..timer import timer
from .process import exitCode
from .state import LAST_WORDS, NEW, Heartbeat, RunState, judge, lastWord, parsed, readJson, readSigns

TICK_SECONDS = 0.006
"""How long the events of one tick may take together; far below what a person notices."""
READ_BYTES = 2**16
POLL_MILLISECONDS = 500
CHECKED_BYTES = 256


class RunFollower:
    """Follows one run from ``start`` to ``stop``; everything happens on the main thread, in slices.

    Attributes:
        path: the run directory.
        state: see ``run_state.RunState``.
        config: config.json's ``train``; empty before it is there.
        steps: how many the run takes; 0 while unknown.
        step: how many it has taken.
        progress: the last ``progress`` event, None before the first of this process.
        isCaughtUp: whether all events that were there have been announced.

    Signals:
        event(event): an event, in the order of the file.
        restarted(): all events come anew, since a resumed run has taken back some; forget what came so far.
        stateChanged(state)
    """

    def __init__(self, path: Path) -> None:
        self.event, self.restarted, self.stateChanged = Signal(), Signal(), Signal()
        self.path = path
        self.state = RunState(NEW)
        self._heartbeat = Heartbeat()
        self._timer = timer(POLL_MILLISECONDS, self._onTick)
        self._looked = 0.0
        self._forget()

    def start(self) -> None:
        """Begin to follow; the state is known when this returns, the events come later."""
        self._look()
        self._timer.setInterval(0)
        self._timer.start()

    def stop(self) -> None:
        """Follow it no more."""
        self._timer.stop()

    def lookNow(self) -> None:
        """Look at once, after the run was started or asked for something."""
        self._looked = 0.0
        self._timer.setInterval(0)

    # -- Inside

    def _forget(self) -> None:
        self.config: dict[str, Any] = {}
        self.steps = self.step = 0
        self.progress: dict[str, Any] | None = None
        self.isCaughtUp = False
        self._lastEvent: dict[str, Any] | None = None
        self._offset = 0  # bytes of the file that were read
        self._checked = b""  # the last of them, by which another file in its place is noticed
        self._unread = bytearray()
        self._searched = 0

    def _onTick(self) -> None:
        end = time.monotonic() + TICK_SECONDS
        if not self._unread or self._unread.find(b"\n", self._searched) < 0:
            self._read()
        hasMore = self._announce(end)
        if hasMore:
            self._timer.setInterval(0)
            return
        self.isCaughtUp = True
        self._timer.setInterval(POLL_MILLISECONDS)
        if time.monotonic() - self._looked >= POLL_MILLISECONDS / 1000:
            self._look()

    def _read(self) -> None:
        """Take the next bytes of the file; from its beginning where another has taken its place."""
        try:
            with open(self.path / "events.jsonl", "rb") as file:
                if self._isAnother(file):
                    self._forget()
                    self.restarted.emit()
                file.seek(self._offset)
                data = file.read(READ_BYTES)
        except OSError:
            return
        self._offset += len(data)
        self._checked = (self._checked + data)[-CHECKED_BYTES:]
        self._unread += data

    def _isAnother(self, file: Any) -> bool:
        if not self._checked:
            return False
        file.seek(self._offset - len(self._checked))
        return bool(file.read(len(self._checked)) != self._checked)

    def _announce(self, end: float) -> bool:
        """Announce events until the time is up; whether there are more."""
        while True:
            position = self._unread.find(b"\n", self._searched)
            if position < 0:
                self._searched = len(self._unread)
                return self._hasMoreInFile()
            line = bytes(self._unread[:position])
            del self._unread[: position + 1]
            self._searched = 0
            event = parsed(line)
            if event is not None:
                self._take(event)
                self.event.emit(event)
            if time.monotonic() > end:
                return True

    def _hasMoreInFile(self) -> bool:
        try:
            return (self.path / "events.jsonl").stat().st_size > self._offset
        except OSError:
            return False

    def _take(self, event: dict[str, Any]) -> None:
        kind, step = event["kind"], event.get("step")
        self._lastEvent = event
        if kind == "started":
            self.progress = None
        if kind in ("started", "schedule"):
            self.steps = int(event.get("steps") or self.steps)
        elif kind == "progress":
            self.progress = event
            if event.get("stage") != "train":
                return
        if isinstance(step, int) and kind not in LAST_WORDS:
            self.step = step

    def _look(self) -> None:
        """See what has become of the run."""
        self._looked = time.monotonic()
        if not self.config:
            self.config = (readJson(self.path / "config.json") or {}).get("train") or {}
            self.steps = self.steps or int(self.config.get("steps") or 0)
        exitCode(self.path)
        signs = readSigns(self.path)
        self._heartbeat.look(signs.alive)
        last = self._lastEvent if self.isCaughtUp else lastWord(self.path)
        state = judge(self.path, last, signs, self._heartbeat)
        if state != self.state:
            self.state = state
            self.stateChanged.emit(state)
