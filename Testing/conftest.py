"""Starts the test host for the tests of the Slicer side; those of the engine run without it."""

import gc
import inspect
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from originals import sources

RUN_VARIABLE = "SLICER_HOST_TEST_RUN"  # set for every process that a test starts
THERE_BEFORE = set(psutil.pids())
"""Numbers of processes that no test has started: a computer has hundreds, and to ask each takes longer than most tests."""
HERE = Path(__file__).parent
USING = ("DINOMixEngine/dinomix_slicer", "DINOMixSegment", "DINOMixTrain", "Testing/modules")
"""What runs in Slicer, so that it may use only what Slicer has."""
HOSTED_FOLDERS = [HERE / name for name in ("bridge", "modules", "host_tests", "originals")]


NOT_ON_WINDOWS = ("SIGKILL", "/bin/sh", "/proc/", "/dev/full", "resource.setrlimit", "chmod(0o", "import fcntl")
"""What only other systems have; a test in whose source one of these stands is skipped on Windows."""


def pytest_configure(config: pytest.Config) -> None:
    """Nothing is kept in the user's own cache folder, nor found there; the processes that tests start inherit that."""
    folder = tempfile.TemporaryDirectory(prefix="dinomix-test-cache-", ignore_cleanup_errors=True)
    os.environ["DINOMIX_CACHE"] = folder.name
    config.add_cleanup(folder.cleanup)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items if os.name == "nt" else []:
        needs = needed_of_posix(getattr(item, "function", None))
        if needs:
            item.add_marker(pytest.mark.skip(reason=f"Windows has no {needs}"))


def pytest_collection_finish() -> None:
    """What all tests have imported is never garbage: not looked through again, they take a sixth less of the processor."""
    gc.freeze()


def needed_of_posix(function: object) -> str:
    """The first of NOT_ON_WINDOWS in the source of a test, or of a function of its file that it calls; or nothing."""
    if not inspect.isfunction(function):
        return ""
    module = inspect.getmodule(function)
    used = [getattr(module, name, None) for name in function.__code__.co_names]
    helpers = [value for value in used if inspect.isfunction(value) and value.__module__ == function.__module__]
    text = "".join(inspect.getsource(part) for part in (function, *helpers))
    return next((word for word in NOT_ON_WINDOWS if word in text), "")


def is_hosted(path: Path) -> bool:
    return any(path.is_relative_to(folder) for folder in HOSTED_FOLDERS)


def pytest_pycollect_makemodule(module_path: Path) -> None:
    """Start the host before a test file is imported that imports ``slicer`` in its first lines."""
    if is_hosted(module_path):
        import host
        from host.qt import uses

        host.start()
        if not sources.missingForObjects():
            uses.watch(*(host.REPOSITORY / name for name in USING))
        if module_path.is_relative_to(HERE / "modules"):
            host.loadModules()


@pytest.fixture(scope="session")
def started_slicer() -> None:
    """An empty scene and default settings before the first test; each leaves them to the next."""
    import host

    host.reset()


@pytest.fixture(autouse=True)
def empty_slicer(request: pytest.FixtureRequest) -> Iterator[None]:
    """For each test of the Slicer side an empty scene and default settings; after it nothing left behind and no errors.

    A test class that provokes errors of VTK says so by the attribute ``expectsVtkErrors = True``; one that provokes errors in
    slots or warnings of Qt, by ``expectsQtErrors = True``.
    """
    if not is_hosted(request.path):
        yield
        return
    import host
    from host import qt_errors, vtk_errors
    from host.qt import dialogs, uses

    request.getfixturevalue("started_slicer")
    uses.noted.clear()
    os.environ[RUN_VARIABLE] = f"{os.getpid()}"
    before = started_processes()
    yield
    left = processes_left(before)
    descriptions = [describe(process) for process in left]
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=5)
    host.processEvents()
    expects_vtk, expects_qt = (expects(request, name) for name in ("expectsVtkErrors", "expectsQtErrors"))
    vtk_messages = [] if expects_vtk else list(vtk_errors.messages)
    qt_messages = [] if expects_qt else list(qt_errors.messages)
    unused, noted = dialogs.unusedAnswers(), set(uses.noted)
    host.reset()
    assert not left, f"the test left these processes running: {descriptions}"
    assert not vtk_messages, f"VTK reported errors: {vtk_messages}"
    assert not qt_messages, "errors in slots, or warnings of Qt:\n" + "\n".join(qt_messages)
    assert not unused, f"no dialog came for these answers: {unused}"
    lacking = sorted(f"{cls}.{name}" for cls, name in noted if sources.lacks(cls, name))
    assert not lacking, f"used, and not in the originals: {lacking}"


def expects(request: pytest.FixtureRequest, name: str) -> bool:
    return getattr(request.cls or request.function, name, False)


def started_processes() -> set[psutil.Process]:
    """Every process that this one started, directly or not, also where the one in between has ended."""
    found = set(psutil.Process().children(recursive=True))
    for number in set(psutil.pids()) - THERE_BEFORE:
        try:
            process = psutil.Process(number)
            if number != os.getpid() and process.environ().get(RUN_VARIABLE) == f"{os.getpid()}":
                found.add(process)
        except psutil.Error:  # ended meanwhile, or of another user
            continue
    return found


def processes_left(before: set[psutil.Process], seconds: float = 5) -> list[psutil.Process]:
    """Child processes started since ``before`` that do not end by themselves within that time."""
    import host

    def running() -> list[psutil.Process]:
        started = started_processes() - before
        return [process for process in started if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]

    try:
        host.waitUntil(lambda: not running(), seconds)
    except AssertionError:
        return running()
    return []


def describe(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return f"process {process.pid}"
