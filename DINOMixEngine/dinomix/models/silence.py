"""OpenVINO and NNCF, imported so that they report to nobody."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

REPORTING = ("openvino_telemetry", "openvino.tools.ovc")
"""What tells Google Analytics of every import, without asking: both load it where it is there, and do without else."""

_MADE_BY: list[int] = []
"""The process that has the threads of ``core``."""


def is_installed(package: str = "openvino") -> bool:
    """Whether it is there; it is not loaded to find out."""
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


@cache
def openvino() -> Any:
    """The package. Raises ImportError or OSError where it is not there or cannot be loaded."""
    with _nothing_reports():
        import openvino as package

        return package


@cache
def nncf() -> Any:
    """The package, which makes graphs of 8 bits. Raises ImportError or OSError where it is not there or cannot be loaded."""
    openvino()
    with _nothing_reports():
        import nncf as package

        return package


@contextmanager
def _nothing_reports() -> Iterator[None]:
    """Within it, what reports cannot be imported."""
    kept_out = [name for name in REPORTING if name not in sys.modules]
    sys.modules.update(dict.fromkeys(kept_out))  # type: ignore[arg-type]  # None: Python says that there is none
    try:
        yield
    finally:
        for name in kept_out:
            del sys.modules[name]


def converter() -> tuple[Any, Any]:
    """The classes that read a network of PyTorch's: of its layers, and of the manager that knows what they are to OpenVINO."""
    openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    return TorchScriptPythonDecoder, FrontEndManager


@cache
def core() -> Any:
    """OpenVINO's core, which knows the computer's processors."""
    _MADE_BY.append(os.getpid())
    return openvino().Core()


def would_wait_for_ever() -> bool:
    """Whether this process was forked from one that used OpenVINO, whose threads it does not have."""
    return bool(_MADE_BY) and _MADE_BY[0] != os.getpid()
