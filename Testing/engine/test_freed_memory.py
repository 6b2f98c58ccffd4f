"""What training frees on Linux stays with the process, so that the next step does not ask the system for it again."""

import ctypes
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import numpy as np
import psutil
from dinomix.memory import give_back_freed_memory, keep_freed_memory

{begin}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(2**24, np.float32)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults())
before = psutil.Process().memory_info().rss
give_back_freed_memory()
print(before - psutil.Process().memory_info().rss)
"""


def keeps() -> bool:
    name, version = platform.libc_ver()
    return sys.platform == "linux" and name == "glibc" and tuple(map(int, version.split("."))) >= (2, 35)


@pytest.mark.skipif(not keeps(), reason="only for the GNU C library 2.35 or later")
def test_arrays_are_put_where_others_were_until_the_memory_is_wanted() -> None:
    found = [
        subprocess.run([sys.executable, "-c", FAULTS.format(begin=begin)], capture_output=True, text=True, check=True)
        for begin in ("", "keep_freed_memory()")
    ]
    (given_back, nothing), (kept, given_back_later) = (map(int, done.stdout.split()) for done in found)
    assert kept < given_back / 4, (kept, given_back)
    assert nothing < 2**20 < 2**25 < given_back_later


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from dinomix.memory import keep_freed_memory

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: pytest.fail("there is no such function"))
    keep_freed_memory()
