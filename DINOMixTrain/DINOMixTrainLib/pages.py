"""The pages of the window, in the order of the tabs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from .cohort_page import CohortPage
from .page import Page
from .result_page import ResultPage
from .run_page import RunPage
from .training_page import TrainingPage

if TYPE_CHECKING:
    from .logic import DINOMixTrainLogic


@dataclass(frozen=True)
class Tab:
    """A tab: the page's name, its title, its ``.ui`` file, and what makes the page of the widgets and the logic."""

    name: str
    title: str
    file: str
    make: Callable[[Any, DINOMixTrainLogic], Page]


def tabs() -> tuple[Tab, ...]:
    return (
        Tab("cases", _("1. Cases"), "DINOMixTrainCases.ui", CohortPage),
        Tab("training", _("2. Training"), "DINOMixTrainTraining.ui", TrainingPage),
        Tab("run", _("3. Run"), "DINOMixTrainRun.ui", RunPage),
        Tab("result", _("4. Result"), "DINOMixTrainResult.ui", ResultPage),
    )


def makePages(tabWidget: Any, logic: DINOMixTrainLogic, resourcePath: Callable[[str], str]) -> dict[str, Page]:
    """Fill the ``QTabWidget``; returns the pages by their names."""
    pages = {}
    for tab in tabs():
        root = slicer.util.loadUI(resourcePath(f"UI/{tab.file}"))
        root.setMRMLScene(slicer.mrmlScene)
        tabWidget.addTab(root, tab.title)
        pages[tab.name] = tab.make(slicer.util.childWidgetVariables(root), logic)
    return pages
