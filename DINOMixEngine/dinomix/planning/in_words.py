"""A plan told to the one who waits for its training."""

from dinomix.planning.plan import PercentileWindow, Plan, RangeWindow, SecondStage, SpacingGrid, Window


def in_words(plan: Plan) -> str:
    """One paragraph: what the network sees, what it is, and why."""
    sentences = [f"{told}{_because(plan, key)}." for key, told in _parts(plan)]
    if structures := plan.reasons.get("structures"):
        sentences.append(f"{structures[0].upper()}{structures[1:]}.")
    if plan.second is not None:
        sentences.append(_told_of_second(plan.second))
    return " ".join(sentences)


def _told_of_second(second: SecondStage) -> str:
    assert isinstance(second.plan.grid, SpacingGrid)
    spacing = " x ".join(f"{mm:.3g}" for mm in second.plan.grid.spacing)
    return (
        f"A second network, trained for {second.share:.0%} of the run, sees boxes around what the first has found of these on "
        f"voxels of {spacing} mm{_because(second.plan, 'spacing')}, in patches of {' x '.join(map(str, second.plan.patch))} "
        f"voxels, and relabels them up to {second.margin:g} mm around."
    )


def _parts(plan: Plan) -> list[tuple[str, str]]:
    sides = " x ".join(map(str, plan.patch))
    if isinstance(plan.grid, SpacingGrid):
        spacing = " x ".join(f"{mm:.3g}" for mm in plan.grid.spacing)
        lengths = " x ".join(f"{side * mm:.0f}" for side, mm in zip(plan.patch, plan.grid.spacing, strict=True))
        grid, patch = f"Images are brought to voxels of {spacing} mm", f"A patch is {sides} voxels, {lengths} mm"
    else:
        grid, patch = (
            f"Images are brought to {' x '.join(map(str, plan.grid.size))} voxels",
            f"A patch is {sides} voxels",
        )
    windows = [
        f"{_told_of_window(window)}{f' in {channel}' if plan.more_channels else ''}"
        for channel, window in zip(plan.channels, plan.windows, strict=True)
    ]
    window = "; ".join([windows[0], *(f"{told[0].lower()}{told[1:]}" for told in windows[1:])])
    name = str(plan.network["_target_"]).rpartition(".")[2]
    return [("spacing", grid), ("window", window), ("patch", patch), ("network", f"The network is a {name}")]


def _told_of_window(window: Window) -> str:
    if isinstance(window, RangeWindow):
        return f"Intensities from {window.low:g} to {window.high:g} HU are told apart"
    if isinstance(window, PercentileWindow):
        return f"Intensities from the {window.lower:g}th to the {window.upper:g}th percentile are told apart"
    return "Intensities are those of the model it starts from"


def _because(plan: Plan, key: str) -> str:
    reason = plan.reasons.get(key)
    return f" ({reason})" if reason else ""
