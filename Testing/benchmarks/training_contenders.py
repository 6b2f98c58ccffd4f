"""One contender of the training benchmark, in a process of its own; Testing/benchmarks/training.py starts it.

    python training_contenders.py NAME WORK DEVICE PATCH CLASSES [SETTING=VALUE ...]

For each line "steps N" or "profile N" on its standard input it takes N steps of a run and says on its standard output, as JSON,
what each took: seconds of waiting for the batch and of all. NAME is a method of ``training_work.METHODS`` or "SSL4MIS".
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from training_peer import PlainMeanTeacher
from training_work import STEPS, config_for, plan_for, with_classes

from dinomix.cohort.cohort import Cohort
from dinomix.events import silent
from dinomix.planning.cache import cache_cases
from dinomix.training import step as stepping
from dinomix.training import train as training
from dinomix.training.batches import in_order
from dinomix.training.control import Control
from dinomix.training.foundation import load_foundation
from dinomix.training.recording import record
from dinomix.training.run_directory import RunDirectory
from dinomix.training.state import make_accelerator

PARTS = (
    ("teacher's pseudo-labels", stepping, "pseudo_label"),
    ("PIC", stepping, "mix_unlabeled"),
    ("intensity changes", stepping, "augmented_intensities"),
    ("FKD: teacher", stepping.fkd, "features_on_the_fly"),
    ("FKD: loss", stepping.fkd, "distillation_loss"),
    ("losses", stepping, "segmentation_loss"),
    ("EMA", stepping, "update_teacher"),
)


class Run:
    """A run of the engine from the middle on, as ``dinomix train`` takes its steps; nothing is written but the cache."""

    def __init__(
        self, name: str, work: Path, cohort: Cohort, device: str, patch: int | None, settings: dict[str, Any]
    ) -> None:
        self.config = config_for(name, device, **settings)
        self.accelerator = make_accelerator(self.config)
        plan = plan_for(cohort, device, patch)
        self.directory = RunDirectory(work / "never written", self.config, cohort, plan, work / "cache")
        self.foundation = None
        if self.config.fkd.mode != "off":
            self.foundation = load_foundation(self.config.fkd).on(
                self.accelerator.device, self.config.precision, (0.0, 1.0)
            )
        control = Control(None)
        self.state, _, self.batches = training._prepare(
            self.directory, self.foundation, self.accelerator, control, silent
        )
        self.state.step = self.batches.first_step = STEPS // 2
        self.parts: dict[str, float] = {}

    def steps(self) -> Iterator[tuple[float, float]]:
        """Seconds of waiting and of all, of one step after the other."""
        config, cohort, accelerator = self.config, self.directory.cohort, self.accelerator
        began = time.perf_counter()
        for batch in in_order(self.batches):
            came = time.perf_counter()
            terms = stepping.training_step(
                self.state, batch.to(accelerator.device), self.foundation, self.batches, cohort, config, accelerator, silent
            )  # fmt: skip
            self.state.step += 1
            if self.state.step % config.record_every == 0:
                self._timed("recording", record)(self.state, terms, self.batches, cohort, config, accelerator, silent)
            self._wait_for_device()
            ended = time.perf_counter()
            yield came - began, ended - began
            began = time.perf_counter()

    def watch_parts(self) -> None:
        """From now on, note the time of the step's parts; on a GPU each part is waited for, which makes the whole slower."""
        for name, module, function in PARTS:
            setattr(module, function, self._timed(name, getattr(module, function)))
        self.state.student.forward = self._timed("student, forward", self.state.student.forward)
        self.accelerator.backward = self._timed("backward", self.accelerator.backward)  # type: ignore[method-assign]
        self.accelerator.clip_grad_norm_ = self._timed(  # type: ignore[method-assign]
            "optimizer", self.accelerator.clip_grad_norm_
        )
        self.state.optimizer.step = self._timed("optimizer", self.state.optimizer.step)

    def _timed(self, name: str, function: Any) -> Any:
        def timed(*arguments: Any, **options: Any) -> Any:
            self._wait_for_device()
            began = time.perf_counter()
            result = function(*arguments, **options)
            self._wait_for_device()
            self.parts[name] = self.parts.get(name, 0.0) + time.perf_counter() - began
            return result

        return timed

    def _wait_for_device(self) -> None:
        if self.accelerator.device.type == "cuda":
            torch.cuda.synchronize()


def main() -> None:
    name, work, device, patch, classes = sys.argv[1], Path(sys.argv[2]), *sys.argv[3:6]
    settings = {key: json.loads(value) for key, value in (pair.split("=") for pair in sys.argv[6:])}
    # What libraries print must not come between.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    cohort = with_classes(Cohort.read(work / "cohort.json"), int(classes))
    side = int(patch) or None
    plan = plan_for(cohort, device, side)
    run: Any
    if name == "SSL4MIS":
        cached = cache_cases(cohort, plan, work / "cache", silent)
        run = PlainMeanTeacher(cohort, cached, plan, torch.device(device))
    else:
        run = Run(name, work, cohort, device, side, settings)
    steps = run.steps()
    print(json.dumps({"ready": True, "patch": plan.patch}), file=answers, flush=True)
    for line in sys.stdin:
        what, count = line.split()
        if what == "profile":
            run.watch_parts()
            next(steps)
            run.parts.clear()
        times = [next(steps) for _ in range(int(count))]
        print(json.dumps({"times": times, "parts": getattr(run, "parts", {})}), file=answers, flush=True)


if __name__ == "__main__":
    main()
