"""The run directory: all that a run needs to go on after a kill, and all that others read of it.

config.json  cohort.json  plan.json
start.safetensors (where it starts from a model; start-second.safetensors where that has a second stage)
events.jsonl  checkpoints/  snapshot/  model/  report.html
kept/ (labels with what the start model predicts, where the run keeps its structures)
second/ (the second stage's own config.json, cohort.json, plan.json, cases/, cache/ and checkpoints/, where the plan has one)
request.json  alive.json (while a process trains)

docs/training_runs.md describes what others may read and write.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors.torch import save_file
from torch import Tensor

from dinomix.cohort.cohort import Cohort
from dinomix.errors import DinomixError, reason_of
from dinomix.events import Event, read_events
from dinomix.files import clear_leftovers, json_text, read_table, sha256, write_json, write_text, written_aside
from dinomix.models.manifest import MANIFEST
from dinomix.planning.plan import Plan
from dinomix.training.checkpoints import Checkpoints
from dinomix.training.config import TrainConfig

START, SECOND_START = "start.safetensors", "start-second.safetensors"


@dataclass(frozen=True)
class RunDirectory:
    """An opened run directory.

    Attributes:
        start_model: the model folder that it started from, which may be gone; or the file of an encoder.
        start_fingerprint: of that model, by which it is known again; None for runs of earlier versions.
        whole: the run whose second stage this is, and which holds its events; None for a run of its own.
        steps_before: steps of the first stage, with which those events count.
    """

    path: Path
    config: TrainConfig
    cohort: Cohort
    plan: Plan
    cache: Path
    start_model: Path | None = None
    start_fingerprint: str | None = None
    whole: Path | None = None
    steps_before: int = 0

    @property
    def read_cohort(self) -> Cohort:
        """The cases that the run reads."""
        return self.cohort.only(*self.config.roles)

    @property
    def events(self) -> Path:
        return (self.whole or self.path) / "events.jsonl"

    @property
    def second(self) -> Path:
        """Where the second stage is trained, of a run whose plan has one."""
        return self.path / "second"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def start(self) -> Path:
        return self.path / START

    @property
    def second_start(self) -> Path:
        """The weights that its second stage begins with."""
        return self.path / SECOND_START

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.path / "checkpoints")

    @classmethod
    def create(cls, path: Path, config: TrainConfig, cohort: Cohort, plan: Plan, cache: Path | None,
               start: dict[str, Tensor] | None, start_model: Path | None = None, *, steps_before: int = 0,
               second_start: dict[str, Tensor] | None = None) -> None:  # fmt: skip
        """Write a new run directory; config.json comes last, so a directory that has one is whole.

        Args:
            start_model: where ``start`` was taken from, for the record.
            steps_before: of the first stage, where this is a second one.
            second_start: weights that the second stage begins with.

        Raises:
            DinomixError: the folder holds a run already.
        """
        if (path / "config.json").exists():
            raise DinomixError(
                f"{path} already holds a run.",
                f"Continue it with `dinomix train --resume {path}`, or name another folder.",
                code="run-exists",
            )
        path.mkdir(parents=True, exist_ok=True)
        (path / "events.jsonl").unlink(missing_ok=True)  # of an earlier start that failed
        cohort.write(path / "cohort.json")
        plan.write(path / "plan.json")
        for name, weights in ((START, start), (SECOND_START, second_start)):
            if weights is not None:
                with written_aside(path / name) as aside:
                    save_file(weights, aside)
        manifest = start_model / MANIFEST if start_model else None
        # A cache inside the run moves with it.
        data = {
            "train": config.model_dump(mode="json"),
            "cache": str(cache.resolve()) if cache else None,
            "start_model": str(start_model.absolute()) if start_model else None,
            **({"start_fingerprint": sha256(manifest)} if manifest is not None and manifest.is_file() else {}),
            **({"steps_before": steps_before} if steps_before else {}),
        }
        write_json(path / "config.json", data)

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """Raises DinomixError when ``path`` holds no run."""
        try:
            data = read_table(path / "config.json")
            config = TrainConfig.model_validate(data["train"])
            cache = Path(data["cache"]) if data["cache"] else path / "cache"
            start_model = Path(data["start_model"]) if data.get("start_model") else None
            fingerprint = str(data["start_fingerprint"]) if data.get("start_fingerprint") else None
            steps_before = int(data.get("steps_before", 0))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DinomixError(
                f"{path} holds no run ({reason_of(error)}).", "Start one with `dinomix train --cohort`.", code="no-run"
            ) from error
        cohort, plan = Cohort.read(path / "cohort.json"), Plan.read(path / "plan.json")
        whole = path.parent if steps_before else None
        return cls(path, config, cohort, plan, cache, start_model, fingerprint, whole, steps_before)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for writing; the lock goes with the process, however that ends.

        Raises:
            DinomixError: another process is writing.
        """
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise DinomixError(
                f"Another process is training in {self.path}.", "Wait until it ends, or stop it; then resume."
            ) from error
        try:
            for place in (".", "checkpoints", "snapshot"):
                clear_leftovers(self.path / place)
            yield
        finally:
            lock.release()

    def forget_events_after(self, step: int) -> None:
        """Drop events of steps that a resumed run takes again, so that each step is recorded once."""
        if not self.events.exists():
            return

        def is_after(event: Event) -> bool:
            at, stage = event.get("step", 0), event.get("stage", "train")
            return isinstance(at, int) and at > self.steps_before + step and stage == "train"

        text = "".join(json_text(event) + "\n" for event in read_events(self.events) if not is_after(event))
        # Who follows the file would read it all again.
        if text != self.events.read_text(encoding="utf-8", errors="replace"):
            write_text(self.events, text)
