"""What a check has found: each case, what is wrong with it, and which structures there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from slicer.i18n import tr as _

from dinomix_slicer.remedies import remedyOf, textOf

from .open_label import OpenLabel

ROLES = ("labeled", "validation", "unlabeled", "test")


@dataclass(frozen=True)
class Problem:
    """What is wrong, and what to do; full sentences."""

    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


@dataclass
class CheckedCase:
    """A case as the table shows it.

    Attributes:
        role: one of ROLES; empty where it is not known.
        image, label: paths; empty where there is none, or it is not known.
        moreImages: paths of the case's further images.
        size, spacing: voxels and mm along the file's axes; empty where the case could not be read.
        voxels: structure -> voxels.
        open: what its label leaves open.
        isExcluded: it was left out of the check.
    """

    name: str
    role: str = ""
    image: str = ""
    moreImages: tuple[str, ...] = ()
    label: str = ""
    size: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    orientation: str = ""
    patient: str = ""
    voxels: dict[str, int] = field(default_factory=dict)
    open: OpenLabel = field(default_factory=OpenLabel)
    problems: list[Problem] = field(default_factory=list)
    isExcluded: bool = False


@dataclass(frozen=True)
class FoundName:
    """A structure as the label files call it, in how many cases, and its name in the cohort's label set, if it has one."""

    name: str
    cases: int
    matched: str | None


@dataclass
class CohortReport:
    """
    Attributes:
        cases: by their names, in the order in which they are told.
        general: problems that are of no one case.
        notices: full sentences about what is allowed but may be unwise.
        isGood: whether the cohort can be trained on.
        events: what all this was told by.
    """

    cases: dict[str, CheckedCase] = field(default_factory=dict)
    general: list[Problem] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    names: list[FoundName] = field(default_factory=list)
    isGood: bool = False
    events: list[dict[str, Any]] = field(default_factory=list)

    def take(self, event: dict[str, Any]) -> None:
        """One of the engine's events, or of a report that was kept. Raises KeyError or TypeError when it is none."""
        kind = event.get("kind")
        if kind == "case":
            self._takeCase(event)
        elif kind == "problem":
            self._takeProblem(event)
        elif kind == "names":
            self.names = [FoundName(str(n["name"]), int(n["cases"]), n["matched"]) for n in event["names"]]
        elif kind == "notice":
            self.notices.append(textOf(event))
        elif kind == "cohort":
            self.isGood = True
        elif kind == "excluded":
            self.cases.setdefault(event["name"], CheckedCase(event["name"])).isExcluded = True
        else:
            return
        self.events.append(event)

    @property
    def hasProblems(self) -> bool:
        """Whether the engine has said what is wrong with the cases."""
        return bool(self.general) or any(case.problems for case in self.cases.values())

    def addExcluded(self, names: Sequence[str], before: CohortReport | None) -> None:
        """Add the cases that were left out, with what was known of them before."""
        left = set(names) - self.cases.keys()
        for event in before.events if before is not None else ():
            if event["kind"] in ("case", "problem") and before.caseOf(event) in left:
                self.take(event)
        for name in names:
            self.take({"kind": "excluded", "name": name})

    def casesWithProblems(self) -> list[CheckedCase]:
        """Those that keep the cohort from being good."""
        return [case for case in self.cases.values() if case.problems and not case.isExcluded]

    def labeled(self) -> list[CheckedCase]:
        """Those whose labels are used and could be told."""
        return [case for case in self.cases.values() if case.open.states and not case.isExcluded]

    def count(self, role: str) -> int:
        """How many cases without problems play this part."""
        return sum(case.role == role and not case.isExcluded and not case.problems for case in self.cases.values())

    def voxelsToLearnFrom(self) -> dict[str, int]:
        """Structure -> voxels in the labeled cases, the most first; those without a voxel there are 0."""
        total: Counter[str] = Counter()
        for case in self.cases.values():
            if not case.isExcluded:
                for name, voxels in case.voxels.items():
                    total[name] += voxels if case.role == "labeled" else 0
        return dict(sorted(total.items(), key=lambda pair: -pair[1]))

    def imbalance(self) -> str:
        """The ratio of the largest to the smallest structure in a sentence; empty without two."""
        present = {name: voxels for name, voxels in self.voxelsToLearnFrom().items() if voxels}
        if len(present) < 2:
            return ""
        most, least = max(present, key=present.get), min(present, key=present.get)
        ratio = present[most] / present[least]
        text = _("{most} has {ratio} times as many voxels as {least}.").format(
            most=most, least=least, ratio=f"{ratio:.1f}" if ratio < 10 else f"{ratio:,.0f}"
        )
        if ratio < 2:
            return text + " " + _("The structures are well balanced.")
        return text + " " + _("DINO-Mix gives rare structures more chances to be learned.")

    def _takeCase(self, event: dict[str, Any]) -> None:
        case = self.cases.setdefault(event["name"], CheckedCase(event["name"]))
        case.role, case.image, case.label = event["role"], event["image"], event["label"] or ""
        case.moreImages = tuple(event.get("more_images") or ())
        case.size, case.spacing = tuple(event["size"]), tuple(event["spacing"])
        case.orientation, case.patient = event["orientation"], event["patient"]
        case.voxels, case.open = dict(event["voxels"]), OpenLabel.of(event)

    def caseOf(self, event: dict[str, Any]) -> str | None:
        """The name of the case that an event is about; None where it is about none."""
        name, file = event.get("name") or event.get("case"), event.get("file")
        if not name and file:
            name = next((case.name for case in self.cases.values() if file in (case.image, case.label)), None)
        return name

    def _takeProblem(self, event: dict[str, Any]) -> None:
        problem, name = Problem(event["message"], remedyOf(event)), self.caseOf(event)
        if not name:
            self.general.append(problem)
            return
        case = self.cases.setdefault(name, CheckedCase(name))
        # A case that cannot be read has no event of its own.
        case.role = case.role or event.get("role") or ""
        case.image, case.label = case.image or event.get("image") or "", case.label or event.get("label") or ""
        case.problems.append(problem)
