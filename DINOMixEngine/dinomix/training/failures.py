"""Failures that do not spoil a run: it ends as paused, with the reason, and goes on from its last checkpoint."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dinomix.inference.sliding_window import is_out_of_memory
from dinomix.training.control import RunPaused

_FULL = (errno.ENOSPC, errno.EDQUOT)
_UNREACHABLE = tuple(
    getattr(errno, name)
    for name in ("EIO", "EROFS", "ENODEV", "ENXIO", "ESTALE", "ENOTCONN", "EHOSTDOWN", "ETIMEDOUT")
    if hasattr(errno, name)
)
_LOST_DEVICE = ("cuda error", "cuda driver", "cudnn_status", "cublas_status", "hip error", "device lost", "mps backend")
# A wrong index in a kernel ends a GPU's context too, but comes back with every resume.
_DEFECT = "device-side assert"


@contextmanager
def failures_as_pauses(run: Path) -> Iterator[None]:
    """Raise RunPaused for a full or lost disk, a lost device and memory that ran out; all else passes."""
    try:
        yield
    except (OSError, RuntimeError, MemoryError) as error:
        pause = pause_for(error, run)
        if pause is None:
            raise
        raise pause from error


def pause_for(error: Exception, run: Path) -> RunPaused | None:
    """The pause that a failure leads to, or None where resuming would not help."""
    if isinstance(error, OSError):
        if error.errno in _FULL:
            return RunPaused(
                f"There is no space left on the disk ({error.filename or run}).",
                "Free some space, then resume the run; it goes on from its last checkpoint.",
            )
        if error.errno == errno.EFBIG:
            return RunPaused(
                f"The disk takes no files as large as those of the run ({error.filename or run}).",
                "Move the run to another disk, or raise the limit for files; then resume the run.",
            )
        if error.errno in _UNREACHABLE:
            return RunPaused(
                f"The disk cannot be read or written any more ({error.filename or run}: {error.strerror}).",
                "Connect the disk or the network folder again, then resume the run.",
            )
        return None
    text = str(error).lower()
    if isinstance(error, MemoryError) or is_out_of_memory(error) or "not enough memory" in text:
        return RunPaused(
            "There is too little memory for a step of this run.",
            "Close other programs and resume the run; or begin one with a smaller patch (--set plan.patch=96,96,48) or "
            "batch (--set batch_unlabeled=...).",
            code="memory",
        )
    if "dataloader worker" in text and "killed" in text:
        return RunPaused(
            "A process that prepares batches was killed, most likely since the memory ran out.",
            "Close other programs and resume the run; or begin one with --set workers=0.",
            code="memory",
        )
    if _DEFECT not in text and any(sign in text for sign in _LOST_DEVICE):
        return RunPaused(
            f"The GPU does not answer any more ({' '.join(str(error).split())[:160]}).",
            "Wait until it is back, or restart the computer; then resume the run, which goes on from its last checkpoint.",
        )
    return None
