"""All that is wrong with a cohort, told at once: mending one file at a time would take a check for each."""

from collections.abc import Sequence
from pathlib import Path

from dinomix.errors import DinomixError


class Problem(DinomixError):
    """One thing that is wrong; ``case`` is the name of the case concerned and ``file`` its file, where there are such."""

    def __init__(
        self, problem: str, remedy: str, code: str = "", *, case: str | None = None, file: Path | None = None
    ) -> None:
        super().__init__(problem, remedy, code)
        self.case, self.file = case, file


class CohortError(DinomixError):
    """A refused cohort. ``problems`` holds one error, which names its file and the remedy, for each thing found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        if len(problems) == 1:
            super().__init__(problems[0].problem, problems[0].remedy, problems[0].code)
        else:
            listed = " ".join(f"({number}) {error}" for number, error in enumerate(problems, 1))
            super().__init__(f"The cohort has {len(problems)} problems: {listed}", "Nothing was written.")


def raise_if_any(problems: Sequence[Problem]) -> None:
    if problems:
        raise CohortError(problems)
