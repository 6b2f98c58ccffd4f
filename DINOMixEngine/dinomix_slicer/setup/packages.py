"""Installs packages in a process of its own: ``PythonSlicer -m dinomix_slicer.setup.packages``; prints events as JSON lines.

PyTorch is installed by the PyTorch extension's logic and the rest by ``slicer.packaging``; neither needs the application. In it
both would hold the window until pip has ended, and could not be given up.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import socket
import sys
import tempfile
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", nargs="*", help="what to install, as pip names it")
    parser.add_argument(
        "--keep", action="append", default=[], metavar="NAME==VERSION", help="a package to leave as it is"
    )
    parser.add_argument(
        "--also", action="append", default=[], metavar="PACKAGE", help="one that may fail, after the others"
    )
    parser.add_argument("--wheels", default="", help="a folder to install from, without a network")
    parser.add_argument("--torch", help="the versions of PyTorch that will do, where it is to be installed")
    parser.add_argument("--pytorch-utils", default="", help="the folder of the PyTorch extension's module")
    parser.add_argument("--json", action="store_true", help="as for the engine's verbs")
    options = parser.parse_args()
    say("started", pid=os.getpid(), host=socket.gethostname())
    lines = Lines()
    try:
        with contextlib.redirect_stdout(lines), tempfile.TemporaryDirectory() as folder:
            os.environ.update(settingsOfPip(Path(folder), options.keep, options.wheels))
            total = (options.torch is not None) + bool(options.packages) + bool(options.also)
            if options.torch is not None:
                say("step", package="torch", step=1, total=total)
                installTorch(options.torch, options.pytorch_utils)
            if options.packages:
                step = total - bool(options.also)
                say("step", package=", ".join(options.packages), step=step, total=total)
                install(options.packages)
            if options.also:
                say("step", package=", ".join(options.also), step=total, total=total)
                with contextlib.suppress(CalledProcessError):  # pip has said why, in lines that are shown
                    install(options.also)
    except Exception as error:
        reason = lines.lastError if isinstance(error, CalledProcessError) else ""
        say("error", message=reason or f"{type(error).__name__}: {error}", remedy="")
        return 1
    return 0


def settingsOfPip(folder: Path, keep: list[str], wheels: str) -> dict[str, str]:
    """Environment variables that every pip obeys, whoever starts it. Addresses, since pip splits them at spaces."""
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(keep), encoding="utf-8")
    settings = {"PIP_CONSTRAINT": constraints.as_uri(), "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_PROGRESS_BAR": "off"}
    if wheels:
        settings |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": Path(wheels).absolute().as_uri()}
    return settings


def installTorch(versions: str, folder: str) -> None:
    """Install the PyTorch that fits the computer's GPU."""
    import slicer.util  # noqa: F401 (outside the application nobody else imports it, and the extension uses it)

    sys.path.append(folder)
    from PyTorchUtils import PyTorchUtilsLogic

    PyTorchUtilsLogic().installTorch(torchVersionRequirement=versions)


def install(packages: list[str]) -> None:
    """Install packages in the way that this Slicer has."""
    try:
        from slicer.packaging import pip_ensure
    except ImportError:  # Slicer 5.10
        from slicer.util import pip_install

        pip_install(packages)
    else:
        pip_ensure(packages)


def say(kind: str, **fields: Any) -> None:
    """Print an event."""
    print(json.dumps({"kind": kind, **fields}), file=sys.__stdout__, flush=True)


class Lines(io.TextIOBase):
    """In the place of the standard output: each line becomes an event.

    Attributes:
        lastError: the last line in which pip reports an error.
    """

    def __init__(self) -> None:
        self.lastError = ""
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in filter(str.strip, lines):
            say("line", text=line)
            if "ERROR" in line:
                self.lastError = line
        return len(text)


if __name__ == "__main__":
    sys.exit(main())
