"""The worker's ends of the pipe: its input and output, which nothing else may write to, and the end of everything with them."""

import os
import sys
import threading
import time
from typing import Any

from dinomix.worker import scratch
from dinomix.worker.stream import encode

ALIVE_EVERY = 1.0
"""Seconds between two signs of life."""


class Output:
    """Writes whole messages, from any thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def send(self, type: str, **fields: Any) -> None:
        """Send one message; where nobody reads any more, the process ends."""
        self.send_bytes(encode({"type": type, **fields}))

    def send_bytes(self, data: bytes) -> None:
        """Send one encoded message."""
        view = memoryview(data)
        with self._lock:
            try:
                while view:
                    view = view[os.write(self._descriptor, view) :]
            except OSError:
                end_everything(0)


def take_standard_streams() -> tuple[int, Output]:
    """Input's descriptor, and output; what libraries print goes to stderr from now on."""
    source, sink = os.dup(0), os.dup(1)
    if sys.platform == "win32":
        import msvcrt

        msvcrt.setmode(source, os.O_BINARY)
        msvcrt.setmode(sink, os.O_BINARY)
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdout = sys.stderr
    return source, Output(sink)


def send_signs_of_life(output: Output) -> None:
    """Send ``alive`` every second from a thread of its own, so that a client can tell slow from gone."""

    def run() -> None:
        while True:
            output.send("alive", time=time.time())
            time.sleep(ALIVE_EVERY)

    threading.Thread(target=run, name="alive", daemon=True).start()


def end_everything(code: int) -> None:
    """End this process and its children at once, whatever they compute, and leave no scan on the disk."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        try:
            child.kill()
        except psutil.Error:
            continue
    scratch.remove_all()
    os._exit(code)
