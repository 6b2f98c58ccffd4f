"""How sure a model is, and how sure it may be: the reliability diagrams of its calibration."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dinomix.models.calibration import Calibration, Reliability
from dinomix.report.figures import new_figure, plot_axes


def calibration_figure(calibration: Calibration | None) -> Figure | None:
    """How often labels were right beside their probability, before and after; None for a model that is not calibrated."""
    if calibration is None:
        return None
    figure = new_figure(9, 4)
    both = (("The network's own probabilities", calibration.before), ("After calibration", calibration.after))
    for number, (title, measured) in enumerate(both, 1):
        error = f"{title}: off by {100 * measured.error:.1f} points"
        axes = plot_axes(figure, 1, 2, number, error, xlabel="probability of the label")
        _draw(axes, measured)
    return figure


def _draw(axes: Axes, measured: Reliability) -> None:
    bins = len(measured.voxels)
    voxels = np.array(measured.voxels)
    middles = (np.arange(bins) + 0.5) / bins
    axes.plot([0, 1], [0, 1], color="#777777", linewidth=1, linestyle="--", label="as it should be")
    axes.bar(middles, measured.right, 0.92 / bins, color="#2a6fbb", label="share of labels that were right")
    axes.bar(middles, voxels / max(voxels.sum(), 1), 0.3 / bins, color="#c8553d", label="share of the voxels")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.legend(fontsize=8, frameon=False, loc="upper left")
