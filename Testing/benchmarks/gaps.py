"""How long the window cannot answer: the longest gap between ticks of a 5 ms timer on the main thread.

Where other programs keep the processors busy, gaps by the clock are longer than the window itself is to blame for, so what the
main thread has computed between two ticks is measured as well.
"""

import time

import numpy as np
import qt


class Gaps:
    """The times between ticks of a 5 ms timer, in ms: by the clock, and as processor time of this thread."""

    def __init__(self) -> None:
        self._gaps: list[tuple[float, float]] = []
        self._last = (time.perf_counter(), time.thread_time())
        self._timer = qt.QTimer()
        self._timer.setInterval(5)
        self._timer.connect("timeout()", self._onTick)
        self._timer.start()

    def _onTick(self) -> None:
        now = (time.perf_counter(), time.thread_time())
        self._gaps.append(((now[0] - self._last[0]) * 1000, (now[1] - self._last[1]) * 1000))
        self._last = now

    def take(self) -> str:
        """The longest and the 99th percentile since the last call."""
        gaps, self._gaps = np.array(self._gaps or [(0.0, 0.0)]), []
        longest, most = gaps.max(axis=0), np.percentile(gaps, 99, axis=0)
        over = (gaps > 50).sum(axis=0)
        return "; ".join(
            f"{name}: longest {longest[index]:.0f} ms, 99% below {most[index]:.0f} ms, {over[index]} of {len(gaps)} over 50 ms"
            for index, name in enumerate(("by the clock", "processor time"))
        )
