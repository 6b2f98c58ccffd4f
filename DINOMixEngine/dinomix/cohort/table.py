"""A cohort at a glance: what is in it, as a dictionary for programs and as a table for people."""

from collections import Counter
from typing import Any, get_args

import numpy as np

from dinomix.cohort.cohort import Cohort, Role
from dinomix.cohort.open_notices import open_notices, told_of
from dinomix.events import Notice

ROLES: tuple[Role, ...] = get_args(Role)

# A spacing this many times larger in one case than in another makes one network see two very different pictures.
_UNLIKE_SPACING = 2.0


def summary(cohort: Cohort) -> dict[str, Any]:
    """Counts and ranges of a cohort.

    Returns:
        ``cases`` {role: count}; ``patients``; ``modality``; ``channels`` [{name, modality}]; ``spacing`` mm along the files'
        (i, j, k) and ``size`` voxels, each {min, median, max}; ``orientations`` {code: count}; ``classes`` [{id, name, voxels,
        fraction, cases}] over
        all cases with a label, ``voxels_labeled`` over those to train on, ``not_drawn`` the number of cases in which it was not
        drawn, or not completely; ``regions`` {name: ids of its structures}; ``open_labels`` {case: what its label leaves open,
        see ``open_notices.told_of``};
        ``imbalance``, the ratio of the largest to the smallest class that occurs in those to train on; ``notices``, sentences.
    """
    labeled = [case for case in cohort.cases if case.label is not None]
    training = cohort.with_role("labeled")
    counts = {s.id: sum(case.voxels.get(s.id, 0) for case in training) for s in cohort.labels.structures}
    present = [count for count in counts.values() if count]
    return {
        "cases": {role: len(cohort.with_role(role)) for role in ROLES},
        "patients": len({case.patient for case in cohort.cases}),
        "modality": cohort.modality,
        "channels": [
            {"name": name, "modality": kind} for name, kind in zip(cohort.channels, cohort.modalities, strict=False)
        ],
        "seed": cohort.seed,
        "spacing": _range([case.spacing for case in cohort.cases], 4),
        "size": _range([case.size for case in cohort.cases], 1),
        "orientations": dict(Counter(case.orientation for case in cohort.cases).most_common()),
        "classes": [
            {
                "id": s.id,
                "name": s.name,
                "voxels_labeled": counts[s.id],
                "voxels": sum(case.voxels.get(s.id, 0) for case in labeled),
                "fraction": counts[s.id] / max(sum(counts.values()), 1),
                "cases": {
                    role: sum(case.voxels.get(s.id, 0) > 0 for case in cohort.with_role(role))
                    for role in ROLES if role != "unlabeled"
                },
                "not_drawn": sum(not case.has_drawn(s.id) for case in labeled),
            }
            for s in cohort.labels.structures
        ],
        "regions": {region.name: list(region.structures) for region in cohort.labels.regions},
        "open_labels": {
            case.name: told_of(case, cohort.labels) for case in labeled if case.undecided or not case.is_whole
        },
        "imbalance": max(present) / min(present) if present else None,
        "notices": [notice.text for notice in notices_about(cohort)],
    }  # fmt: skip


def notices_about(cohort: Cohort) -> list[Notice]:
    """Full sentences about what is allowed but may make training fail to learn or a result mean little."""
    found = []
    # Sorted, so that the axis order of the files plays no part.
    spacing = np.sort([case.spacing for case in cohort.cases], axis=1)
    ratio = spacing.max(axis=0) / spacing.min(axis=0)
    if ratio.max() > _UNLIKE_SPACING:
        values = spacing[:, int(ratio.argmax())]
        fine, coarse = cohort.cases[int(values.argmin())], cohort.cases[int(values.argmax())]
        found.append(Notice(
            f"The spacings are very different: from {_mm(fine.spacing)} ({fine.name}) to {_mm(coarse.spacing)} "
            f"({coarse.name}); all are resampled to one spacing."
        ))  # fmt: skip
    training = cohort.with_role("labeled")
    holders = {s.name: sum(case.voxels.get(s.id, 0) > 0 for case in training) for s in cohort.labels.structures}
    found += open_notices(cohort)
    if nowhere := [name for name, count in holders.items() if count == 0]:
        found.append(
            Notice(
                f"No labeled case to train on shows these structures, so they cannot be learned: {', '.join(nowhere)}."
            )
        )
    if len(training) > 1 and (once := [name for name, count in holders.items() if count == 1]):
        found.append(Notice(f"Only one labeled case shows these structures: {', '.join(once)}."))
    if not cohort.with_role("validation"):
        found.append(Notice(
            "There are no validation cases, so training keeps its last weights, not its best.",
            "See --validation.", "no-validation",
        ))  # fmt: skip
    return found


def table(data: dict[str, Any]) -> str:
    """``summary`` as text for a terminal."""
    cases = ", ".join(f"{count} {role}" for role, count in data["cases"].items() if count)
    total = sum(data["cases"].values())
    lines = [
        f"Cases         {cases} ({total} cases, {data['patients']} patients)",
        f"Modality      {data['modality']}",
        *([f"Channels      {_channels(data['channels'])}"] if data["channels"] else []),
        f"Spacing (mm)  {_words(data['spacing'])}",
        f"Size          {_words(data['size'])}",
        "Orientations  " + ", ".join(f"{code} ({count})" for code, count in data["orientations"].items()),
        "",
    ]
    rows: list[tuple[str, ...]] = [
        ("id", "structure", "voxels to learn from", "share", "labeled", "validation", "test")
    ]
    rows += [
        (str(c["id"]), c["name"], f"{c['voxels_labeled']:,}", f"{100 * c['fraction']:.2f}%",
         *(str(c["cases"][role]) for role in ("labeled", "validation", "test")))
        for c in data["classes"]
    ]  # fmt: skip
    if any(c["not_drawn"] for c in data["classes"]):
        last = ["not drawn", *(str(c["not_drawn"]) for c in data["classes"])]
        rows = [(*row, cell) for row, cell in zip(rows, last, strict=True)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            text.ljust(w) if n == 1 else text.rjust(w) for n, (text, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines += [f"Region        {name} = {' + '.join(map(str, ids))}" for name, ids in data["regions"].items()]
    if data["imbalance"] is not None:
        lines += ["", f"Imbalance     {data['imbalance']:.1f} to 1 (largest to smallest structure)"]
    return "\n".join(lines)


def _channels(channels: list[dict[str, str]]) -> str:
    return ", ".join(f"{channel['name']} ({channel['modality']})" for channel in channels)


def _range(values: list[tuple[Any, ...]], digits: int) -> dict[str, list[float]]:
    array = np.array(values, dtype=float)
    described = {"min": array.min(axis=0), "median": np.median(array, axis=0), "max": array.max(axis=0)}
    return {key: [round(float(v), digits) for v in value] for key, value in described.items()}


def _words(values: dict[str, list[float]]) -> str:
    shown = {key: " x ".join(f"{v:g}" for v in value) for key, value in values.items()}
    if len(set(shown.values())) == 1:
        return f"{shown['median']} in all cases"
    return f"{shown['median']} (median; from {shown['min']} to {shown['max']})"


def _mm(spacing: tuple[float, ...]) -> str:
    return " x ".join(f"{v:g}" for v in (round(v, 3) for v in spacing)) + " mm"
