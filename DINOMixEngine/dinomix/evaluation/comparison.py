"""Our numbers of a benchmark beside the published ones, as data and as a text."""

from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev
from typing import Any

from dinomix.evaluation.evaluate import Protocol, aligned
from dinomix.evaluation.published import CAUTION, comparability, published_numbers
from dinomix.evaluation.splits import DatasetName, Split

Results = Mapping[int, Mapping[Protocol, Mapping[str, Any]]]
"""Seed -> protocol -> metrics."""

COLUMNS: dict[Protocol, dict[str, str]] = {
    "dhc-compat": {"dice": "Dice %", "asd": "ASD voxels"},
    "strict": {"dice": "Dice", "nsd": "NSD", "hd95": "HD95 mm", "asd": "ASD mm"},
}


def compare(
    dataset: DatasetName, split_name: str, split: Split, results: Results, settings: Mapping[str, Any],
    deviations: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """What ``benchmark.json`` holds.

    Args:
        settings: method, steps and whatever else names our side.
        deviations: parts of the plan that differ from the published protocol.
    """
    return {
        "dataset": dataset,
        "split": {"name": split_name, "source": split.source, "used_by": split.used_by, "test_cases": len(split.test)},
        "settings": dict(settings),
        "deviations": list(deviations),
        "seeds": {
            str(seed): {protocol: dict(metrics["mean"]) for protocol, metrics in by_protocol.items()}
            for seed, by_protocol in results.items()
        },
        "summary": {protocol: _summary(protocol, results) for protocol in COLUMNS},
        "published": [
            {
                "method": number.method,
                "dice": number.dice,
                "sd": number.sd,
                "split": number.split,
                "source": number.source,
                "comparability": comparability(number, split_name),
            }
            for number in published_numbers(dataset)
        ],
        "notes": list(CAUTION),
    }


def as_text(comparison: Mapping[str, Any]) -> str:
    """``benchmark.txt``: per seed, per class, and beside the published numbers."""
    split, settings = comparison["split"], comparison["settings"]
    parts = [
        f"{comparison['dataset']}, split {split['name']}, {split['test_cases']} test cases ({split['source']})\n"
        + ", ".join(f"{key} {value}" for key, value in settings.items())
    ]
    if comparison["deviations"]:
        parts.append(
            f"The plan's {', '.join(comparison['deviations'])} differ from the published protocol: these numbers compare "
            "with nothing published."
        )
    parts += [_own_table(protocol, columns, comparison) for protocol, columns in COLUMNS.items()]
    parts.append(_published_table(comparison))
    parts.append("\n".join(f"- {note}" for note in comparison["notes"]))
    return "\n\n".join(parts) + "\n"


def _summary(protocol: Protocol, results: Results) -> dict[str, Any]:
    runs = [by_protocol[protocol] for by_protocol in results.values()]
    return {
        "mean": _over_seeds(protocol, [run["mean"] for run in runs]),
        "classes": {name: _over_seeds(protocol, [run["classes"][name] for run in runs]) for name in runs[0]["classes"]},
    }


def _over_seeds(protocol: Protocol, values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Spread of the metrics over the seeds, and the counts of all seeds together."""
    counts = {count: sum(v[count] for v in values) for count in ("n", "missed", "false_positive")}
    return {**{metric: _spread([v[metric] for v in values]) for metric in COLUMNS[protocol]}, **counts}


def _spread(values: Sequence[float | None]) -> dict[str, float | int | None]:
    """Mean and standard deviation over seeds; the population's, as the released code computes it (numpy.std)."""
    known = [value for value in values if value is not None]
    return {
        "mean": fmean(known) if known else None,
        "sd": pstdev(known) if known else None,
        "seeds": len(known),
    }


def _own_table(protocol: Protocol, columns: Mapping[str, str], comparison: Mapping[str, Any]) -> str:
    rows = [[f"Protocol {protocol}", *columns.values(), "missed"]]
    for seed, by_protocol in comparison["seeds"].items():
        mean = by_protocol[protocol]
        rows.append(
            [f"seed {seed}", *(_number(mean[m], protocol, m) for m in columns), f"{mean['missed']} of {mean['n']}"]
        )
    summary = comparison["summary"][protocol]
    for name, values in [("all seeds", summary["mean"]), *((f"  {n}", v) for n, v in summary["classes"].items())]:
        missed = f"{values['missed']} of {values['n']}"
        rows.append([name, *(_with_sd(values[metric], protocol, metric) for metric in columns), missed])
    return aligned(rows)


def _published_table(comparison: Mapping[str, Any]) -> str:
    ours = _with_sd(comparison["summary"]["dhc-compat"]["mean"]["dice"], "dhc-compat", "dice")
    changed = ", with a changed plan: not comparable" if comparison["deviations"] else ""
    lines = ["Beside published numbers: mean Dice %, +- standard deviation over runs where given"]
    lines.append(f"  {ours:>14}  these runs, dhc-compat, {comparison['split']['name']}{changed}")
    for number in comparison["published"]:
        value = f"{number['dice']:.2f}" + (f" +- {number['sd']:.2f}" if number["sd"] is not None else "")
        lines.append(f"  {value:>14}  {number['method']} ({number['source']})")
        if number["comparability"]:
            lines.append(f"  {'':>14}  {number['comparability']}")
    return "\n".join(lines)


def _number(value: float | None, protocol: Protocol, metric: str) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if protocol == "strict" and metric in ("dice", "nsd") else f"{value:.2f}"


def _with_sd(spread: Mapping[str, Any], protocol: Protocol, metric: str) -> str:
    text = _number(spread["mean"], protocol, metric)
    return f"{text} +- {_number(spread['sd'], protocol, metric)}" if spread["seeds"] > 1 else text
