"""Finding a teacher: DINOv3 through timm, any other timm backbone with weights from a file, or an architecture untrained.

The DINOv3 weights have a licence of their own. They are never bundled and never fetched unasked: they come from a file, from
the user's own Hugging Face cache, or, once the user agreed, through timm.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dinomix.errors import DinomixError
from dinomix.importing.weights import read_checkpoint, state_dict_of

LICENSE = "https://ai.meta.com/resources/models-and-libraries/dinov3-license/"
OTHER_BACKBONE = (
    "Name a backbone of timm that takes pictures of any size, such as vit_small_patch16_dinov3 or resnet50."
)
_FILE_ENDINGS = {".safetensors", ".pth", ".pt", ".bin"}
_NAMED_FILE = re.compile(r"([A-Za-z0-9_.]+)=(.+)")
_DINOV3_BY_WIDTH = {
    384: "vit_small_patch16_dinov3",
    768: "vit_base_patch16_dinov3",
    1024: "vit_large_patch16_dinov3",
}


def weight_file(teacher: str) -> tuple[str | None, Path] | None:
    """The backbone and the file that a teacher is named by: NAME=FILE, or FILE alone; None where it names no file."""
    named = _NAMED_FILE.fullmatch(teacher)
    if named is not None and not Path(teacher).is_file():
        return named[1], Path(named[2])
    return (None, Path(teacher)) if Path(teacher).suffix.lower() in _FILE_ENDINGS else None


def load_backbone(teacher: str, download: bool) -> tuple[nn.Module, str]:
    """The backbone that ``teacher`` names, and what it is called in the model card.

    Args:
        teacher: ``random``, ``random:TIMM_NAME``, ``TIMM_NAME=FILE``, a DINOv3 ViT's FILE alone, or a timm name.
        download: whether the user agreed that timm may fetch the weights.

    Raises:
        DinomixError: no such backbone; a file that is not its weights; weights that are not in the user's cache.
    """
    if teacher == "random" or teacher.startswith("random:"):
        architecture = teacher.partition(":")[2] or _DINOV3_BY_WIDTH[768]
        with torch.random.fork_rng(devices=[]):
            # One seed for all runs: a frozen teacher is the same for every student, trained or not.
            torch.manual_seed(0)
            return _create(architecture), f"{architecture} (random weights, never trained)"
    found = weight_file(teacher)
    if found is not None:
        named, file = found
        weights = _weights_of(file)
        architecture = named or _dinov3_with(weights, file)
        return _create(architecture, weights, file), f"{architecture} ({file.name})"
    cached = _cached_weights(teacher, download)
    return _create(teacher, *((_weights_of(cached), cached) if cached else ())), teacher


def reason_absent(teacher: str) -> str | None:
    """Why the weights of a timm name are not at hand, with what can be done; None where they are."""
    try:
        _cached_weights(teacher, download=False)
    except DinomixError as error:
        return str(error)
    return None


def _create(architecture: str, weights: dict[str, Tensor] | None = None, file: Path | None = None) -> nn.Module:
    import timm

    if not timm.is_model(architecture):
        raise DinomixError(
            f"timm knows no backbone named {architecture}.",
            "Name one of timm.list_models(), TIMM_NAME=FILE, a weight file, or random.",
        )
    arguments: dict[str, Any] = {"num_classes": 0}
    if weights is not None:
        # timm's own loader converts the names of checkpoints as they were published, and leaves classifiers out.
        arguments |= {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": dict(weights)}}
    try:
        try:
            backbone = timm.create_model(architecture, dynamic_img_size=True, **arguments)
        except TypeError:  # a backbone without positions takes slices of any size as it is
            backbone = timm.create_model(architecture, **arguments)
    except Exception as error:
        if file is None:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise DinomixError(f"timm could not make {architecture} ({reason}).", OTHER_BACKBONE) from error
        raise DinomixError(
            f"{file} does not hold the weights of timm's {architecture} ({_first_misfit(error)}).",
            "Name the backbone that the file belongs to with --teacher NAME=FILE, and give the file as it was published.",
            code="teacher",
        ) from error
    if weights is not None:
        backbone.pretrained_cfg.pop("state_dict", None)  # timm keeps the tensors that it was given
    if not hasattr(backbone, "forward_intermediates"):
        raise DinomixError(f"timm's {architecture} gives no feature maps.", OTHER_BACKBONE)
    return backbone


def _first_misfit(error: Exception) -> str:
    """PyTorch's list of what does not fit, of which the first lines tell enough."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[1:2] or lines or [type(error).__name__])[:200].rstrip(". ")


def _weights_of(file: Path) -> dict[str, Tensor]:
    """The tensors of a weight file under a backbone's names; nothing in the file is executed.

    Trainings of the DINO family keep the backbone of their teacher beside its heads: ``teacher`` -> ``backbone.*``,
    ``dino_head.*``, ``ibot_head.*``. So does MedDINOv3, as it was published.
    """
    if not file.is_file():
        raise DinomixError(f"There is no teacher file {file}.", "Check the path given as --teacher.", code="teacher")
    checkpoint = read_checkpoint(file)
    if isinstance(checkpoint, dict) and isinstance(checkpoint.get("teacher"), dict):
        checkpoint = checkpoint["teacher"]
    weights = state_dict_of(checkpoint, file)
    backbone = {name.removeprefix("backbone."): w for name, w in weights.items() if name.startswith("backbone.")}
    return backbone or weights


def _dinov3_with(weights: dict[str, Tensor], file: Path) -> str:
    """The DINOv3 ViT that weights belong to, told by the width of its class token."""
    token = weights.get("cls_token")
    if token is None or token.shape[-1] not in _DINOV3_BY_WIDTH:
        raise DinomixError(
            f"{file} does not say which backbone it belongs to: it holds no DINOv3 ViT-S, ViT-B or ViT-L.",
            f"Name its backbone, as timm calls it: --teacher NAME={file}.",
            code="teacher",
        )
    return _DINOV3_BY_WIDTH[token.shape[-1]]


def _cached_weights(architecture: str, download: bool) -> Path | None:
    """The user's own copy of a backbone's weights, fetched only where ``download`` says that the user agreed."""
    import timm
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    if not timm.is_model(architecture):
        return None
    configuration = timm.get_pretrained_cfg(architecture)
    repository = configuration.hf_hub_id if configuration else None
    if not repository:
        raise DinomixError(f"timm has no weights for {architecture}.", "Name another backbone, or random.")
    cached = try_to_load_from_cache(repository, "model.safetensors")
    if isinstance(cached, str):
        return Path(cached)
    if not download:
        raise DinomixError(
            f"The weights of {architecture} ({repository}) are not in your Hugging Face cache; nothing is "
            "fetched unasked.",
            f"Read their licence ({LICENSE} for DINOv3) and add --download-teacher, give a file with --teacher FILE, "
            "choose --teacher random, or train without them: --fkd off.",
            code="teacher",
        )
    try:
        return Path(hf_hub_download(repository, "model.safetensors"))
    except Exception as error:
        raise DinomixError(
            f"The weights of {architecture} could not be fetched from {repository} ({type(error).__name__}).",
            "Accept their licence on that page and log in with `hf auth login`, or give a file with --teacher FILE.",
            code="teacher",
        ) from error
