"""Writes the lists of files that CMake installs, ``files.cmake`` beside each CMakeLists.txt that includes one.

A file that no list names is in the source tree and missing from the package, so the lists are made, not kept by hand:

    python Testing/packaging/list_files.py            writes them (``make lists``)
    python Testing/packaging/list_files.py --check    says which ones are out of date
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = sorted(
    path.parent.name for path in ROOT.glob("*/CMakeLists.txt") if "/files.cmake" in path.read_text("utf-8")
)
NOT_INSTALLED = {"CMakeLists.txt", "files.cmake"}
HEADER = "# Written by Testing/packaging/list_files.py (`make lists`); do not edit."


def file_list(folder: Path) -> str:
    """The text of ``files.cmake`` for a folder: its Python files as SCRIPTS, its other files as RESOURCES."""
    files = sorted(name for name in known_files(folder) if Path(name).name not in NOT_INSTALLED)
    scripts = [name for name in files if name.endswith(".py")]
    resources = [name for name in files if not name.endswith(".py")]
    return "\n".join([HEADER, *_variable("SCRIPTS", scripts), "", *_variable("RESOURCES", resources), ""])


def known_files(folder: Path) -> list[str]:
    """Files of the repository below ``folder``, relative to it: tracked, or new and not ignored, and still there."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "."]
    listed = subprocess.run(command, cwd=folder, capture_output=True, check=True, text=True).stdout
    return [name for name in listed.split("\0") if name and (folder / name).is_file()]


def out_of_date() -> list[Path]:
    """The lists that differ from what the folders hold."""
    lists = [ROOT / folder / "files.cmake" for folder in FOLDERS]
    return [path for path in lists if not path.exists() or path.read_text("utf-8") != file_list(path.parent)]


def _variable(name: str, files: list[str]) -> list[str]:
    return [f"set({name}", *(f'  "{file}"' for file in files), "  )"]


def main() -> None:
    late = out_of_date()
    if "--check" in sys.argv:
        if late:
            sys.exit(f"Out of date: {', '.join(str(path.relative_to(ROOT)) for path in late)}. Run `make lists`.")
        return
    for path in late:
        path.write_text(file_list(path.parent), encoding="utf-8")
        print(f"Wrote {path.relative_to(ROOT)}.")


if __name__ == "__main__":
    main()
