"""Rosters that were found: who takes part when, how good that is, and how good it can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hasa_opt._utils.checks import BoolArray, FloatArray
from hasa_opt._utils.frames import Framed
from hasa_opt.solving.rosters.problem import RosterProblem

__all__ = ["Roster"]


@dataclass(frozen=True, eq=False)
class Roster(Framed):
    """Who takes part in which round; recomputed and verified, whoever found it.

    Attributes
    ----------
    problem : RosterProblem
    present : (n_clients, rounds) bools
    bound : float
        No roster has a larger least share, or takes less energy where that is minimised.
    solver : str
        "prices", or "highs" where its search found better.
    seconds : float
        Wall-clock time.
    """

    problem: RosterProblem
    present: BoolArray
    bound: float
    solver: str
    seconds: float

    @property
    def shares(self) -> FloatArray:
        """Share of the samples in each round, ``(rounds,)``."""
        return self.problem.shares(self.present)

    @property
    def energy(self) -> int:
        """Energy of all clients over the horizon."""
        return int((self.problem.energy * self.present.sum(axis=1)).sum())

    @property
    def objective(self) -> float:
        """The least share of the samples in a round, or the energy where that is minimised."""
        return float(self.shares.min()) if self.problem.share is None else float(self.energy)

    @property
    def gap(self) -> float:
        """How far the objective is from its bound at most, as a share of the bound."""
        away = abs(self.bound - self.objective)
        return away / abs(self.bound) if self.bound else (0.0 if away == 0 else np.inf)

    def traces(self) -> dict[str, list[Any]]:
        """Columns client, from and to, in rounds: for ``federated.Availability(traces=...)``."""
        rows, rounds = np.nonzero(self.present)
        names = [self.problem.clients.name(row) for row in rows.tolist()]
        return {"client": names, "from": rounds.tolist(), "to": (rounds + 1).tolist()}

    def in_columns(self) -> dict[str, Any]:
        """A row for each client and round in which it takes part."""
        traces = self.traces()
        return {"client": traces["client"], "round": traces["from"]}

    def __repr__(self) -> str:
        problem = self.problem
        what = "least share" if problem.share is None else "energy"
        return (
            f"Roster({len(problem)} clients, {problem.rounds} rounds, {what} {self.objective:.6g}, "
            f"gap {self.gap:.2g}, {self.solver})"
        )
