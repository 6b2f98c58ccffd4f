"""The event stream: one JSON object a line, read alike by the progress bar, the plots and the report.

Every event has ``time`` (seconds since the epoch) and ``kind``. The kinds and their fields:

=============  =====================================================================================================
started        pid, host, device, reason (why this device), steps, version; at the beginning of a run and of each resume
schedule       step, steps (of the whole run, from now on), seconds (the budget), spent (of it by now), prepared (spent by the
               first step), message; of a run with a budget of time, before its first step and where another number of steps fits
progress       stage (str), step (int, done so far), total (int), eta (seconds, or None while unknown)
loss           step, total, supervised, unsupervised, fkd, lambda_u, learning_rate, gradient_norm (floats; None where off)
pic            step, subset ("labeled" or "unlabeled"), probabilities {class name: p}, draws [class name or None, ...], shares of
               these: random (boxes around no class) and rare (around one of the third of the classes with the fewest voxels)
pseudo_label   step, voxels {class name: count}, confidence {class name: mean probability}, agreement {class name: Dice
               between student and EMA teacher, or None}; of what the teacher does not find 0, None and None
reliability    step, dice {class name: Dice of the EMA teacher on labeled patches}, waits (bool: pseudo-labels do not count yet)
start          dice {class name: Dice of the model that the run starts from on the validation cases, or None}, mean (float or
               None), seconds; before the first step
kept           step, agreement {class name: how far the EMA teacher says the same as the start model on the validation cases, or
               None}; of structures that are kept as that predicts them. No Dice: there is no ground truth
verdict        start (title of the model that the run started from), kept ("trained", or "start" where that became the result),
               mean {before, after}, dice {class name: {before, after}}, agreement (as of ``kept``), message, remedy; at the end
validation     step, dice {class name: float or None}, mean (float), seconds
snapshot       step, case, path (relative to the run), mean (float or None): one validation case as it is segmented now
case           name, role, image, label (or None), size, spacing, orientation, patient, voxels {structure name: count}; where the
               structures are known, drawn, absent, not_drawn, undecided [names], labeled_slices {axis, numbers} (or None) and
               ignored, what its label leaves open; of a check
names          names [{name in the label files, cases (how many), matched (name in the label set, or None)}]; of a check
problem        case (name or None), file (or None), message, remedy, code, and the case's role, image and label (or None); of a
               check that fails
device         device (such as "cuda:0"), reason (a full sentence): what computes a segmentation
runtime        runtime ("pytorch", "openvino" or "openvino-gpu"), reason (a full sentence): what computes on a CPU, or on Intel
               graphics, where there is a choice: a segmentation, or in a run the teacher of FKD
disk           cases, features (bytes that the cache will take), free (bytes), path; before the cache is filled
estimate       steps, seconds_per_step, seconds, memory_bytes, disk_bytes, cache_bytes {cases, features}, device, reason, fkd,
               pseudo_labels and plan (full sentences); of `train --estimate`
stuck          step, classes [names whose validation Dice is exactly 0]
checkpoint     step, path, best (bool)
notice         message; where there is something to do about it also remedy and code
paused         step (that a resume goes on from), message, remedy, code; the run can be resumed
error          message, remedy, code; resuming as it is would not help
finished       path (the result), seconds; of a run also stopped (bool: it was ended early)
=============  =====================================================================================================

``message`` and ``remedy`` are full sentences; ``code`` is that of ``DinomixError``, a word where the remedy names an option of
the command line, else empty.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from dinomix.files import json_text, parse_json, read_lines

Event = dict[str, Any]
Emit = Callable[..., None]
"""``emit(kind, **fields)``: what every long-running function takes to announce what it does."""


def silent(kind: str, **fields: Any) -> None:
    """An ``Emit`` for callers who want no events."""


class Notice(NamedTuple):
    """What the user should know, as a ``notice`` event has it; see ``DinomixError`` for remedy and code."""

    message: str
    remedy: str = ""
    code: str = ""

    @property
    def text(self) -> str:
        """Message and remedy in one."""
        return f"{self.message} {self.remedy}".strip()


class EventFile:
    """Appends events to ``path``; each line is flushed, so a reader never waits for a buffer."""

    def __init__(self, path: Path, also: Emit = silent) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.also = also
        self._torn = _ends_torn(path)

    def __call__(self, kind: str, **fields: Any) -> None:
        line = json_text({"time": time.time(), "kind": kind, **fields}) + "\n"
        start = "\n" if self._torn else ""
        self._torn = True
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(start + line)
        self._torn = False
        self.also(kind, **fields)


def _ends_torn(path: Path) -> bool:
    """Whether the last line was cut off, by a kill or a full disk; the next one must not be joined to it."""
    if not path.exists() or not path.stat().st_size:
        return False
    with open(path, "rb") as file:
        file.seek(-1, 2)
        return file.read() != b"\n"


def read_events(path: Path) -> Iterator[Event]:
    """The events of a file; lines that a full disk cut off or damaged, or that are still being written, are left out."""
    if not path.exists():
        return
    for line in read_lines(path):
        event = event_of(line)
        if event is not None and line.endswith(b"\n"):
            yield event


def event_of(line: bytes) -> Event | None:
    """The event that a line holds; None where it holds none, as a crash or a full disk may leave it."""
    try:
        event = parse_json(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("kind"), str) else None


BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"


class TerminalEvents:
    """Shows events to a person: a progress bar with the events' own ETA on stderr, notices as lines."""

    def __init__(self) -> None:
        self.bar: Any = None
        self._loss = self._text = self._runtime = ""

    def __call__(self, kind: str, **fields: Any) -> None:
        from tqdm import tqdm

        if kind == "progress":
            if self.bar is None or self.bar.desc != fields["stage"]:
                self.close()
                self.bar = tqdm(
                    total=fields["total"],
                    desc=fields["stage"],
                    file=sys.stderr,
                    leave=True,
                    mininterval=0.5,
                    bar_format=BAR,
                )
                self.bar.desc = fields["stage"]
            left = f"{tqdm.format_interval(fields['eta'])} left" if fields.get("eta") else ""
            self.bar.total = fields["total"]
            text, moved = ", ".join(filter(None, (left, self._loss))), fields["step"] - self.bar.n
            # tqdm shows a new text with the next step, and there may be none for minutes.
            self.bar.set_postfix_str(text, refresh=not moved and text != self._text)
            self.bar.update(moved)
            self._text = text
        elif kind == "loss":
            self._loss = f"loss {fields['total']:.3f}"
        elif kind in ("started", "device"):
            tqdm.write(fields["reason"], file=sys.stderr)
        elif kind == "runtime" and fields["reason"] != self._runtime:  # once for all images of a batch
            self._runtime = fields["reason"]
            tqdm.write(self._runtime, file=sys.stderr)
        elif kind == "validation":
            worst = ", ".join(f"{name} {dice:.2f}" for name, dice in fields["dice"].items() if dice is not None)
            tqdm.write(f"step {fields['step']}: validation Dice {fields['mean']:.3f} ({worst})", file=sys.stderr)
        elif kind == "start" and fields["mean"] is not None:
            tqdm.write(f"the model it starts from: validation Dice {fields['mean']:.3f}", file=sys.stderr)
        elif kind == "kept":
            agreed = ", ".join(
                f"{name} {value:.2f}" for name, value in fields["agreement"].items() if value is not None
            )
            tqdm.write(f"step {fields['step']}: agreement with the start model, no Dice ({agreed})", file=sys.stderr)
        elif kind == "verdict":
            tqdm.write(Notice(fields["message"], fields["remedy"]).text, file=sys.stderr)
        elif kind == "stuck":
            tqdm.write(f"step {fields['step']}: no voxel right yet of {', '.join(fields['classes'])}", file=sys.stderr)
        elif kind == "disk":
            size = fields["cases"] + fields["features"]
            shown = f"{size / 1e6:.0f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"
            of_features = f" ({fields['features'] / size:.0%} for the teacher's features)" if fields["features"] else ""
            tqdm.write(
                f"The prepared cases will take {shown} of disk{of_features}; {fields['free'] / 1e9:.0f} GB are free.",
                file=sys.stderr,
            )
        elif kind == "schedule":
            tqdm.write(fields["message"], file=sys.stderr)
        elif kind == "notice":
            tqdm.write(
                f"Note: {Notice(**{key: fields[key] for key in Notice._fields if key in fields}).text}", file=sys.stderr
            )

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar, self._loss, self._text = None, "", ""


