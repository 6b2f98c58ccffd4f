"""The worker's client with the real worker process, and with programs that behave as a worker should not."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import qt
import SimpleITK as sitk
import slicer
from workers import Heard, elsewhere, isAlive, noise, ownWorker, run, script, tinyModel

from dinomix.errors import DinomixError
from dinomix_slicer.scene.unsure import unsureOf
from dinomix_slicer.task import Steps, waitFor
from dinomix_slicer.worker import client as worker_client
from dinomix_slicer.worker.client import WorkerClient
from dinomix_slicer.worker.command import WorkerCommand, splitCommand, workerCommand
from dinomix_slicer.worker.computing import Computing
from dinomix_slicer.worker.connection_check import stepsOfTest
from dinomix_slicer.worker.job import fileOfFrame
from dinomix_slicer.worker.transfer import privateFolder
from host import processEvents, waitUntil


@pytest.fixture(scope="module")
def client():
    """A worker that the tests share, as one Slicer's jobs do; a test that ends it has its own."""
    with greeted(ownWorker()) as made:
        yield made


@pytest.fixture(scope="module")
def distant(tmp_path_factory):
    """Likewise, one that cannot read our files."""
    with greeted(WorkerClient(elsewhere(tmp_path_factory.mktemp("elsewhere")))) as made:
        yield made


@pytest.fixture(params=[True, False])
def either(request):
    """A worker that shares files with us, and one that does not."""
    made = request.getfixturevalue("client" if request.param else "distant")
    assert made.hello["shares_files"] is request.param
    return made


@contextmanager
def greeted(made):
    made.start()
    waitUntil(lambda: made.state == "ready", 240)
    yield made
    made.stop()


@pytest.fixture
def model(tmp_path):
    return tinyModel(tmp_path)


def expectedLabels(image, model, precision="auto"):
    from dinomix.inference.any_grid import segment_array
    from dinomix.inference.options import Options
    from dinomix.models.folder import load_model

    return segment_array(image.array, image.affineRas, load_model(Path(model)), Options(precision=precision))[0]


def test_labels_are_those_of_the_engine(client, model):
    image = noise()
    heard = run(client, client.segment(image, model))
    assert heard.last()[0] == "finished", heard.last()
    result = heard.last()[1]
    assert result.labels.shape == image.array.shape
    assert np.array_equal(result.labels, expectedLabels(image, model))
    assert [s["name"] for s in result.structures] == ["structure 1", "structure 2", "structure 9"]
    assert result.fields["device"] == "cpu"
    stages = {event[1] for event in heard.events if event[0] == "progress"}
    assert {"handing over the volume", "segmenting"} <= stages


def test_a_second_job_finds_the_model_loaded(client, model):
    first, second = (stagesOf(run(client, client.segment(noise(), model))) for _turn in range(2))
    assert "loading the model" in first and "segmenting" in first
    assert "loading the model" not in second and "segmenting" in second


def stagesOf(heard):
    assert heard.last()[0] == "finished"
    return {event[1] for event in heard.events if event[0] == "progress"}


def test_jobs_wait_for_each_other_and_one_that_fails_stops_no_other(client, model):
    jobs = [client.segment(noise(seed=n), path) for n, path in enumerate([model, model + "-gone", model])]
    waitUntil(lambda: all(job.isOver for job in jobs), 240)
    assert [job.state for job in jobs] == ["finished", "failed", "finished"]
    assert client.state == "ready"


def test_kept_organs_only(client, model):
    result = run(client, client.segment(noise(), model, keep=("structure 9",))).last()[1]
    assert set(np.unique(result.labels)) <= {0, 9}
    assert [s["name"] for s in result.structures] == ["structure 9"]


def test_models_and_estimate(client, tmp_path, model):
    qt.QSettings().setValue("DINOMix/ModelFolders", [str(tmp_path / "models")])
    assert model in [item["path"] for item in waitFor(client.listModels(), 90)]
    job = client.estimate(noise(), model)
    fields = run(client, job).last()[1].fields
    assert fields["seconds"] > 0
    assert fields["windows"] >= 1
    assert fields["device"] == "cpu"


def test_cancel_is_answered_and_the_worker_goes_on(client, tmp_path, monkeypatch):
    monkeypatch.setattr(worker_client, "CANCEL_SECONDS", 60)  # a busy computer's worker is not ended
    model = tinyModel(tmp_path)
    assert run(client, client.segment(noise(), model)).last()[0] == "finished"
    job = client.segment(noise((90, 120, 120)), model)
    waitUntil(lambda: job.state == "computing")
    processEvents(300)
    worker = client.hello["pid"]
    job.cancel()
    assert run(client, job).last() == ("cancelled",)
    assert run(client, client.segment(noise(), model)).last()[0] == "finished"
    assert client.hello["pid"] == worker


