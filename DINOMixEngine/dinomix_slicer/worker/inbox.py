"""What a worker says, message by message, and never so many at once that the window would wait."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator

import qt

from dinomix.errors import DinomixError
from dinomix.worker.stream import Decoder, Message

from . import transfer


class WorkerInbox:
    """Decodes the output of one worker process."""

    def __init__(self, take: Callable[[Message], None], onBroken: Callable[[str, str], None]) -> None:
        """
        Args:
            take: called with each message; may raise DinomixError where it is none of a worker.
            onBroken: called with problem and remedy where what comes is not the worker's stream.
        """
        self._take, self._onBroken = take, onBroken
        self._decoder = Decoder()
        self._received: deque[bytes] = deque()  # what has come and is not decoded yet
        self._messages: Iterator[Message] = iter(())
        self._isTaking = False

    def add(self, data: bytes) -> None:
        """Some output has come."""
        self._received.append(data)
        if not self._isTaking:
            self._takeSome()

    def takeAll(self) -> None:
        """Take every message that has come, however long that takes."""
        self._takeSome(math.inf)

    def close(self) -> None:
        """Take no further message."""
        self._received.clear()
        self._messages = iter(())

    def _takeSome(self, seconds: float = transfer.TICK_SECONDS) -> None:
        """Take messages for that long, and the others when the window had its turn: labels come as hundreds of frames."""
        end, self._isTaking = time.monotonic() + seconds, True
        try:
            while (message := self._next()) is not None:
                self._take(message)
                if time.monotonic() > end:
                    qt.QTimer.singleShot(0, self._takeSome)
                    return
        except DinomixError as error:
            self._onBroken(error.problem, error.remedy)
        self._isTaking = False

    def _next(self) -> Message | None:
        while True:
            message = next(self._messages, None)
            if message is not None or not self._received:
                return message
            self._messages = self._decoder.feed(self._received.popleft())
