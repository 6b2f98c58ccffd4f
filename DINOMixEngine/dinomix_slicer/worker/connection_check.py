"""Whether a worker command works."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from .client import WorkerClient
from .command import WorkerCommand


def testConnection(
    command: WorkerCommand, onDone: Callable[[dict[str, Any]], None], onFailed: Callable[[str, str], None]
) -> WorkerClient:
    """Start a worker, ask what is there, and end it.

    ``onDone(report)`` gets the worker's hello with ``models`` and ``seconds`` added, else ``onFailed(problem, remedy)``.
    The returned client must be kept until then; its ``stop`` gives the test up.
    """
    client = WorkerClient(command)
    began = time.monotonic()

    def onModels(models: list[dict[str, Any]]) -> None:
        report = {**(client.hello or {}), "models": models, "seconds": time.monotonic() - began}
        client.stop()
        onDone(report)

    client.failed.connect(onFailed)
    client.requestModels(onModels)
    return client
