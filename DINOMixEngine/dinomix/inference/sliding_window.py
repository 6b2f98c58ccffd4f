"""Sliding-window prediction that gets by with the memory there is, and hands out logits as soon as they are final."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from dinomix.arrays import Array, has_torch, like, moved, namespace, padded, place_of, without_gradients
from dinomix.errors import DinomixError, reason_of
from dinomix.events import Emit, silent
from dinomix.inference.devices import INSTALL, Device, as_device, cpu, describe
from dinomix.inference.options import Numbers
from dinomix.inference.pieces import Forward
from dinomix.inference.runtimes.compiled import OPENVINO, usual_runtime
from dinomix.inference.runtimes.runtime import PYTORCH, Runtime
from dinomix.inference.windows import Layout, importance
from dinomix.models.networks import Network, evaluating
from dinomix.planning.plan import Plan

GPU_BATCH = 4
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "bad_alloc")
"""What is said where there is none: by PyTorch on a GPU and beside it, and by OpenVINO."""
PLANES = 4
"""Planes of a window that are added up at once, so that what lies between stays in the processor's cache."""


@dataclass(frozen=True)
class Way:
    """Where windows are computed and where they are put together, how many at once, with which numbers, and by what."""

    device: Device
    buffers: Device
    batch: int
    numbers: Numbers = "float32"
    runtime: Runtime = PYTORCH


def predict_logits(
    network: Network,
    tensor: Array,
    plan: Plan,
    device: Device,
    emit: Emit = silent,
    *,
    half_buffers: bool = False,
    ways: tuple[Way, ...] | None = None,
) -> Array:
    """All logits of one preprocessed volume; see ``predict_slabs``.

    Returns:
        (channels, x, y, z) on the CPU, float32, or float16 with ``half_buffers``.
    """
    slabs = predict_slabs(network, tensor, plan, device, emit, half_buffers=half_buffers, ways=ways)
    whole: Array = None
    start = 0
    for slab in slabs:
        if whole is None:
            whole = namespace(slab).empty((len(slab), *tensor.shape[1:]), dtype=slab.dtype)
        whole[:, start : start + slab.shape[1]] = slab
        start += slab.shape[1]
    return whole


def predict_slabs(
    network: Network,
    tensor: Array,
    plan: Plan,
    device: Device,
    emit: Emit = silent,
    *,
    numbers: Numbers = "float32",
    runtime: Runtime | None = None,
    half_buffers: bool = False,
    ways: tuple[Way, ...] | None = None,
) -> Iterator[Array]:
    """Predict one preprocessed volume window by window, blending overlaps as the plan says, as MONAI does it.

    No more than one window's length along x is kept: planes that no later window reaches are handed out, so they can be
    worked on while the volume is still being computed.

    When the GPU's memory does not suffice, fewer windows are computed at once and put together in main memory; when
    that does not suffice either, the CPU computes. Each step down is announced by a ``notice`` event, and goes on where
    the one before it failed. The network is in evaluation mode while it predicts, and is afterwards on the device and
    in the mode in which it came.

    Args:
        tensor: (channels of the input, x, y, z) float32.
        device: where to begin, or its name; see ``ways_to_compute`` for what comes after it.
        numbers: what the network computes with.
        runtime: what computes on a CPU, None for ``usual_runtime``; PyTorch goes on where another one fails, else
            OpenVINO on the CPU.
        half_buffers: add up in float16, for half the memory and three decimal digits.
        ways: in this order instead of ``ways_to_compute(device, numbers, runtime)``.

    Yields:
        (channels, some planes along x, y, z), on the device of the buffers, float32, or float16 with ``half_buffers``.
        Only good until the next one is asked for.

    Raises:
        DinomixError: the main memory does not suffice.
    """
    ways = ways or ways_to_compute(device, numbers, runtime or usual_runtime(network))
    blending = _Blending(tensor, plan, emit, half_buffers)
    with evaluating(network):
        for way, next_way in zip(ways, (*ways[1:], None), strict=True):
            slabs = blending.slabs(network, way)
            while True:
                try:
                    slab = next(slabs, None)
                except (RuntimeError, NotImplementedError) as error:
                    if not _can_step_down(error, way):
                        raise
                    if next_way is None:
                        raise _failed(error, way) from error
                    emit("notice", message=_step_down(way, next_way, error))
                    break
                if slab is None:
                    return
                yield slab
            # Outside of the except block, since the exception's traceback keeps the tensors alive.
            if way.device.type == "cuda":
                _empty_cache()


