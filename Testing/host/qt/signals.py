"""Signals with PythonQt's habits: ``button.connect("clicked(bool)", f)``, ``button.clicked.connect(f)``, strong references."""

import gc
import inspect
import re
import sys
import weakref
from collections.abc import Callable

import shiboken6
from PySide6 import QtCore

from host.qt import uses
from host.qt.properties import className, isHosted

_connectByText = QtCore.QObject.connect
_emitByText = QtCore.QObject.emit
_disconnectConnection = QtCore.QObject.disconnect


class Connection:
    """One Python callable connected to one signal of one object."""

    def __init__(self, signature: str, slot: Callable, handle: QtCore.QMetaObject.Connection) -> None:
        self.signature = signature
        self.slot = slot  # gives the callable, or None where it is gone
        self.handle = handle


_connections: dict[int, list[Connection]] = {}  # by the sender's address


class BoundSignal:
    """``object.signalName``: to connect, disconnect, emit, or call, which emits."""

    def __init__(self, sender: QtCore.QObject, name: str) -> None:
        self.__self__ = sender
        self.name = name

    @property
    def on(self) -> "Callable[[QtCore.QObject], BoundSignal]":
        """What gives this signal of another object."""
        name = self.name
        return lambda sender: BoundSignal(sender, name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BoundSignal) and self.__self__ is other.__self__ and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def connect(self, slot: Callable) -> bool:
        return connect(self.__self__, self._signature(), slot)

    def disconnect(self, slot: Callable | None = None) -> bool:
        return disconnect(self.__self__, self._signature(), slot)

    def emit(self, *arguments: object) -> None:
        """Emit the overload that takes so many arguments."""
        own = [text for text in metaSignatures(self.__self__) if text.startswith(f"{self.name}(")]
        fitting = [text for text in own if countArguments(text) == len(arguments)]
        if not fitting:
            raise ValueError(f"{own[0]} of {className(self.__self__)} cannot be emitted with {arguments!r}")
        _emitByText(self.__self__, QtCore.SIGNAL(fitting[0]), *arguments)

    __call__ = emit

    def _signature(self) -> str:
        """The first overload, which is the one with all arguments."""
        return next(text for text in signatures(self.__self__) if text.startswith(f"{self.name}("))

    def __repr__(self) -> str:
        return f"<qt signal {self._signature()} of {className(self.__self__)}>"


class SignalAttribute:
    """Takes the place of a PySide6 signal in its class."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance: QtCore.QObject | None, owner: type | None = None) -> object:
        return self if instance is None else BoundSignal(instance, self.name)


def adoptSignals(cls: type) -> None:
    """Replace the signals that ``cls`` itself declares."""
    for name, value in list(vars(cls).items()):
        if type(value) is QtCore.Signal:  # isinstance() with this class corrupts reference counts in PySide6
            setattr(cls, name, SignalAttribute(name))


def signatures(sender: QtCore.QObject) -> list[str]:
    """The signatures of all signals of an object, those of a host's widget as the C++ class declares them."""
    stoodFor = cppSignals(type(sender))
    texts = [text for text in metaSignatures(sender) if text not in stoodFor.values() and text not in stoodFor]
    return [*stoodFor, *texts]


_metaSignatures: dict[type, list[str]] = {}


def metaSignatures(sender: QtCore.QObject) -> list[str]:
    """The signatures of all signals that Qt itself knows of an object."""
    if type(sender) not in _metaSignatures:
        # PySide6 lets a meta-object die with the object that was first asked for it, so nothing may be collected meanwhile.
        collecting = gc.isenabled()
        gc.disable()
        try:
            metaObject = sender.metaObject()
            methods = [metaObject.method(index) for index in range(metaObject.methodCount())]
            signals = [m for m in methods if m.methodType() == QtCore.QMetaMethod.MethodType.Signal]
            _metaSignatures[type(sender)] = [bytes(m.methodSignature()).decode() for m in signals]
        finally:
            if collecting:
                gc.enable()
    return _metaSignatures[type(sender)]


def cppSignals(cls: type) -> dict[str, str]:
    """Signature in C++ -> signature in PySide6, for the signals of a host's widget where the two differ."""
    return {cpp: own for base in cls.__mro__ for cpp, own in vars(base).get("cppSignals", {}).items()}