class JsonEvents:
    """Writes events to stdout as JSON lines, for other programs (``--json``)."""

    def __call__(self, kind: str, **fields: Any) -> None:
        print(json_text({"time": time.time(), "kind": kind, **fields}), flush=True)


@contextmanager
def shown_events(as_json: bool) -> Iterator[Emit]:
    """An ``Emit`` for a command: JSON lines for a program, or a bar for a person that is closed however the block ends."""
    if as_json:
        yield JsonEvents()
        return
    events = TerminalEvents()
    try:
        yield events
    finally:
        events.close()


class RepeatedProgress:
    """Passes events on, and repeats the last ``progress`` while something long goes on that has no steps of its own.

    So whoever listens sees the time run down, and can end the work from within ``emit``.
    """

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._last: dict[str, Any] | None = None
        self._told = self._repeated = 0.0

    def __call__(self, kind: str, **fields: Any) -> None:
        if kind == "progress":
            self._last, self._told = fields, time.monotonic()
        self._emit(kind, **fields)

    def again(self) -> None:
        """Announce the last progress once more, at most five times a second."""
        now = time.monotonic()
        if self._last is None or now - max(self._told, self._repeated) < 0.2:
            return
        self._repeated, eta = now, self._last["eta"]
        left = None if eta is None else max(eta - (now - self._told), 0.0)
        self._emit("progress", **{**self._last, "eta": left})


