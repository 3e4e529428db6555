"""Trials, run in parallel: finished ones are read, the others trained and kept."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any

from joblib import Parallel, cpu_count, delayed, parallel_config

from hasa_opt.clients import IntArray
from hasa_opt.errors import MissingExtraError
from hasa_opt.federated import History
from hasa_opt.study.trial import Trial

__all__ = ["BACKENDS", "follow", "histories"]


BACKENDS = ("local", "ray")


def histories(
    trials: Mapping[str, Trial],
    store: Path | None,
    workers: int | None,
    finished: IntArray,
    backend: str = "local",
) -> Iterator[tuple[str, History]]:
    """Yield the history of every trial: stored ones at once, the others as they finish.

    ``finished`` counts the rounds of each trial, in their order; of those that run on Ray, once
    all have ended.

    Raises
    ------
    MissingExtraError
        If the backend is "ray", which is not installed.
    """
    rows = {key: row for row, key in enumerate(trials)}
    jobs: list[Any] = []
    counts = finished if backend == "local" else None
    for key, trial in trials.items():
        place = None if store is None else trial.place(store)
        stored = trial.stored(place)
        if stored is None:
            jobs.append(delayed(_train)(key, trial, place, counts, rows[key], os.getpid()))
        else:
            finished[rows[key]] = stored.rounds
            yield key, stored
    if backend == "local":
        n_jobs = min(workers or cpu_count(), max(1, len(jobs)))
        yield from Parallel(n_jobs=n_jobs, return_as="generator_unordered")(jobs)
        return
    for key, history in _on_ray(jobs, workers):
        finished[rows[key]] = history.rounds
        yield key, history


def _on_ray(jobs: Sequence[Any], workers: int | None) -> list[tuple[str, History]]:
    """Run on the Ray cluster that RAY_ADDRESS names, or else on one of this machine's."""
    try:
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise MissingExtraError(
            "backend='ray' needs ray, not installed here: pip install 'hasa-opt[flower]'"
        ) from error
    register_ray()
    with parallel_config(backend="ray"):
        # Other machines cannot read the files in which joblib would hand over large arrays.
        done: list[tuple[str, History]] = Parallel(n_jobs=workers or -1, max_nbytes=None)(jobs)
    return done


def _train(
    key: str,
    trial: Trial,
    place: Path | None,
    finished: IntArray | None,
    row: int,
    parent: int,
) -> tuple[str, History]:
    """Run a trial, perhaps in a worker process."""
    follow(parent)

    def count(number: int, measured: object) -> None:
        if finished is not None:
            finished[row] = number + 1

    return key, trial.run(place, count)


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
            time.sleep(0.2)
        os._exit(1)

    if os.getppid() == parent:
        Thread(target=watch, daemon=True).start()
