"""Fixtures that several test files share."""

import builtins
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from monai_alone import monai_alone

from dinomix.cohort.cohort import Cohort
from dinomix.images.volume import Geometry
from tiny_cohort import make_cohort


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real scans that the environment variable DINOMIX_TEST_DATA names."""
    folder = os.environ.get("DINOMIX_TEST_DATA")
    if not folder:
        pytest.skip("DINOMIX_TEST_DATA is not set, so nothing is tested on real scans")
    path = Path(folder).resolve()
    assert path.is_dir(), f"DINOMIX_TEST_DATA names {path}, which is no folder"
    return path


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """The tiny cohort as it is without arguments; one for the tests of a file."""
    return make_cohort(tmp_path_factory.mktemp("cases"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for prepared cases that the tests of a file share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def without_graphs() -> Iterator[None]:
    """As where OpenVINO is not installed: models go without graphs, whose writing is half of the time of a tiny run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dinomix.models.writing.is_installed", lambda: False)
        yield


@pytest.fixture(scope="module")
def run_bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., None]]:
    """``run_bundle(model, folder, *options)`` lets MONAI alone segment by a model folder, into folder/out."""
    with monai_alone(tmp_path_factory.mktemp("alone")) as run:
        yield run


@pytest.fixture
def windows_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, where lines of text end in two characters unless whoever opens a file says otherwise."""
    original = io.open

    def opened(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, **more):
        if newline is None and "b" not in mode and set(mode) & set("wax+"):
            newline = "\r\n"
        return original(file, mode, buffering, encoding, errors, newline, **more)

    monkeypatch.setattr(io, "open", opened)
    monkeypatch.setattr(builtins, "open", opened)


@pytest.fixture
def oblique() -> Geometry:
    """A small left-handed grid in a general direction, with three different sizes and spacings."""
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(0.2), -np.sin(0.2)], [0, np.sin(0.2), np.cos(0.2)]])
    direction = turn @ tilt @ np.diag([1.0, 1.0, -1.0])
    return Geometry(size=(9, 7, 5), spacing=(0.75, 1.25, 3.0), origin=(-20.5, 31.25, 7.0), direction=direction)


@pytest.fixture
def write_nifti(tmp_path: Path) -> Callable[..., Path]:
    """``write_nifti(array (i, j, k), affine=RAS, name=...)`` writes a NIfTI file with nibabel and returns its path."""
    import nibabel

    def write(array: np.ndarray, affine: np.ndarray | None = None, name: str = "image.nii.gz") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
        return path

    return write