def test_cancel_of_what_waits(client, model):
    first, second = client.segment(noise(), model), client.segment(noise(), model)
    heard = []
    second.cancelled.connect(lambda: heard.append("cancelled"))
    second.cancel()
    assert heard == ["cancelled"]
    assert run(client, first).last()[0] == "finished"


HELLO = """
import json, os, sys, time, socket
line = sys.stdin.buffer.readline()
say = lambda **fields: (sys.stdout.write(json.dumps(fields) + "\\n"), sys.stdout.flush())
say(type="started", pid=os.getpid(), host=socket.gethostname())
say(type="hello", protocol=1, shares_files=True, devices=[], automatic={"device": "cpu", "reason": ""})
"""


def test_how_the_worker_computes_is_what_was_asked_for(client, tmp_path, model):
    image, scan = noise(), tmp_path / "scan.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(image.array), str(scan))
    for precision in ("float32", "bfloat16"):
        labels = run(client, client.segment(image, model, Computing("cpu", precision=precision))).last()[1].labels
        assert np.array_equal(labels, expectedLabels(image, model, precision))
    unknown = Computing(precision="double")
    for ask in (
        lambda: client.segment(image, model, unknown),
        lambda: client.estimate(image, model, unknown),
        lambda: client.segmentFile(str(scan), str(tmp_path / "labels.nrrd"), model, unknown),
    ):
        end = run(client, ask()).last()
        assert end[0] == "failed" and "precision" in end[1]
    refused = run(client, client.segment(image, model, Computing(maxMemory=10**6))).last()
    assert refused[0] == "failed" and "GB" in refused[1]


def test_a_worker_that_ignores_cancel_is_ended_with_its_children(tmp_path):
    assert worker_client.CANCEL_SECONDS < 1
    child = "import time; time.sleep(600)"
    text = HELLO + (
        f"import subprocess, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}])\n"
        "say(type='event', job='job1', event={'kind': 'notice', 'message': str(child.pid)})\n"
        "time.sleep(600)\n"
    )
    client = WorkerClient(script(tmp_path, text))
    job = client.segment(noise(), "any model")
    processes = []
    job.notice.connect(lambda text: processes.append(int(text)))
    waitUntil(lambda: processes or client.state == "failed")
    waitUntil(lambda: job.state == "computing")
    processEvents(100)
    assert psutil.pid_exists(client._process._process.processId())
    job.cancel()
    waitUntil(lambda: job.isOver)
    assert job.state == "cancelled"
    waitUntil(lambda: not isAlive(processes[0]))
    client.stop()


