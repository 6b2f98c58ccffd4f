"""The icons are of one family: one script draws them all, and the files are what it draws."""

import runpy
from pathlib import Path

import numpy as np
import pytest

import index_rules

ROOT = index_rules.ROOT
SCRIPT = ROOT / "Resources" / "Icons" / "draw_icons.py"
UNLIKE = 2 / 255
"""Mean difference of a pixel's values, 0 to 1, that versions of matplotlib may make; icons of the family differ by more."""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name -> an icon that the script draws, into a folder of its own."""
    folder = tmp_path_factory.mktemp("icons")
    copy = folder / "Resources" / "Icons" / SCRIPT.name
    copy.parent.mkdir(parents=True)
    copy.write_text(SCRIPT.read_text("utf-8"), encoding="utf-8")
    runpy.run_path(str(copy), run_name="__main__")
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.png")}


def pixels(path: Path) -> np.ndarray:
    """(height, width, 4), 0 to 1, transparent ones black."""
    import matplotlib.pyplot as plt

    image = plt.imread(path)
    return image * image[..., 3:]


def expected() -> list[str]:
    modules = [f"{name}/Resources/Icons/{name}.png" for name in index_rules.modules(ROOT)]
    return ["Resources/Icons/DINOMix.png", *modules]


@pytest.mark.parametrize("name", [*expected(), "DINOMixTrain/Resources/Icons/PhantomAbdomens.png"])
def test_the_icon_is_what_the_script_draws(drawn: dict[str, Path], name: str) -> None:
    assert np.abs(pixels(drawn[name]) - pixels(ROOT / name)).mean() < UNLIKE


def test_no_two_icons_are_alike() -> None:
    images = [pixels(ROOT / name) for name in expected()]
    for number, image in enumerate(images):
        for other in images[:number]:
            assert np.abs(image - other).mean() > 0.03