def ways_to_compute(device: Device, numbers: Numbers = "float32", runtime: Runtime = PYTORCH) -> tuple[Way, ...]:
    """The ways to use a device, the fastest first and the most frugal last."""
    device, here = as_device(device), cpu()
    if device.type == "cpu":
        others = (PYTORCH,) if has_torch() else (OPENVINO,)
        return tuple(Way(here, here, 1, numbers, each) for each in dict.fromkeys((runtime, *others)))
    return (
        Way(device, device, GPU_BATCH, numbers), Way(device, device, 1, numbers), Way(device, here, 1, numbers),
        Way(here, here, 1),
    )  # fmt: skip


def count_windows(size: tuple[int, ...], plan: Plan) -> int:
    """How many windows lie over a volume of ``size`` (x, y, z)."""
    return len(Layout.of(size, plan))


class _Blending:
    """The weighted sum of the windows' logits over one window's length along x, which moves on through the volume.

    It can go on with another way wherever it failed.
    """

    def __init__(self, tensor: Array, plan: Plan, emit: Emit, half: bool) -> None:
        self._xp = xp = namespace(tensor)
        self._plan, self._kind = plan, xp.float16 if half else xp.float32
        self._size = tuple(tensor.shape[1:])
        self._layout = Layout.of(self._size, plan)
        gaps = zip(self._layout.size, self._layout.before, self._size, strict=True)
        self._tensor = padded(tensor, [(before, whole - own - before) for whole, before, own in gaps])
        self._emit, self._began, self._elsewhere = emit, time.monotonic(), 0.0
        self._announce(0, None)
        self._layer, self._done = 0, 0  # the layer of windows that begin at the same x; and how many of it are added
        self._sums: Array = None
        self._weights: Array = None
        self._of_air: Array = None

    def slabs(self, network: Network, way: Way) -> Iterator[Array]:
        """The planes that are final after each layer of windows."""
        forward = way.runtime.ready(network, self._plan, way.device, way.numbers, self._plan.patch)
        weights = moved(like(importance(self._plan.patch, self._plan.blend), self._tensor), way.device)
        if self._sums is not None:
            self._sums, self._weights = moved(self._sums, way.buffers), moved(self._weights, way.buffers)
        while self._layer < len(self._layout.starts[0]):
            slab = self._next_slab(forward, way, weights)
            given = time.monotonic()
            yield slab
            self._elsewhere += time.monotonic() - given
            self._move_on()
        self._announce(len(self._layout), 0.0)

    # Not around the whole of ``slabs``: between two slabs, the mode would hold for whoever takes them.
    @without_gradients
    def _next_slab(self, forward: Forward, way: Way, weights: Array) -> Array:
        windows = self._layout.in_layer()
        while self._done < len(windows):
            group = windows[self._done : self._done + way.batch]
            for (y, z), logits in zip(group, self._logits(forward, way, group), strict=True):
                self._add(logits, weights, y, z, way)
                self._done += 1
                done = self._layer * len(windows) + self._done
                self._announce(done, self._seconds_left(done))
        planes, start = self._final_planes(), self._layout.starts[0][self._layer]
        self._sums[:, :planes] /= self._weights[:planes]
        # What is padding is no part of the volume.
        before, size = self._layout.before, self._size
        x = slice(max(before[0] - start, 0), min(before[0] + size[0] - start, planes))
        inside = slice(before[1], before[1] + size[1]), slice(before[2], before[2] + size[2])
        return self._sums[:, x, *inside]

    def _announce(self, done: int, eta: float | None) -> None:
        self._emit("progress", stage="segmenting", step=done, total=len(self._layout), eta=eta)

    def _seconds_left(self, done: int) -> float:
        """For the windows that are left, and for what is done with the slabs: in a large volume that takes longer."""
        in_windows = (time.monotonic() - self._began - self._elsewhere) / done * (len(self._layout) - done)
        slabs_left = len(self._layout.starts[0]) - self._layer
        return in_windows + (self._elsewhere / self._layer * slabs_left if self._layer else 0.0)

    def _final_planes(self) -> int:
        """How many planes no later layer reaches."""
        starts = self._layout.starts[0]
        end = starts[self._layer + 1] if self._layer + 1 < len(starts) else self._layout.size[0]
        return end - starts[self._layer]

    def _logits(self, forward: Forward, way: Way, group: list[tuple[int, int]]) -> list[Array]:
        """The logits (channels, x, y, z) of some windows. All windows of nothing but air are computed once."""
        x, (side_x, side_y, side_z) = self._layout.starts[0][self._layer], self._plan.patch
        windows = [self._tensor[:, x : x + side_x, y : y + side_y, z : z + side_z] for y, z in group]
        filled = [window for window in windows if window.any()]
        computed = iter(())
        if filled:
            computed = iter(forward(moved(self._xp.stack(filled), way.device)))
        if len(filled) < len(windows) and self._of_air is None:
            air = self._xp.zeros((1, len(self._tensor), *self._plan.patch), dtype=self._xp.float32)
            self._of_air = forward(moved(air, way.device))[0]
        return [next(computed) if window.any() else moved(self._of_air, way.device) for window in windows]

    def _add(self, logits: Array, weights: Array, y: int, z: int, way: Way) -> None:
        xp = self._xp
        of_buffers = moved(weights, way.buffers)
        if self._sums is None:
            size, place = (self._plan.patch[0], *self._layout.size[1:]), place_of(of_buffers)
            sums = xp.zeros((len(logits), *size), dtype=self._kind, device=place)
            # Both or none, since memory may end between them, and another way then goes on.
            self._sums, self._weights = sums, xp.zeros(size, dtype=xp.float32, device=place)
        inside = slice(y, y + self._plan.patch[1]), slice(z, z + self._plan.patch[2])
        step = PLANES if way.device.type == "cpu" else self._plan.patch[0]
        for x in range(0, self._plan.patch[0], step):
            part = xp.astype(logits[:, x : x + step], xp.float32, copy=False) * weights[x : x + step]
            self._sums[:, x : x + step, *inside] += moved(part, way.buffers)
        self._weights[:, *inside] += of_buffers

    @without_gradients
    def _move_on(self) -> None:
        """Drop the planes that are final; plane by plane, so that no second copy is needed."""
        planes = self._final_planes()
        kept = self._plan.patch[0] - planes
        for plane in range(kept):
            self._sums[:, plane] = self._sums[:, plane + planes]
            self._weights[plane] = self._weights[plane + planes]
        self._sums[:, kept:], self._weights[kept:] = 0, 0
        self._layer, self._done = self._layer + 1, 0


