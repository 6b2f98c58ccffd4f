"""What a client may send to a worker, right and broken. Each request is answered, and in the stream's own form."""

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

import dinomix.worker.pipe
from dinomix.worker.arrays import frames_of_array
from dinomix.worker.inbox import Inbox
from dinomix.worker.pipe import Output
from dinomix.worker.serve import Worker
from dinomix.worker.stream import Decoder, encode
from fuzzing.mutations import NUMBERS, TEXTS, Rng, broken_bytes, broken_document, pick, written
from fuzzing.promise import Act, WrongResult

SHAPE = (4, 5, 6)
ANSWERS = {"hello", "models", "loaded", "estimate", "result", "frame", "error", "cancelled", "event", "alive"}


def stream(rng: Rng, folder: Path, model: Path) -> Act:
    """Some messages, of which some are broken, and a request for the models that is not."""
    parts: list[bytes] = []
    is_stream = True
    for number in range(int(rng.integers(1, 5))):
        messages = _messages(rng, model, folder, f"job{number}")
        for message in messages:
            way = rng.random()
            fields, payload = message
            if way < 0.3:
                fields = broken_document(rng, fields)
            elif way < 0.35 and payload:
                payload = broken_bytes(rng, payload)
            line = written(fields)
            # A line that is none ends the worker, as it should.
            if way > 0.97:
                line, is_stream = broken_bytes(rng, line), False
            is_stream = is_stream and _is_message(fields, payload)
            parts.append(line + b"\n" + payload)
    parts.append(encode({"type": "models", "folders": [str(model)]}))
    data = b"".join(parts)
    (folder / "stream").write_bytes(data)
    return lambda out: _served(data, is_stream)


def _messages(rng: Rng, model: Path, folder: Path, job: str) -> list[tuple[Any, bytes]]:
    """A request with what follows it, as (fields, payload)."""
    affine = [[1.5, 0, 0, 0], [0, 1.5, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]
    image: dict[str, Any] = {"shape": list(SHAPE), "dtype": "int16", "affine_ras": affine, "frames": True}
    base: dict[str, Any] = {
        "job": job,
        "model": str(model),
        "device": "cpu",
        "max_memory": None,
        "precision": "float32",
    }
    kind = pick(
        rng, ("hello", "models", "load", "estimate", "segment", "segment", "segment_file", "cancel", "frame", "dance")
    )
    if kind == "hello":
        return [
            ({"type": "hello", "protocol": pick(rng, (1, 1, 2, *NUMBERS)), "probe": {"file": "x", "nonce": "y"}}, b"")
        ]
    if kind == "models":
        return [({"type": "models", "folders": [str(folder), str(pick(rng, TEXTS))]}, b"")]
    if kind == "estimate":
        return [({"type": kind, **base, "shape": list(SHAPE), "affine_ras": affine}, b"")]
    request = {"type": kind, **base}
    if kind == "segment":
        request |= {"image": image, "result": {"frames": True}, "keep": []}
        array = np.zeros(SHAPE, np.int16)
        frames = [_parsed(frame) for frame in frames_of_array(array, job, "image")]
        return [(request, b""), *frames]
    if kind == "segment_file":
        request |= {"image": {"path": str(folder / "none.nii")}, "out": {"path": str(folder / "labels.nii")}}
    if kind == "frame":
        request |= {"name": "image", "number": 0, "last": True, "more": False, "raw": 0, "bytes": 0}
    return [(request, b"")]


def _is_message(fields: Any, payload: bytes) -> bool:
    if not isinstance(fields, dict) or not isinstance(fields.get("type"), str):
        return False
    return (fields.get("bytes") if fields["type"] == "frame" else 0) == len(payload)


def _parsed(frame: bytes) -> tuple[Any, bytes]:
    line, _, payload = frame.partition(b"\n")
    return json.loads(line), payload


class _Ended(BaseException):
    """Stands for the end of the worker's process."""


def _served(data: bytes, is_stream: bool) -> None:
    """Answer a stream as the worker's process does, and look at the answers.

    Raises:
        WrongResult: the answers are no stream, or the last request has none though all before it could be taken.
    """
    code: list[int] = []
    ended = threading.Event()

    def end(number: int) -> None:
        code.append(number)
        ended.set()
        if threading.current_thread() is not threading.main_thread():
            sys.exit()
        raise _Ended

    for module in ("dinomix.worker.pipe", "dinomix.worker.inbox"):
        sys.modules[module].end_everything = end  # type: ignore[attr-defined]
    source, feed = os.pipe()
    sink = os.memfd_create("answers")
    output = Output(sink)
    worker = Worker(Inbox(source, output), output, [])
    threading.Thread(target=_fed, args=(feed, data), daemon=True).start()
    try:
        while not (ended.is_set() and not worker.inbox._waiting):
            if worker.inbox._waiting:
                worker.answer(worker.inbox.next())
            else:
                ended.wait(0.005)
    except _Ended:
        pass
    os.lseek(sink, 0, os.SEEK_SET)
    answers = [message.fields for message in Decoder().feed(os.read(sink, 2**26))]
    strange = [answer["type"] for answer in answers if answer["type"] not in ANSWERS]
    if strange:
        raise WrongResult(f"an answer of type {strange[0]}")
    errors = [answer for answer in answers if answer["type"] == "error"]
    for error in errors:
        if not (isinstance(error["message"], str) and error["message"].strip() and error["message"].isprintable()):
            raise WrongResult(f"an error that is no sentence: {error}")
        if "The worker failed" in error["message"] or "cannot take this request" in error["message"]:
            raise WrongResult(f"the worker did not understand its own failure: {error}")
    if is_stream and not any(answer["type"] == "models" and len(answer["models"]) == 1 for answer in answers[-3:]):
        raise WrongResult(f"the last request was not answered; code {code}, the last answers {answers[-2:]}")


def _fed(feed: int, data: bytes) -> None:
    with os.fdopen(feed, "wb") as pipe:
        pipe.write(data)


assert dinomix.worker.pipe  # so that it can be found by name
