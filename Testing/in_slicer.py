"""Runs the tests of the modules in 3D Slicer itself, each file in a Slicer of its own; run it with any Python 3.11 or later.

python Testing/in_slicer.py --slicer Slicer --python PythonSlicer install     the engine's packages, into Slicer's Python
python Testing/in_slicer.py --slicer Slicer test [test_segment_batch ...]     all test files, or those named
"""

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "Testing" / "modules"
CPU_ONLY = "https://download.pytorch.org/whl/cpu"
BROUGHT_BY_SLICER = ("numpy", "scipy", "SimpleITK")
MINUTES = 15
"""For one file."""


def install(python: str) -> None:
    """Install the engine's packages into Slicer's Python, with PyTorch for the CPU, and keep what Slicer brings as it is."""
    code = f"from importlib.metadata import version\nfor name in {BROUGHT_BY_SLICER}: print(f'{{name}}=={{version(name)}}')"
    kept = subprocess.run([python, "-c", code], capture_output=True, check=True, text=True).stdout
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text(kept, encoding="utf-8")
        pip = [python, "-m", "pip", "install", "--constraint", str(constraints)]
        index = [] if sys.platform == "darwin" else ["--index-url", CPU_ONLY]  # there is but one build for macOS
        subprocess.run([*pip, "torch", "torchvision", *index], check=True)
        subprocess.run([*pip, *needed], check=True)


def command(slicer: str, name: str) -> list[str]:
    """Slicer, with this repository's modules, running one test file as ``slicer_add_python_unittest`` of its CMake does."""
    modules = sorted(str(path.parent) for path in ROOT.glob("*/*.py") if path.stem == path.parent.name)
    code = f"import slicer.testing; slicer.testing.runUnitTest([{str(TESTS)!r}], {name!r})"
    options = ["--testing", "--no-splash", "--ignore-slicerrc"]
    return [slicer, *options, "--additional-module-paths", *modules, "--python-code", code]


def problem_of(slicer: str, name: str) -> str:
    """Run a test file; what is wrong with how it went, or nothing."""
    print(f"--- {name}", flush=True)
    try:
        done = subprocess.run(
            command(slicer, name), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=MINUTES * 60, check=False
        )
    except subprocess.TimeoutExpired as error:
        print((error.stdout or b"").decode("utf-8", "replace"))
        return f"took more than {MINUTES} minutes"
    output = done.stdout.decode("utf-8", "replace")
    print(output, flush=True)
    count = re.search(r"^Ran (\d+) tests? in ", output, re.MULTILINE)
    if done.returncode != 0:
        return f"ended with exit code {done.returncode}"
    return "" if count and int(count.group(1)) else "ran no test"


def test(slicer: str, names: list[str]) -> dict[str, str]:
    """Test file -> what is wrong with it, for those that did not pass."""
    names = names or sorted(path.stem for path in TESTS.glob("test_*.py"))
    problems = {name: problem_of(slicer, name) for name in names}
    for name, problem in problems.items():
        print(f"{name}: {problem or 'passed'}")
    return {name: problem for name, problem in problems.items() if problem}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slicer", default="Slicer", help="The application.")
    parser.add_argument("--python", default="PythonSlicer", help="Its Python, in the folder bin of Slicer.")
    parser.add_argument("what", choices=["install", "test"])
    parser.add_argument("names", nargs="*", help="Test files, without .py.")
    arguments = parser.parse_args()
    if arguments.what == "install":
        install(arguments.python)
    elif test(arguments.slicer, arguments.names):
        sys.exit(1)


if __name__ == "__main__":
    main()
