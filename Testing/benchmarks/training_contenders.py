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
from dinomix.training import fkd, step
from dinomix.training.batches import in_order
from dinomix.training.control import Control
from dinomix.training.methods import mean_teacher, parts
from dinomix.training.preparing import prepare
from dinomix.training.recording import record
from dinomix.training.run import Run
from dinomix.training.run_directory import RunDirectory
from dinomix.training.state import make_accelerator
from dinomix.training.step import training_step

PARTS = (
    ("teacher's pseudo-labels", mean_teacher, "pseudo_label"),
    ("PIC", mean_teacher, "mix_unlabeled"),
    ("intensity changes", parts, "augmented_intensities"),
    ("FKD: teacher", fkd, "features_on_the_fly"),
    ("FKD: loss", fkd, "distillation_loss"),
    ("losses", mean_teacher, "loss_of_heads"),
    ("losses", parts, "loss_of_heads"),
    ("EMA", step, "update_teacher"),
)


class Contender:
    """A run of the engine from the middle on, as ``dinomix train`` takes its steps; nothing is written but the cache."""

    def __init__(
        self, name: str, work: Path, cohort: Cohort, device: str, patch: int | None, settings: dict[str, Any]
    ) -> None:
        config = config_for(name, device, **settings)
        accelerator, plan = make_accelerator(config), plan_for(cohort, device, patch)
        foundation = None
        if config.fkd.mode != "off":
            foundation = fkd.teacher_of(config.fkd, plan, cohort).on(accelerator.device, config.precision)
        directory = RunDirectory(work / "never written", config, cohort, plan, work / "cache")
        self.run = Run(directory, accelerator, foundation, Control(None), silent)
        prepare(self.run)
        self.run.state.step = self.run.batches.first_step = STEPS // 2
        self.parts: dict[str, float] = {}

    def steps(self) -> Iterator[tuple[float, float]]:
        """Seconds of waiting and of all, of one step after the other."""
        run = self.run
        began = time.perf_counter()
        for batch in in_order(run.batches):
            came = time.perf_counter()
            terms = training_step(run, batch.to(run.accelerator.device))
            run.state.step += 1
            if run.state.step % run.schedule.record_every == 0:
                self._timed("recording", record)(run, terms)
            self._wait_for_device()
            ended = time.perf_counter()
            yield came - began, ended - began
            began = time.perf_counter()

    def watch_parts(self) -> None:
        """From now on, note the time of the step's parts; on a GPU each part is waited for, which makes the whole slower."""
        for name, module, function in PARTS:
            setattr(module, function, self._timed(name, getattr(module, function)))
        run: Any = self.run
        run.state.student.forward = self._timed("student, forward", run.state.student.forward)
        run.accelerator.backward = self._timed("backward", run.accelerator.backward)
        run.accelerator.clip_grad_norm_ = self._timed("optimizer", run.accelerator.clip_grad_norm_)
        run.state.optimizer.step = self._timed("optimizer", run.state.optimizer.step)

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
        if self.run.accelerator.device.type == "cuda":
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
    contender: Any
    if name == "SSL4MIS":
        cached = cache_cases(cohort, plan, work / "cache", silent)
        contender = PlainMeanTeacher(cohort, cached, plan, torch.device(device))
    else:
        contender = Contender(name, work, cohort, device, side, settings)
    steps = contender.steps()
    print(json.dumps({"ready": True, "patch": plan.patch}), file=answers, flush=True)
    for line in sys.stdin:
        what, count = line.split()
        if what == "profile":
            contender.watch_parts()
            next(steps)
            contender.parts.clear()
        times = [next(steps) for _ in range(int(count))]
        print(json.dumps({"times": times, "parts": getattr(contender, "parts", {})}), file=answers, flush=True)


if __name__ == "__main__":
    main()
