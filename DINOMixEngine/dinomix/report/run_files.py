"""What a run directory holds, read as far as it is there: a run may be unfinished, or lack whole parts."""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dinomix.cohort.cohort import Cohort
from dinomix.errors import DinomixError, reason_of
from dinomix.events import Event, event_of
from dinomix.files import read_lines, read_table
from dinomix.labels import LabelSet
from dinomix.models.calibration import KEY_OF_BOXES, Calibration
from dinomix.planning.plan import Plan


@dataclass
class RunFiles:
    """A run as its files tell it.

    Attributes:
        config: the ``train`` part of config.json; empty where it cannot be read.
        events: kind -> events in the order of the file.
        metrics: metrics.json of an evaluation, if it is there.
        calibration, calibration_of_boxes: those of the model and of its second stage, if there are any.
        missing: full sentences about what is not there or cannot be read.
    """

    path: Path
    config: dict[str, Any] = field(default_factory=dict)
    cohort: Cohort | None = None
    plan: Plan | None = None
    events: dict[str, list[Event]] = field(default_factory=dict)
    metrics: dict[str, Any] | None = None
    calibration: Calibration | None = None
    calibration_of_boxes: Calibration | None = None
    missing: list[str] = field(default_factory=list)

    @property
    def labels(self) -> LabelSet:
        """The cohort's label set; without a cohort, the names that the events speak of."""
        if self.cohort is not None:
            return self.cohort.labels
        names: dict[str, None] = {}
        for kind, key in (("validation", "dice"), ("pic", "probabilities"), ("pseudo_label", "voxels")):
            for event in self.events.get(kind, []):
                names.update(dict.fromkeys(event[key]))
        return LabelSet.from_names(dict(enumerate(names or {"foreground": None}, start=1)))

    @property
    def steps(self) -> int:
        """Steps that the run was planned to take, at last; without config.json, those that its events speak of."""
        scheduled = [event["steps"] for event in self.events.get("schedule", [])]
        return int(scheduled[-1] if scheduled else self.config.get("steps") or self.done or 1)

    @property
    def done(self) -> int:
        """The last step that an event speaks of."""
        return max(
            (int(event.get("step", 0)) for kind in ("loss", "checkpoint") for event in self.events.get(kind, [])),
            default=0,
        )

    @property
    def finished(self) -> bool:
        return (self.path / "model").is_dir()


def read_run(path: Path) -> RunFiles:
    """Read a run directory.

    Raises:
        DinomixError: ``path`` holds nothing of a run.
    """
    if not any((path / name).exists() for name in ("config.json", "events.jsonl", "cohort.json")):
        raise DinomixError(f"{path} holds no run.", "Name the folder that `dinomix train --out` wrote.")
    run = RunFiles(path)
    config = _read_json(run, "config.json", "The configuration is not shown.")
    run.config = (config or {}).get("train", {})
    run.cohort = _read(run, "cohort.json", Cohort, "The cohort is not shown.")
    run.plan = _read(run, "plan.json", Plan, "The plan is not shown.")
    run.events = _read_events(run)
    if (path / "metrics.json").exists():
        try:
            run.metrics = read_metrics(path / "metrics.json")
        except DinomixError as error:
            run.missing.append(f"{error.problem} The evaluation is not shown.")
    if run.finished:
        record = _read_json(run, "model/record.json", "How sure the model is is not shown.") or {}
        run.calibration = Calibration.of_record(record)
        run.calibration_of_boxes = Calibration.of_record(record, KEY_OF_BOXES)
    return run


def read_metrics(path: Path) -> dict[str, Any]:
    """The content of a ``metrics.json``. Raises DinomixError when it is none."""
    try:
        metrics = read_table(path)
        if not all(metrics.get(key) for key in ("classes", "mean", "protocol")):
            raise ValueError("it holds no class")
    except (OSError, ValueError) as error:
        raise DinomixError(
            f"{path} holds no metrics ({reason_of(error)}).", "Write them with `dinomix evaluate --out`."
        ) from error
    return metrics


def _read_json(run: RunFiles, name: str, consequence: str) -> dict[str, Any] | None:
    try:
        return read_table(run.path / name)
    except FileNotFoundError:
        run.missing.append(f"There is no {name}. {consequence}")
    except (OSError, ValueError) as error:
        run.missing.append(f"{name} cannot be read ({reason_of(error)}). {consequence}")
    return None


def _read(run: RunFiles, name: str, kind: Any, consequence: str) -> Any:
    if not (run.path / name).exists():
        run.missing.append(f"There is no {name}. {consequence}")
        return None
    try:
        return kind.read(run.path / name)
    except DinomixError as error:
        run.missing.append(f"{error.problem} {consequence}")
        return None


def _read_events(run: RunFiles) -> dict[str, list[Event]]:
    """The events by kind; lines that are no events, as a crash of the machine leaves them, are counted and passed over."""
    by_kind: dict[str, list[Event]] = defaultdict(list)
    path, damaged = run.path / "events.jsonl", 0
    if not path.exists():
        run.missing.append("There is no events.jsonl. No curve can be drawn.")
        return {}
    for line in read_lines(path):
        event = event_of(line)
        if event is not None:
            by_kind[event["kind"]].append(event)
        else:
            damaged += line.endswith(b"\n")
    if damaged:
        run.missing.append(f"{damaged} lines of events.jsonl are damaged and were passed over.")
    return dict(by_kind)
