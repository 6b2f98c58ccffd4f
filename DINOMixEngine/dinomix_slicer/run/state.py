"""What has become of a training run, as its directory tells it: by its last event, its sign of life, and who started it.

Read with the standard library alone: the run may train elsewhere, or in another Python.
"""

from __future__ import annotations

import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from dinomix.files import LARGEST_JSON, parse_json, read_table

from ..paths import isFile, isFolder
from ..processes import isHeld, isThere
from ..remedies import remedyOf
from ..window.duration import duration

NEW, RUNNING, PAUSED, FAILED, FINISHED, LOST = "new", "running", "paused", "failed", "finished", "lost"
LAST_WORDS = ("finished", "paused", "error")
"""Kinds of events after which no process writes to the run, until it is resumed."""
PATIENCE_HERE, PATIENCE_ELSEWHERE = 20.0, 90.0
"""Seconds without a sign of life; computers that share a folder may see each other's files late."""
LONGEST_START = 3600.0
"""Seconds from a start to the first event; a teacher may have to be fetched first."""
FULL_DISK = 2**22
LARGEST_TAIL = 2**16
LAUNCH, ALIVE = "launch.json", "alive.json"
LOCK = ".lock"
"""Held by the process that trains."""


@dataclass(frozen=True)
class RunState:
    """What a run does.

    Attributes:
        name: "new" (started, or about to be), "running", "paused", "failed", "finished" or "lost".
        reason: what happened, a full sentence; empty where the name says all.
        remedy: what to do.
        canResume: whether resuming it makes sense.
        isHere: whether its process is on this computer.
    """

    name: str
    reason: str = ""
    remedy: str = ""
    canResume: bool = False
    isHere: bool = True


@dataclass(frozen=True)
class Signs:
    """What the small files of a run say.

    Attributes:
        isThere: whether the directory is.
        hasConfig: whether the run was begun: config.json is the last file that a beginning writes.
        alive: alive.json, a sign of life that a training process renews every two seconds; None without one.
        launch: launch.json, which says who started it last and when; None where it was not started from Slicer.
    """

    isThere: bool
    hasConfig: bool
    alive: dict[str, Any] | None
    launch: dict[str, Any] | None


def readSigns(run: Path) -> Signs:
    """Look at a run's small files."""
    hasConfig = isFile(run / "config.json")
    return Signs(isFolder(run), hasConfig, readJson(run / ALIVE), readJson(run / LAUNCH))


class Heartbeat:
    """Whether a sign of life keeps changing, by this computer's own clock: those of two computers may differ."""

    def __init__(self) -> None:
        self._last: object = None
        self._since = time.monotonic()

    def look(self, alive: dict[str, Any] | None) -> None:
        """Take note of the sign of life as it is now."""
        beat = None if alive is None else (alive.get("pid"), alive.get("host"), alive.get("time"))
        if beat != self._last:
            self._last, self._since = beat, time.monotonic()

    @property
    def silence(self) -> float:
        """Seconds since it last changed."""
        return time.monotonic() - self._since


def judge(run: Path, lastEvent: dict[str, Any] | None, signs: Signs, heartbeat: Heartbeat) -> RunState:
    """What has become of a run.

    Args:
        lastEvent: the last event of events.jsonl that is a last word, or any other if none follows it; None without any.
        heartbeat: has looked at ``signs.alive``.
    """
    if not signs.isThere:
        return RunState(
            LOST,
            _("The folder of this run is gone: {path}").format(path=run),
            _("It was deleted or moved, or its disk is not connected. Open another run, or start a new one."),
        )
    if signs.launch is not None and _number(signs.launch, "time") > _number(lastEvent or {}, "time"):
        started = _afterLaunch(run, signs.launch, signs, heartbeat)
        if started is not None:
            return started
    if lastEvent is not None and lastEvent["kind"] in LAST_WORDS:
        return _byLastWord(lastEvent, signs)
    if signs.alive is not None:
        return _byHeartbeat(run, signs.alive, heartbeat, signs.hasConfig)
    if lastEvent is None:
        return _untold(run, signs)
    return _lost(run, signs.hasConfig, _("The process of this run ended without saying why."))


def lastWord(run: Path) -> dict[str, Any] | None:
    """The event that ``judge`` wants, from the end of events.jsonl."""
    try:
        with open(run / "events.jsonl", "rb") as file:
            file.seek(0, 2)
            file.seek(max(file.tell() - LARGEST_TAIL, 0))
            lines = file.read().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        event = parsed(line)
        if event is not None:
            return event
    return None


def quickState(run: Path) -> RunState:
    """What has become of a run that is not followed, by one look."""
    signs, heartbeat = readSigns(run), Heartbeat()
    heartbeat.look(signs.alive)
    state = judge(run, lastWord(run), signs, heartbeat)
    if state.name == RUNNING and signs.alive is not None:
        age = abs(time.time() - _number(signs.alive, "time"))
        isSilent = age > PATIENCE_HERE and not isHeld(run / LOCK) if state.isHere else age > 2 * PATIENCE_ELSEWHERE
        if isSilent:
            return RunState(LOST, canResume=signs.hasConfig, isHere=state.isHere)
    return state


