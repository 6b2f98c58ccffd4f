"""The demonstration runs to its end, goes on where it stopped, and never touches what is not its own."""

import json
from pathlib import Path

import pytest

from dinomix.demo import demo
from dinomix.errors import DinomixError
from dinomix.events import read_events


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "LABELED", 2)
    monkeypatch.setattr(demo, "UNLABELED", 2)
    monkeypatch.setattr(demo, "TEST", 1)


@pytest.mark.slow
def test_the_whole_way_from_nothing_to_a_report(small: None, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    with pytest.raises(KeyboardInterrupt):
        demo.run_demo(out, steps=8, device="cpu", emit=interrupt_at_the_first_loss)
    assert not (out / "report.html").exists()

    result = demo.run_demo(out, steps=8, device="cpu")
    assert len(result.metrics["classes"]) == 13
    assert [path.name for path in result.segmented.glob("*.nii.gz")] == ["test_001.nii.gz"]
    page = result.report.read_text(encoding="utf-8")
    assert "with random weights (the architecture alone, never trained)" in page
    assert (out / "overlay.png").stat().st_size < 600_000  # noise, after eight steps, is packed badly
    events = list(read_events(out / "run" / "events.jsonl"))
    assert {"loss", "pic", "validation", "finished"} <= {event["kind"] for event in events}
    assert json.loads((out / "run" / "metrics.json").read_text()) == result.metrics

    weights = (result.model / "models" / "model.safetensors").stat().st_mtime_ns
    again = demo.run_demo(out, steps=8, device="cpu")
    assert again.metrics == result.metrics
    assert (result.model / "models" / "model.safetensors").stat().st_mtime_ns == weights, "trained a second time"
    with pytest.raises(DinomixError, match="other settings"):
        demo.run_demo(out, steps=8, seed=1, device="cpu")


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(DinomixError, match="is not empty"):
        demo.run_demo(tmp_path, steps=2)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def interrupt_at_the_first_loss(kind: str, **fields: object) -> None:
    if kind == "loss":
        raise KeyboardInterrupt
