"""A real ``dinomix worker`` process, spoken to over its pipes as a client does."""

import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dinomix.worker.arrays import ArrayFromFrames, frames_of_array
from dinomix.worker.stream import PROTOCOL, Decoder, Message, encode

PATIENCE = 120.0
"""Seconds for an answer; importing torch on a busy computer takes long."""


ANYHOW = {"device": "cpu", "any_image": True}
"""What is asked unless a test says otherwise: its images are noise."""


class WorkerProcess:
    """A worker whose messages are gathered by a thread; every wait ends after ``PATIENCE``."""

    def __init__(
        self, *arguments: str, environment: dict[str, str] | None = None, launcher: Iterable[str] = ()
    ) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [*launcher, sys.executable, "-W", "ignore", "-m", "dinomix", "worker", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **(environment or {})},
        )
        self.messages: queue.Queue[Message | None] = queue.Queue()
        self.events: list[dict[str, Any]] = []
        self.signs_of_life: list[float] = []
        threading.Thread(target=self._gather, daemon=True).start()

    def __enter__(self) -> "WorkerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.errors.close()

    def _gather(self) -> None:
        decoder = Decoder()
        assert self.process.stdout is not None
        while data := os.read(self.process.stdout.fileno(), 2**20):
            for message in decoder.feed(data):
                self.messages.put(message)
        self.messages.put(None)

    @property
    def log(self) -> str:
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")

    def send(self, type: str, **fields: Any) -> None:
        self.send_bytes([encode({"type": type, **fields})])

    def send_bytes(self, blocks: Iterable[bytes]) -> None:
        assert self.process.stdin is not None
        for block in blocks:
            self.process.stdin.write(block)
        self.process.stdin.flush()

    def next(self) -> Message:
        """The next message that is neither a sign of life nor an event; those are gathered."""
        end = time.monotonic() + PATIENCE
        while True:
            message = self.messages.get(timeout=max(end - time.monotonic(), 0.01))
            assert message is not None, f"the worker has ended: {self.log}"
            if message.type == "event":
                self.events.append(message.fields)
            elif message.type == "alive":
                self.signs_of_life.append(time.monotonic())
            elif message.type != "started":
                return message

    def answer(self) -> dict[str, Any]:
        return self.next().fields

    def ask(self, type: str, **fields: Any) -> dict[str, Any]:
        self.send(type, **fields)
        return self.answer()

    def hello(self, probe: dict[str, str] | None = None) -> dict[str, Any]:
        return self.ask("hello", protocol=PROTOCOL, probe=probe)

    def wait_for_event(self, job: str, stage: str) -> None:
        """Wait until a job has announced a stage, by an event that has not been gathered yet."""
        end = time.monotonic() + PATIENCE
        while True:
            message = self.messages.get(timeout=max(end - time.monotonic(), 0.01))
            assert message is not None, f"the worker has ended: {self.log}"
            if message.type == "event":
                self.events.append(message.fields)
                if message.fields["job"] == job and message.fields["event"].get("stage", "").startswith(stage):
                    return
            else:
                assert message.type in ("alive", "started"), message.fields

    def segment_by_file(
        self, job: str, model: Path, array: NDArray[Any], affine: NDArray[Any], folder: Path, **options: Any
    ) -> None:
        np.save(folder / f"{job}-image.npy", array)
        image = {**described(array, affine), "file": str(folder / f"{job}-image.npy")}
        result = {"file": str(folder / f"{job}-labels.npy")}
        options = {**ANYHOW, **options}
        self.send("segment", job=job, model=str(model), image=image, result=result, **options)

    def segment_by_frames(
        self, job: str, model: Path, array: NDArray[Any], affine: NDArray[Any], **options: Any
    ) -> None:
        image = {**described(array, affine), "frames": True}
        options = {**ANYHOW, **options}
        self.send("segment", job=job, model=str(model), image=image, result={"frames": True}, **options)
        self.send_bytes(frames_of_array(array, job, "image"))

    def array(self, result: dict[str, Any]) -> NDArray[Any]:
        """The labels that follow a result as frames."""
        assert result["type"] == "result" and result["frames"], result
        receiver = ArrayFromFrames(tuple(result["shape"]), result["dtype"])
        while not receiver.is_complete:
            receiver.add(self.next())
        return receiver.array


def described(array: NDArray[Any], affine: NDArray[Any]) -> dict[str, Any]:
    return {"shape": list(array.shape), "dtype": array.dtype.name, "affine_ras": np.asarray(affine).tolist()}
