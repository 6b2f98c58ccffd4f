"""The pixels of DICOM slices, decoded by ITK in a process of its own.

DICOM holds JPEG, JPEG-LS, JPEG 2000 and more. What a damaged stream makes of their decoders cannot be judged from
outside: one that dies, hangs or takes the memory must end neither a check of a cohort nor a batch. The process is given the
names of the slices, writes their float32 pixels to its standard output one slice after another, and is watched meanwhile.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.images.stored import DAMAGED

LONGEST_SLICE = 60.0
"""Seconds until the next slice, the start of the process included."""
MOST_MEMORY = 2**30
"""Bytes that the process may take beside some copies of one slice."""
_COPIES = 8
_UNREADABLE = 3
"""The process's exit code where ITK itself says that it cannot read a slice."""
_PACKAGES = Path(__file__).parents[2]


def read_pixels(slices: list[Path], size: tuple[int, int], path: Path) -> NDArray[np.float32]:
    """Decode slices, rescaled as each says (HU for CT).

    Args:
        slices: the files, in the order of the slices.
        size: pixels (i, j) of each.
        path: the series, for messages.

    Returns:
        Array (k, j, i).

    Raises:
        DinomixError: a slice cannot be decoded.
    """
    array = np.empty((len(slices), size[1], size[0]), np.float32)
    into = array.reshape(-1).view(np.uint8).data
    places = [os.environ.get("PYTHONPATH", ""), str(_PACKAGES)]
    with tempfile.TemporaryFile() as told:
        process = subprocess.Popen(
            [_python(), "-m", "dinomix.images.dicom_pixels", str(size[0]), str(size[1])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=told,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(place for place in places if place)},
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )  # fmt: skip
        with _Watch(process, MOST_MEMORY + _COPIES * array[0].nbytes) as watch:
            done = _received(process, slices, into, watch)
        told.seek(max(0, told.seek(0, os.SEEK_END) - 2000))
        reason = watch.reason or _reason(process.returncode, told.read().decode("utf-8", "replace"))
    if done == len(into) and process.returncode == 0:
        return array
    bad = slices[min(done // array[0].nbytes, len(slices) - 1)]
    raise DinomixError(f"{path} has a slice whose pixels cannot be read: {bad.name} ({reason}).", DAMAGED)


def _python() -> str:
    """The program that runs Python; within Slicer's own process, ``sys.executable`` is Slicer."""
    if "python" in Path(sys.executable).name.lower():
        return sys.executable
    return shutil.which("PythonSlicer") or sys.executable


class _Watch:
    """Ends a process that takes too much memory, or too long for a slice; leaves none behind."""

    def __init__(self, process: subprocess.Popen, memory: int) -> None:
        self.reason = ""
        self.progress = 0
        self._process, self._memory = process, memory
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "_Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):  # what the process did not read any more
                pipe.close()

    def _watch(self) -> None:
        watched = psutil.Process(self._process.pid)
        seen, since = self.progress, time.monotonic()
        while not self._over.wait(0.05):
            if self.progress > seen:
                seen, since = self.progress, time.monotonic()
            try:
                taken = watched.memory_info().rss
            except psutil.Error:  # it has ended
                return
            if taken > self._memory:
                self.reason = f"decoding it takes more than {self._memory / 2**30:.1f} GB of memory"
            elif time.monotonic() - since > LONGEST_SLICE:
                self.reason = f"decoding it takes longer than {LONGEST_SLICE:.0f} seconds"
            if self.reason:
                self._process.kill()
                return


def _received(process: subprocess.Popen, slices: list[Path], into: memoryview, watch: _Watch) -> int:
    """Give the process its work and take its pixels; how many bytes came."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(b"\0".join(os.fsencode(file) for file in slices))
        process.stdin.close()
    except OSError:  # it has ended before it read them
        return 0
    done = 0
    while done < len(into) and (count := process.stdout.readinto(into[done:])):  # type: ignore[attr-defined]
        done += count
        watch.progress = done
    process.wait()  # it ends by itself, or by the watch
    return done


def _reason(code: int, told: str) -> str:
    if code < 0:
        return f"the program that decodes it was ended by signal {-code}"
    lines = [line for line in told.splitlines() if line.strip()]
    if lines and code == _UNREADABLE:
        return lines[-1][:200].rstrip(" .")
    return f"the program that decodes it ended with {code}"


def _decode(files: list[str], size: tuple[int, int]) -> int:
    """The process: slices as float32 to the standard output. What ITK prints goes to the standard error."""
    import SimpleITK as sitk

    from dinomix.images.quiet import itk_warnings_off, reason_of

    with os.fdopen(os.dup(1), "wb") as out, itk_warnings_off():
        os.dup2(2, 1)
        for file in files:
            try:
                # Slices may have scales of their own (PET); float keeps what the first slice's number type could not.
                image = sitk.ReadImage(file, sitk.sitkFloat32)
            except RuntimeError as error:
                print(reason_of(error), file=sys.stderr)
                return _UNREADABLE
            pixels = sitk.GetArrayViewFromImage(image)
            if pixels.size != size[0] * size[1]:
                print("it has other pixels than its header says", file=sys.stderr)
                return _UNREADABLE
            out.write(np.ascontiguousarray(pixels, "<f4" if sys.byteorder == "little" else ">f4").data)
            out.flush()
    return 0


if __name__ == "__main__":
    names = [os.fsdecode(name) for name in sys.stdin.buffer.read().split(b"\0")]
    sys.exit(_decode(names, (int(sys.argv[1]), int(sys.argv[2]))))
