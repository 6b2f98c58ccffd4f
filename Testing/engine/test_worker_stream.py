"""The stream between a worker and its client, and arrays in it, without a process."""

import json
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from dinomix.errors import DinomixError
from dinomix.worker.arrays import (
    FRAME,
    ArrayFromFrames,
    frame_bytes,
    frames_of_array,
    frames_of_file,
    read_array,
    write_array,
)
from dinomix.worker.inbox import checked_name
from dinomix.worker.stream import LARGEST_FRAME, LONGEST_LINE, Decoder, Message, encode


def decoded(data: bytes, step: int) -> list[Message]:
    decoder, messages = Decoder(), []
    for start in range(0, len(data), step):
        messages += decoder.feed(data[start : start + step])
    return messages


@pytest.mark.parametrize("step", [1, 7, 10**6])
def test_messages_survive_any_cut(step: int) -> None:
    sent = [
        ({"type": "hello", "name": "Ærø 臓器\n"}, b""),
        ({"type": "frame", "job": "a"}, b'\n{"type": "x"}\n\x00\xff'),
        ({"type": "frame", "job": "a"}, b""),
        ({"type": "cancel", "job": "a"}, b""),
    ]
    messages = decoded(b"".join(encode(fields, payload) for fields, payload in sent), step)
    assert [message.payload for message in messages] == [payload for _, payload in sent]
    assert messages[0].fields == sent[0][0]
    assert messages[1].fields["bytes"] == len(sent[1][1])


@pytest.mark.parametrize(
    "line",
    [
        b"Traceback (most recent call last):",
        b"[1, 2]",
        b'{"job": "a"}',
        b'{"type": 3}',
        b'{"type": "frame"}',
        b'{"type": "frame", "bytes": -1}',
        b'{"type": "frame", "bytes": true}',
        b'{"type": "frame", "bytes": %d}' % (LARGEST_FRAME + 1),
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"",
    ],
)
def test_what_is_no_message_is_one_clear_error(line: bytes) -> None:
    with pytest.raises(DinomixError) as caught:
        list(Decoder().feed(line + b"\n"))
    assert caught.value.remedy and len(caught.value.problem) < 400


def test_a_line_without_an_end_is_refused_before_it_fills_the_memory() -> None:
    decoder, block = Decoder(), b"x" * 2**22
    with pytest.raises(DinomixError, match="without an end"):
        for _ in range(LONGEST_LINE // len(block) + 2):
            list(decoder.feed(block))


def arrays() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    big = rng.integers(-1000, 1000, (9, 300, 310)).astype(np.int16)
    return [
        big,
        big[::-1, ::2, 5:77],
        big.transpose(2, 0, 1),
        big.astype(">f8")[:2],
        rng.random((1, 1, 1)) > 2,
        rng.integers(0, 256, (4, 512, 512)).astype(np.uint8),  # a frame ends exactly where the array does
    ]


@pytest.mark.parametrize("number", range(6))
def test_arrays_survive_frames_and_files(number: int, tmp_path: Path) -> None:
    array = arrays()[number]
    dtype = array.dtype.newbyteorder("=").name
    receiver = ArrayFromFrames(array.shape, dtype)
    frames = list(frames_of_array(array, "a", "image"))
    for frame in frames:
        assert len(frame) < FRAME + 2000 and not receiver.is_complete
        receiver.add(next(Decoder().feed(frame)))
    assert receiver.is_complete and receiver.progress == (array.nbytes, array.nbytes)
    assert np.array_equal(receiver.array, array) and receiver.array.dtype == dtype

    steps = list(write_array(tmp_path / "array.npy", array))
    assert steps[-1] == (array.nbytes, array.nbytes)
    loaded = read_array(tmp_path / "array.npy")
    assert isinstance(loaded, np.memmap) and np.array_equal(loaded, array)


def test_a_file_survives_frames(tmp_path: Path) -> None:
    for size in (0, 1, FRAME, 2 * FRAME + 5):
        content = np.random.default_rng(size).bytes(size)
        (tmp_path / "file").write_bytes(content)
        messages = [next(Decoder().feed(frame)) for frame in frames_of_file(tmp_path / "file", "a", "file:x")]
        assert b"".join(frame_bytes(message, n) for n, message in enumerate(messages)) == content
        assert [message.fields["last"] for message in messages] == [False] * (len(messages) - 1) + [True]


def frame(content: bytes, **changes: object) -> Message:
    payload = changes.pop("payload", None) or zlib.compress(content, 1)
    fields = {"type": "frame", "name": "image", "number": 0, "last": True, "raw": len(content), **changes}
    return Message(fields, payload)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "broken",
    [
        frame(b"x" * 24, number=1),
        frame(b"x" * 24, raw=25),
        frame(b"x" * 24, raw=23),
        frame(b"x" * 24, raw=-1),
        frame(b"x" * 24, raw=FRAME + 1),
        frame(b"x" * 24, payload=zlib.compress(b"x" * 24)[:-3]),
        frame(b"x" * 24, payload=b"no zlib"),
        frame(b"x" * 24, payload=zlib.compress(bytes(2**24)), raw=24),
        frame(b"x" * 25),
        frame(b"x" * 23),
        frame(b"", last=True),
    ],
)
def test_broken_frames_are_refused(broken: Message) -> None:
    receiver = ArrayFromFrames((2, 3, 4), "uint8")
    with pytest.raises(DinomixError):
        receiver.add(broken)
    assert not receiver.is_complete


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((3, 4), "int16"), ((3, 4, 0), "int16"), ((3, 4, 5, 3), "int16"), ((2**20,) * 3, "int16"), ((2, 2, 2), "object"),
     ((2, 2, 2), "complex64"), ((2, 2, 2.5), "int16")],
)  # fmt: skip
def test_impossible_arrays_are_refused(shape: tuple, dtype: str) -> None:
    with pytest.raises(DinomixError):
        ArrayFromFrames(shape, dtype)


def test_damaged_and_missing_array_files(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    np.save(folder / "whole.npy", np.zeros((5, 5, 5)))
    (folder / "cut.npy").write_bytes((folder / "whole.npy").read_bytes()[:-1])
    np.save(folder / "pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name in ("cut.npy", "pickle.npy", "missing.npy"):
        with pytest.raises(DinomixError, match=name) as raised:
            read_array(folder / name)
        assert len(str(raised.value)) < 400


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "", "a\\b", "C:x", "a\0", ".."])
def test_file_names_cannot_leave_their_folder(name: str) -> None:
    with pytest.raises(DinomixError):
        checked_name(name)


def test_file_names_may_be_in_any_language() -> None:
    assert str(checked_name("Série 1/Scan ärztlich 臓器.nii.gz")) == "Série 1/Scan ärztlich 臓器.nii.gz"


def test_stream_and_arrays_need_nothing_but_numpy() -> None:
    import subprocess

    script = "import sys, json, dinomix.worker.arrays; print(json.dumps(sorted(m.split('.')[0] for m in sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout)) - set(sys.stdlib_module_names)
    site = {name for name in loaded if not name.startswith("_")} - {"sitecustomize", "usercustomize"}
    assert site <= {"numpy", "dinomix", "mkl", "distutils", "cython_runtime"}
