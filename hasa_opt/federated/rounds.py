"""The record of a run: what its rounds measure, and what goes wrong in them."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt.federated.aggregation import Update, aggregate
from hasa_opt.federated.history import COLUMNS, COUNTED, Event, EventKind, History
from hasa_opt.models.supernet import SupernetModel

Row = dict[str, npt.NDArray[Any]]
"""One round of a history: column name -> array of shape (n_clients,)."""


@dataclass(eq=False)
class Round:
    """One round while it runs: who takes part, what is measured, what goes wrong."""

    seed: int
    number: int
    n_clients: int
    clients: IntArray
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.row: Row = {name: np.full(self.n_clients, np.nan) for name in COLUMNS}
        self.row |= {name: np.zeros(self.n_clients, dtype=np.int64) for name in COUNTED}

    def note(self, client: int | None, kind: EventKind, reason: str) -> None:
        """Record what went wrong with a client, or, without one, with the whole round."""
        self.events.append(Event(self.number, client, kind, reason))


@dataclass(eq=False)
class Record:
    """What the rounds of a run have measured so far."""

    widths: FloatArray
    metadata: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def take(self, past: History) -> None:
        """Begin with the rounds of a checkpoint."""
        self.events = list(past.events)
        self.rows = [
            {name: getattr(past, name)[number] for name in COLUMNS} for number in range(past.rounds)
        ]

    def add(self, done: Round) -> None:
        """Append a round; its events by client, in whatever order the engine trained them."""
        self.rows.append(done.row)
        self.events += sorted(done.events, key=lambda event: (event.client is None, event.client))

    def history(self, server: SupernetModel, clients: Mapping[str, Tensor]) -> History:
        """Everything so far, with a copy of the weights and what the clients hold."""
        columns = {name: np.stack([row[name] for row in self.rows]) for name in COLUMNS}
        state = server.state_dict()
        weights = {name: tensor.detach().clone().cpu() for name, tensor in state.items()}
        return History(
            widths=self.widths,
            **columns,
            metadata=self.metadata,
            weights=weights,
            clients={name: tensor.detach().clone().cpu() for name, tensor in clients.items()},
            events=tuple(self.events),
        )


def merge(
    server: SupernetModel,
    updates: Iterable[Update],
    aggregation: Literal["full", "selective"],
    local: Collection[str],
    now: Round,
) -> None:
    """Average the updates into the server's model, or keep it, with a warning, without any.

    Parameters
    ----------
    server
        The supernet as it was broadcast; it is changed.
    updates
        Sound ones, in the order of the clients.
    aggregation, local
        As for :func:`aggregate`.
    now
        The round, which notes that it is empty.
    """
    arrived = iter(updates)
    first = next(arrived, None)
    if first is None:
        now.note(None, "empty", "no update was left: the model stays as it was")
        warnings.warn(f"round {now.number}: no update was left, the model is kept", stacklevel=3)
        return
    server.load_state_dict(aggregate(server, chain([first], arrived), aggregation, local))
