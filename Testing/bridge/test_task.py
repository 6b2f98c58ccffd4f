"""Tasks end once, are driven by the event loop, and keep nothing afterwards."""

import gc
import threading
import time
import weakref

import pytest
import qt
from workers import REPOSITORY, ownWorker, script

from dinomix.errors import DinomixError
from dinomix_slicer import task as task_module
from dinomix_slicer.engine_process import EngineProcess
from dinomix_slicer.process import Process
from dinomix_slicer.run.follower import RunFollower
from dinomix_slicer.signal import weakly
from dinomix_slicer.task import WAIT, Cancelled, InBackground, Steps, Task, waitFor
from host import processEvents, waitUntil


class Heard:
    def __init__(self, task):
        self.ends = []
        for name in ("finished", "failed", "cancelled"):
            getattr(task, name).connect(lambda *arguments, name=name: self.ends.append((name, *arguments)))


def ended(steps):
    """How a generator's task ends."""
    task = Steps(steps)
    heard = Heard(task)
    waitUntil(lambda: task.isOver)
    processEvents(20)
    assert len(heard.ends) == 1
    return heard.ends[0]


def counting(taken, number, step=None):
    for n in range(number):
        taken.append(n)
        yield step
    return "all"


def test_it_is_not_begun_before_it_was_returned_and_gives_what_it_returns():
    taken = []
    task = Steps(counting(taken, 3))
    assert not taken and task.state == "running"
    heard = Heard(task)
    waitUntil(lambda: task.isOver)
    assert taken == [0, 1, 2] and heard.ends == [("finished", "all")]


def test_what_takes_less_than_a_tick_can_be_done_at_once(monkeypatch):
    monkeypatch.setattr(task_module, "TICK_SECONDS", 60)
    task = Steps(counting([], 3))
    task.begin()
    assert task.state == "finished"


@pytest.mark.parametrize("step", [WAIT, None])
def test_the_window_has_its_turn_between_two_steps(monkeypatch, step):
    monkeypatch.setattr(task_module, "TICK_SECONDS", -1.0)
    taken, turns, timer = [], [], qt.QTimer()
    timer.setInterval(0)
    timer.connect("timeout()", lambda: turns.append(len(taken)))
    timer.start()
    waitFor(Steps(counting(taken, 20, step)))
    timer.stop()
    assert set(range(1, 20)) <= set(turns)


def fails(error):
    yield
    raise error


def test_errors_are_failures():
    assert ended(fails(DinomixError("It broke.", "Mend it."))) == ("failed", "It broke.", "Mend it.")
    problem = ended(fails(OSError(28, "No space left on device")))[1]
    assert "No space left" in problem


def test_an_error_that_nobody_expects_ends_it_too():
    name, problem, remedy = ended(fails(ZeroDivisionError("a mistake")))
    assert name == "failed" and "a mistake" in problem and remedy.endswith(".")


test_an_error_that_nobody_expects_ends_it_too.expectsQtErrors = True


def test_a_task_inside_gives_its_result_its_failure_or_its_end():
    inner = [Task() for _n in range(3)]
    caught = []

    def steps():
        caught.append((yield inner[0]))
        try:
            yield inner[1]
        except DinomixError as error:
            caught.append(str(error))
        yield inner[2]

    task = Steps(steps())
    heard = Heard(task)
    for n, end in enumerate((lambda: inner[0].finish(7), lambda: inner[1].fail("No.", "Yes."), inner[2].confirmCancel)):
        waitUntil(lambda n=n: len(caught) == n and task._inner is inner[n])
        end()
    assert caught == [7, "No. Yes."] and heard.ends == [("cancelled",)]


@pytest.mark.parametrize("isInside", [False, True])
def test_cancel_is_told_to_what_runs(isInside):
    told, inner = [], Task()

    def steps():
        try:
            yield
            while True:
                yield inner if isInside else WAIT
        except Cancelled:
            told.append("cancelled")
            raise

    task = Steps(steps())
    heard = Heard(task)
    processEvents(50)
    task.cancel()
    task.cancel()
    assert told == ["cancelled"] and heard.ends == [("cancelled",)]
    assert not isInside or inner.state == "cancelled"
    inner.finish()
    processEvents(20)
    assert len(heard.ends) == 1


