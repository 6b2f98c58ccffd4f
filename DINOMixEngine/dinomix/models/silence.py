"""OpenVINO, imported so that it reports to nobody."""

import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

REPORTING = ("openvino_telemetry", "openvino.tools.ovc")
"""What tells Google Analytics of every import, without asking: OpenVINO loads it where it is there, and does without else."""


def is_installed() -> bool:
    """Whether OpenVINO is there; it is not loaded to find out."""
    try:
        return bool(version("openvino"))
    except PackageNotFoundError:
        return False


@cache
def openvino() -> Any:
    """The package. Raises ImportError or OSError where it is not there or cannot be loaded."""
    kept_out = [name for name in REPORTING if name not in sys.modules]
    sys.modules.update(dict.fromkeys(kept_out))  # type: ignore[arg-type]  # None: Python says that there is none
    try:
        import openvino as package

        return package
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
    return openvino().Core()