def _can_step_down(error: Exception, way: Way) -> bool:
    # MPS lacks operations that the CPU has, and says so in several ways; so does another runtime than PyTorch.
    return way.device.type == "mps" or way.runtime != PYTORCH or is_out_of_memory(error)


def is_out_of_memory(error: Exception) -> bool:
    """Whether PyTorch or OpenVINO ran out of memory, on the GPU or beside it."""
    text = str(error).lower()
    return any(told in text for told in OUT_OF_MEMORY)


def _empty_cache() -> None:
    import torch

    torch.cuda.empty_cache()


def _failed(error: Exception, way: Way) -> DinomixError:
    """What is said where there is no further way."""
    if is_out_of_memory(error):
        return DinomixError(
            "The main memory does not suffice to segment this image.",
            "Close other programs, or use a computer with more memory.",
        )
    return DinomixError(f"{way.runtime.title} cannot compute this network ({reason_of(error)}).", INSTALL, "pytorch")


def _step_down(failed: Way, next_way: Way, error: Exception) -> str:
    why = "does not have enough free memory" if is_out_of_memory(error) else f"cannot run this network ({error})"
    if next_way.runtime != failed.runtime:
        return f"{failed.runtime.title} {why}; {next_way.runtime.title} computes instead."
    where = describe(failed.device)
    if next_way.device != failed.device:
        return f"{where[0].upper()}{where[1:]} {why}; the CPU computes instead, which takes longer."
    if next_way.buffers != failed.buffers:
        return f"{where[0].upper()}{where[1:]} {why}; the result is put together in main memory."
    return f"{where[0].upper()}{where[1:]} {why}; windows are computed one at a time."
