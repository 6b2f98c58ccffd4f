"""The module's own installer without a network, with the real packages: a Python like Slicer's, and a folder of wheels.

python Testing/packaging/offline_install.py download WHEELS
DINOMIX_WHEELS=WHEELS python -m pytest Testing/bridge/test_offline_packages.py
"""

import importlib
import importlib.metadata
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import qt
import slicer

from dinomix_slicer.setup import requirements
from dinomix_slicer.setup.dependencies import DependencyInstaller
from host import REPOSITORY, waitUntil

sys.path.append(str(REPOSITORY / "Testing" / "packaging"))
import offline_install

pytestmark = pytest.mark.slow
MINUTES = 20


@pytest.fixture
def wheels() -> Path:
    folder = os.environ.get("DINOMIX_WHEELS")
    if not folder:
        pytest.skip("DINOMIX_WHEELS names no folder of wheels, so no installation without a network is rehearsed")
    return Path(folder).resolve()


@pytest.fixture
def likeSlicers(monkeypatch, tmp_path, wheels) -> Path:
    """A Python with the packages that Slicer brings and no others, which the installer takes for Slicer's own."""
    offline_install.run([sys.executable, "-m", "venv", tmp_path / "venv"])
    python = offline_install.programs(tmp_path / "venv") / "python"
    packages = [*requirements.BUNDLED, "packaging"]
    offline_install.run_offline(
        [python, "-m", "pip", "install", "--quiet", "--no-index", "--find-links", wheels, *packages]
    )
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()

    def version(name: str) -> str:
        for found in importlib.metadata.distributions(name=name, path=[site]):
            return found.version
        raise importlib.metadata.PackageNotFoundError(name)

    metadata = types.SimpleNamespace(version=version, PackageNotFoundError=importlib.metadata.PackageNotFoundError)
    forSlicers = types.SimpleNamespace(metadata=metadata, invalidate_caches=importlib.invalidate_caches)
    monkeypatch.setattr(requirements, "importlib", forSlicers)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY / "Testing" / "host" / "python_slicer"))
    for name, value in offline_install.offline_environment().items():
        monkeypatch.setenv(name, value)
    slicer.app.commandOptions().testingEnabled = False
    yield python
    slicer.app.commandOptions().testingEnabled = True


def test_everything_is_installed_from_a_folder_of_wheels(likeSlicers, wheels, tmp_path):
    qt.QSettings().setValue("DINOMix/WheelFolder", str(wheels))
    installer, lines = DependencyInstaller(str(likeSlicers)), []
    installer.logged.connect(lines.append)
    before = {name: requirements.importlib.metadata.version(name) for name in requirements.BUNDLED}
    assert {name.split(">")[0] for name in installer.missing()} >= {"torch", "monai", "timm", "pydantic"}
    ends = []
    installer.installed.connect(lambda: ends.append("installed"))
    installer.failed.connect(lambda problem, remedy: ends.append(("failed", problem, remedy)))
    installer.install(lambda question, answers: 0 if str(wheels) in question else None)
    waitUntil(lambda: ends, MINUTES * 60)
    assert ends == ["installed"], "\n".join(lines[-20:])
    assert installer.missing() == []
    assert before == {name: requirements.importlib.metadata.version(name) for name in requirements.BUNDLED}
    offline_install.segment(
        likeSlicers, [likeSlicers, "-m", "dinomix"], tmp_path, packages=str(REPOSITORY / "DINOMixEngine")
    )
