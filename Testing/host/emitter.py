"""Named signals for stand-ins that are no Qt objects, connected as PythonQt connects: ``x.connect("changed(int)", f)``."""

from collections.abc import Callable


class Emitter:
    """An object whose signals are those named in ``signals``; every other name is refused."""

    signals: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._slots: dict[str, list[Callable]] = {signature: [] for signature in self.signals}

    def connect(self, signature: str, slot: Callable) -> bool:
        """Call ``slot`` whenever ``signature`` is emitted."""
        if not callable(slot):
            raise TypeError(f"{slot!r} cannot be called, so it cannot be connected to {signature}")
        self._known(signature).append(slot)
        return True

    def disconnect(self, signature: str, slot: Callable) -> bool:
        """Undo one ``connect``; False if there was none."""
        slots = self._known(signature)
        if slot not in slots:
            return False
        slots.remove(slot)
        return True

    def _emit(self, signature: str, *arguments: object) -> None:
        """Call every slot of ``signature``, in the order of their connection."""
        for slot in list(self._known(signature)):
            slot(*arguments)

    def _known(self, signature: str) -> list[Callable]:
        if signature not in self._slots:
            raise ValueError(f"{type(self).__name__} has no signal {signature!r}, only {sorted(self._slots)}")
        return self._slots[signature]
