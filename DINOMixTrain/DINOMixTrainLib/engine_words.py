"""The engine's sentences speak of options of its command line; the window's of what the window shows."""

from __future__ import annotations

import re

from slicer.i18n import tr as _


def forWindow(sentence: str) -> str:
    """A sentence of ``dinomix check`` in the words of the page "Cases"."""
    for pattern, words in replacements():
        sentence = re.sub(pattern, lambda match, words=words: words, sentence)
    return sentence[:1].upper() + sentence[1:]


def replacements() -> tuple[tuple[str, str], ...]:
    """Pattern, and what it is replaced by; the longer ones first."""
    return (
        (r"Give --modality to say otherwise", _("Choose the kind of images under Advanced to say otherwise")),
        (r"; --labeled-count N then takes all but N of its cases as unlabeled", ""),
        (r"Give at least one folder after --labeled", _("Add a folder of labeled cases, or use some of the scene")),
        (r"after --labeled and after --unlabeled", _("as labeled and as unlabeled")),
        (r"after --labeled or --test", _("as labeled or as test")),
        (r"after --labeled", _("as labeled")),
        (r"after --unlabeled", _("as unlabeled")),
        (r"after --test", _("as test")),
        (r"--patient-pattern", _("the pattern of patients")),
        (r"see --validation", _("see the number of validation cases")),
        (r", or name all structures with --labels", ""),
        (r"with --rename", _("in the table of structures")),
    )
