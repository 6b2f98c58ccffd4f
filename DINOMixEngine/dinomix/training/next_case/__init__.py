"""The orders in which unlabeled cases may be labeled next: one file each, behind the interface of ``strategy.py``.

A new one is a new file and its line here. Nothing is loaded before a strategy is asked for, so the command line can list them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from dinomix.training.next_case.strategy import Strategy

StrategyName = Literal["disagreement", "predicted-dice", "clasp-pe", "foreground-random", "random"]
_PLACES: dict[StrategyName, str] = {
    "disagreement": "disagreement",
    "predicted-dice": "predicted_dice",
    "clasp-pe": "clasp_pe",
    "foreground-random": "foreground_random",
    "random": "plain_random",
}
STRATEGIES: tuple[StrategyName, ...] = tuple(_PLACES)
DEFAULT: StrategyName = "foreground-random"
"""What measured best: docs/results.md."""


def strategy_of(name: StrategyName) -> "Strategy":
    """The strategy of a name."""
    found: Strategy = import_module(f"{__name__}.{_PLACES[name]}").STRATEGY
    return found
