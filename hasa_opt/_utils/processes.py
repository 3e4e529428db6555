"""Worker processes: what they owe to the process that started them, and how far they are."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread

import numpy as np

from hasa_opt._utils.checks import IntArray

__all__ = ["follow", "shared_counts"]

_PERIOD_S = 0.2
"""Between two looks at the counters, and at the parent: short for a reader, long for a core."""


@cache
def follow(parent: int) -> None:
    """Let a worker process leave Ctrl-C to its parent, and end soon after its parent was killed.

    Does nothing in the parent itself.
    """
    if os.getpid() == parent:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PERIOD_S)
        os._exit(1)

    if os.getppid() == parent:
        Thread(target=watch, daemon=True).start()


@contextmanager
def shared_counts(size: int, tell: Callable[[int], None] | None) -> Iterator[IntArray]:
    """Counters that joblib's worker processes may write to, as they lie in a file.

    Parameters
    ----------
    size : int
        Number of counters, which start at 0.
    tell : callable, optional
        Called from a thread while the block runs, with their sum: at first and when it has
        changed. It always hears of the last one.

    Yields
    ------
    (size,) int64 array
    """
    with TemporaryDirectory(ignore_cleanup_errors=True) as place:
        counts = np.memmap(Path(place, "counts"), dtype=np.int64, mode="w+", shape=(size,))
        if tell is None:
            yield counts
            return
        ended = Event()
        watcher = Thread(target=_watch, args=(counts, tell, ended), daemon=True)
        watcher.start()
        try:
            yield counts
        finally:
            ended.set()
            watcher.join()


def _watch(counts: IntArray, tell: Callable[[int], None], ended: Event) -> None:
    told = -1
    last = False
    while not last:
        last = ended.wait(_PERIOD_S)
        if (total := int(counts.sum())) != told:
            told = total
            tell(total)
