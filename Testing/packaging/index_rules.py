"""The rules of Slicer's Extensions Index that can be checked without a network.

    python Testing/packaging/index_rules.py

They are those of ``scripts/check_description_files.py`` and of the checklist for pull requests (tier 1) in
github.com/Slicer/ExtensionsIndex. Each rule is a function of a source tree that yields full sentences about what is wrong.
What only GitHub can tell (topic, hidden features, the pictures' addresses) is in docs/extensions_index.md.
"""

import ast
import json
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]
NAME = "DINOMix"
NOT_IN_SLICER = ("TYPE_CHECKING", "__name__ == '__main__'")
Rule = Callable[[Path], Iterator[str]]

# Facts about the schema v1.0.2 of a catalog entry: its keys and their types. No other key is allowed.
SCHEMA_URL = (
    "https://raw.githubusercontent.com/Slicer/Slicer/main/Schemas/slicer-extension-catalog-entry-schema-v1.0.2.json#"
)
SCHEMA_KEYS = {
    "$schema": str, "category": str, "scm_url": str, "scm_revision": str, "scm_type": str, "build_dependencies": list,
    "dicom_support_rule": str, "build_subdirectory": str, "enabled": bool, "tier": int,
}  # fmt: skip
REQUIRED_KEYS = {"$schema", "category", "scm_url"}
CATEGORIES = {"Active Learning", "Analysis", "Segmentation", "Training"}  # those of the Index that could be ours
LICENSE_NAMES = ("LICENSE", "LICENCE", "LICENSE.txt", "License.txt", "license.txt", "COPYING", "COPYING.txt")
LARGEST_TREE = 100 * 2**20  # bytes, with the history, as the Index clones it
SOURCE_KINDS = {
    "", ".cff", ".cmake", ".csv", ".html", ".json", ".md", ".png", ".py", ".s4ext", ".toml", ".txt", ".typed", ".ui", ".yml",
}  # fmt: skip
"""Endings of files that a repository of source holds; no program, library, archive or weights is among them."""


def metadata(root: Path) -> dict[str, str]:
    """``EXTENSION_...`` of the top CMakeLists.txt, as the Index reads them: one quoted text on one line."""
    text = (root / "CMakeLists.txt").read_text("utf-8")
    return dict(re.findall(r'^set\(EXTENSION_([A-Z]+) "([^"\n]+)"\)$', text, re.MULTILINE))


