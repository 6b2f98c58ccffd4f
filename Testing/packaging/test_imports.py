"""What the modules import when Slicer loads them, before anything is installed: nothing that Slicer does not bring."""

import ast
import graphlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import index_rules
import list_files

ROOT = index_rules.ROOT
IN_SLICER = {
    "slicer",
    "qt",
    "ctk",
    "vtk",
    "numpy",
    "scipy",
    "SimpleITK",
    "packaging",
    "SampleData",
    "vtkmodules",
    "MRMLCorePython",
}
ENGINE = ROOT / "DINOMixEngine"


def python_files(folder: Path) -> list[Path]:
    return [folder / name for name in list_files.known_files(folder) if name.endswith(".py")]


def named_by(node: ast.AST, package: tuple[str, ...]) -> Iterator[str]:
    """Absolute names of what a statement of a file in ``package`` imports: of modules, and perhaps of what is in them."""
    if isinstance(node, ast.Import):
        yield from (name.name for name in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = package[: len(package) - node.level + 1] if node.level else ()
        module = ".".join((*base, *filter(None, [node.module])))
        yield module
        yield from (f"{module}.{name.name}" for name in node.names)


def parts_of(node: ast.AST) -> list[ast.AST]:
    """What a part of a program is made of, without imports for type checkers, which are not carried out."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return list(node.orelse)
    return list(ast.iter_child_nodes(node))


def imported_at_load(file: Path, package: tuple[str, ...]) -> Iterator[str]:
    """Absolute names of what a file imports outside of functions."""
    waiting: list[ast.AST] = [ast.parse(file.read_text("utf-8"))]
    while waiting:
        node = waiting.pop()
        yield from named_by(node, package)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += parts_of(node)


def imported_ever(file: Path, package: tuple[str, ...]) -> Iterator[str]:
    """Absolute names of what a file imports, in functions too."""
    waiting: list[ast.AST] = [ast.parse(file.read_text("utf-8"))]
    while waiting:
        node = waiting.pop()
        yield from named_by(node, package)
        waiting += parts_of(node)


def file_of(module: str, folders: list[Path]) -> Path | None:
    """The file of a module of ours, or None."""
    for folder in folders:
        path = folder.joinpath(*module.split("."))
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if candidate.is_file():
                return candidate
    return None


def loaded_with(start: Path, folders: list[Path]) -> Iterator[tuple[Path, str]]:
    """(file, name) of all that is imported from elsewhere when ``start`` is, followed through our own files."""
    waiting, seen = [start], {start}
    while waiting:
        file = waiting.pop()
        folder = next(folder for folder in folders if file.is_relative_to(folder))
        package = file.relative_to(folder).parts[:-1]
        for name in imported_at_load(file, package):
            parts = name.split(".")
            if file_of(parts[0], folders) is None:
                yield file, parts[0]
            for depth in range(1, len(parts) + 1):
                found = file_of(".".join(parts[:depth]), folders)
                if found is not None and found not in seen:
                    seen.add(found)
                    waiting.append(found)


def test_modules_load_in_a_slicer_where_nothing_was_installed() -> None:
    folders = [ENGINE, *(ROOT / module for module in index_rules.modules(ROOT))]
    starts = [path for folder in folders[1:] for path in python_files(folder)]
    starts += [path for path in python_files(ENGINE) if path.is_relative_to(ENGINE / "dinomix_slicer")]
    foreign = {
        f"{file.relative_to(ROOT)} imports {name}"
        for start in starts
        for file, name in loaded_with(start, folders)
        if name not in IN_SLICER and name not in sys.stdlib_module_names
    }
    assert len(starts) > 30
    assert not foreign


def test_of_the_engine_the_bridge_needs_numpy_alone() -> None:
    """Slicer has scipy and SimpleITK too, but importing them takes seconds, which Slicer's start would take longer."""
    starts = [path for path in python_files(ENGINE) if path.is_relative_to(ENGINE / "dinomix_slicer")]
    reached = [
        pair for start in starts for pair in loaded_with(start, [ENGINE]) if (ENGINE / "dinomix") in pair[0].parents
    ]
    foreign = {
        f"{file.relative_to(ROOT)} imports {name}"
        for file, name in reached
        if name != "numpy" and name not in sys.stdlib_module_names
    }
    assert {file.name for file, _ in reached} >= {"segments.py", "nrrd_writing.py", "names.py", "formats.py"}
    assert not foreign


def graph_of(files: list[Path], folders: list[Path]) -> dict[Path, set[Path]]:
    """Each file -> the files that it imports, at load or later."""
    graph = {}
    for file in files:
        folder = next(folder for folder in folders if file.is_relative_to(folder))
        names = set(imported_ever(file, file.relative_to(folder).parts[:-1]))
        graph[file] = {found for name in names if (found := file_of(name, folders))} - {file}
    return graph


def test_no_files_import_each_other_in_a_circle() -> None:
    """One that imports another only in a function, to break a circle, is in it all the same."""
    folders = [ENGINE, *(ROOT / module for module in index_rules.modules(ROOT))]
    graph = graph_of([file for folder in folders for file in python_files(folder)], folders)
    assert len(graph) > 200
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the files


def test_a_circle_is_seen(tmp_path: Path) -> None:
    files = [tmp_path / "one.py", tmp_path / "two.py"]
    files[0].write_text("import two\n")
    files[1].write_text("def late():\n    from one import thing\n")
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(graph_of(files, [tmp_path])).prepare()


def test_the_engine_imports_nothing_of_slicer() -> None:
    ours = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in python_files(ENGINE / "dinomix")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([n.name for n in node.names] if isinstance(node, ast.Import) else [node.module or ""])
        if name.split(".")[0] in {"slicer", "qt", "ctk", "vtk", "vtkmodules", "dinomix_slicer", "PySide6"}
    }
    assert not ours


def test_what_is_followed_is_seen(tmp_path: Path) -> None:
    """The check itself: a package that is imported in a function is allowed, one that a file of ours brings is not."""
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "__init__.py").write_text("")
    (tmp_path / "ours" / "deep.py").write_text("class A:\n    import torch\n")
    (tmp_path / "start.py").write_text(
        "from typing import TYPE_CHECKING\nfrom ours import deep\nif TYPE_CHECKING:\n    import pydantic\n"
        "def late():\n    import monai\n"
    )
    assert {name for _, name in loaded_with(tmp_path / "start.py", [tmp_path])} == {"typing", "torch"}
