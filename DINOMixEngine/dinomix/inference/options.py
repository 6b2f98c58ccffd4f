"""How a user wants images to be segmented: said once, and handed on as one thing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Numbers = Literal["float32", "bfloat16", "int8"]
"""What a network computes with; "int8" is for models that carry a graph of 8 bits."""
Precision = Literal["auto", Numbers]
RuntimeName = Literal["auto", "pytorch", "openvino", "openvino-gpu"]


@dataclass(frozen=True)
class Options:
    """What holds for all images and models of a call.

    Attributes:
        device: "auto", "cpu", "cuda", "cuda:N" or "mps"; see ``choose_device``.
        max_memory: bytes of main memory that this process may take in all; None for what the computer has free.
        precision: the numbers that the network computes with. "auto" is 8 bits where the model carries a graph of those, which
            its validation cases allow, and a piece of the image has nearly the same labels so (see ``eight_bits``); else
            bfloat16 where the device has instructions for it and each structure is expected to be as in float32 (Dice of 0.995
            or more, see ``LabelChanges``); elsewhere float32. The model folder run as a bundle of MONAI's gives the labels of
            "float32" and "pytorch".
        runtime: what computes on a CPU. "auto" is OpenVINO where it is installed and a trial with this model, which is
            remembered, has found it faster and its labels the same; elsewhere PyTorch. "openvino-gpu" is OpenVINO on Intel
            graphics for images of which these give a piece the labels of the CPU; for others as "auto", without 8 bits.
        all_pieces: keep also what a model's plan calls stray pieces of a structure, or removes as too small.
        mirror: average each window with its mirror images along axes for which it was trained; see ``mirroring``.
        clean_up: which pieces are removed from the result of all models, see ``asked_clean_up``.
    """

    device: str = "auto"
    max_memory: int | None = None
    precision: Precision = "auto"
    runtime: RuntimeName = "auto"
    all_pieces: bool = False
    mirror: bool = False
    clean_up: Mapping[str, str] = field(default_factory=dict)


DEFAULTS = Options()
"""What is wanted by who says nothing."""
