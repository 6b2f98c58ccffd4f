"""How the worker is to compute, whatever it computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Computing:
    """
    Attributes:
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        maxMemory: bytes of main memory that the worker may take; None for no limit.
        precision: "auto", "float32", "bfloat16" or "int8"; "auto" is 8 bits where the model carries them, bfloat16 where that
            is faster and labels are expected to stay.
        runtime: "auto", "pytorch", "openvino" or "openvino-gpu"; "auto" is OpenVINO on a CPU where that is faster and its
            labels agree.
        allPieces: whether pieces that lie apart from the largest one of a structure are kept.
        anyImage: whether an image is segmented that is plainly none for the model, such as a CT that is not in HU.
        mirror: whether each window's mirror images are computed too, along the axes that the model knows such of, and averaged.
        cleanUp: structure -> "largest" or a size such as "0.5ml"; others of it are removed. An empty name is for all others.
        inside: structures in the box around which alone is computed, as the first of several models has found it, or a quick pass
            of the only one; empty for the whole image.
    """

    device: str = "auto"
    maxMemory: int | None = None
    precision: str = "auto"
    allPieces: bool = False
    runtime: str = "auto"
    anyImage: bool = False
    mirror: bool = False
    cleanUp: Mapping[str, str] = field(default_factory=dict)
    inside: tuple[str, ...] = ()

    def asFields(self) -> dict[str, Any]:
        """The fields of a request (docs/worker.md)."""
        return {
            "device": self.device,
            "max_memory": self.maxMemory,
            "precision": self.precision,
            "runtime": self.runtime,
            "all_pieces": self.allPieces,
            "any_image": self.anyImage,
            "mirror": self.mirror,
            "clean_up": dict(self.cleanUp),
            "inside": list(self.inside),
        }


AUTOMATIC = Computing()
