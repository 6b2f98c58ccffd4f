"""Which unlabeled cases to draw first: those that represent the others best, found by the engine before there is a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from dinomix.files import write_json
from dinomix_slicer.engine_process import EngineProcess
from dinomix_slicer.run.state import readJson
from dinomix_slicer.signal import Signal, telling

from .cohort_logic import makeWritable
from .cohort_report import CheckedCase
from .study import FIRST_CASES, LOOKED_AT, stamp

IDLE, LOOKING, CANCELLING = "idle", "looking", "cancelling"


@dataclass(frozen=True)
class FirstCase:
    """A case that was proposed.

    Attributes:
        image: its image file or DICOM folder.
        represents: how many cases are most like it, itself among them.
        nearest: names of a few of the others of these.
    """

    name: str
    image: str
    represents: int
    nearest: tuple[str, ...]

    @property
    def scoreText(self) -> str:
        """For a reader."""
        return str(self.represents)

    @property
    def details(self) -> list[str]:
        """Whom it is like."""
        return list(self.nearest)


class FirstCasesLogic:
    """
    Attributes:
        state: "idle", "looking" or "cancelling".
        cases: what was proposed last in the study that is open, the case to draw first at the beginning; empty before.

    Signals:
        changed(): something of the above is new.
        progress(step, total, eta): eta in seconds, or None while unknown.
        failed(problem, remedy): not all images could be looked at.
    """

    def __init__(self, makeProcess: Callable[[list[str]], EngineProcess] = EngineProcess) -> None:
        self.changed, self.progress, self.failed = Signal(), Signal(), Signal()
        self.state = IDLE
        self.cases: list[FirstCase] = []
        self._makeProcess = makeProcess
        self._process: EngineProcess | None = None
        self._folder = ""
        self._read: object = None  # what the file was when it was read
        self._told: list[str] = []  # of cases that could not be looked at

    def close(self) -> None:
        """End what runs, and wait for that."""
        if self._process is not None:
            self._process.end()
        self._process, self.state = None, IDLE

    def openStudy(self, studyFolder: str) -> None:
        """Show what was proposed in this study."""
        if studyFolder != self._folder:
            self.cancel()
        file = Path(studyFolder) / FIRST_CASES
        now = (studyFolder, stamp(file) if studyFolder else None)
        if now != self._read:
            self._folder, self._read = studyFolder, now
            self.cases = firstCases(readJson(file)) if now[1] is not None else []

    def find(self, studyFolder: str, cases: Sequence[CheckedCase], folders: Sequence[str]) -> None:
        """Propose some of the unlabeled ones.

        Args:
            cases: of the last check; labeled ones count as drawn already.
            folders: of unlabeled cases, where they were not checked.
        """
        if self.state != IDLE:
            return
        with telling(self.failed):
            folder = Path(studyFolder)
            makeWritable(folder)
            if cases:
                write_json(folder / LOOKED_AT, [entryOf(case) for case in cases])
            places = [str(folder / LOOKED_AT)] if cases else list(folders)
            process = self._process = self._makeProcess(
                ["rank", *places, "--out", str(folder / FIRST_CASES), "--overwrite"]
            )
            process.event.connect(self._onEvent)
            process.finished.connect(lambda code: self._end())
            process.failed.connect(self._onFailed)
            process.cancelled.connect(self._end)
            self._told = []
            self._setState(LOOKING)
            process.start()

    def cancel(self) -> None:
        """Give it up; ``changed`` follows within a second."""
        if self._process is not None:
            self._setState(CANCELLING)
            self._process.cancel()

    def _onEvent(self, event: dict[str, Any]) -> None:
        kind = event.get("kind")
        if kind == "progress":
            self.progress.emit(event["step"], event["total"], event["eta"])
        elif kind == "error":
            self._told.append(str(event.get("message", "")))

    def _onFailed(self, problem: str, remedy: str) -> None:
        cases = [text for text in self._told if text != problem]
        self._end()
        self.failed.emit(" ".join([problem, *cases[:3]]), "" if cases else remedy)

    def _end(self) -> None:
        self._process, self._read = None, None
        self._setState(IDLE)

    def _setState(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self.changed.emit()


def entryOf(case: CheckedCase) -> dict[str, Any]:
    """A case in a list of cases of the engine."""
    return {
        "name": case.name, "image": case.image, "more_images": list(case.moreImages), "role": case.role,
        "label": case.label or None,
    }  # fmt: skip


def firstCases(told: dict[str, Any] | None) -> list[FirstCase]:
    """What ``dinomix rank`` has written of a study; none where it is damaged."""
    try:
        return [
            FirstCase(str(case["name"]), str(case["image"]), int(case["represents"]), tuple(map(str, case["nearest"])))
            for case in (told or {}).get("cases", ())
        ]
    except (KeyError, TypeError, ValueError, AttributeError):
        return []


def titles() -> tuple[str, str]:
    """Of the table's columns with ``scoreText`` and ``details``."""
    return _("Stands for"), _("Is like")
