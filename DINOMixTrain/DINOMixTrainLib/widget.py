"""The module's window: a tab for each page. It connects the pages to the parameter node and to one another."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from dinomix_slicer.setup.notice import SetupNotice
from dinomix_slicer.window.appearance import INFO
from dinomix_slicer.window.module_window import ModuleWindow

from .cohort_page import CohortPage
from .logic import DINOMixTrainLogic
from .page import Page
from .result_page import ResultPage
from .run_page import RunPage
from .training_page import TrainingPage

if TYPE_CHECKING:
    from .parameter_node import DINOMixTrainParameterNode


class DINOMixTrainWidget(ModuleWindow):
    """The pages do the work; this follows the scene, and tells the pages to show what is so now."""

    # -- Life

    def makeParts(self) -> None:
        """Make the logic and the pages."""
        self.logic = DINOMixTrainLogic()
        self.setupNotice = SetupNotice(self.ui, self.logic)
        self.pages: dict[str, Page] = {}
        self._addPage("cases", _("1. Cases"), CohortPage)
        self._addPage("training", _("2. Training"), TrainingPage)
        self._addPage("run", _("3. Run"), RunPage)
        self._addPage("result", _("4. Result"), ResultPage)
        self.hear(self.logic.offers.changed, self._updateLater)
        self.hear(self.logic.installer.failed, self.onFailed)
        self.hear(self.logic.installer.installed, self.logic.offers.refresh)

    def cleanup(self) -> None:
        """Let go of everything. Runs go on."""
        super().cleanup()
        for page in self.pages.values():
            page.close()
        self.setupNotice.close()
        self.logic.close()

    def enter(self) -> None:
        """The user comes to the module."""
        super().enter()
        if not self.logic.missingDependencies():
            self.logic.offers.refresh()
        for page in self.pages.values():
            page.isEntered = True
            page.enter()

    def exit(self) -> None:
        """The user goes elsewhere: what runs goes on, nothing new is started."""
        super().exit()
        for page in self.pages.values():
            page.isEntered = False

    def _addPage(self, name: str, title: str, make: Callable[[Any, DINOMixTrainLogic], Page]) -> None:
        root = slicer.util.loadUI(self.resourcePath(f"UI/DINOMixTrain{name.capitalize()}.ui"))
        root.setMRMLScene(slicer.mrmlScene)
        self.ui.pagesTabWidget.addTab(root, title)
        page = self.pages[name] = make(slicer.util.childWidgetVariables(root), self.logic)
        self.hear(page.failed, self.onFailed)
        self.hear(page.notice, self.onNotice)
        self.hear(page.changed, self._updateLater)
        self.hear(page.wantsPage, self.goTo)

    # -- The scene and the parameter node

    def onSceneStartClose(self, caller: Any, event: Any) -> None:
        """The nodes are about to go, the parameter node's content too."""
        super().onSceneStartClose(caller, event)
        for page in self.pages.values():
            page.node = None
            page.release()

    def uisOfParameters(self) -> list[Any]:
        """Those of the pages that have such widgets."""
        return [page.ui for page in self.pages.values() if hasParameters(page.ui)]

    def showParts(self, node: DINOMixTrainParameterNode) -> None:
        """Make every page show what is so now."""
        self.setupNotice.show(node)
        for page in self.pages.values():
            page.node = node
            page.show()

    # -- What the pages announce

    def goTo(self, name: str) -> None:
        """Show a page by its name."""
        self.ui.pagesTabWidget.currentIndex = list(self.pages).index(name)

    def onNotice(self, text: str) -> None:
        """The user should know this."""
        self.messages.add(text, INFO)


def hasParameters(ui: Any) -> bool:
    """Whether a page has widgets that show a parameter by themselves; connecting one without is an error in Slicer."""
    return any(widget.property("SlicerParameterName") for widget in vars(ui).values())
