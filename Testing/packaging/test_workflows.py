"""The workflows of GitHub Actions: checked by linters where they are installed, and by rules of our own everywhere."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import index_rules

sys.path.append(str(index_rules.ROOT / "Testing"))
import in_slicer

WORKFLOWS = sorted((index_rules.ROOT / ".github" / "workflows").glob("*.yml"))
each_workflow = pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)


def linter(name: str) -> str:
    """A program beside this Python or on the path."""
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    return found or pytest.skip(f"{name} is not installed, so it does not check the workflows")


def test_actionlint_finds_nothing() -> None:
    done = subprocess.run([linter("actionlint"), *WORKFLOWS], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_zizmor_finds_nothing() -> None:
    folder = index_rules.ROOT / ".github"
    command = [linter("zizmor"), "--offline", "--pedantic", "--no-progress", folder]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@each_workflow
def test_every_action_is_pinned(workflow: Path) -> None:
    uses = re.findall(r"uses: (\S+)(.*)", workflow.read_text("utf-8"))
    assert uses
    for action, comment in uses:
        assert re.fullmatch(r"[\w-]+/[\w/-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+(\.\d+)*", comment), action


@each_workflow
def test_a_workflow_may_read_and_no_more(workflow: Path) -> None:
    text = workflow.read_text("utf-8")
    assert re.findall(r"^\s*permissions:\n((?:\s+\S+: \S+\n)+)", text, re.MULTILINE) == ["  contents: read\n"]
    assert "secrets." not in text
    assert "pull_request_target" not in text
    assert text.count("actions/checkout@") == text.count("persist-credentials: false")


@each_workflow
def test_the_files_that_a_workflow_names_exist(workflow: Path) -> None:
    named = set(re.findall(r"(?:Testing|DINOMix\w*)/[\w./]+", workflow.read_text("utf-8")))
    assert named
    assert [name for name in named if not (index_rules.ROOT / name).exists()] == []


@pytest.fixture
def slicer(tmp_path: Path) -> Path:
    """A program that takes what Slicer is given, and answers as its environment says."""
    if os.name == "nt":
        pytest.skip("a script cannot stand in for a program on Windows")
    program = tmp_path / "Slicer"
    program.write_text(
        f"#!{sys.executable}\nimport os, sys\nprint('\\n'.join(sys.argv[1:]))\n"
        "print(f'Ran {os.environ[\"COUNT\"]} tests in 1.0s')\nsys.exit(int(os.environ['CODE']))\n"
    )
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(
    ("count", "code", "problem"),
    [("3", "0", ""), ("1", "0", ""), ("0", "0", "ran no test"), ("3", "1", "ended with exit code 1")],
)
def test_how_tests_went_in_slicer_is_told(
    slicer: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture, count: str, code: str, problem: str
) -> None:
    monkeypatch.setenv("COUNT", count)
    monkeypatch.setenv("CODE", code)
    assert in_slicer.test(str(slicer), ["test_segment_logic"]) == ({"test_segment_logic": problem} if problem else {})
    said = capfd.readouterr().out.splitlines()
    for module in index_rules.modules(index_rules.ROOT):
        assert str(index_rules.ROOT / module) in said
    assert "--testing" in said
    assert any(line.endswith("'test_segment_logic')") for line in said)


def test_all_test_files_are_run_in_slicer(slicer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_slicer, "problem_of", lambda program, name: name)
    run = in_slicer.test(str(slicer), [])
    assert set(run) == {path.stem for path in (index_rules.ROOT / "Testing" / "modules").glob("test_*.py")}
    assert len(run) > 10
