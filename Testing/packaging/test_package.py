"""The extension as a package: what CMake installs is all that the modules import."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import index_rules
import list_files

ROOT = list_files.ROOT


SCRIPTED = Path("lib") / "Slicer-5.12" / "qt-scripted-modules"
STAND_IN = ROOT / "Testing" / "packaging" / "slicer"


def cmake(*arguments: object) -> subprocess.CompletedProcess[str]:
    import cmake

    command = [Path(cmake.CMAKE_BIN_DIR) / "cmake", *arguments]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)


def build_and_install(source: Path, folder: Path) -> Path:
    """The folder of scripted modules of what a source tree installs."""
    build, prefix = folder / "build", folder / "prefix"
    options = [f"-DSlicer_DIR={STAND_IN}", f"-DCMAKE_INSTALL_PREFIX={prefix}", "-DBUILD_TESTING=ON"]
    for arguments in (["-S", source, "-B", build, *options], ["--install", build]):
        done = cmake(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    return prefix / SCRIPTED


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of scripted modules of an installed extension, made by the project's own CMake files."""
    return build_and_install(ROOT, tmp_path_factory.mktemp("extension"))


def test_a_slicer_that_bundles_the_extension_installs_the_same(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16.3)\nproject(Slicer NONE)\n"
        f'add_subdirectory("{ROOT.as_posix()}" "${{CMAKE_BINARY_DIR}}/DINOMix")\n'
    )
    bundled = build_and_install(tmp_path, tmp_path)
    names = {path.relative_to(installed) for path in installed.rglob("*")}
    assert Path("dinomix_slicer/pyproject.toml") in names
    assert {path.relative_to(bundled) for path in bundled.rglob("*")} == names


def test_lists_name_every_file() -> None:
    assert list_files.out_of_date() == [], "run `make lists`"


def test_every_file_of_the_packages_is_installed(installed: Path) -> None:
    for folder in list_files.FOLDERS:
        for name in list_files.known_files(ROOT / folder):
            if Path(name).name not in list_files.NOT_INSTALLED:
                assert (installed / name).read_bytes() == (ROOT / folder / name).read_bytes()


def test_a_missing_file_fails_the_build(tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16.3)\nproject(X NONE)\nfind_package(Slicer REQUIRED)\ninclude(${Slicer_USE_FILE})\n"
        "slicerMacroBuildScriptedModule(NAME X SCRIPTS X.py RESOURCES)\n"
    )
    done = cmake("-S", tmp_path, "-B", tmp_path / "build", f"-DSlicer_DIR={STAND_IN}")
    assert done.returncode != 0
    assert "there is no file X.py" in done.stderr


def test_everything_that_the_installed_files_import_of_ours_is_installed(installed: Path) -> None:
    ours = {
        Path(name).parts[0].removesuffix(".py") for f in list_files.FOLDERS for name in list_files.known_files(ROOT / f)
    }
    missing = [
        f"{file.relative_to(installed)} imports {module}"
        for file in installed.rglob("*.py")
        for module in _imports(file, installed)
        if module.split(".")[0] in ours and not _is_there(installed, module)
    ]
    assert not missing


def test_every_resource_that_the_modules_name_is_installed(installed: Path) -> None:
    missing = [
        f"{file.relative_to(installed)} names {text}"
        for file in installed.glob("DINOMix*/**/*.py")
        for text in _texts(file)
        if text.endswith((".ui", ".png", ".json")) and "/" in text and " " not in text and "://" not in text
        if not (installed / "Resources" / text).is_file() and not (installed / text).is_file()
    ]
    assert not missing


def test_every_module_is_part_of_the_extension(installed: Path) -> None:
    for module in index_rules.modules(ROOT):
        assert module in list_files.FOLDERS, f"{module}/CMakeLists.txt includes no files.cmake"
        assert (installed / f"{module}.py").is_file(), f"the top CMakeLists.txt does not add {module}"


def test_the_installed_engine_runs_without_the_source_tree(installed: Path) -> None:
    code = "import dinomix.cli, dinomix.inference.segment as s; print(s.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=installed, env={"PYTHONPATH": str(installed), "PATH": ""}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert Path(done.stdout.strip()).is_relative_to(installed), done.stderr


def test_a_source_checkout_loads_by_its_module_folders_alone() -> None:
    code = (
        "import sys; sys.path[:] = [path for path in sys.path if not path.endswith('DINOMixEngine')]\n"
        "import host; host.start(); host.loadModules()\n"
        "import slicer; print(slicer.modules.dinomixsegment.title, slicer.modules.dinomixtrain.title, sep=', ')"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "Testing")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["DINOMix Segment, DINOMix Train"], done.stderr


def test_no_folder_called_testing_is_installed(installed: Path) -> None:
    assert not [path for path in installed.rglob("*") if path.name.casefold() == "testing"]


def _texts(file: Path) -> list[str]:
    constants = (node.value for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.Constant))
    return [value for value in constants if isinstance(value, str)]


def _imports(file: Path, root: Path) -> list[str]:
    """Absolute names of the modules that a file imports, relative ones resolved, those inside functions too."""
    package = file.relative_to(root).with_suffix("").parts[:-1]
    found = []
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = package[: len(package) - node.level + 1] if node.level else ()
            found.append(".".join((*parts, *(node.module or "").split("."))).strip("."))
    return found


def _is_there(root: Path, module: str) -> bool:
    path = root.joinpath(*module.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


@pytest.mark.parametrize("module", ["DINOMixSegment", "DINOMixTrain"])
def test_a_module_names_the_slicer_modules_whose_nodes_and_logics_it_uses(module: str) -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / module).rglob("*.py"))
    used = {name for name in ("Plots", "Segmentations", "Sequences", "Tables", "Terminologies", "Volumes")
            if f"slicer.modules.{name.lower()}" in code or f"vtkMRML{name.removesuffix('s')}Node" in code}  # fmt: skip
    assert used
    named = next(
        ast.literal_eval(node.value)
        for node in ast.walk(ast.parse((ROOT / module / f"{module}.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "self.parent.dependencies"
    )
    assert used <= set(named)
