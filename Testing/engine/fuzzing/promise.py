"""What is promised for any input, right or broken, and whether it was kept.

Either the right result, or one sentence and exit code 2. Never a signal, a traceback, more than 20 s, more than 2 GB of memory, a
file that is half written, or one that lies elsewhere than it should.

Inputs are tried one after the other in a process that is forked from one that has imported everything; where it dies or hangs,
that is the input's fault, and another process takes the next one. Linux only: memory is limited and measured as Linux does it.
"""

import faulthandler
import json
import os
import resource
import select
import shutil
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from dinomix.errors import DinomixError

SECONDS = 20.0
MEMORY = 2 * 2**30
"""Bytes beside what the imported libraries take."""
GUARD = 2 * MEMORY
"""Bytes that a process is not given at all, so that a breach does not harm the computer that looks for it."""
LARGEST_FILE = 2**28
LONGEST_SENTENCE = 1500
KEPT = {".cohort.json.facts", ".installing.lock"}
"""What a check remembers of files that it has read, also where it fails; and the lock of a folder of models."""

EACH = 200
"""Inputs that one process tries before another takes over."""

Kind = Literal["right", "refused", "broken"]
Act = Callable[[Path], None]
"""Does something with an input that lies ready; takes the folder to write to. AssertionError: the result is wrong."""


@dataclass(frozen=True)
class Verdict:
    """``told``: the sentence of a refusal, or how the promise was broken; ``memory`` in bytes."""

    kind: Kind
    told: str
    seconds: float
    memory: int


class WrongResult(AssertionError):
    """What came out is not what was put in."""


def verdicts(
    make: Callable[[int, Path], Act],
    numbers: Iterable[int],
    scratch: Path,
    keep: Path | None = None,
    seconds: float = SECONDS,
) -> Iterator[tuple[int, Verdict]]:
    """Try inputs, each in a folder of its own.

    Args:
        make: puts input ``number`` into a folder, and gives what is to be done with it.
        scratch: an empty folder.
        keep: where the files of broken inputs go; None: nowhere.
        seconds: how long one may take.
    """
    waiting = deque(numbers)
    while waiting:
        told, put = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(told)
            _try_all(make, list(waiting)[:EACH], scratch, keep, put)
        os.close(put)
        hung, left = False, len(waiting) - min(EACH, len(waiting))
        with os.fdopen(told, "rb", buffering=0) as pipe:
            for line in _lines(pipe, seconds):
                if line is None:
                    hung = True
                    os.kill(child, signal.SIGKILL)
                    break
                said = json.loads(line)
                yield waiting.popleft(), Verdict(said["kind"], said["told"], said["seconds"], said["memory"])
        _, status = os.waitpid(child, 0)
        if len(waiting) > left:
            _put_away(scratch / "input", waiting[0], keep)
            code = os.waitstatus_to_exitcode(status)
            died = f"ended by signal {signal.Signals(-code).name}" if code < 0 else f"ended by itself with {code}"
            yield (
                waiting.popleft(),
                Verdict("broken", f"not done after {seconds:g} s" if hung else died, seconds if hung else 0.0, 0),
            )


def _lines(pipe: Any, seconds: float) -> Iterator[bytes | None]:
    """What the child says, line by line; None where it says nothing for too long."""
    heard = b""
    while True:
        until = time.monotonic() + seconds
        while b"\n" not in heard:
            if not select.select([pipe], [], [], max(until - time.monotonic(), 0))[0]:
                yield None
                return
            block = os.read(pipe.fileno(), 65536)
            if not block:
                return
            heard += block
        line, _, heard = heard.partition(b"\n")
        yield line


