"""The module's logic: what the window and scripts can do. It opens no dialog and announces everything by signals."""

from __future__ import annotations

from collections.abc import Callable

from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from dinomix_slicer.engine_process import EngineProcess
from dinomix_slicer.setup.dependencies import DependencyInstaller
from dinomix_slicer.setup.owner import PackagesOwner

from .cohort_logic import CohortLogic
from .first_cases_logic import FirstCasesLogic
from .offers import Offers
from .parameter_node import DINOMixTrainParameterNode
from .result_logic import ResultLogic
from .run_logic import RunLogic
from .training_logic import TrainingLogic


class DINOMixTrainLogic(PackagesOwner, ScriptedLoadableModuleLogic):
    """Owns one part for each page of the window; all that computes are processes of the engine.

    Attributes:
        offers: models, devices and presets to choose from.
        cohort: gathers and checks cases; page 1.
        firstCases: proposes which of them to draw first; page 1.
        training: begins a run; page 2.
        runs: follows a run; page 3.
        results: what a run has brought; page 4.
    """

    def __init__(
        self,
        installer: DependencyInstaller | None = None,
        makeProcess: Callable[[list[str]], EngineProcess] = EngineProcess,
    ) -> None:
        PackagesOwner.__init__(self, installer)
        ScriptedLoadableModuleLogic.__init__(self)
        self.offers = Offers(makeProcess)
        self.cohort = CohortLogic(makeProcess)
        self.firstCases = FirstCasesLogic(makeProcess)
        self.training = TrainingLogic(self.cohort.whyNotTrain, makeProcess)
        self.runs = RunLogic()
        self.results = ResultLogic(makeProcess)

    def close(self) -> None:
        """End everything that belongs to this window; runs go on. Called when the window goes or is reloaded."""
        for part in (self.offers, self.cohort, self.firstCases, self.training, self.runs, self.results):
            part.close()

    def getParameterNode(self) -> DINOMixTrainParameterNode:
        """The wrapped parameter node of the scene; made when it is not there."""
        return DINOMixTrainParameterNode(super().getParameterNode())
