"""One training run of a study: what it needs, and where its result is kept."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from operator import methodcaller
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hasa_opt import __version__
from hasa_opt.clients import FloatArray
from hasa_opt.errors import InputError
from hasa_opt.federated import Faults, History, run
from hasa_opt.models import SupernetModel, fresh
from hasa_opt.tasks import Task

__all__ = ["Trial", "canonical", "identity", "one_thread"]

_ROUNDS = "-rounds"


@dataclass(frozen=True, eq=False)
class Trial:
    """One allocation, trained under one seed.

    Attributes
    ----------
    task : Task
    model : SupernetModel
        Gives the architecture; the seed draws the initial weights.
    widths : (n_clients,) floats
    seed : int
    options : mapping
        Keyword arguments of :func:`hasa_opt.federated.run`.
    name : str
        Begins the name of the directory in which the result is kept.
    """

    task: Task
    model: SupernetModel
    widths: FloatArray
    seed: int
    options: Mapping[str, Any]
    name: str = "run"

    def run(
        self, place: Path | None, on_round: Callable[[int, Mapping[str, Any]], None] | None = None
    ) -> History:
        """Train on one thread, so that the numbers do not depend on the cores; keep the result.

        With a place, every round is kept beside it until the result is, and a trial that was
        interrupted goes on after its last one.
        """
        rounds = None if place is None else _rounds_of(place)
        with one_thread():
            history = run(
                fresh(self.model, self.seed),
                self.task,
                self.widths,
                seed=self.seed,
                checkpoint=rounds,
                resume=rounds is not None,
                on_round=on_round,
                **self.options,
            )
        history = replace(history, metadata={**history.metadata, **self._identity()})
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
        same = all(known.get(name) == value for name, value in self._identity().items())
        if not (same and np.array_equal(history.widths, self.widths)):
            return None
        shutil.rmtree(_rounds_of(place), ignore_errors=True)
        return history

    def place(self, store: Path) -> Path:
        """Where the result is kept: under the name of whichever study began the same trial."""
        for pattern in (f"*-{self.digest}", f"*-{self.digest}{_ROUNDS}"):
            for found in sorted(store.glob(pattern)):
                return found.with_name(found.name.removesuffix(_ROUNDS))
        return store / f"{self.name}-seed{self.seed}-{self.digest}"

    @cached_property
    def digest(self) -> str:
        """Eight characters that tell this trial from those of other settings."""
        identity = canonical([self._identity(), self.widths.tolist()])
        return hashlib.sha256(identity.encode()).hexdigest()[:8]

    def _identity(self) -> dict[str, Any]:
        """Metadata by which a stored history is recognised."""
        plain = {
            name: value.record() if isinstance(value, Faults) else value
            for name, value in self.options.items()
        }
        return {**plain, "seed": self.seed, **identity(self.model, self.task)}


def canonical(value: Any) -> str:
    """Write what tells settings apart as JSON; a number of numpy is as Python's."""
    return json.dumps(value, sort_keys=True, default=methodcaller("item"))


def identity(model: SupernetModel, task: Task) -> dict[str, Any]:
    """What tells a network and its data from others, in terms that JSON can hold."""
    return {
        "sizes": dict(model.sizes),
        "model": type(model).__name__,
        "architecture sha256": model.architecture,
        "fingerprint": dict(task.fingerprint),
        "data sha256": task.checksum,
        "version": __version__,
    }


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread, so that no number depends on the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _rounds_of(place: Path) -> Path:
    """Where the rounds of a trial are kept until its result is."""
    return place.with_name(place.name + _ROUNDS)
