"""Durations as people write them: "90s", "30m", "1h30m"."""

import re

from dinomix.errors import DinomixError

_PARTS = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s)?")


def seconds_of(text: str) -> float:
    """Seconds of "90s", "30m", "2h" or "1h 30m". Raises DinomixError for anything else."""
    found = _PARTS.fullmatch("".join(text.lower().split()))
    if found is None or not any(found.groups()):
        raise DinomixError(f"{text} is no duration.", "Write it as 90s, 30m, 2h or 1h30m.")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds


def as_duration(seconds: float) -> str:
    """The same the other way round, to the second: "1h30m", "12m5s", "0s"."""
    whole = round(seconds)
    parts = zip((whole // 3600, whole // 60 % 60, whole % 60), "hms", strict=True)
    return "".join(f"{count}{unit}" for count, unit in parts if count) or "0s"
