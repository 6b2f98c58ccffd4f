"""The seam of the methods: what one keeps from step to step comes back with a checkpoint, and all are listed once."""

from typing import get_args

import pytest

from dinomix.training.methods import MethodName, method_class
from dinomix.training.methods.method import Method


@pytest.mark.parametrize("name", get_args(MethodName))
def test_each_name_has_its_class(name: MethodName) -> None:
    assert issubclass(method_class(name), Method) and method_class(name).losses is not Method.losses
