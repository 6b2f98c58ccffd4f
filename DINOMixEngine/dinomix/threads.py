"""How many cores what computes in threads of its own may use."""

import os

import psutil


def threads() -> int:
    """As many as PyTorch takes: what OMP_NUM_THREADS says, else the computer's cores."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(asked)) if asked.isdecimal() else psutil.cpu_count(logical=False) or os.cpu_count() or 1
