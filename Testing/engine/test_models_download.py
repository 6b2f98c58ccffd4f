"""Downloads from real servers on this computer: with and without ranges, broken off, lying, refusing; a full disk."""

import errno
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_servers import FileServer, serving

from dinomix.errors import DinomixError
from dinomix.importing import download as downloading
from dinomix.importing.download import download

CONTENT = bytes(range(256)) * 12_000  # 3 MB


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setattr(downloading, "PAUSE", 0.01)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as server:
        server.files["model.zip"] = CONTENT
        yield server


class Cancelled(Exception):
    pass


def cancel_after(megabytes: int):
    def emit(kind: str, **fields: object) -> None:
        if kind == "progress" and fields["step"] >= megabytes:
            raise Cancelled

    return emit


def test_a_file_comes_whole_and_leaves_nothing_else(server: FileServer, tmp_path: Path) -> None:
    steps: list[tuple[object, object]] = []
    download(f"{server.address}/model.zip", tmp_path / "model.zip",
             emit=lambda kind, **fields: steps.append((fields["step"], fields["total"])))  # fmt: skip
    assert (tmp_path / "model.zip").read_bytes() == CONTENT and os.listdir(tmp_path) == ["model.zip"]
    assert steps[0] == (0, 3) and steps[-1] == (3, 3) and steps == sorted(steps)


def test_a_cancelled_download_goes_on_where_it_stopped(server: FileServer, tmp_path: Path) -> None:
    target = tmp_path / "model.zip"
    with pytest.raises(Cancelled):
        download(f"{server.address}/model.zip", target, emit=cancel_after(1))
    got = (tmp_path / "model.zip.part").stat().st_size
    assert 2**20 <= got < len(CONTENT) and not target.exists()
    download(f"{server.address}/model.zip", target)
    assert target.read_bytes() == CONTENT and os.listdir(tmp_path) == ["model.zip"]
    assert server.requests[-1]["range"] == f"bytes={got}-"


def test_a_server_without_ranges_sends_all_again(server: FileServer, tmp_path: Path) -> None:
    server.ranges = False
    with pytest.raises(Cancelled):
        download(f"{server.address}/model.zip", tmp_path / "model.zip", emit=cancel_after(1))
    download(f"{server.address}/model.zip", tmp_path / "model.zip")
    assert (tmp_path / "model.zip").read_bytes() == CONTENT


@pytest.mark.parametrize("etag", ['"two"', ""])
def test_another_file_on_the_server_is_not_mixed_with_the_old_one(
    server: FileServer, tmp_path: Path, etag: str
) -> None:
    with pytest.raises(Cancelled):
        download(f"{server.address}/model.zip", tmp_path / "model.zip", emit=cancel_after(1))
    server.files["model.zip"], server.etag = CONTENT[::-1], etag
    download(f"{server.address}/model.zip", tmp_path / "model.zip")
    assert (tmp_path / "model.zip").read_bytes() == CONTENT[::-1]


def test_a_part_of_another_address_is_not_used(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        download(f"{server.address}/model.zip", tmp_path / "model.zip", emit=cancel_after(1))
    server.files["other.zip"] = b"short"
    download(f"{server.address}/other.zip", tmp_path / "model.zip")
    assert (tmp_path / "model.zip").read_bytes() == b"short"


@pytest.mark.parametrize("ranges", [True, False])
def test_a_connection_that_breaks_off_is_taken_up_again(server: FileServer, tmp_path: Path, ranges: bool) -> None:
    server.ranges, server.break_after, server.breaks = ranges, 1_000_000, 2
    download(f"{server.address}/model.zip", tmp_path / "model.zip")
    assert (tmp_path / "model.zip").read_bytes() == CONTENT and len(server.requests) == 3
    assert ("range" in server.requests[-1]) or not ranges


def test_a_connection_that_always_breaks_keeps_what_came(server: FileServer, tmp_path: Path) -> None:
    server.ranges, server.break_after, server.breaks = False, 500_000, 99
    with pytest.raises(DinomixError, match=r"broke off after 0\.5 MB") as caught:
        download(f"{server.address}/model.zip", tmp_path / "model.zip")
    assert "kept" in caught.value.remedy and not (tmp_path / "model.zip").exists()
    assert (tmp_path / "model.zip.part").read_bytes() == CONTENT[:500_000]


def test_a_server_that_fails_for_a_while(server: FileServer, tmp_path: Path) -> None:
    server.fail = [503, 500]
    download(f"{server.address}/model.zip", tmp_path / "model.zip")
    assert (tmp_path / "model.zip").read_bytes() == CONTENT


def test_what_is_not_there_is_said_at_once(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(DinomixError, match="answers 404") as caught:
        download(f"{server.address}/nothing.zip", tmp_path / "model.zip")
    assert "--from FILE" in caught.value.remedy and len(server.requests) == 1 and not os.listdir(tmp_path)


def test_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading, "PAUSE", 0.01)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as server:
        address = server.address
    with pytest.raises(DinomixError, match="broke off"):
        download(f"{address}/model.zip", tmp_path / "model.zip")


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://host/model.zip", "model.zip"])
def test_only_the_web_is_fetched_from(address: str, tmp_path: Path) -> None:
    with pytest.raises(DinomixError, match="not an address"):
        download(address, tmp_path / "model.zip")


def test_redirections_lead_only_to_the_web(server: FileServer, tmp_path: Path) -> None:
    server.redirects["/good"] = f"{server.address}/model.zip"
    server.redirects["/bad"] = "file:///etc/passwd"
    download(f"{server.address}/good", tmp_path / "model.zip")
    assert (tmp_path / "model.zip").read_bytes() == CONTENT
    with pytest.raises(DinomixError, match=r"(?i)redirect"):
        download(f"{server.address}/bad", tmp_path / "other.zip")


def test_a_file_of_unknown_length(server: FileServer, tmp_path: Path) -> None:
    server.announce = False
    download(f"{server.address}/model.zip", tmp_path / "model.zip")
    assert (tmp_path / "model.zip").read_bytes() == CONTENT


def test_a_proxy_is_asked_where_one_is_set(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", server.address)
    server.files["http://models.invalid/model.zip"] = CONTENT
    download("http://models.invalid/model.zip", tmp_path / "model.zip")
    assert (tmp_path / "model.zip").read_bytes() == CONTENT
    assert server.requests[0]["path"] == "http://models.invalid/model.zip"


def test_a_file_larger_than_the_disk_is_not_begun(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    real = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real._replace(free=1000))
    with pytest.raises(OSError) as caught:
        download(f"{server.address}/model.zip", tmp_path / "model.zip")
    assert caught.value.errno == errno.ENOSPC and not (tmp_path / "model.zip").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of file sizes to stand for a full disk")
def test_a_disk_that_fills_while_the_file_comes(server: FileServer, tmp_path: Path) -> None:
    """The system itself refuses to write on, as on a full disk, and afterwards there is room again."""
    import signal

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    try:
        with pytest.raises(OSError) as caught:
            download(f"{server.address}/model.zip", tmp_path / "model.zip")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.errno == errno.EFBIG and "model.zip.part" in str(caught.value.filename)
    download(f"{server.address}/model.zip", tmp_path / "model.zip")
    assert (tmp_path / "model.zip").read_bytes() == CONTENT and "range" in server.requests[-1]
