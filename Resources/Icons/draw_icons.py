"""Draws the icons of the extension and of its modules: a slice of the abdomen, with its organs.

    python Resources/Icons/draw_icons.py

Writes ``DINOMix.png`` here and each module's picture into its folder, 128 x 128 pixels each; and the picture of DINOMix Train's
sample data, 260 x 280 pixels.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path as Outline

from dinomix.demo.phantom import phantom_case

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
PIXELS, FINER = 128, 4  # drawn larger and averaged, so that edges are smooth

# Outlines in a square from -1 to 1, as a radiologist sees them: the patient's right is on the left, the front above.
BODY = [(0, 0.70), (0.52, 0.64), (0.86, 0.30), (0.90, -0.10), (0.66, -0.50), (0.22, -0.62),
        (0, -0.58), (-0.22, -0.62), (-0.66, -0.50), (-0.90, -0.10), (-0.86, 0.30), (-0.52, 0.64)]  # fmt: skip
ORGANS = {
    "liver": ("#dd8265", [(-0.10, 0.50), (-0.45, 0.50), (-0.73, 0.26), (-0.76, -0.10), (-0.62, -0.32),
                          (-0.44, -0.20), (-0.30, 0.04), (-0.06, 0.22), (0.06, 0.40)]),
    "stomach": ("#f2c08a", [(0.16, 0.40), (0.42, 0.50), (0.66, 0.34), (0.66, 0.10), (0.48, 0.02), (0.30, 0.14)]),
    "spleen": ("#9d6ca2", [(0.74, 0.02), (0.80, -0.14), (0.68, -0.34), (0.58, -0.36), (0.62, -0.14)]),
    "kidney_right": ("#b96b52", [(-0.40, -0.24), (-0.28, -0.28), (-0.28, -0.44), (-0.42, -0.48), (-0.52, -0.38)]),
    "kidney_left": ("#b96b52", [(0.38, -0.16), (0.48, -0.24), (0.48, -0.40), (0.34, -0.44), (0.26, -0.30)]),
    "aorta": ("#e0533d", [(0.16, -0.06), (0.23, -0.13), (0.16, -0.20), (0.09, -0.13)]),
    "vena_cava": ("#5b8fd0", [(-0.13, -0.04), (-0.05, -0.11), (-0.13, -0.18), (-0.21, -0.11)]),
    "pancreas": ("#e8cf6a", [(-0.10, 0.10), (0.10, 0.16), (0.30, 0.04), (0.46, -0.06), (0.40, -0.12),
                             (0.18, -0.01), (-0.06, 0.00)]),
    "vertebra": ("#f1e6c8", [(0.0, -0.22), (0.17, -0.30), (0.12, -0.42), (0.0, -0.52), (-0.12, -0.42), (-0.17, -0.30)]),
}  # fmt: skip
FLESH, EDGE, NIGHT, GHOST = "#3b4a63", "#dfe7f2", "#16233a", "#8fa3bf"
CURVE = "#7ed957"


def main() -> None:
    for name, paint in (("DINOMixSegment", drawSegment), ("DINOMixTrain", drawTrain)):
        draw(paint, REPOSITORY / name / "Resources" / "Icons" / f"{name}.png")
    draw(drawExtension, HERE / "DINOMix.png")
    drawSampleData(REPOSITORY / "DINOMixTrain" / "Resources" / "Icons" / "PhantomAbdomens.png")


def drawSegment(axes) -> None:
    """All organs found."""
    axes.add_patch(shape(BODY, facecolor=FLESH, edgecolor=EDGE, linewidth=16))
    for color, points in ORGANS.values():
        axes.add_patch(shape(points, facecolor=color, edgecolor=NIGHT, linewidth=4))


def drawTrain(axes) -> None:
    """A curve that rises over the slice and ends at a dot, as a run's Dice does."""
    axes.add_patch(shape(BODY, facecolor=FLESH, edgecolor=EDGE, linewidth=16))
    for color, points in ORGANS.values():
        axes.add_patch(shape(points, facecolor=color + "70", edgecolor=NIGHT, linewidth=4))
    across = np.linspace(-0.84, 0.66, 60)
    height = 0.62 - 1.3 * np.exp(-2.3 * (across + 0.84))
    for color, width in ((NIGHT, 50), (CURVE, 26)):
        axes.plot(across, height, color=color, linewidth=width, solid_capstyle="round")
    for color, size in ((NIGHT, 104), (EDGE, 80), (CURVE, 48)):
        axes.plot(across[-1], height[-1], "o", color=color, markersize=size, markeredgewidth=0)


