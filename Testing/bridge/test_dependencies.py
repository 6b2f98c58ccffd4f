"""Installing packages: asked first, never in testing mode, offline too, and cancelled with its processes."""

import importlib
import importlib.metadata
import sys
import tomllib
import types
import zipfile
from pathlib import Path

import psutil
import pytest
import qt
import slicer

from dinomix.errors import DinomixError
from dinomix_slicer.setup import requirements
from dinomix_slicer.setup.dependencies import DependencyInstaller
from dinomix_slicer.setup.notice import chosen
from dinomix_slicer.worker.owner import WorkerOwner
from host import REPOSITORY, pip_record, waitUntil
from host.qt import dialogs


@pytest.fixture
def outside_tests(monkeypatch):
    """As in a Slicer that a person uses: not in testing mode."""
    slicer.app.commandOptions().testingEnabled = False
    yield
    slicer.app.commandOptions().testingEnabled = True


def lack(monkeypatch, *lines, also=(), toSegment=()):
    """Let the list of dependencies be these lines, that of optional ones ``also``, and what segmenting takes ``toSegment``."""
    found, optional, few = ([requirements.Requirement(line) for line in each] for each in (lines, also, toSegment))
    monkeypatch.setattr(requirements, "requirements", lambda: found)
    monkeypatch.setattr(requirements, "forSegmenting", lambda: few)
    monkeypatch.setattr(requirements, "accelerators", lambda: optional)


def agree(question, answers):
    return 0


class Heard:
    def __init__(self, installer):
        self.events = []
        installer.changed.connect(lambda: self.events.append(("stage", installer.stage)))
        installer.installed.connect(lambda: self.events.append(("installed",)))
        installer.failed.connect(lambda *words: self.events.append(("failed", *words)))

    def last(self):
        return self.events[-1] if self.events else ("",)


def waitForEnd(heard):
    """Until the process was heard to end."""
    waitUntil(lambda: len(heard.events) > 1 and ("stage", "") in heard.events, 120)


def test_the_one_list_is_read_and_satisfied_here():
    names = {requirement.name for requirement in requirements.requirements()}
    assert {"torch", "monai", "timm", "SimpleITK", "pydantic"} <= names
    assert DependencyInstaller().missing() == []


def test_what_is_missing_or_too_old_is_named(monkeypatch):
    lack(monkeypatch, "numpy>=1.20", "numpy>=99", "no-such-package-of-ours>=1", "colorama; sys_platform == 'never'")
    assert DependencyInstaller().missing()[:2] == ["numpy>=99", "no-such-package-of-ours>=1"]


def test_what_segmenting_takes_is_of_the_one_list():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    known = [*project["dependencies"], *project["optional-dependencies"][requirements.ACCELERATORS]]
    few = list(map(str, requirements.forSegmenting()))
    assert set(few) <= {str(requirements.Requirement(line)) for line in known}
    names = {requirement.name for requirement in requirements.forSegmenting()}
    assert "openvino" in names and not names & {"torch", "monai", "timm", "accelerate"}


def test_one_purpose_that_is_served_is_enough(monkeypatch):
    both = (requirements.SEGMENT, requirements.TRAIN)
    lack(monkeypatch, "torch>=99", toSegment=["numpy>=1"])
    assert DependencyInstaller().missing(both) == [] and DependencyInstaller().missing() == ["torch>=99"]
    lack(monkeypatch, "numpy>=1", toSegment=["openvino>=9999"])
    assert DependencyInstaller().missing(both) == []
    lack(monkeypatch, "torch>=99", "numpy>=99", toSegment=["numpy>=99"])
    assert DependencyInstaller().missing(both) == ["numpy>=99"]


def test_segmenting_alone_installs_few_packages(monkeypatch, tmp_path, outside_tests):
    makeWheel(tmp_path / "wheels", "dinomix_test_wheel", "1.5")
    lack(
        monkeypatch,
        "torch>=99",
        "dinomix_test_wheel>=1",
        also=["no-such-package>=1"],
        toSegment=["dinomix_test_wheel>=1"],
    )
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "site"))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    qt.QSettings().setValue("DINOMix/WheelFolder", str(tmp_path / "wheels"))
    installer, asked, both = DependencyInstaller(), [], (requirements.SEGMENT, requirements.TRAIN)
    heard = Heard(installer)
    installer.install(lambda question, answers: asked.append((question, answers)) or 0, both)
    waitForEnd(heard)
    [(question, answers)] = asked
    assert ["Segment only" in answers[0], "train" in answers[1]] == [True, True] and "torch>=99" in question
    assert heard.last() == ("installed",)
    assert installer.missing(both) == [] and installer.missing() == ["torch>=99"]


def test_nothing_is_to_be_chosen_where_pytorch_is(monkeypatch, outside_tests):
    lack(monkeypatch, "no-such-package-of-ours>=1", toSegment=["openvino>=9999"])
    asked = []
    DependencyInstaller().install(lambda *given: asked.append(given), (requirements.SEGMENT, requirements.TRAIN))
    [(question, answers)] = asked
    assert len(answers) == 1 and "openvino" not in question


