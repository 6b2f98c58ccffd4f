"""Figures without a window: matplotlib's own objects on a canvas in memory, and PNGs that a page can carry inside."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave

from dinomix.labels import LabelSet

Color = tuple[float, float, float]
DPI = 100


def new_figure(width: float, height: float) -> Figure:
    """A figure of ``width`` x ``height`` inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI, facecolor=figure.get_facecolor())
    return stream.getvalue()


def small_png(figure: Figure) -> bytes:
    """A PNG with 32 levels per color, which makes noisy scans half as large and looks the same."""
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3] // 8 * 8
    stream = io.BytesIO()
    imsave(stream, np.ascontiguousarray(pixels), format="png", pil_kwargs={"optimize": True})
    return stream.getvalue()


def as_data_url(image: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(image).decode("ascii")


def plot_axes(figure: Figure, rows: int, columns: int, number: int, title: str, xlabel: str = "step") -> Axes:
    axes: Axes = figure.add_subplot(rows, columns, number)
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(xlabel, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def colors_of(labels: LabelSet) -> dict[str, Color]:
    """Name -> RGB in 0..1."""
    return {s.name: (s.color[0] / 255, s.color[1] / 255, s.color[2] / 255) for s in labels.structures}


def readable(name: str) -> str:
    return name.replace("_", " ")


def rolling_mean(values: Sequence[float], width: int) -> list[float]:
    """Mean of each value and up to ``width - 1`` before it."""
    return [sum(part) / len(part) for end in range(len(values)) if (part := values[max(0, end + 1 - width) : end + 1])]
