"""What the command line imports: seconds of imports are seconds of every cold start."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dinomix.images.volume import Geometry, Volume
from dinomix.images.writing import write_image
from dinomix.planning.plan import RangeWindow, SpacingGrid
from random_models import labels_with_ids, random_model, small_plan

REPORT = """
import json, sys
from dinomix.cli import main
try:
    main(json.loads(sys.argv[1]))
except SystemExit as end:
    names = [name for name, module in sys.modules.items() if module is not None]
    print(json.dumps({"code": end.code, "modules": names}), file=sys.stderr)
"""
NEVER = {"accelerate", "ignite", "matplotlib", "pandas", "PIL", "skimage", "timm", "torchvision", "transformers"}


def run(*arguments: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", REPORT, json.dumps(arguments)],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    result = json.loads(done.stderr.splitlines()[-1])
    assert result["code"] == 0, done.stderr
    return result


@pytest.mark.parametrize("verb", [(), ("segment",), ("train",), ("worker",)])
def test_help_loads_next_to_nothing(verb: tuple[str, ...]) -> None:
    result = run(*verb, "--help")
    assert not {"torch", "monai", "numpy", "SimpleITK", "pydantic", *NEVER} & set(result["modules"])


def test_segment_imports_only_what_it_uses(tmp_path: Path) -> None:
    model = random_model(
        tmp_path / "model",
        small_plan(SpacingGrid(spacing=(1.0,) * 3), RangeWindow(low=0, high=1)),
        labels_with_ids(1, 2),
    )
    in_hu = np.linspace(-1000, 300, 8000, dtype=np.float32).reshape(20, 20, 20)
    image = Volume(in_hu, Geometry((20, 20, 20), (1.0,) * 3, (0.0,) * 3, np.eye(3)))
    write_image(image, tmp_path / "image.nii.gz")
    paths = ("--model", str(model.path), str(tmp_path / "image.nii.gz"), "--out", str(tmp_path / "labels.nii.gz"))
    result = run("segment", "--device", "cpu", *paths)
    loaded = {name.split(".")[0] for name in result["modules"]}
    assert "monai" in loaded and not NEVER & loaded, NEVER & loaded
    assert (tmp_path / "labels.nii.gz").exists()
