"""Three hundred broken inputs, and that no way to break the promise is overlooked. By hand: ``python Testing/engine/fuzz.py``."""

import mmap
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dinomix.errors import DinomixError

if sys.platform != "linux":
    pytest.skip("limits and measures memory as Linux does it", allow_module_level=True)

import fuzz
from fuzzing import promise
from fuzzing.promise import Act, Verdict, WrongResult, verdicts

INPUTS = 300


def fuzzed(*options: str) -> tuple[int, str]:
    """Exit code and output of the script; in a process of its own, since one that computes already cannot be forked."""
    script = Path(fuzz.__file__)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), *options], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_broken_inputs_are_read_rightly_or_refused_in_a_line() -> None:
    code, printed = fuzzed("--seed", "1", "--count", str(INPUTS))
    assert code == 0, printed
    rows = {
        line.split()[0]: [int(word) for word in line.split() if word.isdigit()] for line in printed.splitlines()[-8:-1]
    }
    assert set(rows) == set(fuzz.KINDS)
    assert sum(row[0] for row in rows.values()) == INPUTS
    del rows["stream"]  # a worker is right to answer whatever it is told
    assert all(right and refused for _, right, refused, _ in rows.values() if right > 9)


def test_an_input_is_told_by_its_seed_and_number() -> None:
    assert [fuzz.drawn(3, number)[1] for number in range(40)] == [fuzz.drawn(3, number)[1] for number in range(40)]
    first, again = (fuzzed("--seed", "3", "--number", "42")[1].splitlines()[0] for _ in range(2))
    varying = "(seconds|memory)=[0-9.]+|dinomix-fuzz-[^/]+"
    assert re.sub(varying, "", first) == re.sub(varying, "", again) and "number=42" in first


def told(act: Act, scratch: Path, seconds: float = 20.0) -> tuple[Verdict, Verdict]:
    """The verdict on ``act``, and on what follows it."""
    (_, verdict), (_, after) = verdicts(
        lambda number, folder: act if number == 0 else lambda out: None, range(2), scratch, seconds=seconds
    )
    return verdict, after


def refused(out: Path, text: str = "This is refused.") -> None:
    raise DinomixError(text, "Do something else.")


def crashes(out: Path) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def leaves(out: Path) -> None:
    os._exit(0)


def fails(out: Path) -> None:
    raise KeyError("not for users")


def hangs(out: Path) -> None:
    time.sleep(600)


def takes_memory(out: Path) -> None:
    with mmap.mmap(-1, 2**27) as fresh:  # an array could be put where this process has freed memory before
        for _ in range(2**7):
            fresh.write(bytes(2**20))
    refused(out)


def asks_for_too_much_memory(out: Path) -> None:
    try:
        np.ones(2**40)
    except MemoryError as error:
        raise DinomixError("There is too little memory.") from error


def says_nothing(out: Path) -> None:
    raise DinomixError("")


def says_too_much(out: Path) -> None:
    refused(out, "x" * 10_000)


def prints_a_traceback(out: Path) -> None:
    print("Traceback (most recent call last):", file=sys.stderr)


def is_wrong(out: Path) -> None:
    raise WrongResult("another result")


def leaves_half_a_file(out: Path) -> None:
    (out / ".partial-x").touch()


def writes_and_refuses(out: Path) -> None:
    (out / "labels.nii.gz").touch()
    refused(out)


def writes_elsewhere(out: Path) -> None:
    (out.parent / "elsewhere").touch()


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (crashes, "signal SIGSEGV"), (leaves, "ended by itself"), (fails, "KeyError"), (hangs, "not done after 1 s"),
        (takes_memory, "GB of memory"), (asks_for_too_much_memory, "asked for more than 4 GB"),
        (says_nothing, "one readable line"), (says_too_much, "one readable line"), (prints_a_traceback, "printed"),
        (is_wrong, "wrong: another result"), (leaves_half_a_file, "left behind: out/.partial-x"),
        (writes_and_refuses, "left behind: out/labels.nii.gz"), (writes_elsewhere, "written elsewhere: elsewhere"),
    ],
)  # fmt: skip
def test_every_way_to_break_the_promise_is_noticed(
    act: Act, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promise, "MEMORY", 2**26)
    verdict, after = told(act, tmp_path / "tried", seconds=1.0 if act is hangs else 20.0)
    assert verdict.kind == "broken" and expected in verdict.told
    assert after.kind == "right"


def test_what_keeps_the_promise_is_not_called_broken(tmp_path: Path) -> None:
    assert told(lambda out: None, tmp_path / "tried")[0].kind == "right"
    verdict, _ = told(refused, tmp_path / "tried")
    assert verdict.kind == "refused" and verdict.told == "This is refused. Do something else."


def test_the_command_line_is_judged_by_code_and_line(tmp_path: Path) -> None:
    verdict, _ = told(lambda out: promise.command("evaluate", "--prediction", out / "none"), tmp_path / "tried")
    assert verdict.kind == "refused" and verdict.told.startswith("Error: ")
    assert told(lambda out: promise.command("--version"), tmp_path / "tried")[0].kind == "right"
