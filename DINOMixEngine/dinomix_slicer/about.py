"""What every module of the extension says of itself."""

from __future__ import annotations

from slicer.i18n import tr as _

HOMEPAGE = "https://github.com/DINOMix/SlicerDINOMix"
CONTRIBUTORS = ["The DINOMix developers"]
"""Persons, as "First name Last name (Organization)"; the same as in CMakeLists.txt, DINOMix.s4ext and CITATION.cff."""


def acknowledgement() -> str:
    """Whose method it is, with the paper to cite."""
    return _(
        "The models are trained by DINO-Mix. Please cite: Liu and Sun, 2026, "
        '<a href="https://arxiv.org/abs/2602.07819">arXiv:2602.07819</a>.'
    )