def test_a_thread_works_beside_and_is_asked_to_stop():
    def work(checkStop):
        seen.append(threading.current_thread())
        while len(seen) < 2:
            checkStop()
            time.sleep(0.001)

    seen = []
    task = Steps(InBackground(work).steps())
    waitUntil(lambda: seen)
    seen.append("go on")
    waitFor(task)
    assert seen[0] is not threading.main_thread()
    del seen[:]
    task = Steps(InBackground(work).steps())
    waitUntil(lambda: seen)
    task.cancel()
    waitUntil(lambda: not seen[0].is_alive())
    del seen[:]
    Steps(InBackground(work).steps()).cancel()  # before its first step
    processEvents(50)
    assert not seen


def test_waiting_for_a_task_raises_what_went_wrong():
    with pytest.raises(DinomixError, match="It broke"):
        waitFor(Steps(fails(DinomixError("It broke."))))
    task = Task()
    with pytest.raises(DinomixError, match="has not answered"):
        waitFor(task, 0.05)
    assert task.state == "cancelled"


# -- Nothing is kept


@pytest.fixture
def withoutCollector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Large:
    """Stands for voxels."""


def work(large, fails):
    yield
    if fails:
        raise DinomixError("No.")
    yield large


@pytest.mark.usefixtures("withoutCollector")
@pytest.mark.parametrize("end", ["finished", "failed", "cancelled"])
def test_a_task_that_is_over_keeps_nothing(end):
    large = Large()
    task = Steps(work(large, end == "failed"))
    for signal in (task.finished, task.failed, task.cancelled):
        signal.connect(lambda *arguments, kept=large: None)
    refs = [weakref.ref(large), weakref.ref(task)]
    del large, signal
    if end == "cancelled":
        task.cancel()
    waitUntil(lambda: refs[1]().isOver)
    assert task.state == end
    assert refs[0]() is None
    del task
    processEvents(20)
    assert refs[1]() is None


def test_a_task_that_runs_lives_though_nobody_holds_it():
    taken = []
    Steps(counting(taken, 5, WAIT))
    gc.collect()
    waitUntil(lambda: len(taken) == 5)


@pytest.mark.usefixtures("withoutCollector")
def test_processes_and_what_follows_them_go_when_they_are_dropped(tmp_path):
    text = "import time; print('{}', flush=True); time.sleep(60)"
    client, follower = ownWorker(), RunFollower(tmp_path)
    engine = EngineProcess(["anything"], script(tmp_path, text))
    other = Process(script(tmp_path, text), [], lambda data: iter(()))
    heard = Heard(engine)
    listing = client.listModels()
    for each in (follower, engine, other):
        each.start()
    processEvents(100)
    client.stop()
    follower.stop()
    engine.cancel()
    other.end()
    waitUntil(lambda: heard.ends)
    assert listing.state == "cancelled"
    refs = [weakref.ref(each) for each in (client, follower, engine, other, listing)]
    del client, follower, engine, other, listing, each
    processEvents(20)
    assert [ref() for ref in refs if ref() is not None] == []


def test_every_timer_of_the_slicer_side_is_connected_weakly():
    """A lambda would keep its object as a bound method does."""
    folders = [REPOSITORY / name for name in ("DINOMixEngine/dinomix_slicer", "DINOMixSegment", "DINOMixTrain")]
    files = [file for folder in folders for file in folder.rglob("*.py")]
    lines = [line.strip() for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    connected = [line for line in lines if 'connect("timeout()"' in line or ".timeout.connect(" in line]
    assert len(connected) == len([line for line in lines if "QTimer()" in line]) > 0
    assert [line for line in connected if '"timeout()", weakly(' not in line] == []


def test_a_timer_of_ones_own_is_no_reason_to_live():
    class Owner:
        def __init__(self, connected):
            self.count = 0
            self.timer = qt.QTimer()
            self.timer.setInterval(0)
            self.timer.connect("timeout()", connected(self.tick))
            self.timer.start()

        def tick(self):
            self.count += 1

    owner = Owner(weakly)
    ref = weakref.ref(owner)
    waitUntil(lambda: ref().count > 2)
    del owner
    processEvents(20)
    assert ref() is None
