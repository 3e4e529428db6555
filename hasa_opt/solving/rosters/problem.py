"""The problem of a roster: clients, rounds, energy, and how often each client must take part."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import BoolArray, FloatArray, IntArray, array, expect, number, whole
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import InfeasibleError, InputError

__all__ = ["RosterProblem"]

_ROOM = 2**53
"""Totals stay below it, so that floats hold them exactly."""


@dataclass(frozen=True, eq=False, init=False)
class RosterProblem:
    r"""Who may take part when, what that takes, and what is asked of every round.

    With :math:`x_{it} = 1` where client i takes part in round t, samples :math:`n_i` and energy
    :math:`e_i`, the least share of the samples in a round is made as large as possible,

    .. math:: \max_x \min_t \sum_i n_i x_{it} / \sum_i n_i,

    or, where a share is asked for, the energy :math:`\sum_{it} e_i x_{it}` as small as possible.

    Parameters
    ----------
    clients : Clients
        Names and samples.
    energy : (n_clients,) whole numbers
        What a round takes of a client, such as millijoules; at least 0.
    rounds : int
        Of the horizon.
    available : (n_clients, rounds) bools, optional
        Who can take part when. Default: all always.
    energy_each : whole number or (n_clients,) whole numbers, optional
        Most energy of a client over the horizon.
    energy_total : whole number, optional
        Most energy of all clients over the horizon.
    every : int, optional
        Each client takes part at least once in rounds 0 to ``every - 1``, once in the next so many,
        and so on.
    share : float in (0, 1], optional
        Least share of the samples in each round; then the energy is what is minimised.

    Raises
    ------
    InputError
        For a value that breaks one of these rules.
    InfeasibleError
        If a client cannot take part as often as ``every`` asks, or not all can within the total.
    """

    clients: Clients
    energy: IntArray
    rounds: int
    available: BoolArray
    most: IntArray
    energy_total: int | None
    every: int | None
    share: float | None

    def __init__(
        self,
        clients: Clients,
        energy: npt.ArrayLike,
        rounds: int,
        *,
        available: npt.ArrayLike | None = None,
        energy_each: npt.ArrayLike | None = None,
        energy_total: int | None = None,
        every: int | None = None,
        share: float | None = None,
    ) -> None:
        expect(clients, Clients, "clients")
        rounds = whole(rounds, "rounds", least=1)
        taken = _amounts(energy, "energy", len(clients))
        shape = (len(clients), rounds)
        able = (
            np.ones(shape, dtype=np.bool_)
            if available is None
            else array(available, "available").copy()
        )
        if able.shape != shape or able.dtype != np.bool_:
            raise InputError(
                f"available is {able.dtype}{able.shape}: give bools of shape {shape}, one for each "
                "client and round"
            )
        share = None if share is None else number(share, "share")
        if share is not None and not 0 < share <= 1:
            raise InputError(f"share = {share} must be above 0 and at most 1")
        if max(int(taken.max()), int(clients.samples.max())) * len(clients) * rounds > _ROOM:
            raise InputError("energy or samples over the horizon exceed 2**53: use larger units")
        given = {
            "clients": clients,
            "energy": taken,
            "rounds": rounds,
            "available": able,
            "most": _most(taken, energy_each, rounds),
            "energy_total": None if energy_total is None else whole(energy_total, "energy_total"),
            "every": None if every is None else whole(every, "every", least=1),
            "share": share,
        }
        for name, value in given.items():
            object.__setattr__(self, name, value)
        self._refuse_impossible()

    def __len__(self) -> int:
        return len(self.clients)

    @cached_property
    def blocks(self) -> IntArray:
        """In which of the times that each client must take part once a round is, ``(rounds,)``.

        Empty where no client must.
        """
        if self.every is None:
            return np.zeros(0, dtype=np.int64)
        return np.arange(self.rounds) // self.every

    @property
    def n_blocks(self) -> int:
        """How often each client must take part at least."""
        return int(self.blocks[-1]) + 1 if self.blocks.size else 0

    @cached_property
    def needed(self) -> int:
        """Least samples of a round; 0 where no share is asked for."""
        return int(np.ceil((self.share or 0.0) * self.clients.samples.sum() * (1 - 1e-12)))

    def shares(self, present: BoolArray) -> FloatArray:
        """Share of the samples in each round, ``(rounds,)``."""
        samples = self.clients.samples
        return np.asarray((samples @ present) / samples.sum())

    def faults(self, present: BoolArray) -> list[str]:
        """What of the problem a roster breaks, in words; recomputed in whole numbers."""
        counts = present.sum(axis=1)
        spent = int((self.energy * counts).sum())
        found = []
        if (present & ~self.available).any():
            found.append("a client takes part where it is not available")
        if (counts > self.most).any():
            found.append("a client takes part more often than its energy lets it")
        if self.energy_total is not None and spent > self.energy_total:
            found.append(f"the energy {spent} is above the total {self.energy_total}")
        found += [
            f"a client takes no part in rounds {block * (self.every or 0)} and after"
            for block in range(self.n_blocks)
            if not present[:, self.blocks == block].any(axis=1).all()
        ]
        least = int((self.clients.samples @ present).min())
        if least < self.needed:
            found.append(f"a round has {least} samples, below the {self.needed} asked for")
        return found

    def _refuse_impossible(self) -> None:
        """Refuse clients that cannot take part as often as they must."""
        for block in range(self.n_blocks):
            absent = np.flatnonzero(~self.available[:, self.blocks == block].any(axis=1))
            if absent.size:
                first = int(np.flatnonzero(self.blocks == block)[0])
                raise InfeasibleError(
                    f"client {self.clients.name(int(absent[0]))!r} is not available in the "
                    f"{self.every} rounds from {first} on ({absent.size} such client(s)): raise "
                    "every, or leave the client out"
                )
        poor = np.flatnonzero(self.most < self.n_blocks)
        if poor.size:
            row = int(poor[0])
            raise InfeasibleError(
                f"client {self.clients.name(row)!r} has the energy of {self.most[row]} round(s), "
                f"but must take part in {self.n_blocks}: raise every or energy_each"
            )
        least = int(self.energy.sum()) * self.n_blocks
        if self.energy_total is not None and least > self.energy_total:
            raise InfeasibleError(
                f"energy_total {self.energy_total} is below the {least} that it takes to have each "
                f"client take part {self.n_blocks} time(s): raise it, or every"
            )


def _amounts(values: npt.ArrayLike, what: str, n_clients: int) -> IntArray:
    given = array(values, what)
    if given.dtype.kind not in "iu" or given.shape not in ((), (n_clients,)):
        raise InputError(
            f"{what} is {given.dtype}{given.shape}: give whole numbers, one or {n_clients} of them"
        )
    if (given < 0).any():
        raise InputError(f"{what} {given.min()} is negative: give at least 0")
    if (given > _ROOM).any():
        raise InputError(f"{what} {given.max()} exceeds 2**53: use larger units")
    return np.broadcast_to(given, (n_clients,)).astype(np.int64)


def _most(energy: IntArray, each: npt.ArrayLike | None, rounds: int) -> IntArray:
    """How many rounds the energy of each client is enough for, ``(n_clients,)``."""
    if each is None:
        return np.full(len(energy), rounds, dtype=np.int64)
    room = _amounts(each, "energy_each", len(energy))
    return np.where(energy > 0, np.minimum(room // np.maximum(energy, 1), rounds), rounds)
