"""The one error that a user's mistake may raise."""


class DinomixError(Exception):
    """What went wrong and what to do next, each a full sentence that names the file concerned.

    The command line prints ``problem`` and ``remedy`` on one line and exits with 2; no traceback is shown.
    Anything else that escapes is a defect of the software.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem} {remedy}".strip())
        self.problem = problem
        self.remedy = remedy
