"""The curves of a run: losses, validation, PIC's curriculum as it was drawn, pseudo-labels over time."""

from collections import Counter

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dinomix.events import Event
from dinomix.labels import LabelSet
from dinomix.report.figures import colors_of, new_figure, plot_axes, readable, rolling_mean

TERMS = {
    "total": ("total", "#222222"),
    "supervised": ("supervised", "#2a6fbb"),
    "unsupervised": ("pseudo-labels", "#c8553d"),
    "kept": ("start model", "#8e5bb5"),
    "fkd": ("FKD", "#3a9d5d"),
}
RANDOM_BOX = "random box"


def loss_figure(events: list[Event]) -> Figure | None:
    """Loss terms, and beside them what steers them; None without events of kind ``loss``."""
    if not events:
        return None
    figure = new_figure(10, 3.2)
    axes = plot_axes(figure, 1, 2, 1, "Loss terms before their weights (bold: running mean)")
    for key, (name, color) in TERMS.items():
        points = [(event["step"], event[key]) for event in events if event.get(key) is not None]
        if points:
            steps, values = zip(*points, strict=True)
            axes.plot(steps, values, color=color, alpha=0.25, linewidth=0.8)
            width = max(len(points) // 20, 1)
            axes.plot(steps, rolling_mean(values, width), color=color, linewidth=1.8, label=name)
    axes.legend(fontsize=8, frameon=False)
    axes.set_ylim(bottom=0)
    all_steps = [event["step"] for event in events]
    right = plot_axes(figure, 1, 2, 2, "Weight of the pseudo-labels and learning rate")
    right.plot(all_steps, [event.get("lambda_u") or 0.0 for event in events], color="#c8553d", label="λ_u")
    right.set_ylim(bottom=0)
    other = right.twinx()
    other.plot(
        all_steps, [event.get("learning_rate") or 0.0 for event in events], color="#777777", label="learning rate"
    )
    other.set_ylim(bottom=0)
    other.tick_params(labelsize=8)
    other.spines["top"].set_visible(False)
    lines = [*right.get_lines(), *other.get_lines()]
    right.legend(lines, [str(line.get_label()) for line in lines], fontsize=8, frameon=False, loc="upper center")
    return figure


def validation_figure(events: list[Event], labels: LabelSet) -> Figure | None:
    """Validation Dice of each class over the steps."""
    if not events:
        return None
    figure = new_figure(10, 3.8)
    axes = plot_axes(figure, 1, 1, 1, "Validation Dice of the EMA teacher (bold: mean over classes)")
    steps = [event["step"] for event in events]
    for name, color in colors_of(labels).items():
        values = _values(events, "dice", name)
        if not np.isnan(values).all():
            axes.plot(steps, values, color=color, marker="o", markersize=3, linewidth=1.3, label=readable(name))
    axes.plot(steps, [event["mean"] for event in events], color="black", linewidth=2.6, marker="o", label="mean")
    axes.set_ylim(0, 1)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def curriculum_figure(events: list[Event], subset: str, labels: LabelSet, steps: int) -> Figure | None:
    """PIC in one subset: the probabilities over time, which classes were drawn in each third of the run, and how many boxes were
    random or showed a rare structure.

    Args:
        events: of kind ``pic``.
        subset: "labeled" or "unlabeled".
        steps: of the whole run.
    """
    events = [event for event in events if event["subset"] == subset]
    if not events:
        return None
    colors = colors_of(labels)
    names = list(colors)
    figure = new_figure(14, 3.8)
    left = plot_axes(figure, 1, 3, 1, f"{subset.capitalize()} subset: probability of each class")
    shares = [[float(event["probabilities"].get(name) or 0) for event in events] for name in names]
    left.stackplot([event["step"] for event in events], shares, colors=list(colors.values()), linewidth=0)
    left.set_ylim(0, 1)
    left.set_xlim(events[0]["step"], max(events[-1]["step"], events[0]["step"] + 1))

    right = plot_axes(figure, 1, 3, 2, "Classes of the boxes that were pasted (lines: expected)", xlabel="")
    thirds = _thirds(events, steps)
    bars = [*names, RANDOM_BOX]
    for number, (third, inside) in enumerate(thirds):
        drawn = Counter(name or RANDOM_BOX for event in inside for name in event["draws"])
        total = sum(drawn.values())
        places = np.arange(len(bars)) + (number - 1) * 0.27
        shade = (0.35, 0.65, 1.0)[number]
        faces = [(*colors.get(name, (0.5, 0.5, 0.5)), shade) for name in bars]
        right.bar(places, [drawn[name] / max(total, 1) for name in bars], 0.25, color=faces, edgecolor="#555555",
                  linewidth=0.4, label=f"{third} third, {total} boxes")  # fmt: skip
        expected = _expected(inside, names)
        right.hlines(expected, places[:-1] - 0.13, places[:-1] + 0.13, color="black", linewidth=1.0)
    right.set_xticks(
        range(len(bars)),
        [_short(readable(name)) for name in bars],
        rotation=40,
        ha="right",
        rotation_mode="anchor",
        fontsize=8,
    )
    legend = right.legend(fontsize=8, frameon=False)
    for handle, shade in zip(legend.get_patches(), (0.35, 0.65, 1.0), strict=True):
        handle.set_facecolor((0.3, 0.3, 0.3, shade))
    _draw_reach(plot_axes(figure, 1, 3, 3, "Share of the boxes that are random, or rare"), events)
    return figure


def _draw_reach(axes: Axes, events: list[Event]) -> None:
    """How many boxes show no class and how many one of the rare ones; nothing of runs that did not record it."""
    events = [event for event in events if "random" in event]
    width = max(len(events) // 10, 1)
    for key, name, color in (("random", "around no class", "#777777"), ("rare", "around a rare structure", "#c8553d")):
        values = rolling_mean([event[key] for event in events], width)
        axes.plot([event["step"] for event in events], values, color=color, linewidth=1.8, label=name)
    axes.set_ylim(0, 1)
    axes.legend(fontsize=8, frameon=False)


def _values(events: list[Event], key: str, name: str) -> list[float]:
    """What each event has under ``key`` for the class ``name``; NaN, which is not drawn, where it has nothing."""
    values = [event.get(key, {}).get(name) for event in events]
    return [np.nan if value is None else value for value in values]


def _short(name: str, most: int = 20) -> str:
    return name if len(name) <= most else name[: most - 1].rstrip() + "…"


def _thirds(events: list[Event], steps: int) -> list[tuple[str, list[Event]]]:
    parts: list[tuple[str, list[Event]]] = [("first", []), ("second", []), ("last", [])]
    for event in events:
        parts[min(int(3 * (event["step"] - 1) / max(steps, 1)), 2)][1].append(event)
    return parts


def _expected(events: list[Event], names: list[str]) -> list[float]:
    """Mean probability of each class, each event as often as it has boxes."""
    weights = [len(event["draws"]) for event in events]
    if not sum(weights):
        return [0.0] * len(names)
    return [
        sum(w * float(event["probabilities"].get(name) or 0) for w, event in zip(weights, events, strict=True))
        / sum(weights)
        for name in names
    ]


def reliability_figure(events: list[Event], labels: LabelSet) -> Figure | None:
    """How well the EMA teacher finds each structure on labeled patches, on which pseudo-labels wait."""
    if not events:
        return None
    figure = new_figure(7, 3.6)
    axes = plot_axes(figure, 1, 1, 1, "Dice of the EMA teacher on labeled patches")
    steps = [event["step"] for event in events]
    for name, color in colors_of(labels).items():
        axes.plot(steps, _values(events, "dice", name), color=color, linewidth=1.2, label=readable(name))
    waiting = [event["waits"] for event in events]
    axes.fill_between(steps, 0, 1, where=waiting, color="0.93", linewidth=0, label="no pseudo-labels")
    axes.set_ylim(0, 1)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def pseudo_label_figure(events: list[Event], labels: LabelSet) -> Figure | None:
    """Voxels per step that the EMA teacher gave to each class, and how sure it was of them."""
    if not events:
        return None
    figure = new_figure(11, 3.6)
    left = plot_axes(figure, 1, 2, 1, "Pseudo-label voxels of a step, per class (0 is drawn at 0.5)")
    right = plot_axes(figure, 1, 2, 2, "Mean probability of the pseudo-labels")
    steps = [event["step"] for event in events]
    for name, color in colors_of(labels).items():
        left.plot(steps, [max(event["voxels"].get(name) or 0, 0.5) for event in events], color=color, linewidth=1.2)
        right.plot(steps, _values(events, "confidence", name), color=color, linewidth=1.2, label=readable(name))
    left.set_yscale("log")
    right.set_ylim(0, 1)
    right.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
