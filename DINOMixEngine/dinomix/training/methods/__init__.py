"""The methods that a run can learn by: one file each, behind the interface of ``method.py``.

A new one is a new file and its line here. Nothing heavy is loaded before a method is asked for, so the command line can list
them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from dinomix.training.methods.method import Method

MethodName = Literal["dino-mix", "mean-teacher", "cps", "labeled-only"]
_PLACES: dict[MethodName, tuple[str, str]] = {
    "dino-mix": ("mean_teacher", "MeanTeacher"),  # with PIC and FKD on; see config.make_config
    "mean-teacher": ("mean_teacher", "MeanTeacher"),
    "cps": ("cps", "CrossPseudoSupervision"),
    "labeled-only": ("labeled_only", "LabeledOnly"),
}


def method_class(name: MethodName) -> "type[Method]":
    """The class of a method."""
    file, of_class = _PLACES[name]
    found: type[Method] = getattr(import_module(f"{__name__}.{file}"), of_class)
    return found
