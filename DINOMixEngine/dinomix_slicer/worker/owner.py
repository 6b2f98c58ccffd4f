"""The logic's part that starts the worker, knows its models, and keeps its settings."""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

from dinomix.errors import DinomixError

from ..models.folders import FOLDERS_SETTING, withReadablePath
from ..setup.dependencies import DependencyInstaller
from ..setup.owner import PackagesOwner
from ..setup.requirements import SEGMENT, TRAIN
from ..signal import Signal
from .client import WorkerClient
from .command import SETTING, workerCommand


class WorkerOwner(PackagesOwner):
    """Owns the worker's client. It is made when it is first needed, and anew when its settings change."""

    purposes = SEGMENT, TRAIN

    def __init__(self, client: WorkerClient | None = None, installer: DependencyInstaller | None = None) -> None:
        super().__init__(installer)
        self.modelsChanged, self.workerStateChanged = Signal(), Signal()
        self._models: list[dict[str, Any]] = []
        self._isGiven = client is not None
        self._client: WorkerClient | None = None
        if client is not None:
            self._adopt(client)

    @property
    def client(self) -> WorkerClient:
        """The worker's client, started."""
        client = self._client or self._adopt(WorkerClient(workerCommand()))
        if client.state in ("stopped", "failed"):
            client.start()
        return client

    # -- Models

    def models(self) -> list[dict[str, Any]]:
        """The models that the worker has listed last: MODEL dicts; see ``model_info`` for what to show of them."""
        return self._models

    def model(self, path: str) -> dict[str, Any] | None:
        """The listed model in that folder."""
        return next((model for model in self._models if model["path"] == path), None)

    def refreshModels(self) -> None:
        """Ask the worker for its models (it is started if need be); answered by ``modelsChanged`` or ``failed``."""
        problem = self.whyNotWorker()
        if problem:
            self._onWorkerFailed(problem, "")
        else:
            self.client.listModels().finished.connect(self._onModels)

    def setModelFolders(self, folders: list[str]) -> None:
        """Write the setting DINOMix/ModelFolders; the models are listed again."""
        qt.QSettings().setValue(FOLDERS_SETTING, folders)
        self.refreshModels()

    # -- The worker

    @property
    def workerState(self) -> str:
        """ "stopped", "starting", "ready", "busy" or "failed"."""
        return self._client.state if self._client else "stopped"

    @property
    def workerHello(self) -> dict[str, Any] | None:
        """What the worker said of itself: versions, host, devices, memory; None while it is not running."""
        return self._client.hello if self._client else None

    def devices(self) -> list[tuple[str, str]]:
        """(name, title) of what can compute, "auto" first, whose title says what it takes."""
        hello = self.workerHello
        if hello is None:
            return [("auto", _("Automatic"))]
        titles = {device["name"]: device["title"] for device in hello["devices"]}
        taken = hello["automatic"]["device"]
        return [("auto", _("Automatic: {device}").format(device=titles.get(taken, taken))), *titles.items()]

    def setWorkerCommandText(self, text: str) -> None:
        """Write that setting; the worker is started anew with it when it is next needed.

        Raises:
            DinomixError: it is no command line; the setting stays as it was.
        """
        workerCommand(text)
        qt.QSettings().setValue(SETTING, text.strip())
        self._renewClient()
        self._onModels([])

    def restartWorker(self) -> None:
        """Start the worker anew, after it died or hangs."""
        self._renewClient()
        self.refreshModels()

    def stopWorker(self) -> None:
        """End the worker; it is started again when it is next needed."""
        if self._client is not None:
            self._client.stop()

    def whyNotWorker(self) -> str | None:
        """The sentence that says why the worker's command cannot be used; None when it can."""
        if self._client is None:
            try:
                workerCommand()
            except DinomixError as error:
                return str(error)
        return None

    def readsOurFiles(self) -> bool:
        """Whether the worker sees this computer's files; assumed of Slicer's own Python before it has said so."""
        hello = self.workerHello
        return bool(hello["shares_files"]) if hello else not self.workerCommandText()

    def _adopt(self, client: WorkerClient) -> WorkerClient:
        self._client = client
        client.stateChanged.connect(self.workerStateChanged.emit)
        client.failed.connect(self._onWorkerFailed)
        return client

    def _onWorkerFailed(self, problem: str, remedy: str) -> None:
        """The worker died or could not be started; what it was doing has failed already."""
        raise NotImplementedError

    def _renewClient(self) -> None:
        """Stop the worker; the next one reads the settings anew. A client that was handed in is kept."""
        if self._client is None:
            return
        self._client.stop()
        if not self._isGiven:
            self._client.stateChanged.disconnect(self.workerStateChanged.emit)
            self._client.failed.disconnect(self._onWorkerFailed)
            self._client = None

    def _onModels(self, models: list[dict[str, Any]]) -> None:
        self._models = [withReadablePath(model) for model in models]
        self.modelsChanged.emit(self._models)
