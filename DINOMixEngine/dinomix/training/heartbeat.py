"""RUN/alive.json: a sign, renewed every two seconds, that a process trains; others may not see that process."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS = 2.0
NAME = "alive.json"


@contextmanager
def heartbeat(run: Path) -> Iterator[None]:
    """Keep RUN/alive.json fresh while the block runs; remove it however the block ends, but for a kill."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(SECONDS):
            _write(run)

    _write(run)
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        (run / NAME).unlink(missing_ok=True)


def _write(run: Path) -> None:
    """Not by ``files.write_json``, which waits for the disk: a sign of life that a crash loses is no loss."""
    aside = run / ".alive.partial"
    try:
        aside.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "time": time.time()}))
        os.replace(aside, run / NAME)
    except OSError:
        # The disk is full, or the folder is gone: the next event will tell.
        aside.unlink(missing_ok=True)
