"""What is found of networks once and remembered on the computer: asked once, never wrong, and no need of PyTorch's compiler."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dinomix.errors import DinomixError
from dinomix.inference.precision import Ends
from dinomix.models import remembered as module
from dinomix.models.network import _footprint, build_network, footprint
from dinomix.models.remembered import remembered
from dinomix.planning.plan import Plan
from random_models import small_plan

AGAIN = """
import sys
from dinomix.models.light_monai import import_monai_for_networks
import_monai_for_networks()
from dinomix.inference.precision import Ends
from dinomix.models.network import build_network, footprint
from dinomix.planning.plan import Plan
plan = Plan.model_validate_json(sys.argv[1])
ends = Ends.of(build_network(plan, 3), plan)
print(footprint(plan, 3).window, *ends.first, *ends.last, "torch._dynamo" in sys.modules)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DINOMIX_CACHE", str(tmp_path / "cache"))
    _footprint.cache_clear()
    return tmp_path / "cache" / "networks"


def asked(network: torch.nn.Module, value: object, decides: list[object]) -> tuple[object, bool]:
    """What is said, and whether it had to be found."""
    found: list[object] = []
    return remembered("answer", network, decides, lambda: found.append(value) or value), bool(found)


def test_a_fact_is_found_once_for_each_network_and_what_decides_it(folder: Path) -> None:
    layer = torch.nn.Conv3d(1, 2, 3)
    assert asked(layer, [1, "a"], [8]) == ([1, "a"], True)
    assert asked(torch.nn.Conv3d(1, 2, 3), 0, [8]) == ([1, "a"], False)
    assert asked(layer, 2, [9]) == (2, True)
    assert asked(torch.nn.Conv3d(1, 2, 3, padding=1), 3, [8]) == (3, True)
    for file in folder.iterdir():
        file.write_text("{")
    assert asked(layer, 4, [8]) == (4, True)


def test_only_the_last_facts_stay_and_none_is_kept_in_a_folder_that_cannot_be_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT", 2)
    for number in range(4):
        asked(torch.nn.Identity(), number, [number])
    assert len(list(folder.iterdir())) == 2
    (folder.parent / "file").touch()
    monkeypatch.setenv("DINOMIX_CACHE", str(folder.parent / "file"))
    assert [asked(torch.nn.Identity(), 5, [5])[1] for _ in range(2)] == [True, True]


def test_a_refused_patch_is_refused_again(folder: Path) -> None:
    plan = small_plan().model_copy(update={"patch": (30, 30, 30)})
    for _ in range(2):
        with pytest.raises(DinomixError, match="cannot take patches"):
            footprint(plan, 3)
    assert not folder.exists()


def test_another_process_needs_neither_a_run_without_values_nor_the_compiler() -> None:
    plan: Plan = small_plan()
    network = build_network(plan, 3)
    ends, window = Ends.of(network, plan), footprint(plan, 3).window
    again = subprocess.run(
        [sys.executable, "-c", AGAIN, plan.model_dump_json()], capture_output=True, text=True, check=True
    )
    assert again.stdout.split() == [str(window), *ends.first, *ends.last, "False"] and ends.first and ends.last
