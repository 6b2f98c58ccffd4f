"""``import dinomix``: quick, and its functions take what the command line takes, under the same names."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dinomix
from dinomix.commands.segment import command as segment_command
from dinomix.commands.train import command as train_command
from dinomix.images.volume import Geometry, Volume
from dinomix.images.writing import write_image
from dinomix.models.silence import is_installed
from random_models import labels_with_ids, random_model, small_plan
from tiny_cohort import make_cohort, make_plan

NOT_IN_PYTHON = {"as_json", "help"}
OTHER_FUNCTIONS = {"resume", "finish", "estimate", "list_presets", "list_devices"}
OTHER_NAMES = {"plan_file": "plan", "models": "model"}


@pytest.mark.parametrize(("function", "command"), [("segment", segment_command), ("train", train_command)])
def test_functions_have_the_options_of_their_verbs(function, command) -> None:
    options = {OTHER_NAMES.get(p.name, p.name): p for p in command.params}
    expected = {name for name in options if name not in NOT_IN_PYTHON | OTHER_FUNCTIONS}
    signature = inspect.signature(getattr(dinomix, function))
    assert set(signature.parameters) == expected | {"emit"}
    documentation = inspect.getdoc(getattr(dinomix, function))
    for name, parameter in signature.parameters.items():
        assert parameter.annotation is not inspect.Parameter.empty
        assert f"{name}: " in documentation or name == "seed"
        option = options.get(name)
        if option is not None and isinstance(option.default, str | int) and not option.is_flag:
            assert parameter.default == option.default, name


def test_every_name_is_there_and_importing_the_package_loads_nothing() -> None:
    for name in dinomix.__all__:
        assert callable(getattr(dinomix, name)) and name in dir(dinomix)
    with pytest.raises(AttributeError, match="no attribute 'segmnt'"):
        dinomix.segmnt  # noqa: B018
    report = "import dinomix, json, sys; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, encoding="utf-8", check=True)
    loaded = {name.split(".")[0] for name in json.loads(done.stdout)}
    assert "dinomix" in loaded and not {"torch", "monai", "numpy", "SimpleITK", "pydantic", "click"} & loaded


def test_training_and_segmenting_with_names_of_files(tmp_path: Path) -> None:
    make_cohort(tmp_path).write(tmp_path / "cohort.json")
    make_plan().write(tmp_path / "plan.json")
    settings = {"pic.kappa": 2, "learning_rate": 0.003}
    told: list[str] = []
    cohort, run, plan = (str(tmp_path / name) for name in ("cohort.json", "run", "plan.json"))
    folder = dinomix.train(
        cohort,
        run,
        fkd="off",
        steps=1,
        device="cpu",
        plan=plan,
        settings=settings,
        emit=lambda kind, **_: told.append(kind),
    )
    assert folder == tmp_path / "run/model" == dinomix.resume(run)
    assert "finished" in told
    assert (folder / "models/model.graph.xml").is_file() == is_installed()
    assert '"kappa": 2' in (tmp_path / "run/config.json").read_text()


def test_segmenting_one_or_several(tmp_path: Path) -> None:
    model = random_model(tmp_path / "model", small_plan(), labels_with_ids(2, 5))
    volume = Volume(np.zeros((20, 20, 20), np.float32), Geometry((20,) * 3, (1.0,) * 3, (0.0,) * 3, np.eye(3)))
    write_image(volume, tmp_path / "scan.nii.gz")
    one = dinomix.segment(str(model.path), str(tmp_path / "scan.nii.gz"), str(tmp_path / "one.seg.nrrd"), device="cpu")
    assert one == [tmp_path / "one.seg.nrrd"]
    same = dinomix.load_model(str(model.path))
    several = dinomix.segment(same, [tmp_path / "scan.nii.gz"], tmp_path / "out", format="nrrd", device="cpu")
    assert several == [tmp_path / "out/scan.nrrd"]
    labels = dinomix.segment_volume(dinomix.read_image(str(tmp_path / "scan.nii.gz")), same, device="cpu")
    assert labels.array.shape == (20, 20, 20)
