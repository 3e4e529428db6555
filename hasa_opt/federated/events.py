"""Events and decisions of a run: what did not go as planned, and what an allocator decided."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from hasa_opt._utils.checks import BoolArray, listed
from hasa_opt._utils.rational import written
from hasa_opt.policies.subnets import Subnets

DECISIONS = "decisions"
"""Entry of a history's metadata: what an allocator has decided in which round."""

EventKind = Literal["dropped", "late", "rejected", "untested", "empty", "waited"]


@dataclass(frozen=True)
class Event:
    """What did not go as planned in a round.

    Attributes
    ----------
    round : int
        Number of the round, from 0.
    client : int or None
        Row of the client; None for an event of the whole round.
    kind : {"dropped", "late", "rejected", "untested", "empty", "waited"}
        ``dropped``: the client was drawn and sent nothing. ``late``: it trained, but its update
        came after the end of the round. ``rejected``: its update was refused. ``untested``: its
        validation or test samples could not be loaded. ``empty``: no update was left, so that the
        model stayed as it was. ``waited``: nobody could take part for some time.
    reason : str
        In words.
    seconds : float
        By the clock, of one that took time.
    """

    round: int
    client: int | None
    kind: EventKind
    reason: str
    seconds: float = field(default=0.0, repr=False)


@dataclass(frozen=True, eq=False)
class Decision:
    """What an allocator has decided.

    Attributes
    ----------
    round : int
        Number of the first round that it holds for, from 0.
    subnets : Subnets
        What the clients train; their ``reason`` says why.
    changed : (n_clients,) bools
        Who trains something else than in the round before: nobody by the first decision.
    """

    round: int
    subnets: Subnets
    changed: BoolArray

    @property
    def reason(self) -> str:
        """Why, in words."""
        return self.subnets.reason

    def __str__(self) -> str:
        """Round, reason, and who trains what other units."""
        told = f"round {self.round}: {self.reason}"
        if not self.changed.any():
            return told
        told += f" ({self.changed.sum()} of {self.changed.size} clients change"
        if self.subnets.has_blocks:
            starts = np.unique(np.asarray(self.subnets.starts))
            told += f": blocks of units from {listed(starts.tolist(), written)}"
        return f"{told})"
