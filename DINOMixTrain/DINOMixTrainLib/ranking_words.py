"""What the window says of each order in which cases can be labeled."""

from __future__ import annotations

from dataclasses import dataclass

from slicer.i18n import tr as _


@dataclass(frozen=True)
class RankingWords:
    """
    Attributes:
        title: the order in a list of all.
        meaning: which cases come first and why, a full sentence.
        score, details: titles of the columns with a case's figure, and with its structures; empty without such a figure.
    """

    title: str
    meaning: str
    score: str = ""
    details: str = ""


def wordsOf(by: str) -> RankingWords:
    """The words of a strategy of ``dinomix rank``; of one that this window does not know, its name."""
    return allWords().get(by, RankingWords(by, _("They are in the order of {by}.").format(by=by), _("Figure")))


def allWords() -> dict[str, RankingWords]:
    """Strategy -> words, in the order in which they are offered."""
    return {
        "disagreement": RankingWords(
            _("by disagreement"),
            _("The run's two networks disagree most on the first ones: labels there teach the next training most."),
            _("Disagreement"),
            _("Most disputed"),
        ),
        "predicted-dice": RankingWords(
            _("by expected Dice"),
            _("Of the first ones the model expects the worst of its own labels, as the Dice of each structure says."),
            _("Expected Dice"),
            _("Lowest"),
        ),
        "clasp-pe": RankingWords(
            _("by the uncertainty of each structure"),
            _(
                "The first ones are the most uncertain of one structure after the other. As long as few cases are labeled, "
                "chance has a part in it, so that the first ones are unlike each other."
            ),
            _("Uncertainty"),
            _("Most uncertain"),
        ),
        "foreground-random": RankingWords(
            _("by chance, with much to draw"),
            _(
                "The order is drawn by chance; cases that show much of a structure come first more often. No other order was "
                "better on the whole where they were measured."
            ),
            details=_("Share of all voxels"),
        ),
        "random": RankingWords(_("by chance"), _("The order is drawn by chance alone.")),
    }
