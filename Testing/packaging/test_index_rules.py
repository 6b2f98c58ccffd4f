"""The rules of the Extensions Index: kept by this repository, and refused where a copy of it breaks one."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import index_rules
from index_rules import NAME, ROOT, RULES


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_is_kept(rule: index_rules.Rule) -> None:
    assert list(rule(ROOT)) == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that keeps every rule: a copy of this one's files, with one commit."""
    copy = tmp_path_factory.mktemp("whole") / "repository"
    for path in index_rules.tracked_files(ROOT):
        target = copy / path.relative_to(ROOT)
        if target.parts[len(copy.parts)] not in ("Testing", "docs"):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    commit(copy)
    return copy


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "repository"))


def commit(folder: Path) -> None:
    subprocess.run(["git", "init", "--quiet", "."], cwd=folder, check=True)
    subprocess.run(["git", "add", "--all"], cwd=folder, check=True)


def change_entry(folder: Path, **changes: object) -> None:
    path = folder / f"{NAME}.json"
    entry = json.loads(path.read_text("utf-8")) | changes
    path.write_text(json.dumps({key: value for key, value in entry.items() if value is not None}), encoding="utf-8")


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def problems(folder: Path) -> str:
    return "\n".join(problem for rule in RULES for problem in rule(folder))


def test_the_copy_keeps_the_rules(copy: Path) -> None:
    assert problems(copy) == ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"status": "ready"}, "knows no status"),
        ({"category": None}, "lacks category"),
        ({"category": "Organs"}, "not one of the Index's"),
        ({"tier": 6}, "between 1 and 5"),
        ({"tier": True}, "tier is not of the type"),
        ({"build_dependencies": "PyTorch"}, "build_dependencies is not of the type"),
        ({"build_dependencies": []}, "EXTENSION_DEPENDS and build_dependencies differ"),
        ({"$schema": index_rules.SCHEMA_URL.replace("1.0.2", "1.0.1")}, "another schema"),
        ({"scm_url": "git@github.com:DINOMix/SlicerDINOMix.git"}, "not an address"),
        ({"scm_url": "https://github.com/DINOMix/DINOMix.git"}, "not called SlicerDINOMix"),
        ({"scm_revision": "next"}, "differ in scmrevision"),
    ],
)
def test_entry_is_refused(copy: Path, changes: dict, said: str) -> None:
    change_entry(copy, **changes)
    assert said in problems(copy)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("project(DINOMix)", "project(SlicerDINOMix)", "project() in CMakeLists.txt"),
        ("Icons/DINOMix.png", "Icons/Other.png", "Icons/Other.png is not in the tree"),
        ("Icons/DINOMix.png", "Screenshots/segment.png", "not a PNG of 128 x 128"),
        ("raw.githubusercontent.com", "github.com", "not the raw address"),
        ('set(EXTENSION_SCREENSHOTURLS "', 'set(EXTENSION_SCREENSHOTURLS\n  "', "EXTENSION_SCREENSHOTURLS is not one"),
        ('set(EXTENSION_DESCRIPTION "', 'set(EXTENSION_DESCRIPTION "One. Two. ', "one or two sentences"),
        ('set(EXTENSION_CONTRIBUTORS "', 'set(EXTENSION_CONTRIBUTORS "Others, ', "differ in contributors"),
    ],
)
def test_cmake_is_refused(copy: Path, old: str, new: str, said: str) -> None:
    replace(copy / "CMakeLists.txt", old, new)
    assert said in problems(copy)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("# DINOMix\n", "# Organs\n", "does not begin with"),
        ("**DINOMix Segment**", "DINOMix Segment", "describe the module DINOMixSegment"),
        ("## Patents", "## Other", "no heading Patents"),
        ("docs/privacy.md", "docs/other.md", "section Privacy does not say"),
        ("Apache-2.0", "Apache", "README.md does not name the licence"),
    ],
)
def test_readme_is_refused(copy: Path, old: str, new: str, said: str) -> None:
    replace(copy / "README.md", old, new)
    assert said in problems(copy)


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("DINOMixEngine/dinomix_slicer/about.py", "The DINOMix developers", "Others", "about.py names other contributors"),
        ("CITATION.cff", "The DINOMix developers", "Others", "does not name The DINOMix developers"),
        ("DINOMixTrain/DINOMixTrain.py", "class DINOMixTrain(", "sys.path.append('.')\n\nclass DINOMixTrain(", "runs when"),
        ("DINOMixTrain/DINOMixTrainLib/page.py", "class ", "STYLE = 'styleSheet'\n\nclass ", "page.py has a style sheet"),
    ],
)  # fmt: skip
def test_source_is_refused(copy: Path, file: str, old: str, new: str, said: str) -> None:
    replace(copy / file, old, new)
    assert said in problems(copy)


def test_who_contributed_is_left_to_the_owner(copy: Path) -> None:
    said = "First name Last name (Organization)"
    assert said in next(index_rules.contributors_are_persons(copy), "")
    replace(
        copy / "CMakeLists.txt",
        "The DINOMix developers",
        "Ada Lovelace (Analytical Engines); Émilie du Châtelet (Cirey)",
    )
    assert list(index_rules.contributors_are_persons(copy)) == []


def test_missing_files_are_refused(copy: Path) -> None:
    (copy / "LICENSE").unlink()
    (copy / "DINOMixSegment" / "Resources" / "Icons" / "DINOMixSegment.png").unlink()
    assert "There is no licence file" in problems(copy)
    assert "DINOMixSegment has no icon" in problems(copy)


def test_large_and_binary_files_are_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (copy / "weights.pt").write_bytes(b"PK\x03\x04")
    (copy / "notes.txt").write_bytes(b"a\0b")
    subprocess.run(["git", "add", "--all"], cwd=copy, check=True)
    monkeypatch.setattr(index_rules, "LARGEST_TREE", 2**20)
    found = problems(copy)
    assert "weights.pt is of a kind" in found
    assert "notes.txt is not a text" in found
    assert "A clone takes" in found


def test_other_line_ends_are_refused(copy: Path) -> None:
    path = copy / f"{NAME}.json"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert "line ends other than LF" in problems(copy)
