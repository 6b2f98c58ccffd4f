"""How much main memory there is, and refusing what takes more before any of it is taken."""

import psutil

from dinomix.errors import DinomixError


def main_memory() -> int:
    """Bytes that this computer has in all."""
    return int(psutil.virtual_memory().total)


def gigabytes(size: float) -> str:
    return f"{size / 2**30:,.1f} GB"


def check_memory(size: int, what: str, remedy: str) -> None:
    """Raises DinomixError, with both figures, where ``what`` (with a verb: "A window takes") needs more than there is."""
    if size > (has := main_memory()):
        raise DinomixError(f"{what} about {gigabytes(size)} of memory; this computer has {gigabytes(has)}.", remedy)
