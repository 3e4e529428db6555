"""Trials, run in parallel: finished ones are read, the others trained and kept."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any

from joblib import Parallel, cpu_count, delayed

from hasa_opt.clients import IntArray
from hasa_opt.federated import History
from hasa_opt.study.trial import Trial

__all__ = ["histories"]


def histories(
    trials: Mapping[str, Trial],
    store: Path | None,
    workers: int | None,
    finished: IntArray,
) -> Iterator[tuple[str, History]]:
    """Yield the history of every trial: stored ones at once, the others as they finish.

    ``finished`` counts the rounds of each trial, in their order.
    """
    jobs: list[Any] = []
    for row, (key, trial) in enumerate(trials.items()):
        place = None if store is None else trial.place(store)
        stored = trial.stored(place)
        if stored is None:
            jobs.append(delayed(_train)(key, trial, place, finished, row, os.getpid()))
        else:
            finished[row] = stored.rounds
            yield key, stored
    n_jobs = min(workers or cpu_count(), max(1, len(jobs)))
    yield from Parallel(n_jobs=n_jobs, return_as="generator_unordered")(jobs)


def _train(
    key: str,
    trial: Trial,
    place: Path | None,
    finished: IntArray,
    row: int,
    parent: int,
) -> tuple[str, History]:
    """Run a trial, perhaps in a worker process."""
    if os.getpid() != parent:
        _follow(parent)

    def count(number: int, measured: object) -> None:
        finished[row] = number + 1

    return key, trial.run(place, count)


@cache
def _follow(parent: int) -> None:
    """Let a worker process leave Ctrl-C to its parent, and end soon after its parent was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    if os.getppid() == parent:
        Thread(target=watch, daemon=True).start()
