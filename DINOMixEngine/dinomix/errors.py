"""The one error that a user's mistake may raise, and what to make of the others. Needs nothing installed."""

import errno


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


def told_of(error: Exception, file: object) -> DinomixError:
    """What went wrong with one of many files, with its name. Raises the error itself where it concerns all: a full disk."""
    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise error
        error = DinomixError(f"{error.filename or file}: {error.strerror or error}.", "Check the file and its folder.")
    elif isinstance(error, MemoryError):
        error = DinomixError("The main memory does not suffice.", "Close other programs, or crop the image.")
    elif not isinstance(error, DinomixError):
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        error = DinomixError(f"{file} cannot be used ({reason}).", "This is a defect of DINOMix: please report it.")
    name = printable(str(file))
    problem = error.problem if name in error.problem else f"{name}: {error.problem}"
    return DinomixError(problem, error.remedy, error.code)


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
    if isinstance(error, KeyError) and error.args:
        return printable(f"it lacks {error.args[0]}")[:300]
    if isinstance(error, (AttributeError, IndexError, TypeError)):
        return "a value is of another kind than it should be"  # Python's own words say nothing to a user
    lines = str(error).splitlines() or [type(error).__name__]
    return printable(lines[0])[:300]
