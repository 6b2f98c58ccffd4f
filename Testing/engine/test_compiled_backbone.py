"""A frozen teacher that OpenVINO computes: the tokens of PyTorch, and PyTorch itself where it cannot."""

import multiprocessing
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from dinomix.training import compiled_backbone, foundation
from dinomix.training.compiled_backbone import SAME_TOKENS
from dinomix.training.config import FkdConfig
from dinomix.training.foundation import FoundationModel, load_foundation
from dinomix.training.view import View

pytestmark = pytest.mark.skipif(
    not compiled_backbone.can_compile(), reason="OpenVINO is not installed, or is not used on this processor"
)
VIT, CONVOLUTIONAL = "vit_small_patch16_dinov3", "tf_efficientnet_lite0"
CPU = torch.device("cpu")
Told = list[dict[str, Any]]


def teacher_of(name: str, layers: int = 1) -> FoundationModel:
    teacher = load_foundation(FkdConfig(teacher=f"random:{name}", layers=layers))
    teacher.view = View(black=-1.0, white=4.0)
    return teacher


def compiled(name: str, precision: str, layers: int = 1) -> tuple[FoundationModel, Told]:
    """A teacher on the CPU, and what it tells."""
    told: Told = []
    teacher = teacher_of(name, layers)
    return teacher.on(CPU, precision, lambda kind, **fields: told.append({"kind": kind, **fields})), told


def slices_of(count: int, x: int, y: int) -> torch.Tensor:
    return 5 * torch.rand(count, x, y, generator=torch.Generator().manual_seed(1)) - 1


@pytest.mark.parametrize("name", [VIT, CONVOLUTIONAL])
@pytest.mark.parametrize(("precision", "has_bfloat16"), [("auto", True), ("auto", False), ("fp32", True)])
def test_tokens_are_those_of_pytorch(
    name: str, precision: str, has_bfloat16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A processor that says so; OpenVINO computes bfloat16 on others too where they have AVX-512.
    monkeypatch.setattr(foundation, "has_bfloat16", lambda device: has_bfloat16)
    teacher, told = compiled(name, precision, layers=2)
    exact = teacher_of(name, layers=2)
    least = 0.99999 if precision == "fp32" or not has_bfloat16 else SAME_TOKENS["bfloat16"]
    # Pictures of several sizes, and as many as a batch has and as are left over.
    for count, x, y in ((3, 64, 96), (1, 64, 96), (2, 96, 64), (3, 64, 96)):
        slices = slices_of(count, x, y)
        tokens, wanted = teacher.tokens(slices), exact.tokens(slices)
        assert tokens.dtype == torch.float32 and tokens.shape == wanted.shape
        assert F.cosine_similarity(tokens, wanted, dim=1).mean() > least
    assert [event["runtime"] for event in told] == ["openvino"]


def test_a_run_in_bfloat16_computes_by_openvino_too() -> None:
    teacher, told = compiled(VIT, "bf16")
    with torch.autocast("cpu", torch.bfloat16):
        tokens = teacher.tokens(slices_of(2, 48, 48))
    assert [event["runtime"] for event in told] == ["openvino"]
    assert F.cosine_similarity(tokens, teacher_of(VIT).tokens(slices_of(2, 48, 48)), dim=1).mean() > 0.99


def test_pytorch_computes_what_cannot_be_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(*arguments: object) -> None:
        raise NotImplementedError("aten::rare is not known")

    monkeypatch.setattr(compiled_backbone, "converted_with", cannot)
    teacher, told = compiled(VIT, "fp32")
    slices = slices_of(2, 48, 64)
    assert torch.equal(teacher.tokens(slices), teacher_of(VIT).tokens(slices))
    assert [event["runtime"] for event in told] == ["pytorch"] and "aten::rare is not known" in told[0]["reason"]
    teacher.tokens(slices_of(2, 96, 64))
    assert len(told) == 1


def test_tokens_that_change_in_bfloat16_are_computed_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foundation, "has_bfloat16", lambda device: True)
    monkeypatch.setitem(SAME_TOKENS, "bfloat16", 1.1)
    teacher, told = compiled(CONVOLUTIONAL, "auto")
    slices = slices_of(2, 64, 64)
    assert F.cosine_similarity(teacher.tokens(slices), teacher_of(CONVOLUTIONAL).tokens(slices), dim=1).min() > 0.99999
    assert "in float32" in told[0]["reason"]


def test_pytorch_computes_where_openvino_gives_other_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SAME_TOKENS, "float32", 1.1)
    teacher, told = compiled(CONVOLUTIONAL, "fp32")
    slices = slices_of(2, 64, 64)
    assert torch.equal(teacher.tokens(slices), teacher_of(CONVOLUTIONAL).tokens(slices))
    assert told[0]["runtime"] == "pytorch" and "its tokens are not those of PyTorch" in told[0]["reason"]


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="processes are not forked here")
def test_a_forked_process_does_not_wait_for_the_threads_that_it_lacks() -> None:
    slices = slices_of(2, 64, 64)

    def compute() -> None:
        torch.set_num_threads(1)  # PyTorch's own threads are not there either
        compiled(CONVOLUTIONAL, "fp32")[0].tokens(slices)

    compute()
    process = multiprocessing.get_context("fork").Process(target=compute)
    process.start()
    process.join(60)
    process.kill()
    assert process.exitcode == 0