def readJson(path: Path, largest: int = LARGEST_JSON) -> dict[str, Any] | None:
    """A JSON object from a file of at most ``largest`` bytes; None where it is not there, or is none."""
    try:
        return read_table(path, largest)
    except (OSError, ValueError):
        return None


def parsed(line: bytes) -> dict[str, Any] | None:
    """One line of events.jsonl; None for what a crash or a full disk left."""
    try:
        event = parse_json(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "kind" in event else None


def lastLines(file: Path, start: int = 0, count: int = 3) -> list[str]:
    """The last lines of a log that say something, from byte ``start`` on; of a redrawn line, what it showed last."""
    try:
        with open(file, "rb") as opened:
            opened.seek(0, 2)
            opened.seek(max(opened.tell() - LARGEST_TAIL, min(start, opened.tell())))
            text = opened.read().decode("utf-8", "replace")
    except OSError:
        return []
    lines = [line.rstrip("\r").rpartition("\r")[2].strip() for line in text.split("\n")]
    return [line for line in lines if line][-count:]


# -- Inside


def _afterLaunch(run: Path, launch: dict[str, Any], signs: Signs, heartbeat: Heartbeat) -> RunState | None:
    """A run that was started after its last event and has not spoken yet; None where another process trains it."""
    isHere = launch.get("host") == socket.gethostname()
    if time.time() - _number(launch, "time") > LONGEST_START:
        return None
    if not isHere or isThere(int(_number(launch, "pid"))):
        return RunState(NEW, _("The run is starting."), isHere=isHere)
    if signs.alive is not None and _byHeartbeat(run, signs.alive, heartbeat, signs.hasConfig).name == RUNNING:
        return None
    lines = lastLines(run / "log.txt", int(_number(launch, "log")))
    told = next((line for line in reversed(lines) if line.startswith("Error: ")), "")
    if told:
        reason = told.removeprefix("Error: ")
    elif lines:
        reason = _("The run could not be started. Its last words: {words}").format(words=" / ".join(lines))
    else:
        reason = _("The run could not be started, and its process left no message.")
    remedy = "" if told else _("The log below may say more.")
    return RunState(FAILED, reason, remedy, canResume=signs.hasConfig)


def _byLastWord(event: dict[str, Any], signs: Signs) -> RunState:
    if event["kind"] == "finished":
        reason = _("The run was stopped early; its best model was kept.") if event.get("stopped") else ""
        return RunState(FINISHED, reason)
    name = PAUSED if event["kind"] == "paused" else FAILED
    return RunState(name, str(event.get("message", "")), remedyOf(event), canResume=signs.hasConfig)


def _byHeartbeat(run: Path, alive: dict[str, Any], heartbeat: Heartbeat, hasConfig: bool) -> RunState:
    host = str(alive.get("host", ""))
    if host != socket.gethostname():
        if heartbeat.silence < PATIENCE_ELSEWHERE:
            return RunState(RUNNING, isHere=False)
        return RunState(
            LOST,
            _("{host} has given no sign of life of this run for {time}.").format(
                host=host, time=duration(heartbeat.silence)
            ),
            _("See whether that computer is on and the shared folder connected; if it has ended, resume the run."),
            canResume=hasConfig,
            isHere=False,
        )
    if not isThere(int(_number(alive, "pid"))):
        return _lost(
            run, hasConfig, _("The process of this run was ended from outside, or the computer was restarted.")
        )
    if heartbeat.silence < PATIENCE_HERE:
        return RunState(RUNNING)
    # After a restart of the computer, another process may have that number.
    if isHeld(run / LOCK):
        reason = _("The run has given no sign of life for {time}; its process is there, but stands still.")
        return RunState(
            RUNNING, reason.format(time=duration(heartbeat.silence)), _("Wait for it, or end its process and resume.")
        )
    return _lost(run, hasConfig, _("The process of this run has ended, or the computer was restarted."))


def _lost(run: Path, canResume: bool, reason: str) -> RunState:
    try:
        if shutil.disk_usage(run).free < FULL_DISK:
            return RunState(
                LOST,
                _("The disk of this run is full, and its process has ended."),
                _("Free some space, then resume the run; it goes on from its last checkpoint."),
                canResume,
            )
    except OSError:
        pass
    return RunState(LOST, reason, _("Resume it; it goes on from its last checkpoint."), canResume)


def _untold(run: Path, signs: Signs) -> RunState:
    if signs.hasConfig:
        return RunState(LOST, _("This run was begun, but no process trains it."), _("Resume it."), canResume=True)
    return RunState(
        FAILED, _("There is no run in {path}").format(path=run), _("Open the folder that a run was started in.")
    )


def _number(data: dict[str, Any], key: str) -> float:
    value = data.get(key, 0)
    return float(value) if isinstance(value, int | float) else 0.0
