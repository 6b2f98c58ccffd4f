"""``slicer.testing``: runs a unittest by name and raises if it fails."""

import sys
import unittest

__all__ = ["exitFailure", "exitSuccess", "runUnitTest"]


def exitSuccess() -> None:
    """Nothing to do."""


def exitFailure(message: str = "") -> None:
    raise Exception(message)


def runUnitTest(path: str | list[str], testname: str) -> None:
    """Run the test ``testname`` with ``path`` on Python's path."""
    sys.path.extend([path] if isinstance(path, str) else path)
    result = unittest.TextTestRunner().run(unittest.defaultTestLoader.loadTestsFromName(testname))
    if not result.wasSuccessful() or result.testsRun == 0:
        exitFailure(f"{testname} failed")
