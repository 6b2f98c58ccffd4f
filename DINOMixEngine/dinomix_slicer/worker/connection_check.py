"""Whether a worker command works."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

from .client import WorkerClient
from .command import WorkerCommand


def stepsOfTest(command: WorkerCommand) -> Generator[Any, Any, dict[str, Any]]:
    """Steps that start a worker, ask what is there and end it; the result is its hello, with ``models`` and ``seconds``.

    Raises:
        DinomixError: the worker cannot be started, or does not answer.
    """
    client = WorkerClient(command)
    began = time.monotonic()
    try:
        models = yield client.listModels()
        return {**(client.hello or {}), "models": models, "seconds": time.monotonic() - began}
    finally:
        client.stop()
