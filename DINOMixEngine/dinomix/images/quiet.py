"""SimpleITK called so that its failures become one sentence, and its warnings no text on the user's terminal."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import SimpleITK as sitk


@contextmanager
def itk_warnings_off() -> Iterator[None]:
    displayed = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(displayed)


def reason_of(error: RuntimeError) -> str:
    """The telling end of an ITK message, on one line: no source lines, addresses or stacks of NRRD calls."""
    if "Unable to determine ImageIO" in str(error):
        return "it is not in the format that its name says"
    text = " ".join(str(error).split("ERROR:")[-1].split("[nrrd]")[-1].split())
    return re.sub(r"\w+\(0x[0-9a-f]+\): ", "", text)[:200].rstrip(" .")
