"""Times in words."""

from __future__ import annotations

from slicer.i18n import tr as _


def duration(seconds: float) -> str:
    """A time in words: "20 seconds", "3 minutes", "1.5 hours"."""
    if seconds < 1:
        return _("a second")
    if seconds < 90:
        return _("{n} seconds").format(n=max(2, round(seconds)))
    if seconds < 90 * 60:
        return _("{n} minutes").format(n=max(2, round(seconds / 60)))
    return _("{n:.1f} hours").format(n=seconds / 3600)


def withTimeLeft(what: str, eta: float | None) -> str:
    """What runs, and how long it will go on where that is known."""
    return what if eta is None else _("{what}, {time} left").format(what=what, time=duration(eta))