def connect(sender: QtCore.QObject, signal: str, *target: object) -> bool:
    """``connect(sender, "clicked(bool)", f)`` or ``connect(sender, "clicked()", receiver, "accept()")``.

    Also ``connect(receiver, sender, "clicked()", "accept()")``, and as PySide6 itself does for ``QTimer.singleShot``.
    """
    if isinstance(signal, QtCore.QObject):
        receiver, sender, (signal, slot) = sender, signal, target
        target = (slot,) if callable(slot) else (receiver, slot)
    signature = knownSignature(sender, signal)
    if uses.isWatching:
        uses.note(sender, signature, sys._getframe(1))
    slot = slotOf(*target)
    takes = numberOfArguments(slot)
    kept = reference(slot)

    def call(*arguments: object) -> None:
        present = kept()
        receiver = getattr(present, "__self__", None)
        if present is None or (isinstance(receiver, QtCore.QObject) and not shiboken6.isValid(receiver)):
            return  # Qt, too, calls no method of an object that is gone
        present(*(arguments if takes is None else arguments[:takes]))

    handle = _connectByText(sender, QtCore.SIGNAL(qtSignature(sender, signature)), call)
    address = shiboken6.getCppPointer(sender)[0]
    if address not in _connections:
        _connections[address] = []
        _connectByText(sender, QtCore.SIGNAL("destroyed()"), lambda: _connections.pop(address, None))
    _connections[address].append(Connection(signature, kept, handle))
    return True


def disconnect(sender: QtCore.QObject, signal: str, *target: object) -> bool:
    """Undo one ``connect`` to that callable, or all to that signal if none is named. False if there was none."""
    signature = knownSignature(sender, signal)
    every = not target or target == (None,)
    slot = None if every else slotOf(*target)
    connections = _connections.get(shiboken6.getCppPointer(sender)[0], [])
    found = [c for c in connections if c.signature == signature and (every or c.slot() == slot)]
    for connection in found if every else found[:1]:
        _disconnectConnection(connection.handle)
        connections.remove(connection)
    return bool(found)


def knownSignature(sender: QtCore.QObject, signal: str) -> str:
    """The signature as the object declares it; ValueError if it has no such signal."""
    if not isinstance(signal, str):
        raise TypeError(f"a signal is named by a text such as 'clicked(bool)', not by {signal!r}")
    known = signatures(sender)
    text = signal.removeprefix("2")
    normalized = bytes(QtCore.QMetaObject.normalizedSignature(text)).decode()
    for candidate in (text.replace(" ", ""), normalized):
        if candidate in known:
            return candidate
    raise ValueError(f"{className(sender)} has no signal '{signal}'; it has: {', '.join(sorted(known))}")


def qtSignature(sender: QtCore.QObject, signature: str) -> str:
    """What Qt calls a signal that a host's widget declares with C++ types."""
    return cppSignals(type(sender)).get(signature, signature)


def slotOf(*target: object) -> Callable:
    """The callable of ``(callable,)`` or ``(receiver, "slot()")``."""
    if len(target) == 1 and callable(target[0]):
        return target[0]
    if len(target) >= 2 and isinstance(target[0], QtCore.QObject) and isinstance(target[1], str):
        return ReceiverSlot(target[0], target[1])
    raise TypeError(f"connect() takes a callable, or a receiver and the signature of its slot, not {target!r}")


def reference(slot: Callable) -> Callable[[], Callable | None]:
    """What keeps a slot: as in PythonQt for good, but the slots of the host's own widgets no longer than the widgets."""
    receiver = getattr(slot, "__self__", None)
    if not isHosted(type(receiver)):
        return lambda: slot
    if inspect.ismethod(slot):
        return weakref.WeakMethod(slot)
    widget, again = weakref.ref(receiver), slot.on
    return lambda: None if widget() is None else again(widget())


class ReceiverSlot:
    """A slot named by text: takes as many arguments as its signature says."""

    def __init__(self, receiver: QtCore.QObject, slot: str) -> None:
        text = slot.removeprefix("1").replace(" ", "")
        name = text.partition("(")[0]
        self.__self__ = receiver
        self.text = text
        self.count = countArguments(text)
        self.function = getattr(receiver, name, None)
        isPython = inspect.isfunction(inspect.getattr_static(type(receiver), name, None))
        normalized = bytes(QtCore.QMetaObject.normalizedSignature(text)).decode()
        if not callable(self.function) or not (isPython or receiver.metaObject().indexOfMethod(normalized) >= 0):
            raise ValueError(f"{className(receiver)} has no slot '{slot}'")

    @property
    def on(self) -> "Callable[[QtCore.QObject], ReceiverSlot]":
        """What gives this slot of another object."""
        text = self.text
        return lambda receiver: ReceiverSlot(receiver, text)

    def __call__(self, *arguments: object) -> None:
        self.function(*arguments[: self.count])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReceiverSlot) and (self.__self__, self.text) == (other.__self__, other.text)

    def __hash__(self) -> int:
        return hash(self.text)


def countArguments(signature: str) -> int:
    """Number of arguments of ``"rangeChanged(double,double)"``; those of a template are one."""
    inner = re.sub(r"<[^<>]*>", "", signature.partition("(")[2].removesuffix(")"))
    return inner.count(",") + 1 if inner else 0


def numberOfArguments(slot: Callable) -> int | None:
    """How many arguments PythonQt passes to a Python function or method at most; None: all."""
    function = slot.__func__ if inspect.ismethod(slot) else slot
    if not inspect.isfunction(function) or function.__code__.co_flags & inspect.CO_VARARGS:
        return None
    return function.__code__.co_argcount - (1 if inspect.ismethod(slot) else 0)
