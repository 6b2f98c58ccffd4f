"""How long a segmentation will take, in words."""

from __future__ import annotations

from dataclasses import dataclass

from slicer.i18n import tr as _

from dinomix_slicer.window.duration import duration


@dataclass(frozen=True)
class Estimate:
    """What the worker expects.

    Attributes:
        seconds: expected time.
        memory: bytes of main memory that it will take; None where it is not known.
        device: "cpu", "mps", "cuda" or "cuda:N".
        reason: a sentence that says why this device.
        isMost: whether it may be faster, since how much of the volume is computed turns out on the way.
        text: sentences for the user, the reason and the expected time.
        isWarning: whether it will be slow, as on the CPU.
    """

    seconds: float
    memory: int | None
    device: str
    reason: str
    isMost: bool = False

    @property
    def isWarning(self) -> bool:
        return self.device == "cpu"

    @property
    def text(self) -> str:
        expected = (
            _("This will take at most about {duration}.") if self.isMost else _("This will take about {duration}.")
        )
        expected = expected.format(duration=duration(self.seconds))
        if not self.isWarning:
            return f"{self.reason} {expected}"
        advice = _("A graphics card is many times as fast.")
        return f"{self.reason} {expected} {advice}"