def drawExtension(axes) -> None:
    """Half labeled, half not yet: what semi-supervised training starts from."""
    tile = FancyBboxPatch(
        (-0.9, -0.9), 1.8, 1.8, boxstyle="round,pad=0.08,rounding_size=0.3", facecolor=NIGHT, linewidth=0
    )
    axes.add_patch(tile)
    small = 0.94
    body = shape(BODY, small, facecolor=FLESH, edgecolor=EDGE, linewidth=14)
    axes.add_patch(body)
    for color, points in ORGANS.values():
        labeled = shape(points, small, facecolor=color, edgecolor=NIGHT, linewidth=4)
        unlabeled = shape(points, small, facecolor="none", edgecolor=GHOST, linewidth=8)
        for patch, isLeft in ((labeled, True), (unlabeled, False)):
            axes.add_patch(patch)
            patch.set_clip_path(half(isLeft), transform=axes.transData)
    axes.plot([0, 0], [-0.86, 0.86], color=EDGE, linewidth=6, linestyle=(0, (1.6, 1.4)))


def half(isLeft: bool) -> Outline:
    left = -1 if isLeft else 0
    return Outline([(left, -1), (left + 1, -1), (left + 1, 1), (left, 1), (left, -1)], closed=True)


def shape(points: list[tuple[float, float]], scale: float = 1.0, **style: object) -> PathPatch:
    """A smooth closed outline through points (a Catmull-Rom spline)."""
    corners = scale * np.array(points)
    vertices, codes = [corners[0]], [Outline.MOVETO]
    for index in range(len(corners)):
        before, start, end, after = (corners[(index + step) % len(corners)] for step in (-1, 0, 1, 2))
        vertices += [start + (end - before) / 6, end - (after - start) / 6, end]
        codes += [Outline.CURVE4] * 3
    return PathPatch(Outline(vertices, codes), joinstyle="round", **style)


def draw(paint, path: Path) -> None:
    """Save what ``paint`` draws as a transparent square of 128 pixels."""
    figure = plt.figure(figsize=(PIXELS * FINER / 100,) * 2, dpi=100, facecolor=NIGHT + "00")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-1, 1), ylim=(-1, 1))
    axes.axis("off")
    paint(axes)
    figure.canvas.draw()
    drawn = np.asarray(figure.canvas.buffer_rgba()).astype(float) / 255
    plt.close(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    plt.imsave(path, averaged(drawn))
    print(path)


def drawSampleData(path: Path) -> None:
    """A coronal slice of a phantom, one half of it with its labels."""
    image, labels = phantom_case((0, 0), 3.0)
    slices = labels.array.swapaxes(0, 1)
    best = max(range(len(slices)), key=lambda j: (len(np.unique(slices[j])), np.count_nonzero(slices[j])))
    middle, height = slices.shape[2] // 2, slices.shape[1]
    columns = slice(middle - height * 26 // 56, middle + height * 26 // 56)
    scan, organs = image.array[::-1, best, columns], slices[best, ::-1, columns]
    tints = plt.get_cmap("tab20")(organs / 20)
    tints[..., 3] = np.where((organs > 0) & (np.arange(organs.shape[1]) < organs.shape[1] // 2), 0.75, 0)
    figure = plt.figure(figsize=(2.6, 2.8), dpi=100, facecolor="black")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(scan, cmap="gray", vmin=-160, vmax=240, interpolation="bilinear", aspect="auto")
    axes.imshow(tints, interpolation="nearest", aspect="auto")
    axes.axvline(organs.shape[1] // 2 - 0.5, color=EDGE, linewidth=1, linestyle="--")
    axes.axis("off")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, facecolor="black")
    plt.close(figure)
    print(path)


def averaged(image: np.ndarray) -> np.ndarray:
    """Blocks of pixels as one, colors weighted by how opaque they are; (height, width, 4), 0 to 1."""
    weighted = image.copy()
    weighted[..., :3] *= image[..., 3:]
    blocks = weighted.reshape(PIXELS, FINER, PIXELS, FINER, 4).mean(axis=(1, 3))
    blocks[..., :3] /= np.maximum(blocks[..., 3:], 1e-6)
    return blocks.clip(0, 1)


if __name__ == "__main__":
    main()
