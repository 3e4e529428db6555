"""Repair: small moves that make a near roster keep its limits, and a good one better."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hasa_opt._utils.checks import BoolArray, FloatArray, IntArray
from hasa_opt._utils.deadline import Deadline
from hasa_opt.solving.rosters.problem import RosterProblem

__all__ = ["repaired"]


def repaired(problem: RosterProblem, present: BoolArray, deadline: Deadline) -> BoolArray:
    """A roster that keeps the total energy, its least round raised, or its energy lowered.

    Parameters
    ----------
    problem : RosterProblem
    present : (n_clients, rounds) bools
        Each client's own limits are kept.
    deadline : Deadline

    Returns
    -------
    (n_clients, rounds) bools
        The same array, changed.
    """
    desk = _Desk(problem, present)
    if problem.needed:
        _until_done(desk.fill_up, deadline)
        _until_done(desk.spare, deadline)
    else:
        _until_done(desk.cut, deadline)
        _until_done(desk.raise_least, deadline)
    return present


def _until_done(step: Callable[[], bool], deadline: Deadline) -> None:
    while step() and not deadline.passed:
        pass


class _Desk:
    """A roster that is being changed, one client and round after another."""

    def __init__(self, problem: RosterProblem, present: BoolArray) -> None:
        self.problem, self.present = problem, present
        self.samples, self.energy = problem.clients.samples, problem.energy
        self.count: IntArray = present.sum(axis=1)
        self.in_round: IntArray = self.samples @ present
        self.spent = int((self.energy * self.count).sum())
        self.served = np.zeros((len(problem), problem.n_blocks), dtype=np.int64)
        for at, block in enumerate(problem.blocks.tolist()):
            self.served[:, block] += present[:, at]
        self.dear: FloatArray = self.energy / self.samples

    def change(self, client: int, at: int, by: int) -> None:
        """Let a client take part in a round (1), or no longer (-1)."""
        self.present[client, at] = by > 0
        self.count[client] += by
        self.in_round[at] += by * int(self.samples[client])
        self.spent += by * int(self.energy[client])
        if self.problem.n_blocks:
            self.served[client, self.problem.blocks[at]] += by

    def droppable(self, at: int) -> BoolArray:
        """Who takes part in a round and need not."""
        if not self.problem.n_blocks:
            return self.present[:, at].copy()
        return self.present[:, at] & (self.served[:, self.problem.blocks[at]] > 1)

    def addable(self, at: int) -> BoolArray:
        """Who could take part in a round as well."""
        free = self.problem.available[:, at] & ~self.present[:, at]
        return free & (self.count < self.problem.most)

    def cut(self) -> bool:
        """Drop one client from the fullest round where the total energy is exceeded."""
        total = self.problem.energy_total
        if total is None or self.spent <= total:
            return False
        for at in np.argsort(-self.in_round, kind="stable").tolist():
            rows = np.flatnonzero(self.droppable(at) & (self.energy > 0))
            if rows.size:
                self.change(int(rows[self.dear[rows].argmax()]), at, -1)
                return True
        return False

    def raise_least(self) -> bool:
        """Add a client to the emptiest round, or move one into it from another."""
        at = int(self.in_round.argmin())
        rows = np.flatnonzero(self.addable(at))
        if self.problem.energy_total is not None:
            rows = rows[self.energy[rows] <= self.problem.energy_total - self.spent]
        if rows.size:
            self.change(int(rows[self.dear[rows].argmin()]), at, 1)
            return True
        return any(self._moved(other, at) for other in np.argsort(-self.in_round).tolist())

    def _moved(self, source: int, at: int) -> bool:
        """Move a client between two rounds, where the lesser of both gains by it."""
        room = int(self.in_round[source] - self.in_round[at])
        if room <= 1:
            return False
        free = self.problem.available[:, at] & ~self.present[:, at] & self.present[:, source]
        blocks = self.problem.blocks
        if blocks.size and blocks[source] != blocks[at]:
            free &= self.served[:, blocks[source]] > 1
        rows = np.flatnonzero(free & (self.samples < room))
        if not rows.size:
            return False
        client = int(rows[np.abs(2 * self.samples[rows] - room).argmin()])
        self.change(client, source, -1)
        self.change(client, at, 1)
        return True

    def fill_up(self) -> bool:
        """Add the client of the least energy for its samples to a round that lacks some."""
        for at in np.argsort(self.in_round, kind="stable").tolist():
            lacking = self.problem.needed - int(self.in_round[at])
            if lacking <= 0:
                return False
            rows = np.flatnonzero(self.addable(at))
            if rows.size:
                useful = np.minimum(self.samples[rows], lacking)
                self.change(int(rows[(self.energy[rows] / useful).argmin()]), at, 1)
                return True
        return any(self._moved(other, int(self.in_round.argmin())) for other in self._rich())

    def _rich(self) -> list[int]:
        """Rounds with more than they need, the fullest first."""
        order = np.argsort(-self.in_round, kind="stable")
        return [at for at in order.tolist() if self.in_round[at] > self.problem.needed]

    def spare(self) -> bool:
        """Drop the client of most energy that some round can do without."""
        for at in self._rich():
            left = int(self.in_round[at]) - self.problem.needed
            fits = self.droppable(at) & (self.samples <= left) & (self.energy > 0)
            rows = np.flatnonzero(fits)
            if rows.size:
                self.change(int(rows[self.energy[rows].argmax()]), at, -1)
                return True
        return False
