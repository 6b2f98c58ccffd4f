"""The run that is followed: its curves, what has become of it, and what it can be asked."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from dinomix_slicer.remedies import textOf
from dinomix_slicer.run.curves import RunCurves
from dinomix_slicer.run.follower import RunFollower
from dinomix_slicer.run.process import LOG, askRun, endRun, exitCode, finishRun, hasCheckpoint, resumeRun
from dinomix_slicer.run.registry import isRun, rememberRun
from dinomix_slicer.run.state import NEW, RUNNING, RunState, lastLines
from dinomix_slicer.signal import Signal, telling
from dinomix_slicer.timer import timer

NOTICES = 200
LOG_LINES = 400


class RunLogic:
    """Follows one run at a time.

    Attributes:
        follower: what follows the run: its steps, progress and configuration; None without a run.
        curves: of this run, see ``curves.RunCurves``.
        notices: the last of what the run gave notice of, (time, sentence).
        snapshot: the last ``snapshot`` event; None before the first.
        best: (step, mean Dice) of the best validation; None before the first.
        verdict: the event that says whether the run has ended better than the model that it started from; None without one.
        disk: the ``disk`` event of cases that are being prepared; None without one, and once training begins.
        request: "pause" or "stop" while the run has not answered to it yet; else empty.

    Signals:
        changed(): something of it is new; emitted often.
        curvesChanged(names): names of the groups of curves that have new points, or all after a restart.
        snapshotChanged(event)
        ended(state): while it was followed, the run has come to its end, or paused, or was lost.
        failed(problem, remedy): what was asked could not be done.
    """

    def __init__(self) -> None:
        self.changed, self.curvesChanged, self.snapshotChanged = Signal(), Signal(), Signal()
        self.ended, self.failed = Signal(), Signal()
        self.follower: RunFollower | None = None
        self._wasActive = False  # whether it was seen to start or run
        self._timer = timer(50, self._announce, isSingleShot=True)
        self._forget()

    # -- Which run

    @property
    def path(self) -> Path | None:
        """The run directory; None without one."""
        return self.follower.path if self.follower is not None else None

    @property
    def state(self) -> RunState | None:
        """What has become of the run; None without one."""
        return self.follower.state if self.follower is not None else None

    def follow(self, run: Path | None) -> None:
        """Follow this run, and the one that was followed no more."""
        if run == self.path:
            return
        if self.follower is not None:
            self.follower.stop()
        self.follower, self._wasActive = None, False
        self._forget()
        if run is not None:
            follower = self.follower = RunFollower(run)
            follower.event.connect(self._onEvent)
            follower.restarted.connect(self._onRestarted)
            follower.stateChanged.connect(self._onState)
            follower.start()
            if isRun(run):
                rememberRun(run)
        self.curvesChanged.emit(set(self.curves.curves))
        self.changed.emit()

    def open(self, run: Path) -> bool:
        """Follow a run that the user has chosen, also one over a shared folder; ``failed`` where it is none."""
        if not isRun(run):
            self.failed.emit(
                _("There is no run in {path}").format(path=run), _("Choose the folder that a run was started in.")
            )
            return False
        self.follow(run)
        return True

    def close(self) -> None:
        """Follow nothing any more; the run goes on."""
        if self.follower is not None:
            self.follower.stop()
            self.follower = None
        self._timer.stop()

    # -- What it can be asked

    def pause(self) -> None:
        """Let it save its state and end; it can be resumed."""
        self._ask("pause")

    @property
    def canStop(self) -> bool:
        """Whether it trains, or has come far enough that a model can be made of it as it is."""
        if self.follower is None or self.request:
            return False
        state = self.follower.state
        return state.name == RUNNING or (state.canResume and hasCheckpoint(self.follower.path))

    def stop(self) -> None:
        """Let it end now; the best model by now is the result."""
        if self.state is not None and self.state.name == RUNNING:
            self._ask("stop")
        else:
            self._launch(finishRun)

    def resume(self) -> None:
        """Go on with it on this computer."""
        self._launch(resumeRun)

    def _launch(self, start: Callable[[Path], None]) -> None:
        if self.follower is None:
            return
        with telling(self.failed):
            start(self.follower.path)
        self.request = ""
        self._toldExit = False
        self.follower.lookNow()

    def end(self) -> None:
        """End its process at once, where it does not answer."""
        if self.follower is not None:
            endRun(self.follower.path)
            self.follower.lookNow()

    @property
    def waitingSeconds(self) -> float:
        """How long the run has not answered to a request; 0 without one."""
        return time.monotonic() - self._asked if self.request else 0.0

    def logLines(self) -> list[str]:
        """The end of the log: what the process printed, and the run's notices where it printed none."""
        if self.path is None:
            return []
        printed = lastLines(self.path / LOG, count=LOG_LINES)
        return printed or [f"{moment}  {text}" for moment, text in self.notices]

    # -- Inside

    def _forget(self) -> None:
        self.curves = RunCurves()
        self.notices: deque[tuple[str, str]] = deque(maxlen=NOTICES)
        self.snapshot: dict[str, Any] | None = None
        self.best: tuple[int, float] | None = None
        self.verdict: dict[str, Any] | None = None
        self.started: dict[str, Any] | None = None
        self.request = ""
        self._asked = 0.0
        self.disk: dict[str, Any] | None = None
        self._toldExit = False
        self._changedCurves: set[str] = set()
        self._newSnapshot = False

    def _ask(self, request: str) -> None:
        if self.follower is None:
            return
        with telling(self.failed):
            askRun(self.follower.path, request)
            self.request, self._asked = request, time.monotonic()
            self.changed.emit()

    def _onEvent(self, event: dict[str, Any]) -> None:
        kind = event["kind"]
        self._changedCurves |= self.curves.take(event)
        if kind == "validation":
            mean = event.get("mean")
            if isinstance(mean, float | int) and (self.best is None or mean >= self.best[1]):
                self.best = (int(event.get("step", 0)), float(mean))
        elif kind == "notice":
            moment = time.strftime("%H:%M:%S", time.localtime(float(event.get("time", 0))))
            self.notices.append((moment, textOf(event)))
        elif kind == "verdict":
            self.verdict = event
        elif kind == "started":
            self.started, self.disk, self.verdict = event, None, None
        elif kind == "disk":
            self.disk = event
        elif kind == "loss":
            self.disk = None
        elif kind == "snapshot":
            self.snapshot, self._newSnapshot = event, True
        if not self._timer.isActive():
            self._timer.start()

    def _onRestarted(self) -> None:
        path, request, asked = self.path, self.request, self._asked
        self._forget()
        self.request, self._asked = request, asked
        self._changedCurves = set(self.curves.curves)
        if path is not None and not self._timer.isActive():
            self._timer.start()

    def _onState(self, state: RunState) -> None:
        if state.name not in (NEW, RUNNING):
            self.request = ""
            self._toldExit = True  # the state says why
        hasEnded = self._wasActive and state.name not in (NEW, RUNNING)
        self._wasActive = state.name in (NEW, RUNNING)
        if hasEnded:
            self.ended.emit(state)
        self.changed.emit()

    def _announce(self) -> None:
        """Tell what has come since the last time, once for many events."""
        names, self._changedCurves = self._changedCurves, set()
        if names:
            self.curvesChanged.emit(names)
        if self._newSnapshot and self.snapshot is not None:
            self._newSnapshot = False
            self.snapshotChanged.emit(self.snapshot)
        self._tellRefusal()
        self.changed.emit()

    def _tellRefusal(self) -> None:
        """A process of ours that was refused, since another one trains the run, is told once."""
        if self.path is None or self._toldExit or exitCode(self.path) in (None, 0):
            return
        if self.state is not None and self.state.name == RUNNING:
            self._toldExit = True
            errors = [line for line in self.logLines() if line.startswith("Error: ")]
            if errors:
                self.failed.emit(errors[-1].removeprefix("Error: "), "")
