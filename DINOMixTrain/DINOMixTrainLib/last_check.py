"""The last check of a study, kept in its folder: what was checked, and what was found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dinomix.files import write_json

from .cohort_report import CohortReport
from .cohort_request import CHECK, CohortRequest, SceneChoice


@dataclass(frozen=True)
class LastCheck:
    """
    Attributes:
        exported: a scene choice's text -> the name of the case that it was exported as.
    """

    request: CohortRequest
    report: CohortReport
    exported: Mapping[str, str]

    def withFiles(self) -> CohortRequest:
        """The request for another scene: cases of the scene are the files that they were exported to."""

        def files(choices: tuple[SceneChoice, ...]) -> tuple[SceneChoice, ...]:
            names = (self.exported.get(choice.text, choice.file) for choice in choices)
            return tuple(SceneChoice(file=name) for name in names if name)

        request = self.request
        return replace(request, sceneLabeled=files(request.sceneLabeled), sceneUnlabeled=files(request.sceneUnlabeled))


def readLastCheck(studyFolder: str) -> LastCheck | None:
    """The last check of a study; None without one, or where its file is not one."""
    try:
        data = json.loads((Path(studyFolder) / CHECK).read_text(encoding="utf-8"))
        request = CohortRequest.fromJson(data["choices"], studyFolder)
        return LastCheck(request, CohortReport.fromJson(data["report"]), dict(data["exported"]))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def writeLastCheck(check: LastCheck) -> None:
    """Write a check into its study's folder. Raises OSError when that is not possible."""
    data = {"choices": check.request.asJson(), "report": check.report.asJson(), "exported": dict(check.exported)}
    write_json(check.request.folder / CHECK, data)
