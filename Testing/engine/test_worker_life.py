"""How a worker begins and ends: nothing of it stays, however its client goes."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from worker_process import PATIENCE, WorkerProcess, described

from dinomix.images.shear import geometry_of_affine
from dinomix.images.volume import Volume
from dinomix.inference.segment import segment_volume
from dinomix.models.folder import Model
from dinomix.planning.plan import RangeWindow, SpacingGrid
from dinomix.worker import scratch
from dinomix.worker.arrays import frames_of_file
from dinomix.worker.stream import PROTOCOL, encode
from random_models import labels_with_ids, random_model, small_plan

LARGE = np.zeros((200, 250, 250), np.int16)
"""Takes long to segment."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    plan = small_plan(SpacingGrid(spacing=(1.0, 1.0, 1.0)), RangeWindow(low=-600, high=600))
    return random_model(tmp_path_factory.mktemp("life") / "model", plan, labels_with_ids(1, 2))


def assert_ends(worker: WorkerProcess, code: int) -> None:
    """It ends, a few of its many windows after it was told to."""
    assert worker.process.wait(timeout=PATIENCE) == code, worker.log
    windows = []
    while (message := worker.messages.get(timeout=PATIENCE)) is not None:
        assert message.type != "result"
        if message.type == "event":
            windows.append(message.fields["event"].get("step", 0))
    assert not windows or windows[-1] - windows[0] < 100


def without_a_superusers_rights() -> list[str]:
    """What to put before a command so that a folder's mode counts for it."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("the superuser reads everything, and setpriv is not there")
    return ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]


def computing(worker: WorkerProcess, model: Model) -> list[psutil.Process]:
    """Let the worker compute something long; its processes."""
    worker.hello()
    worker.segment_by_frames("long", model.path, LARGE, np.eye(4))
    worker.wait_for_event("long", "segmenting")
    process = psutil.Process(worker.process.pid)
    return [process, *process.children(recursive=True)]


def test_it_gives_signs_of_life_while_computing_and_ends_with_its_input(model: Model) -> None:
    with WorkerProcess() as worker:
        processes = computing(worker, model)
        alive = 0
        while alive < 3:
            message = worker.messages.get(timeout=PATIENCE)
            assert message is not None and message.type in ("alive", "event")
            alive += message.type == "alive"
        assert worker.process.stdin is not None
        worker.process.stdin.close()
        assert_ends(worker, 0)
        assert not psutil.wait_procs(processes, timeout=PATIENCE)[1]


def test_the_end_of_the_input_while_torch_is_imported() -> None:
    with WorkerProcess() as worker:
        worker.send("hello", protocol=PROTOCOL, probe=None)
        assert worker.messages.get(timeout=PATIENCE).type == "started"
        assert worker.process.stdin is not None
        worker.process.stdin.close()
        assert_ends(worker, 0)


def test_its_children_end_with_it(tmp_path: Path) -> None:
    script = """