class Progress:
    """Announces ``progress`` events of one stage with an ETA from the steps done in this process."""

    def __init__(self, emit: Emit, stage: str, total: int, start: int = 0) -> None:
        self.emit, self.stage, self.total, self.start = emit, stage, total, start
        self.began = time.monotonic()
        emit("progress", stage=stage, step=start, total=total, eta=None)

    def __call__(self, step: int) -> None:
        done = step - self.start
        eta = (time.monotonic() - self.began) / done * (self.total - step) if done > 0 else None
        self.emit("progress", stage=self.stage, step=step, total=self.total, eta=eta)


class ProgressOfPart:
    """Passes events on; the progress of one part of a work is told as that of the whole, in one bar.

    Args:
        before, after: steps of the parts before and after this one, as far as they are known.
        stage: whose steps are counted so; None for all stages.
        seconds_after: of the parts after; None for as long a step as in this one.
    """

    def __init__(self, emit: Emit, before: int, after: int, stage: str | None = None,
                 seconds_after: float | None = None) -> None:  # fmt: skip
        self._emit, self.before, self.after = emit, before, after
        self._stage, self._seconds_after = stage, seconds_after
        self._per_step: float | None = None

    def __call__(self, kind: str, **fields: Any) -> None:
        if kind == "progress" and self._stage in (None, fields["stage"]):
            fields = self._of_whole(fields)
        self._emit(kind, **fields)

    def _of_whole(self, fields: dict[str, Any]) -> dict[str, Any]:
        left, eta, seconds_after = fields["total"] - fields["step"], fields["eta"], self._seconds_after
        if eta is not None and left > 0:
            self._per_step = eta / left
        if seconds_after is None and (self._per_step is not None or not self.after):
            seconds_after = self.after * (self._per_step or 0.0)
        eta = eta + seconds_after if eta is not None and seconds_after is not None else None
        step, total = self.before + fields["step"], self.before + fields["total"] + self.after
        return {**fields, "step": step, "total": total, "eta": eta}
