"""How progress is told: the time that is left, and signs of life while something long has no steps of its own."""

import os
import subprocess
import sys
from typing import Any

import pytest

from dinomix import events
from dinomix.events import ProgressOfPart, RepeatedProgress, TerminalEvents


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [50.0]
    monkeypatch.setattr(events.time, "monotonic", lambda: clock[0])
    return clock


def test_repeated_progress_lets_the_time_run_down(now: list[float]) -> None:
    told: list[dict[str, Any]] = []
    progress = RepeatedProgress(lambda kind, **fields: told.append({"kind": kind, **fields}))
    progress.again()
    assert not told
    progress("progress", stage="segmenting", step=3, total=9, eta=4.0)
    progress("notice", message="It is late.")
    progress.again()
    assert len(told) == 2  # not so soon
    for passed, left in ((1.0, 3.0), (2.5, 1.5), (5.0, 0.0)):
        now[0] = 50 + passed
        progress.again()
        assert told[-1] == {"kind": "progress", "stage": "segmenting", "step": 3, "total": 9, "eta": left}
    progress("progress", stage="segmenting", step=4, total=9, eta=None)
    now[0] += 1
    progress.again()
    assert told[-1]["step"] == 4 and told[-1]["eta"] is None


def test_a_bar_that_is_switched_off_shows_nothing() -> None:
    script = """
from dinomix.events import TerminalEvents
shown = TerminalEvents()
for step, eta in ((0, None), (1, 9.0), (1, 8.0), (2, 7.0)):
    shown("progress", stage="train", step=step, total=4, eta=eta)
    shown("loss", total=0.25)
shown("progress", stage="validate", step=0, total=4, eta=None)
shown.close()
"""
    # As runs that DINOMix Train starts, whose output is a log.
    environment = {**os.environ, "TQDM_DISABLE": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_person_reads_the_time_left_and_the_loss(capsys: pytest.CaptureFixture[str]) -> None:
    shown = TerminalEvents()
    shown("progress", stage="train", step=0, total=4, eta=None)
    shown("loss", total=0.25)
    shown("progress", stage="train", step=1, total=4, eta=185.0)
    shown.bar.refresh()
    assert "1/4" in (line := capsys.readouterr().err.split("\r")[-1]) and "03:05 left, loss 0.250" in line
    shown("progress", stage="train", step=1, total=4, eta=121.0)
    assert "02:01 left" in capsys.readouterr().err  # though there was no step
    shown("progress", stage="validate", step=0, total=2, eta=None)
    shown.bar.refresh()
    assert "loss" not in capsys.readouterr().err.split("\r")[-1]
    shown.close()


def test_parts_are_told_as_one_bar() -> None:
    told: list[tuple[int, int, float | None]] = []

    def emit(kind: str, **fields: Any) -> None:
        if kind == "progress" and fields["stage"] == "train":
            told.append((fields["step"], fields["total"], fields["eta"]))

    first = ProgressOfPart(emit, 0, 4, "train")
    first("progress", stage="train", step=0, total=2, eta=None)
    first("progress", stage="preprocess", step=1, total=9, eta=1.0)
    first("progress", stage="train", step=1, total=2, eta=3.0)
    first("progress", stage="train", step=2, total=2, eta=0.0)
    assert told == [(0, 6, None), (1, 6, 15.0), (2, 6, 12.0)]
    told.clear()
    # A part of which nothing is known but its end does not say that nothing is left.
    ProgressOfPart(emit, 0, 4)("progress", stage="train", step=2, total=2, eta=0.0)
    ProgressOfPart(emit, 2, 4, seconds_after=20.0)("progress", stage="train", step=1, total=2, eta=1.0)
    ProgressOfPart(emit, 2, 0)("progress", stage="train", step=4, total=4, eta=0.0)
    assert told == [(2, 6, None), (3, 8, 21.0), (6, 6, 0.0)]
