"""Which structures of a batch's cases are unlike those of the others: where to look first."""

from collections.abc import Mapping

import numpy as np

FEWEST = 8
"""Cases below which nothing is called unusual."""
FAR = 3.5
"""Of the modified z-score (Iglewicz and Hoaglin, 1993): 0.6745 * (x - median) / MAD, here of the volumes' logarithms."""
MOST_HAVE = 0.8
"""Share of the cases that show a structure from which its absence is unusual."""


def unusual_volumes(volumes: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, str]]:
    """Compare each structure's volume with that of the other cases.

    Args:
        volumes: case -> structure -> ml; 0 where it was not found.

    Returns:
        Case -> structure -> "missing", "small" or "large"; only what is unusual.
    """
    found: dict[str, dict[str, str]] = {case: {} for case in volumes}
    if len(volumes) < FEWEST:
        return found
    for structure in next(iter(volumes.values())):
        of_cases = {case: by_name[structure] for case, by_name in volumes.items()}
        present = {case: float(np.log(ml)) for case, ml in of_cases.items() if ml > 0}
        if len(present) < max(FEWEST, MOST_HAVE * len(volumes)):
            continue
        middle = float(np.median(list(present.values())))
        spread = float(np.median([abs(value - middle) for value in present.values()]))
        for case in volumes:
            if case not in present:
                found[case][structure] = "missing"
            elif 0.6745 * abs(present[case] - middle) > FAR * max(spread, 1e-3):
                found[case][structure] = "small" if present[case] < middle else "large"
    return found