import subprocess, sys, threading
from dinomix.worker import serve
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, file=sys.stderr, flush=True)
serve.serve([])
"""
    errors = tmp_path / "errors"
    with open(errors, "wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file
        )
    assert process.stdin is not None and process.stdout is not None
    assert b"started" in process.stdout.readline()
    child = psutil.Process(int(errors.read_text().split()[0]))
    assert child.is_running()
    process.stdin.close()
    assert process.wait(timeout=PATIENCE) == 0
    psutil.wait_procs([child], timeout=PATIENCE)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_signals_end_it(number: str) -> None:
    with WorkerProcess() as worker:
        worker.ask("models")
        worker.process.send_signal(getattr(signal, number))
        assert_ends(worker, 130)
        assert "Traceback" not in worker.log


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_signal_ends_it_in_the_midst_of_computing(model: Model) -> None:
    with WorkerProcess() as worker:
        computing(worker, model)
        worker.process.terminate()
        assert_ends(worker, 130)


def test_shutdown() -> None:
    with WorkerProcess() as worker:
        worker.send("shutdown")
        assert_ends(worker, 0)


def test_scans_do_not_stay_on_the_disk(model: Model, tmp_path: Path) -> None:
    import SimpleITK as sitk

    sitk.WriteImage(sitk.GetImageFromArray(LARGE), str(tmp_path / "scan.nii.gz"))
    temporary = tmp_path / "temporary"
    left, others, young = (temporary / name for name in ("dinomix-worker-left", "other-left", "dinomix-worker-young"))
    for folder in (left, others, young):
        folder.mkdir(parents=True)
    old = time.time() - scratch.LEFT_BEHIND - 60
    for folder in (left, others):
        os.utime(folder, (old, old))
    with WorkerProcess(environment={"TMPDIR": str(temporary)}) as worker:
        worker.hello()
        assert not left.exists() and others.exists() and young.exists()
        worker.send("segment_file", job="long", model=str(model.path), device="cpu", any_image=True,
                    image={"frames": True, "name": "scan.nii.gz"}, out={"frames": True, "format": "nii.gz"})  # fmt: skip
        worker.send_bytes(frames_of_file(tmp_path / "scan.nii.gz", "long", "file:scan.nii.gz"))
        worker.wait_for_event("long", "segmenting")
        assert [path.name for path in temporary.rglob("*") if path.is_file()] == ["scan.nii.gz"]
        assert worker.process.stdin is not None
        worker.process.stdin.close()
        assert_ends(worker, 0)
    assert not any(temporary.rglob("scan.nii.gz")) and len(list(temporary.iterdir())) == 2


@pytest.mark.parametrize(
    "data",
    [b"Welcome to gpu-box\n", b'{"type": "frame", "bytes": 99999999999}\n', b"[" * 50_000 + b"\n", b"\x00\x01\n"],
)
def test_what_is_not_the_protocol_is_told_and_ends_it(data: bytes) -> None:
    with WorkerProcess() as worker:
        worker.send_bytes([data])
        answer = worker.answer()
        assert answer["type"] == "error" and answer["job"] is None and answer["message"] and answer["remedy"]
        assert_ends(worker, 2)


def test_prints_go_to_the_error_stream() -> None:
    script = """
import os, sys, threading
from dinomix.worker import pipe
source, output = pipe.take_standard_streams()
print("printed"); os.write(1, b"written"); os.system("echo shouted"); sys.stdout.flush()
assert sys.stdin.read() == ""
output.send("done")
"""
    done = subprocess.run([sys.executable, "-c", script], input=b"{}", capture_output=True)
    assert done.stdout == encode({"type": "done"}), done.stderr
    assert all(word in done.stderr for word in (b"printed", b"written", b"shouted"))


def test_it_ends_where_nobody_reads_any_more() -> None:
    command = [sys.executable, "-m", "dinomix", "worker"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )  # its input stays open
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=PATIENCE) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="sets who may read a folder as POSIX has it")
def test_elsewhere_without_the_clients_files(model: Model, tmp_path: Path) -> None:
    """As over ssh: the worker cannot read what the client has, and has models of its own."""
    home, private = Path(tempfile.mkdtemp(prefix="dinomix-test-")), tmp_path / "private"
    array = np.random.default_rng(0).integers(-600, 600, (20, 30, 40)).astype(np.int16)
    try:
        shutil.copytree(model.path, home / "models/model")
        for path in (home, *home.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        private.mkdir()
        (private / "probe").write_text("secret")
        np.save(private / "image.npy", array)
        private.chmod(0o000)
        with WorkerProcess("--models", str(home / "models"), launcher=without_a_superusers_rights()) as worker:
            assert worker.hello({"file": str(private / "probe"), "nonce": "secret"})["shares_files"] is False
            (found,) = worker.ask("models")["models"]
            image = {**described(array, np.eye(4)), "file": str(private / "image.npy")}
            refused = worker.ask("segment", job="f", model=found["path"], image=image, result={"frames": True})
            assert refused["type"] == "error" and "cannot be read" in refused["message"]
            worker.segment_by_frames("s", Path(found["path"]), array, np.eye(4))
            labels = worker.array(worker.answer())
        volume = Volume(array.astype(np.float32), geometry_of_affine(np.eye(4), (40, 30, 20), Path("image")))
        assert np.array_equal(labels, segment_volume(volume, model, device="cpu").array)
    finally:
        private.chmod(0o700)
        shutil.rmtree(home, ignore_errors=True)
