"""What a check has found: each case, what is wrong with it, and which structures there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from slicer.i18n import tr as _

from dinomix_slicer.remedies import remedyOf, textOf

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
        size, spacing: voxels and mm along the file's axes; empty where the case could not be read.
        voxels: structure -> voxels.
        isExcluded: it was left out of the check.
    """

    name: str
    role: str = ""
    image: str = ""
    label: str = ""
    size: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    orientation: str = ""
    patient: str = ""
    voxels: dict[str, int] = field(default_factory=dict)
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
        summary: the engine's own of the cohort; None while it has not succeeded.
    """

    cases: dict[str, CheckedCase] = field(default_factory=dict)
    general: list[Problem] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    names: list[FoundName] = field(default_factory=list)
    summary: dict[str, Any] | None = None

    @property
    def isGood(self) -> bool:
        """Whether the cohort can be trained on."""
        return self.summary is not None

    def take(self, event: dict[str, Any]) -> CheckedCase | None:
        """One of the engine's events; returns the case that it is about, if it is about one."""
        kind = event.get("kind")
        if kind == "case":
            return self._takeCase(event)
        if kind == "problem":
            return self._takeProblem(event)
        if kind == "names":
            self.names = [FoundName(str(n["name"]), int(n["cases"]), n["matched"]) for n in event["names"]]
        elif kind == "notice":
            self.notices.append(textOf(event))
        elif kind == "cohort":
            self.summary = {key: value for key, value in event.items() if key not in ("kind", "time")}
        return None

    @property
    def hasProblems(self) -> bool:
        """Whether the engine has said what is wrong with the cases."""
        return bool(self.general) or any(case.problems for case in self.cases.values())

    def addExcluded(self, names: Sequence[str], before: CohortReport | None) -> None:
        """Add the cases that were left out, with what was known of them before."""
        for name in names:
            known = before.cases.get(name) if before is not None else None
            self.cases.setdefault(name, replace(known or CheckedCase(name), isExcluded=True))

    def casesWithProblems(self) -> list[CheckedCase]:
        """Those that keep the cohort from being good."""
        return [case for case in self.cases.values() if case.problems and not case.isExcluded]

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

    def asJson(self) -> dict[str, Any]:
        """The report for a file; it shares its lists with this one, since copying those of many cases takes long."""
        cases = {
            name: {**vars(case), "problems": [vars(problem) for problem in case.problems]}
            for name, case in self.cases.items()
        }
        general, names = [vars(problem) for problem in self.general], [vars(name) for name in self.names]
        return {**vars(self), "cases": cases, "general": general, "names": names}

    @classmethod
    def fromJson(cls, data: dict[str, Any]) -> CohortReport:
        """What ``asJson`` has written. Raises TypeError, KeyError or AttributeError when it is something else."""
        cases = {}
        for name, case in data["cases"].items():
            problems = [Problem(**problem) for problem in case["problems"]]
            lists = {"size": tuple(case["size"]), "spacing": tuple(case["spacing"])}
            cases[name] = CheckedCase(**{**case, **lists, "problems": problems})
        return cls(
            cases=cases,
            general=[Problem(**problem) for problem in data["general"]],
            notices=list(data["notices"]),
            names=[FoundName(**name) for name in data["names"]],
            summary=data["summary"],
        )

    def _takeCase(self, event: dict[str, Any]) -> CheckedCase:
        case = self.cases.setdefault(event["name"], CheckedCase(event["name"]))
        case.role, case.image, case.label = event["role"], event["image"], event["label"] or ""
        case.size, case.spacing = tuple(event["size"]), tuple(event["spacing"])
        case.orientation, case.patient = event["orientation"], event["patient"]
        case.voxels = dict(event["voxels"])
        return case

    def _takeProblem(self, event: dict[str, Any]) -> CheckedCase | None:
        problem = Problem(event["message"], remedyOf(event))
        name, file = event.get("case"), event.get("file") or ""
        if not name and file:
            name = next((case.name for case in self.cases.values() if file in (case.image, case.label)), None)
        if not name:
            self.general.append(problem)
            return None
        case = self.cases.setdefault(name, CheckedCase(name))
        # A case that cannot be read has no event of its own.
        case.role = case.role or event.get("role") or ""
        case.image, case.label = case.image or event.get("image") or "", case.label or event.get("label") or ""
        case.problems.append(problem)
        return case
