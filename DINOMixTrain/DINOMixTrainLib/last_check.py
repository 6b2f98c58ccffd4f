"""The last check of a study, kept in its folder: what was checked, and what was found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dinomix.files import write_json
from dinomix_slicer.run.state import readJson

from .cohort_report import CohortReport
from .cohort_request import CohortRequest
from .study import CHECK


def readLastCheck(studyFolder: str) -> tuple[CohortRequest, CohortReport, dict[str, str]] | None:
    """What was checked last, what was found, and what ``CohortRequest.withFiles`` needs; None without a check."""
    data = readJson(Path(studyFolder) / CHECK) or {}
    report = CohortReport()
    try:
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in data["choices"].items()}
        for event in data["events"]:
            report.take(event)
        return CohortRequest(studyFolder, **values), report, dict(data["exported"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def writeLastCheck(request: CohortRequest, report: CohortReport, exported: Mapping[str, str]) -> None:
    """Write a check into its study's folder. Raises OSError when that is not possible."""
    choices = {key: value for key, value in vars(request).items() if key != "studyFolder"}
    write_json(request.folder / CHECK, {"choices": choices, "events": report.events, "exported": dict(exported)})
