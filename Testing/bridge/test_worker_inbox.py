"""What a worker says is taken message by message, with the window's turn in between."""

from types import SimpleNamespace

import numpy as np
import pytest
import qt

from dinomix.worker.stream import encode
from dinomix_slicer.worker import inbox as worker_inbox
from dinomix_slicer.worker.inbox import WorkerInbox
from host import processEvents, waitUntil

MESSAGES = b"".join(encode({"type": "event", "job": "a", "event": {"number": number}}) for number in range(500))


def numberOf(message):
    return message.fields["event"]["number"]


def test_many_messages_at_once_leave_the_window_its_turn(monkeypatch):
    now, taken = [0.0], []

    def take(message):
        now[0] += 0.002  # of a clock that only this work drives, so that other programs do not count
        taken.append(numberOf(message))

    monkeypatch.setattr(worker_inbox, "time", SimpleNamespace(monotonic=lambda: now[0]))
    turns, timer = [], qt.QTimer()
    timer.connect("timeout()", lambda: turns.append(now[0]))
    timer.setInterval(0)
    timer.start()
    inbox = WorkerInbox(take, None)
    inbox.add(MESSAGES[:1000])
    inbox.add(MESSAGES[1000:])
    waitUntil(lambda: len(taken) == 500)
    timer.stop()
    assert taken == list(range(500)) and now[0] == pytest.approx(1.0)
    assert max(np.diff([0.0, *turns])) < 0.05


def test_all_can_be_taken_at_once():
    taken = []
    inbox = WorkerInbox(lambda message: taken.append(numberOf(message)), None)
    inbox.add(MESSAGES)
    inbox.takeAll()
    assert taken == list(range(500))


def test_nothing_is_taken_after_it_was_closed():
    taken = []

    def take(message):
        taken.append(numberOf(message))
        if len(taken) == 3:
            inbox.close()

    inbox = WorkerInbox(take, None)
    inbox.add(MESSAGES)
    processEvents(50)
    assert taken == [0, 1, 2]


def test_what_is_not_the_stream_is_told():
    told = []
    inbox = WorkerInbox(lambda message: None, lambda *words: told.append(words))
    inbox.add(MESSAGES[:100] + b"\nWelcome to the machine\n")
    processEvents(20)
    ((problem, remedy),) = told
    assert problem and remedy.endswith(".")
