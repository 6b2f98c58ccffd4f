"""``report.html``: one file that tells what a run trained, how, and how well, from the run directory's files alone."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape
from matplotlib.figure import Figure

from dinomix import __version__
from dinomix.cohort import table
from dinomix.files import write_text
from dinomix.report import curves
from dinomix.report.calibration import calibration_figure
from dinomix.report.figures import as_data_url, png, readable, small_png
from dinomix.report.overlays import Overlay, overlay_figure
from dinomix.report.run_files import RunFiles, read_run

ROLES = ("labeled", "unlabeled", "validation", "test")


def write_report(
    run: Path, out: Path, *, metrics: dict[str, Any] | None = None, overlays: Sequence[Overlay] = ()
) -> None:
    """Write a self-contained report of a run; one that is unfinished or lacks parts is reported as far as it goes.

    Args:
        run: the run directory.
        out: the HTML file to write.
        metrics: of an evaluation (the content of ``metrics.json``); None for the run directory's own, if any.
        overlays: held-out cases to show; see ``overlays.read_overlays``.

    Raises:
        DinomixError: ``run`` holds nothing of a run.
    """
    files = read_run(run)
    files.metrics = metrics if metrics is not None else files.metrics
    environment = Environment(loader=PackageLoader("dinomix.report", "."), autoescape=select_autoescape())
    environment.filters["readable"] = readable
    page = environment.get_template("report.html").render(
        run=files,
        version=__version__,
        written=time.strftime("%Y-%m-%d %H:%M"),
        teacher=_teacher(files.config),
        cohort=table.summary(files.cohort) if files.cohort else None,
        colors={s.name: "rgb({}, {}, {})".format(*s.color) for s in files.labels.structures},
        settings=_flat(files.config),
        plan=_plan_rows(files),
        figures=_figures(files),
        overlays=[(o.name, as_data_url(small_png(_overlay(o, files)))) for o in overlays],
        notices=_unique(event["message"] for event in files.events.get("notice", [])),
        errors=_unique(
            f"{event['message']} {event.get('remedy', '')}".strip() for event in files.events.get("error", [])
        ),
        missing=[*files.missing, *_not_there_yet(files, bool(overlays))],
        best=max(files.events.get("validation", []), key=lambda event: event["mean"], default=None),
        verdict=next(reversed(files.events.get("verdict", [])), None),
        agreement=next((event["agreement"] for event in reversed(files.events.get("kept", []))), None),
        stuck=next(
            (e["classes"] for e in reversed(files.events.get("stuck", [])) if e["step"] == _last_validated(files)), []
        ),
    )
    write_text(out, page)


def _figures(files: RunFiles) -> dict[str, str | None]:
    events, labels = files.events, files.labels
    drawn: dict[str, Figure | None] = {
        "losses": curves.loss_figure(events.get("loss", [])),
        "validation": curves.validation_figure(events.get("validation", []), labels),
        "pseudo_labels": curves.pseudo_label_figure(events.get("pseudo_label", []), labels),
        "reliability": curves.reliability_figure(events.get("reliability", []), labels),
    }
    drawn["calibration"] = calibration_figure(files.calibration)
    drawn["calibration_of_boxes"] = calibration_figure(files.calibration_of_boxes)
    for subset in ("labeled", "unlabeled"):
        drawn[f"pic_{subset}"] = curves.curriculum_figure(events.get("pic", []), subset, labels, files.steps)
    return {name: _embedded(figure) for name, figure in drawn.items()}


def _embedded(figure: Figure | None) -> str | None:
    return None if figure is None else as_data_url(png(figure))


def _overlay(overlay: Overlay, files: RunFiles) -> Figure:
    cases = (files.metrics or {}).get("cases", {})
    classes = cases.get(overlay.name, {})
    return overlay_figure(overlay, files.labels, {name: values.get("dice") for name, values in classes.items()})


def _last_validated(files: RunFiles) -> int | None:
    validated = files.events.get("validation", [])
    return validated[-1]["step"] if validated else None


def _teacher(config: dict[str, Any]) -> str | None:
    """What FKD distilled, in words that leave no doubt about untrained weights."""
    fkd = config.get("fkd", {})
    if fkd.get("mode", "off") == "off":
        return None
    name, _, architecture = str(fkd.get("teacher")).partition(":")
    if name != "random":
        return str(fkd["teacher"])
    return f"{architecture or 'vit_base_patch16_dinov3'} with random weights (the architecture alone, never trained)"


def _plan_rows(files: RunFiles) -> list[tuple[str, str, str]]:
    """Field, value, reason."""
    if files.plan is None:
        return []
    data = files.plan.model_dump(mode="json", exclude={"version", "reasons"})
    reasons = files.plan.reasons
    grid = data.pop("grid")
    rows = [("spacing", grid["spacing"]) if grid["kind"] == "spacing" else ("size", grid["size"]), *data.items()]
    return [(name, _text(value), reasons.get(name, "")) for name, value in rows]


def _flat(config: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in config.items():
        rows += _flat(value, f"{before}{key}.") if isinstance(value, dict) else [(before + key, _text(value))]
    return rows


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _unique(messages: Any) -> list[str]:
    return list(dict.fromkeys(messages))


def _not_there_yet(files: RunFiles, has_overlays: bool) -> list[str]:
    """What a whole report would show and this one cannot, with the reason where the files tell it."""
    said = []
    if not files.finished:
        said.append(
            f"The run is not finished: {files.done} of {files.steps} steps are recorded and there is no model folder yet."
        )
    kinds, config = files.events, files.config
    if not kinds.get("validation"):
        without = files.cohort is not None and not files.cohort.with_role("validation")
        reason = "the cohort has no validation case" if without else "no validation is recorded yet"
        said.append(f"There is no validation curve: {reason}.")
    if files.finished and files.calibration is None:
        said.append(
            "How sure the model is is not shown: it is not calibrated, which takes validation cases; `dinomix models calibrate`"
            " does it afterwards."
        )
    if not kinds.get("pic"):
        off = config and not config.get("pic", {}).get("enabled")
        said.append(f"There is no curriculum of PIC: {'PIC was off' if off else 'no box is recorded yet'}.")
    if not kinds.get("pseudo_label"):
        off = config.get("method") == "labeled-only"
        yet = "none counted in this run" if files.finished else "no pseudo-label is recorded yet"
        reason = "the method is labeled-only" if off else yet
        said.append(f"There are no pseudo-label counts: {reason}.")
    if files.metrics is None:
        said.append(
            "There is no evaluation. Segment test cases, then run dinomix evaluate with --out RUN/metrics.json."
        )
    if not has_overlays:
        said.append("There are no overlays. Add --prediction with the folder of segmentations of held-out cases.")
    return said
