"""How many cores what computes in threads of its own may use."""

import os

import psutil


def threads() -> int:
    """As many as PyTorch takes: what OMP_NUM_THREADS says, else the computer's cores, of those that this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal():
        return max(1, int(asked))
    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    return min(cores, allowed)
