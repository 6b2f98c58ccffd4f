"""The module's logic: what the window and scripts can do. It opens no dialog and announces everything by signals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import qt
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from dinomix_slicer.signal import Signal
from dinomix_slicer.worker.owner import WorkerOwner

from .cohort_logic import CohortLogic
from .parameter_node import DINOMixTrainParameterNode
from .result_logic import ResultLogic
from .run_logic import RunLogic
from .training_logic import TrainingLogic

if TYPE_CHECKING:
    from dinomix_slicer.setup.dependencies import DependencyInstaller
    from dinomix_slicer.worker.client import WorkerClient


class DINOMixTrainLogic(WorkerOwner, ScriptedLoadableModuleLogic):
    """Owns one part for each page of the window, and the worker, which lists models and devices and is ended then.

    Attributes:
        cohort: gathers and checks cases; page 1.
        training: begins a run; page 2.
        runs: follows a run; page 3.
        results: what a run has brought; page 4.

    Signals, each with ``connect(function)``, ``disconnect(function)``:
        failed(problem, remedy): the worker could not be started or died.
        modelsChanged(models): the worker has listed its models; see ``models``.
        workerStateChanged(state): "stopped", "starting", "ready", "busy" or "failed".
    """

    def __init__(self, client: WorkerClient | None = None, installer: DependencyInstaller | None = None) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        WorkerOwner.__init__(self, client, installer)
        self.failed = Signal()
        self._hello: dict[str, Any] | None = None
        self.cohort = CohortLogic()
        self.training = TrainingLogic(self.cohort.whyNotTrain)
        self.runs = RunLogic()
        self.results = ResultLogic()

    def cleanup(self) -> None:
        """End everything that belongs to this window; runs go on. Called when the window goes or is reloaded."""
        self.cohort.close()
        self.training.cleanup()
        self.runs.cleanup()
        self.results.cleanup()
        self.stopWorker()

    def getParameterNode(self) -> DINOMixTrainParameterNode:
        """The wrapped parameter node of the scene; made when it is not there."""
        return DINOMixTrainParameterNode(super().getParameterNode())

    @property
    def workerHello(self) -> dict[str, Any] | None:
        """What the worker said of itself, also after it has ended."""
        return super().workerHello or self._hello

    def _onModels(self, models: list[dict[str, Any]]) -> None:
        # That was all it is needed for here; its memory is for the training.
        self._hello = self.workerHello
        super()._onModels(models)
        qt.QTimer.singleShot(0, self.stopWorker)

    def _onWorkerFailed(self, problem: str, remedy: str) -> None:
        self.failed.emit(problem, remedy)