@pytest.mark.parametrize(("answer", "number"), [("All", 1), ("Few", 0), (qt.QMessageBox.Cancel, None)])
def test_what_to_install_for_is_chosen_by_a_button(answer, number):
    dialogs.answer(answer)
    assert chosen("Which?", ["Few", "All"]) == number
    assert dialogs.asked[-1].text == "Which?"


def test_a_missing_list_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(requirements, "LISTS", (tmp_path / "pyproject.toml",))
    with pytest.raises(DinomixError, match="list of packages is missing"):
        requirements.requirements()


def test_nothing_is_installed_without_a_yes(monkeypatch, outside_tests):
    lack(monkeypatch, "no-such-package-of-ours>=1")
    installer, questions = DependencyInstaller(), []
    heard = Heard(installer)
    before = set(psutil.Process().children())  # what earlier tests ended may still wait to be collected
    installer.install(lambda text, answers: questions.append(text))
    assert heard.events == []
    assert "no-such-package-of-ours>=1" in questions[0]
    assert not set(psutil.Process().children()) - before


def test_nothing_is_installed_in_testing_mode(monkeypatch):
    lack(monkeypatch, "no-such-package-of-ours>=1")
    installer = DependencyInstaller()
    heard = Heard(installer)
    installer.install(lambda text, answers: pytest.fail("nobody is asked in testing mode"))
    assert heard.events == []


def makeWheel(folder: Path, name: str, version: str) -> None:
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "answer = 42\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


def test_a_folder_of_wheels_is_installed_without_a_network(monkeypatch, tmp_path, outside_tests):
    makeWheel(tmp_path / "wheels", "dinomix_test_wheel", "1.5")
    lack(monkeypatch, "dinomix_test_wheel>=1")
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "site"))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    qt.QSettings().setValue("DINOMix/WheelFolder", str(tmp_path / "wheels"))
    installer = DependencyInstaller()
    heard = Heard(installer)
    installer.install(lambda text, answers: 0 if str(tmp_path / "wheels") in text else None)
    waitForEnd(heard)
    assert heard.last() == ("installed",)
    assert importlib.metadata.version("dinomix_test_wheel") == "1.5"


def test_an_accelerator_that_cannot_be_had_is_no_failure(monkeypatch, tmp_path, outside_tests):
    assert {r.name for r in requirements.accelerators()} <= {"openvino"}
    makeWheel(tmp_path / "wheels", "dinomix_test_wheel", "1.5")
    lack(monkeypatch, "dinomix_test_wheel>=1", also=["no-such-package-of-ours>=1"])
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "site"))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    qt.QSettings().setValue("DINOMix/WheelFolder", str(tmp_path / "wheels"))
    installer, lines = DependencyInstaller(), []
    heard = Heard(installer)
    installer.logged.connect(lines.append)
    installer.install(lambda text, answers: 0 if "no-such-package-of-ours>=1" in text else None)
    waitForEnd(heard)
    assert ("stage", "Installing no-such-package-of-ours>=1 (2 of 2)...") in heard.events
    assert heard.last() == ("installed",) and "no-such-package-of-ours" in " ".join(lines)


@pytest.mark.parametrize("isLoaded", [True, False])
def test_a_restart_is_asked_for_where_a_loaded_package_was_replaced(monkeypatch, tmp_path, outside_tests, isLoaded):
    site, name = tmp_path / "site", "dinomix_test_wheel"
    for version in ("1.5", "1.6"):
        makeWheel(tmp_path / "wheels", name, version)
    wheels = [tmp_path / "wheels" / f"{name}-{version}-py3-none-any.whl" for version in ("1.5", "1.6")]
    zipfile.ZipFile(wheels[0]).extractall(site)
    monkeypatch.syspath_prepend(str(site))
    if isLoaded:
        importlib.import_module(name)
    python = tmp_path / "python"  # does what pip does, without its folders for a target
    python.write_text(
        '#!/bin/sh\necho \'{"kind": "step", "package": "it", "step": 1, "total": 1}\'\n'
        f"rm -r '{site}'/*.dist-info\n'{sys.executable}' -m zipfile -e '{wheels[1]}' '{site}'\n"
    )
    python.chmod(0o755)
    lack(monkeypatch, f"{name}>=1.6")
    installer = DependencyInstaller(str(python))
    heard = Heard(installer)
    installer.install(agree)
    waitForEnd(heard)
    sys.modules.pop(name, None)
    assert installer.needsRestart == isLoaded
    assert heard.last() == (("stage", "") if isLoaded else ("installed",))


@pytest.mark.skipif(not hasattr(slicer, "packaging"), reason="this Slicer has no slicer.packaging")
def test_nothing_is_installed_while_slicer_installs(monkeypatch, outside_tests):
    lack(monkeypatch, "no-such-package-of-ours>=1")
    monkeypatch.setattr("slicer.packaging.isPipInstallInProgress", lambda: True)
    installer = DependencyInstaller()
    heard = Heard(installer)
    installer.install(agree)
    assert "installing packages already" in heard.last()[1]


