"""What training frees on Linux stays with the process, so that the next step does not ask the system for it again."""

import ctypes
import subprocess
import sys

import pytest

FAULTS = """
import resource
import numpy as np
from dinomix.memory import keep_freed_memory

{begin}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(2**23, np.float32)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults())
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="only for the GNU C library"
)
def test_arrays_are_put_where_others_were() -> None:
    found = [
        subprocess.run([sys.executable, "-c", FAULTS.format(begin=begin)], capture_output=True, text=True, check=True)
        for begin in ("", "keep_freed_memory()")
    ]
    given_back, kept = (int(done.stdout) for done in found)
    assert kept < given_back / 4, (kept, given_back)


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from dinomix.memory import keep_freed_memory

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: pytest.fail("there is no such function"))
    keep_freed_memory()
