"""All that is wrong with a cohort, told at once: mending one file at a time would take a check for each."""

from dinomix.errors import DinomixError


class CohortError(DinomixError):
    """A refused cohort. ``problems`` holds one error, which names its file and the remedy, for each thing found."""

    def __init__(self, problems: list[DinomixError]) -> None:
        self.problems = tuple(problems)
        if len(problems) == 1:
            super().__init__(problems[0].problem, problems[0].remedy)
        else:
            listed = " ".join(f"({number}) {error}" for number, error in enumerate(problems, 1))
            super().__init__(f"The cohort has {len(problems)} problems: {listed}", "Nothing was written.")


def raise_if_any(problems: list[DinomixError]) -> None:
    if problems:
        raise CohortError(problems)
