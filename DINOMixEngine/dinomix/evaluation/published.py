"""Published numbers, each with its source, its split and what it can be compared with."""

from dataclasses import dataclass
from typing import Literal

from dinomix.evaluation.splits import DatasetName


@dataclass(frozen=True)
class Published:
    """One published mean Dice, in percent.

    Attributes:
        sd: over the authors' own runs, where they give one.
        split: name of a shipped split; None where it is not published or not shipped.
        comparable: whether split, resized grid, window, patch and rule for empty classes are those of `dhc-compat` with
            ``split``: "yes" where the authors' code shows it, "likely" where it does not contradict it.
        source: where the method is published, and where it matters who reports the number.
    """

    dataset: DatasetName
    method: str
    dice: float
    sd: float | None
    split: str | None
    comparable: Literal["yes", "likely", "no"]
    source: str
    note: str


_OTHER = "another split, window, patch and rule for empty classes: not comparable"

PUBLISHED = (
    Published("synapse", "DHC", 48.61, None, None, "no",
              "Wang & Li, MICCAI 2023, arXiv 2307.11960, github.com/xmed-lab/DHC",
              "the repository's split was replaced after the paper"),
    Published("synapse", "A&D (GenericSSL)", 60.88, None, "synapse-20p-genericssl", "yes",
              "Wang & Li, NeurIPS 2023, arXiv 2310.11320, github.com/xmed-lab/GenericSSL",
              "test cases as in synapse-20p-skcdf, other labeled cases"),
    Published("synapse", "SKCDF", 64.27, 1.36, "synapse-20p-skcdf", "yes",
              "Zhang et al., CVPR 2025, github.com/yinguanchun/SKCDF",
              "3 seeds, equal to the log released there; a user of that code reports 55.84 (its issue 4)"),
    Published("synapse", "DINO-Mix", 66.45, None, "synapse-20p-skcdf", "likely",
              "Liu & Sun, arXiv 2602.07819",
              "no code is public"),
    Published("synapse", "GA", 68.43, None, "synapse-20p-dhc-2023-10", "no",
              "GA loss, ECCV 2024, github.com/cicailalala/GALoss", _OTHER),
    Published("synapse", "TAK", 72.66, None, None, "no",
              "arXiv 2501.13470, github.com/Lunn88/TAK-Semi", _OTHER),
    Published("amos", "DHC", 49.53, None, "amos-5p", "likely",
              "Wang & Li, MICCAI 2023, arXiv 2307.11960, github.com/xmed-lab/DHC", ""),
    Published("amos", "MagicNet", 54.09, None, "amos-5p", "likely",
              "Chen et al., CVPR 2023, github.com/DeepMed-Lab-ECNU/MagicNet",
              "as later papers report it; its own paper has no AMOS"),
    Published("amos", "DINO-Mix", 62.73, None, "amos-5p", "likely",
              "Liu & Sun, arXiv 2602.07819", "no code is public"),
    Published("amos", "GA", 63.50, None, "amos-5p", "no",
              "GA loss, ECCV 2024, github.com/cicailalala/GALoss",
              "another window, patch and rule for empty classes: not comparable; a user of that code reports 55.16 "
              "(its issue 1)"),
    Published("amos", "TAK", 70.20, None, "amos-5p", "no",
              "arXiv 2501.13470, github.com/Lunn88/TAK-Semi",
              "another window, patch and rule for empty classes: not comparable"),
)  # fmt: skip

CAUTION = (
    "The Synapse test set is 6 cases, so a difference of a few points may be one case.",
    'Three incompatible splits are called "Synapse 20%"; compare with numbers of the same split only.',
    "Where a class is in neither prediction nor reference, dhc-compat counts 1 of 100; strict leaves the case out.",
    "Optimizer and losses are our own, and without --as-published network and augmentation too; docs/protocols.md has all "
    "that differs.",
    "The window [-75, 275] is fixed to [0, 1], where the released code stretches each volume from its own minimum to its own "
    "maximum after clipping: the same for CT volumes that hold air and bone, not for AMOS's MR volumes.",
)


def published_numbers(dataset: DatasetName) -> list[Published]:
    return [number for number in PUBLISHED if number.dataset == dataset]


def comparability(number: Published, split: str) -> str:
    """Whether a published number can stand beside ours on ``split``, and what is to be known about it."""
    if number.comparable == "no":
        verdict = "not comparable" if "not comparable" not in number.note else ""
    elif number.split != split:
        verdict = f"other split ({number.split}): not comparable"
    else:
        verdict = "same split and protocol" if number.comparable == "yes" else "most likely the same split and protocol"
    return "; ".join(part for part in (verdict, number.note) if part)
