"""Which training runs there are: those of the study folder, and those that were started or opened before."""

from __future__ import annotations

import json
from pathlib import Path

import qt

from ..paths import isFile
from ..stored_text import jsonIn
from .state import LAUNCH

SETTING = "DINOMix/Runs"
MOST = 50


def knownRuns(studyFolder: str = "") -> list[Path]:
    """Run directories, the newest first: of the study's runs/, then those that were remembered and are still there."""
    found = _runsOf(Path(studyFolder)) if studyFolder else []
    found += [run for run in map(Path, _remembered()) if run not in found and isRun(run)]
    return found


def rememberRun(run: Path) -> None:
    """Remember a run, so that it is found again in another scene or study."""
    others = [each for each in _remembered() if each != str(run)]
    qt.QSettings().setValue(SETTING, json.dumps([str(run), *others][:MOST]))


def isRun(folder: Path) -> bool:
    """Whether a folder holds a run, or the beginning of one."""
    return isFile(folder / "config.json") or isFile(folder / LAUNCH)


def _runsOf(study: Path) -> list[Path]:
    try:
        runs = [folder for folder in (study / "runs").iterdir() if isRun(folder)]
        return sorted(runs, key=lambda run: run.stat().st_mtime, reverse=True)
    except OSError:
        return []


def _remembered() -> list[str]:
    return [run for run in jsonIn(qt.QSettings().value(SETTING), list) if isinstance(run, str)]
