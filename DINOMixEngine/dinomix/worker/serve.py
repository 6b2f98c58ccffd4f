"""The worker: answers requests one after the other and keeps the models it used warm. The protocol is in docs/worker.md."""

import importlib.util
import os
import platform
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dinomix import __version__
from dinomix.arrays import has_torch
from dinomix.errors import DinomixError
from dinomix.worker import scratch
from dinomix.worker.inbox import Inbox, Request
from dinomix.worker.pipe import Output, end_everything, send_signs_of_life, take_standard_streams
from dinomix.worker.stream import PROTOCOL, short

# SIGHUP is what a closed terminal sends; Windows has none.
ENDING_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]
LARGEST_PROBE = 1000
"""Bytes of the file by which a client finds out whether files are shared."""


class Cancelled(Exception):
    """The client gave the job up."""


def serve(model_folders: list[Path]) -> None:
    """Answer requests from stdin on stdout until stdin ends. Libraries' prints go to stderr."""
    source, output = take_standard_streams()
    if threading.current_thread() is threading.main_thread():
        for number in ENDING_SIGNALS:
            signal.signal(number, lambda *_: end_everything(130))
    # At once, so that a client can end this very process before torch is imported; a launcher may stand between.
    output.send("started", pid=os.getpid(), host=socket.gethostname())
    send_signs_of_life(output)
    scratch.remove_left_behind()
    worker = Worker(Inbox(source, output), output, model_folders)
    while True:
        worker.answer(worker.inbox.next())


class Worker:
    """Answers one request at a time, in the main thread."""

    def __init__(self, inbox: Inbox, output: Output, model_folders: list[Path]) -> None:
        self.inbox, self.output, self.model_folders = inbox, output, model_folders
        self._jobs: Any = None
        self._answers: dict[str, Callable[[Request], None]] = {
            "hello": self._hello, "models": self._models, "load": self._compute, "estimate": self._compute,
            "segment": self._compute, "segment_file": self._compute,
        }  # fmt: skip

    def answer(self, request: Request) -> None:
        """Answer a request; whatever goes wrong with it is sent as an ``error``, and the worker goes on."""
        kind, job = str(request.fields["type"]), request.job
        try:
            if kind not in self._answers:
                raise DinomixError(
                    f'The worker does not know the request "{short(kind)}".', "Update dinomix on its side."
                )
            self._answers[kind](request)
        except Cancelled:
            self.output.send("cancelled", job=job)
        except DinomixError as error:
            self._fail(job, error.problem, error.remedy, error.code)
        except OSError as error:
            where = f" at {error.filename}" if error.filename else ""
            problem = f"{error.strerror or 'The disk does not answer'}{where}."
            self._fail(job, problem, "Free some disk space or choose another folder.")
        except Exception as error:
            if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
                self._fail(job, "The main memory does not suffice.", "Close other programs, or crop the image.")
                return
            traceback.print_exc()  # to stderr, which the client keeps as the log
            self._fail(job, "The worker failed at this request.", "Its log says where; please report it.")
        finally:
            request.discard()

    def _fail(self, job: str | None, message: str, remedy: str, code: str = "") -> None:
        self.output.send("error", job=job, message=message, remedy=remedy, code=code)

    def _hello(self, request: Request) -> None:
        import psutil

        from dinomix.inference.devices import choose_device, list_devices

        asked = request.fields.get("protocol")
        if asked != PROTOCOL:
            raise DinomixError(
                f"The client speaks protocol {short(asked)} and this worker {PROTOCOL}.",
                f"Use the same version of dinomix on both sides; the worker's is {__version__}.",
            )
        device, reason = choose_device("auto")
        memory = psutil.virtual_memory()
        self.output.send(
            "hello",
            protocol=PROTOCOL,
            dinomix=__version__,
            python=platform.python_version(),
            **{package: _version(package) for package in ("torch", "monai", "openvino")},
            pid=os.getpid(),
            host=socket.gethostname(),
            system=sys.platform,
            devices=list_devices(),
            automatic={"device": str(device), "reason": reason},
            memory={"total": memory.total, "available": memory.available},
            shares_files=_shares_files(request.fields.get("probe")),
        )

    def _models(self, request: Request) -> None:
        from dinomix.worker.listing import listed_models

        named = request.fields.get("folders") or []
        if not (isinstance(named, list) and all(isinstance(folder, str) for folder in named)):
            raise DinomixError(
                "The folders of models that were asked for are no list of paths.", "Send a list of paths."
            )
        self.output.send("models", models=listed_models([*self.model_folders, *map(Path, named)]))

    def _compute(self, request: Request) -> None:
        from dinomix.models.light_monai import import_monai_for_networks
        from dinomix.worker.jobs import Jobs

        if has_torch():
            import_monai_for_networks()
        self._jobs = self._jobs or Jobs(self.output)
        self._jobs.run(request, self._emit_for(str(request.job)), self._stop_if_cancelled)

    def _stop_if_cancelled(self) -> None:
        if self.inbox.is_cancelled:
            raise Cancelled

    def _emit_for(self, job: str) -> Callable[..., None]:
        """Announces a job's events at most ten times a second each stage, and ends the job where it is cancelled."""
        last: dict[str, float] = {}

        def emit(kind: str, **fields: Any) -> None:
            self._stop_if_cancelled()
            if kind == "progress":
                now, stage = time.monotonic(), fields["stage"]
                if fields["step"] not in (0, fields["total"]) and now - last.get(stage, 0) < 0.1:
                    return
                last[stage] = now
            self.output.send("event", job=job, event={"time": time.time(), "kind": kind, **fields})

        return emit


def _version(package: str) -> str | None:
    """None where it is not installed."""
    try:
        return version(package) if importlib.util.find_spec(package) is not None else None
    except (PackageNotFoundError, ImportError):
        return None


def _shares_files(probe: dict[str, str] | None) -> bool:
    """Whether the worker reads in a file what the client has just written there."""
    try:
        if probe is None or not (file := Path(probe["file"])).is_file() or file.stat().st_size > LARGEST_PROBE:
            return False
        return file.read_text(encoding="utf-8") == probe["nonce"]
    except (OSError, ValueError, TypeError, KeyError):
        return False
