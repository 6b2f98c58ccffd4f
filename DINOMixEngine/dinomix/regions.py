"""Regions: unions of structures, as nnU-Net's ``dataset.json`` has them (``"whole tumor": [1, 2, 3]``).

Training needs labels of which each voxel has one, so each value becomes a structure, and the regions are told and written as
unions of these.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from dinomix.names import normalized_name


def parts_and_regions(
    labels: Mapping[str, Any], order: Sequence[Any] | None = None
) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """The structures that regions are made of, and the regions.

    A value that is a region of its own is called like it. Any other is the rest of a region: of that which nnU-Net writes
    with this value (``regions_class_order``), else of the smallest one that holds it.

    Args:
        labels: name -> number, or list of numbers, as ``dataset.json`` has it.
        order: its ``regions_class_order``.

    Returns:
        Name -> number of all structures, what is no region as it was; and region -> numbers, of those of several.

    Raises:
        ValueError: a region is no list of numbers; says in words why.
    """
    regions = {
        name: _numbers(name, value)
        for name, value in labels.items()
        if isinstance(value, list | tuple) and not name.isdigit()
    }
    table = {name: value for name, value in labels.items() if name not in regions}
    table.update({name: numbers[0] for name, numbers in regions.items() if len(numbers) == 1})
    named = {int(value) for value in table.values() if _is_whole(value)}
    larger = {name: numbers for name, numbers in regions.items() if len(numbers) > 1}
    written = _written_as(list(regions), order)
    for value in sorted({value for numbers in larger.values() for value in numbers} - named):
        holding = [name for name, numbers in larger.items() if value in numbers]
        region = min(holding, key=lambda name: (written.get(name) != value, len(larger[name])))
        name = f"rest of {region}"
        table[name if name not in table else f"{name} ({value})"] = value
    taken = {normalized_name(name) for name in table}
    if twice := [name for name in larger if normalized_name(name) in taken]:
        raise ValueError(f'"{twice[0]}" is the name of a region and of a structure')
    return table, larger


def _numbers(name: str, value: Sequence[Any]) -> tuple[int, ...]:
    if not value or not all(_is_whole(number) and int(number) > 0 for number in value):
        raise ValueError(f'"{name}" is a region of {list(value)!r:.60}; whole numbers from 1 on are possible')
    if len({int(number) for number in value}) < len(value):
        raise ValueError(f'the region "{name}" has a number twice')
    return tuple(int(number) for number in value)


def _written_as(regions: Sequence[str], order: Sequence[Any] | None) -> dict[str, Any]:
    """Region -> the value that nnU-Net writes where it is the last one that holds a voxel; nothing without an order."""
    if order is None or len(order) != len(regions):
        return {}
    return dict(zip(regions, order, strict=True))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
