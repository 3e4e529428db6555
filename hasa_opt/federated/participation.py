"""Participation: who takes part in a round, who drops out, comes too late, or sends garbage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hasa_opt._utils.checks import BoolArray, IntArray, sequence, whole
from hasa_opt._utils.streams import Purpose, priorities, stream
from hasa_opt.errors import InputError
from hasa_opt.federated.availability import Availability
from hasa_opt.problem.clock import Clock
from hasa_opt.tasks.task import Task

Fate = Literal["reports", "dropped", "late", "corrupt"]

CORRUPTIONS = ("nan", "infinity", "shape", "huge")
"""Ways in which an update may be damaged."""

HUGE = 1e30
"""Value of a damaged tensor: finite in single precision, and beyond all weights."""


@dataclass(frozen=True)
class Faults:
    """Probabilities of faults, each drawn anew for every round and client.

    The draws depend on (seed, round, client) alone: neither training nor the sampling of clients
    changes them, and a client that fails at one probability also fails at every higher one.

    Attributes
    ----------
    dropout : float
        Probability that a client takes no part in a round: it receives, computes and sends
        nothing.
    straggle : float
        Probability that a client is too slow: it receives, trains and sends, but its update
        arrives after the end of the round, and is discarded.
    corrupt : float
        Probability that the update of a client arrives damaged in one of four ways, at random: one
        entry is NaN or infinite, or a tensor has another shape or holds huge values (1e30).
    absent : sequence of int
        Rows of clients that never take part.

    Raises
    ------
    InputError
        If a probability is not between 0 and 1, or a row is not a whole number of at least 0.
    """

    dropout: float = 0.0
    straggle: float = 0.0
    corrupt: float = 0.0
    absent: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("dropout", "straggle", "corrupt"):
            value = getattr(self, name)
            if not (isinstance(value, Real) and 0 <= float(value) <= 1):
                raise InputError(f"{name} = {value} must be a probability, from 0 to 1")
        rows = tuple(whole(row, "absent") for row in sequence(self.absent, "absent"))
        object.__setattr__(self, "absent", rows)

    def record(self) -> dict[str, Any]:
        """All fields, as JSON gives them back."""
        return asdict(self) | {"absent": list(self.absent)}

    def fate(self, key: tuple[int, int, int]) -> Fate:
        """Draw what happens to a client in a round; ``key`` is (seed, round, client).

        Whether the client is one of those that are always absent is not looked at.
        """
        if not (self.dropout or self.straggle or self.corrupt):
            return "reports"
        dropped, late, corrupt = stream(Purpose.FAULTS, *key).random(3)
        if dropped < self.dropout:
            return "dropped"
        if late < self.straggle:
            return "late"
        return "corrupt" if corrupt < self.corrupt else "reports"


@dataclass(frozen=True, kw_only=True)
class Participation:
    """Who takes part in a round.

    Attributes
    ----------
    clients_per_round : int or None
        Clients drawn in each round, uniformly and without replacement; None: all. Only those are
        trained and evaluated; after the last round all are evaluated.
    faults : Faults or None
        Clients that drop out, are late or send garbage; None: none.
    clock : Clock or None
        Says how many seconds, and joules, a round takes of each client, from what it computes,
        receives and sends: a history has them. Whoever is past its deadline has trained and sent
        for nothing. None: rounds take no time.
    availability : Availability or None
        When clients can take part; those of a round are drawn among them. None: always.

    Raises
    ------
    InputError
        If the number is not a whole number of at least 1, a field is of another kind, or clients
        are to be late both by chance and by a deadline.
    """

    clients_per_round: int | None = None
    faults: Faults | None = None
    clock: Clock | None = None
    availability: Availability | None = None

    def __post_init__(self) -> None:
        drawn, faults = self.clients_per_round, self.faults
        if drawn is not None and not (isinstance(drawn, (int, np.integer)) and drawn >= 1):
            raise InputError(
                f"clients_per_round = {drawn} must be a whole number of at least 1, or None: all"
            )
        if faults is not None and not isinstance(faults, Faults):
            raise InputError(
                f"faults is a {type(faults).__name__}: give Faults(dropout=...) or None"
            )
        for name, kind in (("clock", Clock), ("availability", Availability)):
            given = getattr(self, name)
            if given is not None and not isinstance(given, kind):
                raise InputError(
                    f"{name} is a {type(given).__name__}: give {kind.__name__}(...) or None"
                )
        if self.has_deadline and faults is not None and faults.straggle:
            raise InputError(
                f"straggle = {faults.straggle} beside a clock with a deadline, which says who is "
                "late: leave one of them out"
            )

    def check(self, task: Task) -> None:
        """Refuse to draw, or to leave out, more clients than the task has.

        Raises
        ------
        InputError
            Naming the number and the clients that there are.
        """
        drawn = self.clients_per_round
        if drawn is not None and drawn > len(task):
            raise InputError(
                f"clients_per_round = {drawn} must be a whole number from 1 to the {len(task)} "
                "clients, or None"
            )
        absent = max(self.faults.absent, default=0) if self.faults is not None else 0
        if absent >= len(task):
            raise InputError(
                f"faults.absent names client {absent}, but task {task.name!r} has clients 0 to "
                f"{len(task) - 1}"
            )
        if self.clock is not None:
            self.clock.check(len(task))
        if self.availability is not None:
            self.availability.check(task.client_names, self.clock is not None)

    @property
    def has_deadline(self) -> bool:
        """Whether clients may be late by the clock."""
        return self.clock is not None and self.clock.deadline_s is not None

    def draws(self, n_clients: int) -> bool:
        """Whether the clients of a round may be some of all."""
        return self.clients_per_round not in (None, n_clients) or self.availability is not None


def corrupted(state: Mapping[str, Tensor], key: tuple[int, int, int]) -> dict[str, Tensor]:
    """Damage a copy of a client's state in one of the ways :data:`CORRUPTIONS`."""
    rng = stream(Purpose.FAULTS, *key)
    rng.random(3)  # The fate.
    kind = rng.choice(CORRUPTIONS)
    floats = [name for name, tensor in state.items() if tensor.is_floating_point()]
    name = str(rng.choice(floats))
    damaged = state[name].clone(memory_format=torch.contiguous_format)
    entry = int(rng.integers(damaged.numel()))
    if kind == "nan":
        damaged.view(-1)[entry] = torch.nan
    elif kind == "infinity":
        damaged.view(-1)[entry] = np.inf * rng.choice((-1, 1))
    elif kind == "shape":
        damaged = damaged.flatten()[:-1]
    else:
        damaged.fill_(HUGE)
    return {**state, name: damaged}


def draw_clients(
    clients: IntArray,
    clients_per_round: int | None,
    key: tuple[int, int],
    purpose: Purpose = Purpose.SAMPLING,
    present: BoolArray | None = None,
) -> IntArray:
    """Draw the clients of a round uniformly and without replacement.

    Each client has a number of its own, and those with the smallest ones take part. So the order
    of the clients plays no part, and one that joins takes the place of one other at most.

    Parameters
    ----------
    clients : (n_clients,) int64
        The registered clients, by their :func:`~hasa_opt._utils.streams.client_number`.
    clients_per_round : int or None
        How many to draw; None: all.
    key : (int, int)
        (seed, round).
    purpose : Purpose
        What they are drawn for.
    present : (n_clients,) bools, optional
        Among whom they are drawn. Default: among all.

    Returns
    -------
    (clients_per_round,) int64
        Rows of the clients in ascending order; fewer where fewer are present.
    """
    rows = np.arange(len(clients)) if present is None else np.flatnonzero(present)
    if clients_per_round is None or clients_per_round >= len(rows):
        return rows
    drawn = priorities(purpose, key, clients[rows])
    return np.sort(rows[np.argpartition(drawn, clients_per_round - 1)[:clients_per_round]])
