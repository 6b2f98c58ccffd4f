"""``slicer.i18n`` without translations, and with an eye on how texts are marked.

Slicer's translators see only texts that stand in the source as they are; a text made at run time (an f-string, a variable)
is never translated there, so here it is an error.
"""

import sys

__all__ = ["tr", "translate"]


def tr(text: str) -> str:
    """``text`` itself; ValueError if it is not written out in the function that calls."""
    caller = sys._getframe(1).f_code
    if not isinstance(text, str):
        raise TypeError(f"tr() takes a text, not {text!r}")
    if text not in caller.co_consts:
        raise ValueError(
            f"tr() in {caller.co_filename} was given a text made at run time, which nobody can translate: {text!r}"
        )
    return text


def translate(context: str, text: str) -> str:
    """``text`` itself."""
    if not isinstance(context, str) or not isinstance(text, str):
        raise TypeError(f"translate() takes two texts, not {context!r} and {text!r}")
    return text
