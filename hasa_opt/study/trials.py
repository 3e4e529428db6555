"""Trials, run in parallel: finished ones are read, the others trained and kept."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, cpu_count, delayed, parallel_config

from hasa_opt._utils import VERSION
from hasa_opt._utils.checks import IntArray
from hasa_opt._utils.installing import needing
from hasa_opt._utils.processes import follow
from hasa_opt._utils.streams import STREAMS
from hasa_opt.errors import InputError
from hasa_opt.federated import (
    Checkpoint,
    Evaluation,
    Execution,
    History,
    LocalTraining,
    Participation,
    Server,
    run,
)
from hasa_opt.federated.allocating import Allocator, describe_allocator
from hasa_opt.federated.identity import (
    describe_model,
    describe_settings,
    describe_task,
)
from hasa_opt.federated.workers import one_thread
from hasa_opt.models import SupernetModel, fresh
from hasa_opt.policies import Subnets
from hasa_opt.policies.subnets import describe_subnets
from hasa_opt.tasks import Task

__all__ = [
    "Trial",
    "canonical",
    "histories",
    "identity",
]


_ROUNDS = "-rounds"
"""Ending of the directory that keeps the rounds of an unfinished trial."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Trial:
    """One allocation, trained under one seed.

    Attributes
    ----------
    task : Task
    model : SupernetModel
        Gives the architecture; the seed draws the initial weights.
    allocation : Subnets or Allocator
    seed : int
    rounds : int
    training : LocalTraining
    server : Server
    evaluation : Evaluation
    participation : Participation
    engine : str
        As for :func:`hasa_opt.federated.run`.
    name : str
        Begins the name of the directory in which the result is kept.
    """

    task: Task
    model: SupernetModel
    allocation: Subnets | Allocator
    seed: int
    rounds: int
    training: LocalTraining
    server: Server
    evaluation: Evaluation
    participation: Participation
    engine: str
    name: str = "run"

    def run(
        self, place: Path | None, on_round: Callable[[int, Mapping[str, Any]], None] | None = None
    ) -> History:
        """Train on one thread, so that the numbers do not depend on the cores; keep the result.

        With a place, every round is kept beside it until the result is, and a trial that was
        interrupted goes on after its last one.
        """
        rounds = None if place is None else Checkpoint(_rounds_of(place), resume=True)
        with one_thread():
            history = run(
                fresh(self.model, self.seed),
                self.task,
                self.allocation,
                rounds=self.rounds,
                execution=Execution(engine=self.engine),
                checkpoint=rounds,
                on_round=on_round,
                seed=self.seed,
                **self._settings,
            )
        history = replace(history, metadata={**history.metadata, **self._identity})
        if place is not None:
            history.save(place)
            shutil.rmtree(_rounds_of(place))
        return history

    def stored(self, place: Path | None) -> History | None:
        """History of an earlier run of this very trial, or None."""
        if place is None or not place.exists():
            return None
        try:
            history = History.load(place)
        except InputError:
            return None
        known = history.metadata
        same = all(known.get(name) == value for name, value in self._identity.items())
        if not (same and self._has_widths(history)):
            return None
        shutil.rmtree(_rounds_of(place), ignore_errors=True)
        return history

    def _has_widths(self, history: History) -> bool:
        """Whether a history's widths are the trial's; those of an allocator may be any."""
        if not isinstance(self.allocation, Subnets):
            return True
        return np.array_equal(history.widths, self.allocation.last_of(self.rounds).widths)

    def place(self, store: Path) -> Path:
        """Where the result is kept: under the name of whichever study began the same trial."""
        for pattern in (f"*-{self.digest}", f"*-{self.digest}{_ROUNDS}"):
            for found in sorted(store.glob(pattern)):
                return found.with_name(found.name.removesuffix(_ROUNDS))
        return store / f"{self.name}-seed{self.seed}-{self.digest}"

    @cached_property
    def digest(self) -> str:
        """Eight characters that tell this trial from those of other settings."""
        given = self.allocation
        widths = given.widths.tolist() if isinstance(given, Subnets) else None
        told = canonical([self._identity, widths])
        return hashlib.sha256(told.encode()).hexdigest()[:8]

    @property
    def _settings(self) -> dict[str, Any]:
        names = ("training", "server", "evaluation", "participation")
        return {name: getattr(self, name) for name in names}

    @cached_property
    def _identity(self) -> dict[str, Any]:
        """Metadata by which a stored history is recognised."""
        told = {"rounds": self.rounds, "seed": self.seed, "engine": self.engine}
        told |= identity(self.model, self.task)
        if isinstance(self.allocation, Subnets):
            told |= describe_subnets(self.allocation)
        else:
            told |= describe_allocator(self.allocation)
        return told | describe_settings(**self._settings)


def canonical(value: Any) -> str:
    """Write what tells settings apart as JSON, be they numbers of numpy, arrays or objects."""
    return json.dumps(value, sort_keys=True, default=_plain)


def _plain(value: Any) -> Any:
    """Arrays and numbers as Python's, dataclasses as their fields."""
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return value.tolist()


def identity(model: SupernetModel, task: Task) -> dict[str, Any]:
    """What tells a network and its data from others; the initial weights are the seed's."""
    told = describe_model(model) | describe_task(task) | {"version": VERSION, "streams": STREAMS}
    del told["initial weights sha256"]
    return told


def _rounds_of(place: Path) -> Path:
    """Where the rounds of a trial are kept until its result is."""
    return place.with_name(place.name + _ROUNDS)


def histories(
    trials: Mapping[str, Trial],
    store: Path | None,
    execution: Execution,
    finished: IntArray,
) -> Iterator[tuple[str, History]]:
    """Yield the history of every trial: stored ones at once, the others as they finish.

    ``finished`` counts the rounds of each trial, in their order; of those that run on Ray, once
    all have ended.

    Raises
    ------
    MissingExtraError
        If the executor is "ray", which is not installed.
    """
    rows = {key: row for row, key in enumerate(trials)}
    local = execution.executor == "local"
    jobs: list[Any] = []
    counts = finished if local else None
    for key, trial in trials.items():
        place = None if store is None else trial.place(store)
        stored = trial.stored(place)
        if stored is None:
            jobs.append(delayed(_train)(key, trial, place, counts, rows[key], os.getpid()))
        else:
            finished[rows[key]] = stored.rounds
            yield key, stored
    if local:
        n_jobs = min(execution.workers or cpu_count(), max(1, len(jobs)))
        yield from Parallel(n_jobs=n_jobs, return_as="generator_unordered")(jobs)
        return
    for key, history in _on_ray(jobs, execution.workers):
        finished[rows[key]] = history.rounds
        yield key, history


def _on_ray(jobs: Sequence[Any], workers: int | None) -> list[tuple[str, History]]:
    """Run on the Ray cluster that RAY_ADDRESS names, or else on one of this machine's."""
    with needing("executor='ray'", extra="flower"):
        from ray.util.joblib import register_ray
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