def command(*arguments: Any) -> None:
    """Run the command line.

    Raises:
        DinomixError: with its one line, where it ends with code 2.
        WrongResult: it ends with another code, or without a line.
    """
    from dinomix.cli import main

    code: Any = 0
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as left:
        code = left.code
    sys.stderr.flush()
    printed = Path("/proc/self/fd/2").readlink().read_text(errors="replace")
    lines = [line for line in printed.splitlines() if line.startswith("Error: ")]
    if code == 2 and lines:
        raise DinomixError(lines[-1])
    if code != 0:
        raise WrongResult(f"exit code {code} and {len(lines)} lines of errors")


def _try_all(
    make: Callable[[int, Path], Act], numbers: list[int], scratch: Path, keep: Path | None, put: int
) -> NoReturn:
    """The child's whole life."""
    code = 1
    try:
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        for number in numbers:
            folder = scratch / "input"
            shutil.rmtree(folder, ignore_errors=True)
            for part in ("in", "out"):
                (folder / part).mkdir(parents=True)
            said = _tried(make(number, folder / "in"), folder)
            if said["kind"] == "broken":
                _put_away(folder, number, keep)
            shutil.rmtree(folder, ignore_errors=True)
            os.write(put, json.dumps(said).encode() + b"\n")
        code = 0
    finally:
        os._exit(code)


def _put_away(folder: Path, number: int, keep: Path | None) -> None:
    if keep is not None:
        shutil.copytree(folder, keep / str(number), dirs_exist_ok=True, symlinks=True)


def _tried(act: Act, folder: Path) -> dict[str, Any]:
    _print_to(folder / "printed.txt")
    Path("/proc/self/clear_refs").write_text("5")  # the peak of the memory counts from here
    before = _kilobytes("VmRSS")
    data = _kilobytes("VmData") * 1024 + GUARD
    resource.setrlimit(resource.RLIMIT_DATA, (data, resource.RLIM_INFINITY))
    began = time.monotonic()
    kind, told = _outcome(act, folder / "out")
    seconds = time.monotonic() - began
    resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    memory = max(_kilobytes("VmHWM") - before, 0) * 1024
    if kind != "broken":
        kind, told = _judged(kind, told, memory, folder)
    return {"kind": kind, "told": told[-6000:], "seconds": seconds, "memory": memory}


def _print_to(file: Path) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    target = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for descriptor, source in ((0, nothing), (1, target), (2, target)):
        os.dup2(source, descriptor)
    os.close(nothing)
    os.close(target)
    # pytest may have put files of its own there.
    sys.stdout = sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115


def _outcome(act: Act, out: Path) -> tuple[Kind, str]:
    try:
        act(out)
    except DinomixError as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, MemoryError):
                return "broken", f"it asked for more than {GUARD >> 30} GB: {error}"
            cause = cause.__cause__ or cause.__context__
        return "refused", str(error)
    except WrongResult as error:
        return "broken", f"wrong: {error}"
    except BaseException:
        return "broken", traceback.format_exc()
    return "right", ""


def _judged(kind: Kind, text: str, memory: int, folder: Path) -> tuple[Kind, str]:
    """What was done right or refused, by the traces that it has left."""
    if memory > MEMORY:
        return "broken", f"{memory / 2**30:.1f} GB of memory; {text}"
    if kind == "refused" and not (text.strip() and text.isprintable() and len(text) <= LONGEST_SENTENCE):
        return "broken", f"not one readable line: {text[:3000]!r}"
    printed = (folder / "printed.txt").read_text(errors="replace")
    if "Traceback" in printed or "Fatal Python error" in printed:
        return "broken", f"printed: {printed[-4000:]}"
    left = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.name.startswith(".partial")]
    if kind == "refused":
        written = (path for path in (folder / "out").rglob("*") if path.is_file() and path.name not in KEPT)
        left += [str(path.relative_to(folder)) for path in written]
    if left:
        return "broken", f"left behind: {', '.join(left[:5])}"
    strange = {path.name for path in folder.iterdir()} - {"in", "out", "printed.txt"}
    if strange:
        return "broken", f"written elsewhere: {', '.join(sorted(strange)[:5])}"
    return kind, text


def _kilobytes(key: str) -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key + ":"))
