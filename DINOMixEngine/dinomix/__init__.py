"""DINOMix: semi-supervised, class-imbalanced 3D medical image segmentation (DINO-Mix, arXiv 2602.07819).

Importing this package imports neither numpy nor torch; what the functions below need is loaded when one of them is named.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dinomix.errors import DinomixError
    from dinomix.images.reading import read_image
    from dinomix.images.writing import write_labels
    from dinomix.inference.segment import segment_volume
    from dinomix.models.folder import load_model
    from dinomix.training.train import resume
    from dinomix.verbs import segment, train

__version__ = "0.1.0"
__all__ = [
    "DinomixError", "load_model", "read_image", "resume", "segment", "segment_volume", "train", "write_labels",
]  # fmt: skip

_PLACES = {
    "DinomixError": "dinomix.errors",
    "load_model": "dinomix.models.folder",
    "read_image": "dinomix.images.reading",
    "resume": "dinomix.training.train",
    "segment": "dinomix.verbs",
    "segment_volume": "dinomix.inference.segment",
    "train": "dinomix.verbs",
    "write_labels": "dinomix.images.writing",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
