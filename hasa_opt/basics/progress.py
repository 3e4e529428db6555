"""How far work in other processes is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread

import numpy as np

from hasa_opt.clients import IntArray

__all__ = ["shared_counts"]

_PERIOD_S = 0.2


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