@pytest.mark.parametrize("end", ["stop", "insist", "test of the connection"])
def test_a_number_inside_a_container_ends_no_process_outside(tmp_path, end):
    """On Linux, a container with the network of its computer has that one's name too."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as stranger:
        text = HELLO.replace("os.getpid()", str(stranger.pid))
        if end == "test of the connection":
            waitFor(Steps(stepsOfTest(script(tmp_path, text + "say(type='models', models=[])\ntime.sleep(60)"))), 90)
        else:
            client = WorkerClient(script(tmp_path, text + "time.sleep(60)"))
            job = client.segment(noise(), "any model")
            waitUntil(lambda: job.state == "computing")
            (client.stop if end == "stop" else lambda: client._insist(job))()
        assert stranger.poll() is None
        stranger.kill()


OTHER_PROTOCOL = HELLO.replace("hello", "error").replace("protocol=1,", "message='Protocol 2.', remedy='Update it.',")


@pytest.mark.parametrize(
    ("text", "problem", "remedy"),
    [
        ("import sys; print('kaputt', file=sys.stderr); sys.exit(3)", "exit code 3.*kaputt", "Test connection"),
        ("import dinomix_that_is_not_there", "No module named", "Test connection"),
        ("import sys; sys.exit('No module named dinomix')", "No module named dinomix", "Install them"),
        ("print('Welcome to the machine', flush=True); import time; time.sleep(60)", "does not speak", "same version"),
        ("import os\nwhile data := os.read(0, 65536):\n    os.write(1, data)", "not a worker", "dinomix worker"),
        ("import sys; sys.exit(255)", "exit code 255", "Test connection"),
        ("import sys; sys.exit(137)", "by the system or by another program", "free memory"),
        (OTHER_PROTOCOL, "Protocol 2", "Update"),
    ],
)  # fmt: skip
def test_a_program_that_is_no_worker_is_reported_in_one_sentence(tmp_path, text, problem, remedy):
    import re

    client = WorkerClient(script(tmp_path, text))
    told = []
    client.failed.connect(lambda *arguments: told.append(arguments))
    job = client.segment(noise(), "any model")
    waitUntil(lambda: job.isOver and told)
    assert job.state == "failed"
    assert re.search(problem, told[0][0])
    assert remedy in told[0][1]
    assert "Traceback" not in told[0][0]
    assert client.state == "failed"
    client.stop()


def test_a_program_that_is_not_there(tmp_path):
    client = WorkerClient(WorkerCommand([str(tmp_path / "no such program")], {}))
    told = []
    client.failed.connect(lambda *arguments: told.append(arguments))
    client.start()
    waitUntil(lambda: told)
    assert "cannot be started" in told[0][0]


def test_a_worker_that_is_killed_says_so_and_can_be_started_again(model):
    client = ownWorker()
    assert run(client, client.segment(noise(), model)).last()[0] == "finished"
    job = client.segment(noise((90, 120, 120)), model)
    waitUntil(lambda: job.state == "computing")
    os.kill(client.hello["pid"], signal.SIGKILL)
    heard = run(client, job, 10)
    assert heard.last()[0] == "failed"
    assert "was ended by" in heard.last()[1]
    assert client.state == "failed"
    assert run(client, client.segment(noise(), model)).last()[0] == "finished"
    client.stop()


def test_silence_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr("dinomix_slicer.worker.client.SILENCE_SECONDS", 1.0)
    client = WorkerClient(script(tmp_path, HELLO + "time.sleep(60)"))
    told = []
    client.failed.connect(lambda *arguments: told.append(arguments))
    client.start()
    waitUntil(lambda: told)
    assert "Nothing was heard" in told[0][0]


@pytest.mark.parametrize("blockedSeconds", [1.6, 0.1])
def test_a_slicer_that_was_busy_itself_takes_no_worker_for_dead(tmp_path, monkeypatch, blockedSeconds):
    monkeypatch.setattr("dinomix_slicer.worker.client.SILENCE_SECONDS", 1.5)
    client = WorkerClient(script(tmp_path, HELLO + "while True:\n    say(type='alive')\n    time.sleep(0.1)\n"))
    client.start()
    waitUntil(lambda: client.state == "ready")
    for _again in range(3):
        time.sleep(blockedSeconds)  # as while Slicer loads a large scan: nothing is read, and all timers are due
        client._checkSilence()
        processEvents(50)
    assert client.state == "ready"
    client.stop()


def test_a_cancel_that_was_answered_while_slicer_was_busy_ends_no_worker(tmp_path):
    answered = tmp_path / "answered"
    answering = (
        "for line in sys.stdin.buffer:\n"
        "    message = json.loads(line)\n"
        "    if message['type'] == 'cancel':\n"
        "        say(type='cancelled', job=message['job'])\n"
        f"        open({str(answered)!r}, 'w')\n"
    )
    client = WorkerClient(script(tmp_path, HELLO + answering))
    job = client.segment(noise(), "any model")
    waitUntil(lambda: job.state == "computing")
    job.cancel()
    processEvents(0)  # the request leaves
    while not answered.exists():
        time.sleep(0.01)  # Slicer is busy: nothing is read
    client._insist(job)
    assert job.state == "cancelled"
    assert client.state == "ready", "the worker had answered"
    client.stop()


def test_a_worker_without_access_to_our_files_gives_the_same_labels(distant, tmp_path, model):
    image = noise()
    heard = run(distant, distant.segment(image, model))
    assert heard.last()[0] == "finished", heard.last()
    assert np.array_equal(heard.last()[1].labels, expectedLabels(image, model))

    # One file, and a header with its voxels beside it.
    for name in ("private-scan.nrrd", "other.scan.mhd"):
        scan, out = tmp_path / name, tmp_path / f"{name}.seg.nrrd"
        sitk.WriteImage(sitk.GetImageFromArray(image.array), str(scan))
        heard = run(distant, distant.segmentFile(str(scan), str(out), model))
        assert heard.last()[0] == "finished", heard.last()
        assert sitk.ReadImage(str(out)).GetSize() == (32, 28, 24)
    assert [path.name for path in tmp_path.glob(".partial*")] == []
    job = distant.segment(noise((90, 120, 120)), model)
    waitUntil(lambda: job.state in ("sending", "computing"))
    heard = Heard(job)
    job.cancel()
    waitUntil(lambda: job.isOver)
    assert heard.last() == ("cancelled",)


def test_images_of_a_case_go_together(either, tmp_path):
    from channel_cases import blobs, geometry, two_channel_model

    from dinomix.inference.segment import segment_volume

    model = two_channel_model(tmp_path / "model")
    case = [blobs(1), blobs(2, geometry((16, 15, 12), (1.9, 1.8, 2.3)))]
    expected = segment_volume(case, model).array
    first, second = (SimpleNamespace(array=v.array, affineRas=v.geometry.affine_ras, notices=()) for v in case)
    heard = run(either, either.segment(first, str(model.path), more=[second]))
    assert heard.last()[0] == "finished", heard.last()
    assert np.array_equal(heard.last()[1].labels, expected)
    assert any("t2 was resampled onto the grid of t1" in event[1] for event in heard.events if event[0] == "notice")

    paths = [tmp_path / "one.nrrd", tmp_path / "two.mhd"]
    for path, volume in zip(paths, case, strict=True):
        image = sitk.GetImageFromArray(volume.array)
        image.SetSpacing(volume.geometry.spacing)
        image.SetOrigin(volume.geometry.origin)
        image.SetDirection(volume.geometry.direction.ravel())
        sitk.WriteImage(image, str(path))
    out = tmp_path / "labels.nrrd"
    heard = run(either, either.segmentFile(str(paths[0]), str(out), str(model.path), more=[str(paths[1])]))
    assert heard.last()[0] == "finished", heard.last()
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(out))), expected)


def test_a_file_gets_its_regions_and_says_what_the_model_is_unsure_of(either, tmp_path):
    from dinomix.models.writing import write_model
    from random_models import labels_with_ids, random_weights, small_plan

    scan, out = tmp_path / "private-scan.nrrd", tmp_path / "labels.seg.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(noise().array), str(scan))
    plan, labels = small_plan(patch=(32, 32, 32)), labels_with_ids(1, 2, 9).with_regions({"all: of 1/2": [1, 2]})
    sure = {"probability": [0.0], "right": [0.0], "voxels": [0]}
    calibration = {"temperature": 1.0, "cases": 1, "before": sure, "after": sure, "factor": 1000.0}
    weights = random_weights(plan, labels, scan)
    write_model(
        tmp_path / "model", plan=plan, labels=labels, weights=weights, record={"seed": 0, "calibration": calibration}
    )
    heard = run(either, either.segmentFile(str(scan), str(out), str(tmp_path / "model"), regions=True))
    assert heard.last()[0] == "finished", heard.last()
    assert {name for name, _dice in unsureOf(heard.last()[1].structures)} == {
        "structure 1", "structure 2", "structure 9"
    }  # fmt: skip
    (mask,) = (tmp_path / "labels_regions").iterdir()
    assert mask.name == "all_ of 1_2.seg.nrrd"
    found, inside = (sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in (out, mask))
    assert np.array_equal(inside == 1, np.isin(found, [1, 2])) and inside.any()
    assert list(tmp_path.rglob(".partial*")) == []


@pytest.mark.parametrize("name", ["../x.nrrd", "..", "C:x.nrrd", "a/b.nrrd", "a\\b.nrrd"])
def test_a_worker_writes_no_other_files_than_those_it_was_asked_for(tmp_path, name):
    with pytest.raises(DinomixError, match="not asked for"):
        fileOfFrame(tmp_path / "labels.nrrd", {"name": f"file:regions/{name}"})


def test_a_file_is_segmented_where_both_share_the_disk(client, model, tmp_path):
    scan, out = tmp_path / "Aufnahme ü 例.nii.gz", tmp_path / "out" / "labels.seg.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(noise().array), str(scan))
    assert run(client, client.segmentFile(str(scan), str(out), model)).last()[0] == "finished"
    assert out.is_file()


def test_the_folder_between_both_is_private_and_removed(model):
    client = ownWorker()
    client.start()
    folder = Path(client._folder.name)
    assert folder.parent == Path(slicer.app.temporaryPath), "where Slicer's settings say"
    assert workerCommand("").environment["TMPDIR"] == slicer.app.temporaryPath
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert run(client, client.segment(noise(), model)).last()[0] == "finished"
    assert not list(folder.glob("*.npy")), "volumes are removed as soon as they are not needed"
    client.stop()
    assert not folder.exists()


def test_what_a_killed_slicer_left_is_removed_after_a_day():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    place, yesterday = Path(slicer.app.temporaryPath), time.time() - 25 * 3600
    left, recent = place / f"dinomix-{ended.pid}-left", place / f"dinomix-{ended.pid}-recent"
    ours, workers = place / f"dinomix-{os.getpid()}-ours", place / "dinomix-worker-other"
    for folder in (left, recent, ours, workers):
        folder.mkdir()
        (folder / "image.npy").write_bytes(b"voxels")
        if folder is not recent:
            os.utime(folder, (yesterday, yesterday))
    made = privateFolder()
    assert not left.exists()
    assert recent.exists() and ours.exists() and workers.exists() and Path(made.name).is_dir()
    for folder in (recent, ours, workers):
        shutil.rmtree(folder)
    made.cleanup()


def test_a_full_disk_fails_the_job_and_not_the_client(client, model, monkeypatch):
    def full(path, array):
        raise OSError(28, "No space left on device", str(path))
        yield

    monkeypatch.setattr("dinomix_slicer.worker.transfer.write_array", full)
    heard = run(client, client.segment(noise(), model))
    assert heard.last()[0] == "failed"
    assert "No space left" in heard.last()[1]
    monkeypatch.undo()
    assert run(client, client.segment(noise(), model)).last()[0] == "finished"


@pytest.fixture(params=["gone", "full"])
def noFolder(request, tmp_path, monkeypatch):
    """Slicer's folder for temporary files is none that can be written to; why, in the system's words."""
    if request.param == "gone":
        monkeypatch.setattr(slicer.app, "temporaryPath", str(tmp_path / "gone"))
        return "No such file or directory"

    def full(path, *arguments, **options):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_text", full)
    return "No space left on device"


def test_without_a_folder_for_temporary_files_it_says_what_to_do(noFolder, monkeypatch):
    client, told = ownWorker(), []
    client.failed.connect(lambda *words: told.append(words))
    with pytest.raises(DinomixError) as caught:
        waitFor(client.listModels(), 10)
    client.start()
    client.start()  # as who asks for the client, and then for a job
    heard = run(client, client.segment(noise(), "any model"), 10)
    assert heard.last()[0] == "failed"
    assert told == [heard.last()[1:]] * 2 == [(caught.value.problem, caught.value.remedy)] * 2
    problem, remedy = told[0]
    assert slicer.app.temporaryPath in problem and noFolder in problem
    assert "Free some disk space, or set another folder" in remedy
    client.start()
    client.stop()
    processEvents(50)
    assert client.state == "stopped" and len(told) == 2, "nobody wants it any more"
    monkeypatch.undo()
    client.start()
    waitUntil(lambda: client.state == "ready", 240)
    client.stop()


def test_no_worker_outlives_an_interpreter_that_ends(tmp_path):
    code = (
        "import host; host.start()\n"
        "from workers import ownWorker\n"
        "client = ownWorker(); client.start()\n"
        "host.waitUntil(lambda: client._processNumber, 240)\n"
        "print(client._processNumber, flush=True)\n"
        "import os; os._exit(0)\n"
    )
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parent), str(here.parents[1] / "DINOMixEngine")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    process = int(done.stdout.split()[-1])
    waitUntil(lambda: not isAlive(process))


def test_connection_report(tmp_path, model):
    report = waitFor(Steps(stepsOfTest(workerCommand(""))), 90)
    assert {"dinomix", "torch", "devices", "memory", "models", "seconds"} <= set(report)


def test_connection_to_what_is_no_worker(tmp_path):
    with pytest.raises(DinomixError, match="exit code 3"):
        waitFor(Steps(stepsOfTest(script(tmp_path, "import sys; sys.exit(3)"))), 90)


@pytest.mark.parametrize(
    ("text", "isWindows", "words"),
    [
        ("ssh gpu-box dinomix worker", False, ["ssh", "gpu-box", "dinomix", "worker"]),
        ("'/opt/my env/bin/dinomix' worker", False, ["/opt/my env/bin/dinomix", "worker"]),
        (r'"C:\Program Files\env\dinomix.exe" worker', True, [r"C:\Program Files\env\dinomix.exe", "worker"]),
        (r"C:\env\python.exe -m dinomix worker", True, [r"C:\env\python.exe", "-m", "dinomix", "worker"]),
    ],
)
def test_commands_are_split_as_their_system_does(text, isWindows, words):
    assert splitCommand(text, isWindows) == words


def test_a_command_of_another_environment_gets_no_paths_of_slicer(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    own = workerCommand("")
    assert own.isOwnPython
    assert own.environment["PYTHONPATH"].endswith("/somewhere")
    assert not workerCommand("ssh gpu-box dinomix worker").isOwnPython
