"""Processes that take steps in turns; a part of Testing/benchmarks/training.py."""

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from inference import environment

HERE = Path(__file__).resolve().parent


class Contender:
    """A process that takes steps when it is asked to."""

    def __init__(self, name: str, work: Path, device: str, patch: int, classes: int, **settings: Any) -> None:
        self.name = name
        command = [sys.executable, "-W", "ignore", str(HERE / "training_contenders.py"), name, str(work), device]
        command += [str(patch), str(classes), *(f"{key}={json.dumps(value)}" for key, value in settings.items())]
        with open(work / f"log-{name.replace(' ', '-').replace(',', '')}.txt", "w") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment(device)
            )
        self.patch = self._answer()["patch"]

    def ask(self, what: str, count: int) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what} {count}\n")
        self.process.stdin.flush()
        return self._answer()

    def end(self) -> None:
        self.process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} failed: see its log in the cache")
        answer: dict[str, Any] = json.loads(line)
        return answer


def take_turns(contenders: list[Contender], turns: int, steps: int) -> dict[str, list[list[list[float]]]]:
    """Name -> turns of [seconds of waiting, of all]; the first step of each turn is left out."""
    times: dict[str, list[list[list[float]]]] = {contender.name: [] for contender in contenders}
    for number in range(turns + 1):
        for contender in contenders:
            answer = contender.ask("steps", steps + 1)["times"][1:]
            # The first turn of all warms up.
            if number:
                times[contender.name].append(answer)
                print(
                    f"turn {number}, {contender.name}: {median(all for _, all in answer):.3f} s", file=sys.stderr
                )  # fmt: skip
    return times