def test_a_failure_says_why_and_what_to_do(monkeypatch, tmp_path, outside_tests):
    (tmp_path / "wheels").mkdir()
    lack(monkeypatch, "no-such-package-of-ours>=1")
    qt.QSettings().setValue("DINOMix/WheelFolder", str(tmp_path / "wheels"))
    installer = DependencyInstaller()
    heard = Heard(installer)
    installer.install(agree)
    waitForEnd(heard)
    name, problem, remedy = heard.last()
    assert name == "failed"
    assert "no-such-package-of-ours" in problem
    assert "wheels" in remedy


def test_cancel_ends_the_processes(monkeypatch, tmp_path, outside_tests):
    lack(monkeypatch, "no-such-package-of-ours>=1")
    slow = tmp_path / "slow-python"
    slow.write_text("#!/bin/sh\nsleep 600 &\nwait\n")
    slow.chmod(0o755)
    installer = DependencyInstaller(str(slow))
    heard = Heard(installer)
    installer.install(agree)
    waitUntil(lambda: [p for p in psutil.Process().children(recursive=True) if p.name() == "sleep"])
    installer.cancel()
    waitUntil(lambda: heard.last() == ("stage", ""))
    waitUntil(lambda: not [p for p in psutil.Process().children(recursive=True) if p.status() != "zombie"])


def test_without_the_pytorch_extension_there_is_no_torch(monkeypatch, outside_tests):
    lack(monkeypatch, "torch>=99")
    installer = DependencyInstaller()
    heard = Heard(installer)
    installer.install(agree)
    assert "PyTorch extension" in heard.last()[1]
    assert "Extensions Manager" in heard.last()[2]


@pytest.fixture
def pytorchExtension(monkeypatch):
    """As in a Slicer where the PyTorch extension is installed."""
    file = REPOSITORY / "Testing" / "host" / "python_slicer" / "extension" / "PyTorchUtils.py"
    monkeypatch.setattr(slicer.modules, "pytorchutils", types.SimpleNamespace(path=str(file)), raising=False)


@pytest.mark.parametrize("hasPackaging", [True, False], ids=["5.12", "5.10"])
def test_torch_comes_through_its_extension_and_the_rest_as_slicer_does(
    monkeypatch, tmp_path, outside_tests, pytorchExtension, hasPackaging
):
    if not hasPackaging:
        monkeypatch.setenv("SLICER_SOURCE", str(tmp_path))
    lack(monkeypatch, "torch>=99", "no-such-package-of-ours>=1", "numpy>=1")
    installer, lines = DependencyInstaller(), []
    heard = Heard(installer)
    installer.logged.connect(lines.append)
    installer.install(agree)
    waitForEnd(heard)
    runs = [(module, arguments) for module, arguments, _settings in pip_record.outside()]
    assert runs == [
        ("pip", ["install", "light-the-torch>=0.5"]),
        ("light_the_torch", ["install", f"torch{requirements.torchSpecifier()}", "torchvision"]),
        ("pip", ["install", "no-such-package-of-ours>=1"]),
    ], heard.events
    assert all(settings["PIP_CONSTRAINT"].startswith("file://") for _m, _a, settings in pip_record.outside())
    assert heard.events[:3] == [
        ("stage", "Preparing to install packages..."),
        ("stage", "Installing torch (1 of 2)..."),
        ("stage", "Installing no-such-package-of-ours>=1 (2 of 2)..."),
    ]
    assert "light_the_torch install" in " ".join(lines)
    assert "still missing" in heard.last()[1], "nothing was really installed"


@pytest.mark.parametrize(
    ("platform", "machine", "allowed", "refused"),
    [
        ("darwin", "x86_64", "2.2.2", "2.3.0"),
        ("darwin", "arm64", "2.15.0", "2.1"),
        ("linux", "x86_64", "2.15.0", "2.1"),
    ],
)
def test_versions_of_torch_that_fit_the_computer(monkeypatch, platform, machine, allowed, refused):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert requirements.torchSpecifier().contains(allowed)
    assert not requirements.torchSpecifier().contains(refused)


def test_on_windows_with_short_paths_a_torch_that_fits_is_asked_for(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(requirements, "hasLongPaths", lambda: False)
    assert requirements.torchSpecifier().contains("2.12.1")
    assert not requirements.torchSpecifier().contains("2.13.0")


def test_a_torch_without_the_gpu_that_is_there_is_told(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.9.0+cpu")
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/nvidia-smi")
    assert "NVIDIA GPU" in DependencyInstaller().notices()[0]
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.9.0+cu128")
    assert DependencyInstaller().notices() == []


def test_both_windows_share_one_installation():
    assert WorkerOwner().installer is WorkerOwner().installer


def test_slicers_own_packages_are_kept_as_they_are():
    lines = requirements.constraints()
    assert any(line.startswith("numpy==") for line in lines)


def test_the_list_is_found_where_the_package_is_installed():
    assert requirements.LISTS[1] == REPOSITORY / "pyproject.toml"