def entry(root: Path) -> dict:
    """The entry of the Index; empty when it is no JSON object (``entry_follows_the_schema`` says so)."""
    try:
        found = json.loads((root / f"{NAME}.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def modules(root: Path) -> list[str]:
    """Names of the scripted modules that a user sees: folders with a Python file of their own name, which is not hidden."""
    found = [path for path in root.glob("*/*.py") if path.stem == path.parent.name]
    return sorted(path.stem for path in found if "hidden = True" not in path.read_text("utf-8"))


def slicer_files(root: Path) -> list[Path]:
    """Python files of the modules and of the bridge between them and the engine."""
    python = [path for path in tracked_files(root) if path.suffix == ".py"]
    ours = [*modules(root), "DINOMixEngine"]
    return [
        path for path in python if path.parts[len(root.parts)] in ours and path.parts[len(root.parts) + 1] != "dinomix"
    ]


def tracked_files(root: Path) -> list[Path]:
    """Files that a checkout has."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True, text=True).stdout
    return [root / name for name in listed.split("\0") if name and (root / name).is_file()]


def entry_follows_the_schema(root: Path) -> Iterator[str]:
    raw = (root / f"{NAME}.json").read_bytes()
    if b"\r" in raw:
        yield "The entry has line ends other than LF."
    found = entry(root)
    if not found:
        yield "The entry is not a JSON object."
        return
    if found.get("$schema") != SCHEMA_URL:
        yield "The entry names another schema than v1.0.2."
    for key in sorted(REQUIRED_KEYS - set(found)):
        yield f"The entry lacks {key}."
    for key, value in found.items():
        if key not in SCHEMA_KEYS:
            yield f"The schema knows no {key}."
        elif not isinstance(value, SCHEMA_KEYS[key]) or (SCHEMA_KEYS[key] is int and isinstance(value, bool)):
            yield f"{key} is not of the type that the schema asks for."
    if found.get("scm_type", "git") not in ("git", "local"):
        yield "scm_type is neither git nor local."
    if not 1 <= found.get("tier", 1) <= 5:
        yield "The tier is not between 1 and 5."
    if not all(isinstance(name, str) for name in found.get("build_dependencies", [])):
        yield "build_dependencies holds something else than names."
    if found.get("category") not in CATEGORIES:
        yield "The category is not one of the Index's that could be ours."


def names_are_as_the_index_asks(root: Path) -> Iterator[str]:
    if NAME.lower().startswith("slicer"):
        yield "The extension's name starts with Slicer."
    address = urlsplit(entry(root).get("scm_url", ""))
    if address.scheme not in ("git", "https") or not address.netloc:
        yield "scm_url is not an address with git:// or https://."
    if Path(address.path).name.removesuffix(".git") != f"Slicer{NAME}":
        yield f"The repository is not called Slicer{NAME}."
    text = (root / "CMakeLists.txt").read_text("utf-8")
    project = re.search(r"project\s*\(\s*([^\s)]+)", text, re.IGNORECASE)
    if not project or project.group(1) != NAME:
        yield f"project() in CMakeLists.txt is not {NAME}, the name of the entry."


def metadata_is_whole(root: Path) -> Iterator[str]:
    found, index = metadata(root), entry(root)
    for key in ("HOMEPAGE", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "DEPENDS"):
        if key not in found:
            yield f"EXTENSION_{key} is not one quoted text on one set()."
    text = (root / "CMakeLists.txt").read_text("utf-8")
    for key in ("ICONURL", "SCREENSHOTURLS"):
        if len(re.findall(rf"EXTENSION_{key}\b", text)) != 1:
            yield f"EXTENSION_{key} is set more than once, or never."
    if found.get("HOMEPAGE") != index.get("scm_url", "").removesuffix(".git"):
        yield "The homepage is not the repository."
    depends = found.get("DEPENDS", "NA")
    if [name for name in depends.split() if name != "NA"] != index.get("build_dependencies", []):
        yield "EXTENSION_DEPENDS and build_dependencies differ."
    sentences = re.findall(r"[.!?](?:\s|$)", found.get("DESCRIPTION", ""))
    if not 1 <= len(sentences) <= 2:
        yield "The description is not one or two sentences."


def contributors_are_the_same_everywhere(root: Path) -> Iterator[str]:
    known = metadata(root).get("CONTRIBUTORS")
    about = (root / "DINOMixEngine" / "dinomix_slicer" / "about.py").read_text("utf-8")
    if f"CONTRIBUTORS = {json.dumps((known or '').split('; '))}" not in about:
        yield "dinomix_slicer/about.py names other contributors than CMakeLists.txt."
    authors = (root / "CITATION.cff").read_text("utf-8").partition("authors:")[2].partition("version:")[0]
    for name in (known or "").split("; "):
        if not all(word in authors for word in name.partition(" (")[0].split()):
            yield f"CITATION.cff does not name {name}."


def contributors_are_persons(root: Path) -> Iterator[str]:
    if not re.fullmatch(r"(\S+ [^();]+ \([^()]+\)(; |$))+", metadata(root).get("CONTRIBUTORS", "")):
        yield 'The contributors are not named as "First name Last name (Organization)", with "; " between them.'


def nothing_runs_when_a_file_is_imported(root: Path) -> Iterator[str]:
    harmless = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    for path in slicer_files(root):
        for node in ast.parse(path.read_text("utf-8")).body:
            isText = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            isElsewhere = isinstance(node, ast.If) and ast.unparse(node.test) in NOT_IN_SLICER
            if not (isinstance(node, harmless) or isText or isElsewhere):
                yield f"{path.relative_to(root)}:{node.lineno} runs when the file is imported."


def widgets_keep_slicers_style(root: Path) -> Iterator[str]:
    for path in [*slicer_files(root), *(path for path in tracked_files(root) if path.suffix == ".ui")]:
        if re.search("styleSheet", path.read_text("utf-8"), re.IGNORECASE):
            yield f"{path.relative_to(root)} has a style sheet."


def pictures_are_there(root: Path) -> Iterator[str]:
    found, index = metadata(root), entry(root)
    repository = urlsplit(index.get("scm_url", "")).path.removesuffix(".git")
    start = f"https://raw.githubusercontent.com{repository}/{index.get('scm_revision', 'main')}/"
    known = set(tracked_files(root))
    screenshots = found.get("SCREENSHOTURLS", "").split()
    if not screenshots:
        yield "There is no screenshot."
    for url in [found.get("ICONURL", ""), *screenshots]:
        path = root / url.removeprefix(start)
        if not url.startswith(start) or "?" in url or "&" in url:
            yield f"{url} is not the raw address of a file of this repository."
        elif path not in known:
            yield f"{url} is not in the tree."
        elif not _is_png(path) and not _is_jpeg(path):
            yield f"{url} is neither PNG nor JPEG."
    icon = root / found.get("ICONURL", "").removeprefix(start)
    if icon in known and _png_size(icon) != (128, 128):
        yield "The icon is not a PNG of 128 x 128 pixels."


def every_module_has_an_icon(root: Path) -> Iterator[str]:
    for module in modules(root):
        icon = root / module / "Resources" / "Icons" / f"{module}.png"
        if not icon.is_file():
            yield f"{module} has no icon."
        elif _png_size(icon) != (128, 128):
            yield f"The icon of {module} is not a PNG of 128 x 128 pixels."


def tree_is_small(root: Path) -> Iterator[str]:
    files = sum(path.stat().st_size for path in tracked_files(root))
    counted = subprocess.run(
        ["git", "count-objects", "-v"], cwd=root, capture_output=True, check=True, text=True
    ).stdout
    history = sum(int(size) for size in re.findall(r"^size(?:-pack)?: (\d+)$", counted, re.MULTILINE)) * 1024
    if files + history > LARGEST_TREE:
        yield f"A clone takes {(files + history) / 2**20:.0f} MB; the Index takes at most 100."


def tree_holds_source_only(root: Path) -> Iterator[str]:
    for path in tracked_files(root):
        if path.suffix.lower() not in SOURCE_KINDS:
            yield f"{path.relative_to(root)} is of a kind that a repository of source does not hold."
        elif path.suffix.lower() != ".png" and b"\0" in path.read_bytes():
            yield f"{path.relative_to(root)} is not a text."


def license_is_in_the_root(root: Path) -> Iterator[str]:
    found = next((root / name for name in LICENSE_NAMES if (root / name).is_file()), None)
    if found is None:
        yield "There is no licence file in the root."
        return
    text = found.read_text("utf-8")
    if "Apache License" not in text or "Version 2.0" not in text:
        yield f"{found.name} is not the Apache License 2.0 that the README names."
    for name, said in (("README.md", "Apache-2.0"), ("pyproject.toml", 'license = "Apache-2.0"'),
                       ("CITATION.cff", "license: Apache-2.0")):  # fmt: skip
        if said not in (root / name).read_text("utf-8"):
            yield f"{name} does not name the licence."


def readme_says_what_it_must(root: Path) -> Iterator[str]:
    text = (root / "README.md").read_text("utf-8")
    if not text.startswith(f"# {NAME}\n"):
        yield "The README does not begin with the extension's name."
    if not re.search(r"!\[[^\]]*\]\([^)]+\)", text):
        yield "The README has no picture."
    for module in modules(root):
        title = re.search(r'title = _\("([^"]+)"\)', (root / module / f"{module}.py").read_text("utf-8"))
        if not title or f"**{title.group(1)}**" not in text:
            yield f"The README does not describe the module {module}."
    for heading, must in (
        ("Citation", r"arxiv\.org"),
        ("Licence", r"Apache-2\.0"),
        ("Patents", r"patent"),
        ("Privacy", r"docs/privacy\.md"),
        ("First segmentation", r"[Ss]ample|example"),
    ):
        section = re.search(rf"^#+ {heading}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
        if section is None:
            yield f"The README has no heading {heading}."
        elif not re.search(must, section.group(1)):
            yield f"The README's section {heading} does not say {must!r}."


def older_description_says_the_same(root: Path) -> Iterator[str]:
    lines = (root / f"{NAME}.s4ext").read_text("utf-8").splitlines()
    old = dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))
    index, found = entry(root), metadata(root)
    expected = {
        "scm": "git",
        "scmurl": index.get("scm_url"),
        "scmrevision": index.get("scm_revision"),
        "depends": " ".join(index.get("build_dependencies", [])) or "NA",
        "build_subdirectory": index.get("build_subdirectory", "."),
        "category": index.get("category"),
        **{
            key: found.get(key.upper())
            for key in ("homepage", "contributors", "description", "iconurl", "screenshoturls")
        },
    }
    for key, value in expected.items():
        if old.get(key) != value:
            yield f"{NAME}.s4ext and the other metadata differ in {key}."


def _is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def _is_jpeg(path: Path) -> bool:
    return path.read_bytes().startswith(b"\xff\xd8\xff")


def _png_size(path: Path) -> tuple[int, int] | None:
    """(width, height) of a PNG; None of any other file."""
    return struct.unpack(">II", path.read_bytes()[16:24]) if _is_png(path) else None


RULES: tuple[Rule, ...] = (
    entry_follows_the_schema,
    names_are_as_the_index_asks,
    metadata_is_whole,
    contributors_are_the_same_everywhere,
    nothing_runs_when_a_file_is_imported,
    widgets_keep_slicers_style,
    pictures_are_there,
    every_module_has_an_icon,
    tree_is_small,
    tree_holds_source_only,
    license_is_in_the_root,
    readme_says_what_it_must,
    older_description_says_the_same,
)


LEFT_TO_THE_OWNER: tuple[Rule, ...] = (contributors_are_persons,)
"""What is not kept yet and can be told here, but only mended by the owner."""


def main() -> None:
    problems = [problem for rule in RULES for problem in rule(ROOT)]
    print("\n".join(problems) or f"All {len(RULES)} rules of the Extensions Index that need no network are kept.")
    print(*(f"Left to the owner: {left}" for rule in LEFT_TO_THE_OWNER for left in rule(ROOT)), sep="\n")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
