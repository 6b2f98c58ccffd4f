"""What the last check read of each case, kept beside the cohort file, so that only files that have changed are read again.

A file has not changed where its path, size and times of change are those of then. Training compares the contents' hashes
with the cohort's before it prepares a case, so that a file changed behind the back of its times is found there.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from dinomix.cohort.facts import CaseFacts, ChannelFacts
from dinomix.cohort.found import FoundCase
from dinomix.cohort.renaming import Renames
from dinomix.files import parse_json, read_lines, write_text
from dinomix.images.file_sets import files_of
from dinomix.images.volume import Geometry

FORMAT = 6
"""Raised when checks find out more, or something else, about the same files."""


class RememberedFacts:
    """The facts of a cohort's cases in a file of JSON lines, to which each case is added as soon as it is read."""

    def __init__(self, out: Path | None, renames: Renames, order: Sequence[str] = (),
                 channels: Sequence[str] = ()) -> None:  # fmt: skip
        """``out`` is the cohort file; None for a check that writes none, which remembers nothing."""
        self.path = out.with_name(f".{out.name}.facts") if out is not None else None
        self.renames, self.order, self.channels = renames, tuple(order), tuple(channels)
        self._lines = 0
        self._known = self._read()
        self._asked: dict[str, str] = {}

    def recall(self, case: FoundCase) -> CaseFacts | None:
        """What is known of a case; None where its files, or what is asked of them, are not the same any more."""
        if self.path is None:
            return None
        try:
            key = self._asked[case.name] = self._key(case)
        except OSError:
            return None  # reading it will say why
        return _from_data(self._known[key]) if key in self._known else None

    def keep(self, case: FoundCase, facts: CaseFacts) -> None:
        """Remember what was read of a case that ``recall`` did not know."""
        key = self._asked.get(case.name)
        if self.path is None or key is None:
            return
        self._known[key] = _to_data(facts)
        if not self.path.parent.is_dir():
            return  # nothing is created for a check that may fail; where it succeeds, ``forget_others`` writes all
        try:
            with open(self.path, "a", encoding="utf-8", newline="\n") as file:
                file.write(_line(key, self._known[key]))
            self._lines += 1
        except OSError:
            # It only saves time; where the cohort cannot be written either, the check says so.
            self.path = None

    def forget_others(self) -> None:
        """Drop what was remembered of cases, or of states of them, that this check did not ask for."""
        wanted = {key: self._known[key] for key in self._asked.values() if key in self._known}
        if self.path is None or len(wanted) == self._lines:
            return
        text = "".join(_line(key, data) for key, data in wanted.items())
        try:
            write_text(self.path, text)
        except OSError:
            self.path = None

    def _read(self) -> dict[str, dict[str, Any]]:
        known: dict[str, dict[str, Any]] = {}
        if self.path is None or not self.path.is_file():
            return known
        for line in read_lines(self.path):
            self._lines += 1
            try:
                key, data = parse_json(line)[2:]
                if _line(key, data).encode() == line:
                    known[key] = data
            except (ValueError, TypeError, IndexError, KeyError):
                continue  # cut off by a kill, or of another version
        return known

    def _key(self, case: FoundCase) -> str:
        files = [_signature(path) for path in (*case.images, case.label) if path is not None]
        asked: list[Any] = [files, sorted(case.names.items()), sorted(self.renames.new.items()), self.order]
        if case.more_images:
            asked.append(self.channels)
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def _line(key: str, data: dict[str, Any]) -> str:
    """A line of the file. By the hash, one that was damaged or changed by hand is not believed."""
    return json.dumps([FORMAT, hashlib.sha256(json.dumps(data).encode()).hexdigest(), key, data]) + "\n"


def _signature(path: Path) -> list[Any]:
    """Path, size and times of change of the one file, else those of all that it is read from. Raises OSError where it is gone."""
    own = _state(path)
    files = files_of(path)
    return own if files == (path,) else [str(path), *map(_state, files)]


def _state(file: Path) -> list[Any]:
    status = file.stat()
    return [str(file), status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _to_data(facts: CaseFacts) -> dict[str, Any]:
    geometry = facts.geometry
    return {
        **{name: value for name, value in vars(facts).items() if name not in ("geometry", "more")},
        "more": [asdict(channel) for channel in facts.more],
        "geometry": {**asdict(geometry), "direction": geometry.direction.tolist()},
    }


def _from_data(data: dict[str, Any]) -> CaseFacts:
    size, spacing, origin = (tuple(data["geometry"][name]) for name in ("size", "spacing", "origin"))
    foreground = data["foreground_intensity"]
    return CaseFacts(
        **{
            **data,
            "geometry": Geometry(size, spacing, origin, np.array(data["geometry"]["direction"])),  # type: ignore[arg-type]
            "intensity": tuple(data["intensity"]),
            "foreground_intensity": tuple(foreground) if foreground is not None else None,
            "ignored": tuple(data["ignored"]),
            "runs": tuple(tuple((start, stop) for start, stop in runs) for runs in data["runs"]),
            "counts": {int(value): count for value, count in data["counts"].items()},
            "thickness": {int(value): mm for value, mm in data["thickness"].items()},
            "names": {int(value): name for value, name in data["names"].items()} if data["names"] is not None else None,
            "more": tuple(ChannelFacts.from_data(channel) for channel in data.get("more", ())),
            "overlaps": tuple((below, above, count) for below, above, count in data["overlaps"]),
            "notices": tuple(data["notices"]),
        }
    )
