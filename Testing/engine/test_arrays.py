"""Arrays of either kind."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from dinomix.arrays import has_torch, namespace


@pytest.mark.parametrize("kind", [np, torch])
def test_one_function_serves_both_kinds(kind) -> None:
    x = kind.ones((2, 3), dtype=kind.float32)
    xp = namespace(x)
    assert type(xp.concat([x, x], axis=1)) is type(x)
    assert xp.take(x, xp.asarray([0]), axis=1).shape == (2, 1)


def test_kinds_are_not_mixed() -> None:
    with pytest.raises(TypeError):
        namespace(np.ones(2), torch.ones(2))


HIDDEN = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
from dinomix.arrays import has_torch
print(has_torch())
"""


def test_pytorch_is_asked_for_without_being_imported() -> None:
    assert has_torch()
    asked = "import sys, dinomix.arrays; dinomix.arrays.has_torch(); print('torch' in sys.modules)"
    said = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout for code in (asked, HIDDEN)
    ]
    assert said == ["False\n", "False\n"]
