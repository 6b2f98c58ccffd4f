"""The one error that a user's mistake may raise."""


class DinomixError(Exception):
    """What went wrong and what to do next, each a full sentence that names the file concerned.

    The command line prints ``problem`` and ``remedy`` on one line and exits with 2; no traceback is shown.
    Anything else that escapes is a defect of the software.

    Attributes:
        code: a short, stable word where the remedy names an option of the command line, so that a window or a script
            can say it in its own words; else empty. The codes are listed in docs/python_api.md.
    """

    def __init__(self, problem: str, remedy: str = "", code: str = "") -> None:
        self.problem, self.remedy, self.code = printable(problem), printable(remedy), code
        super().__init__(f"{self.problem} {self.remedy}".strip())

    @property
    def fields(self) -> dict[str, str]:
        """Message, remedy and code, as events and the worker's answers have them."""
        return {"message": self.problem, "remedy": self.remedy, "code": self.code}


DEFECTS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What escapes where a file is wrong in a way that nobody foresaw; where there are many files, the others go on."""


def printable(text: str) -> str:
    """A text that can be shown and written anywhere: names of files may hold bytes that are no text, or control a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else ascii(c)[1:-1] for c in text)


def reason_of(error: Exception) -> str:
    """Why something could not be read, in a few words of one line, for the brackets of a sentence."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if hasattr(error, "errors"):  # pydantic's
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        text = str(first["msg"]).removeprefix("Value error, ")
        return printable(f"{place}: {text}" if place else text)[:300]
    lines = str(error).splitlines() or [type(error).__name__]
    return printable(lines[0])[:300]
