"""Where a teacher's weights come from: files as they were published, under any backbone's name, and nothing unasked."""

import pickle
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from dinomix.errors import DinomixError
from dinomix.training.arranging import teacher_settings
from dinomix.training.backbones import load_backbone, weight_file
from dinomix.training.config import FkdConfig
from dinomix.training.foundation import load_foundation

SMALL = "vit_small_patch16_dinov3"


def random_weights(architecture: str) -> dict[str, Tensor]:
    return {name: tensor.clone().contiguous() for name, tensor in timm.create_model(architecture).state_dict().items()}


def as_meta_publishes(width: int) -> dict[str, Tensor]:
    """Random weights under the names of DINOv3's own vision transformer, as MedDINOv3 builds it: no bias of queries, keys
    and values, four storage tokens, LayerScale."""
    rng = torch.Generator().manual_seed(3)

    def random(*shape: int) -> Tensor:
        return 0.1 * torch.randn(*shape, generator=rng)

    tensors = {
        "cls_token": random(1, 1, width), "storage_tokens": random(1, 4, width), "mask_token": random(1, width),
        "patch_embed.proj.weight": random(width, 3, 16, 16), "patch_embed.proj.bias": random(width),
        "rope_embed.periods": random(16), "norm.weight": random(width), "norm.bias": random(width),
    }  # fmt: skip
    for block in (f"blocks.{number}" for number in range(12)):
        for norm in ("norm1", "norm2"):
            tensors |= {f"{block}.{norm}.weight": random(width), f"{block}.{norm}.bias": random(width)}
        tensors |= {f"{block}.ls1.gamma": random(width), f"{block}.ls2.gamma": random(width)}
        tensors[f"{block}.attn.qkv.weight"] = random(3 * width, width)
        for layer, (rows, columns) in {"attn.proj": (width, width), "mlp.fc1": (4 * width, width),
                                       "mlp.fc2": (width, 4 * width)}.items():  # fmt: skip
            tensors |= {f"{block}.{layer}.weight": random(rows, columns), f"{block}.{layer}.bias": random(rows)}
    return tensors


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_a_backbone_takes_its_weights_from_a_named_file(tmp_path: Path, ending: str):
    weights, file = random_weights("resnet18"), tmp_path / f"mine=best.{ending}"
    if ending == "pth":
        torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in weights.items()}}, file)
    else:
        save_file(weights, file)
    backbone, name = load_backbone(f"resnet18={file}", False)
    assert name == f"resnet18 ({file.name})"
    assert torch.equal(backbone.state_dict()["layer4.1.conv2.weight"], weights["layer4.1.conv2.weight"])
    assert "state_dict" not in backbone.pretrained_cfg


def test_tensors_that_do_not_fit_are_told_with_file_and_backbone(tmp_path: Path):
    file = tmp_path / "teacher.safetensors"
    save_file(random_weights("resnet18"), file)
    with pytest.raises(DinomixError, match="convnext_tiny") as caught:
        load_backbone(f"convnext_tiny={file}", False)
    assert str(file) in str(caught.value) and "--teacher NAME=FILE" in str(caught.value.remedy)
    with pytest.raises(DinomixError, match="does not say which backbone"):
        load_backbone(str(file), False)
    with pytest.raises(DinomixError, match="timm knows no backbone named resnet19"):
        load_backbone(f"resnet19={file}", False)
    with pytest.raises(DinomixError, match="There is no teacher file"):
        load_backbone(f"resnet18={tmp_path / 'absent.pth'}", False)


def test_a_named_file_stays_found_from_another_folder(tmp_path: Path, monkeypatch):
    save_file({"a": torch.zeros(1)}, tmp_path / "weights.safetensors")
    monkeypatch.chdir(tmp_path)
    settings = teacher_settings("resnet18=weights.safetensors", False)
    assert settings == {"fkd.teacher": f"resnet18={tmp_path / 'weights.safetensors'}"}
    assert weight_file(settings["fkd.teacher"]) == ("resnet18", tmp_path / "weights.safetensors")
    assert teacher_settings("weights.safetensors", False) == {"fkd.teacher": str(tmp_path / "weights.safetensors")}
    assert teacher_settings("random:resnet18", False) == {"fkd.teacher": "random:resnet18"}
    assert weight_file("/data/a=b/teacher.pth") == (None, Path("/data/a=b/teacher.pth"))


def test_meddinov3s_checkpoint_is_read_as_it_was_published(tmp_path: Path):
    """``teacher`` holds the backbone beside the heads of its training; the backbone is Meta's ViT-B without its biases."""
    backbone, heads = (
        as_meta_publishes(768),
        {"mlp.0.weight": torch.randn(8, 768), "last_layer.weight": torch.randn(4, 8)},
    )
    published = {f"backbone.{name}": tensor for name, tensor in backbone.items()}
    published |= {f"{head}.{name}": tensor for head in ("dino_head", "ibot_head") for name, tensor in heads.items()}
    torch.save({"teacher": published}, tmp_path / "model.pth")
    torch.save(backbone, tmp_path / "dinov3_vitb16.pth")
    loaded, name = load_backbone(str(tmp_path / "model.pth"), False)
    assert name == "vit_base_patch16_dinov3 (model.pth)"
    state = loaded.state_dict()
    assert torch.equal(state["reg_token"], backbone["storage_tokens"])
    assert torch.equal(state["blocks.11.gamma_2"], backbone["blocks.11.ls2.gamma"])
    assert torch.equal(state["blocks.5.attn.qkv.weight"], backbone["blocks.5.attn.qkv.weight"])
    alone, _ = load_backbone(f"vit_base_patch16_dinov3={tmp_path / 'dinov3_vitb16.pth'}", False)
    assert all(torch.equal(tensor, state[name]) for name, tensor in alone.state_dict().items())
    del published["backbone.blocks.11.ls2.gamma"]
    torch.save({"teacher": published}, tmp_path / "model.pth")
    with pytest.raises(DinomixError, match="gamma_2"):
        load_backbone(str(tmp_path / "model.pth"), False)


def test_timms_file_needs_no_name(tmp_path: Path):
    teacher = load_foundation(FkdConfig(teacher=f"random:{SMALL}"))
    state = teacher.maps.backbone.state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "model.safetensors")
    loaded = load_foundation(FkdConfig(teacher=str(tmp_path / "model.safetensors")))
    slices = torch.rand(1, 32, 32)
    torch.testing.assert_close(loaded.tokens(slices), teacher.tokens(slices))
    assert "random" not in loaded.name


def test_files_that_are_no_weights_are_refused(tmp_path: Path):
    evil = tmp_path / "evil.pth"
    marker = tmp_path / "executed"

    class Evil:
        def __reduce__(self):
            return Path.touch, (marker,)

    evil.write_bytes(pickle.dumps(Evil()))
    for file in (evil, tmp_path / "absent.pth"):
        with pytest.raises(DinomixError):
            load_foundation(FkdConfig(teacher=str(file)))
    assert not marker.exists()


def test_absent_weights_are_neither_fetched_nor_replaced(monkeypatch, tmp_path: Path):
    import huggingface_hub

    def refuse(*arguments, **options):
        raise AssertionError("tried to fetch weights unasked")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(DinomixError, match="licence"):
        load_foundation(FkdConfig(teacher="vit_large_patch16_dinov3"))
