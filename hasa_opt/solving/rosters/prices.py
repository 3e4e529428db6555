"""Rosters by prices: a bound and a near roster for any number of clients.

The rounds' samples and the total energy are all that ties clients together. With a price on each
(Dantzig and Wolfe 1960), every client takes its best rounds by itself: each answer is a column of a
linear program over T + 2 rows, whose duals are the next prices. Its optimum is a mixture of a few
columns; each client follows one of them, in the shares of the mixture, and a repair settles the
rest. The Lagrangian dual at any prices is a bound.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linprog

from hasa_opt._utils.checks import BoolArray, FloatArray, IntArray
from hasa_opt._utils.deadline import Deadline
from hasa_opt.solving.rosters.problem import RosterProblem

__all__ = ["by_prices"]

_ITERATIONS = 300
_CLOSE = 1e-5
"""Relative distance of the mixture from the bound at which more columns are not worth it."""
_SAFE = 1e-9
"""What rounding in floating point may take from a bound, relative."""
_GOLDEN = (np.sqrt(5) - 1) / 2
_MISSING = 1e3
"""Price of a sample that the mixture lacks, in the energy of the dearest: to begin with."""


def best_response(problem: RosterProblem, prices: FloatArray, energy_price: float) -> BoolArray:
    """The rounds that each client takes at some prices, ``(n_clients, rounds)``.

    Parameters
    ----------
    problem : RosterProblem
    prices : (rounds,) floats
        Of a sample in each round; at least 0.
    energy_price : float
        At least 0.
    """
    samples, able = problem.clients.samples, problem.available
    taken = np.zeros(able.shape, dtype=np.bool_)
    dear_first = np.argsort(-prices, kind="stable").tolist()
    served = np.zeros((len(problem), problem.n_blocks), dtype=np.bool_)
    for at in dear_first if problem.n_blocks else ():
        block = problem.blocks[at]
        taken[:, at] = able[:, at] & ~served[:, block]
        served[:, block] |= able[:, at]
    count = taken.sum(axis=1)
    for at in dear_first:
        gains = prices[at] * samples > energy_price * problem.energy
        more = able[:, at] & ~taken[:, at] & (count < problem.most) & gains
        taken[:, at] |= more
        count += more
    return taken


@dataclass
class _Mixture:
    """Columns so far, and the linear program over them."""

    problem: RosterProblem
    columns: list[BoolArray] = field(default_factory=list)
    samples: list[IntArray] = field(default_factory=list)
    energies: list[int] = field(default_factory=list)

    def add(self, taken: BoolArray) -> None:
        self.columns.append(taken)
        self.samples.append(self.problem.clients.samples @ taken)
        self.energies.append(int((self.problem.energy * taken.sum(axis=1)).sum()))

    def solve(self) -> tuple[FloatArray, float, FloatArray, float]:
        """Weights of the columns, the value, and the prices of samples and of energy."""
        return self._least_energy() if self.problem.needed else self._largest_share()

    def _largest_share(self) -> tuple[FloatArray, float, FloatArray, float]:
        """Maximise z with samples of each round at least z."""
        problem, n = self.problem, len(self.columns)
        rows = [np.append(-each, 1.0) for each in np.array(self.samples, dtype=float).T]
        right = [0.0] * problem.rounds
        if problem.energy_total is not None:
            rows.append(np.append(np.array(self.energies, dtype=float), 0.0))
            right.append(float(problem.energy_total))
        found = linprog(
            np.append(np.zeros(n), -1.0), A_ub=np.array(rows), b_ub=right,
            A_eq=[np.append(np.ones(n), 0.0)], b_eq=[1.0], method="highs",
        )  # fmt: skip
        duals = -found.ineqlin.marginals
        energy = float(duals[problem.rounds]) if problem.energy_total is not None else 0.0
        return found.x[:n], float(-found.fun), duals[: problem.rounds], energy

    def _least_energy(self) -> tuple[FloatArray, float, FloatArray, float]:
        """Minimise the energy with the samples of each round that are asked for."""
        problem, n = self.problem, len(self.columns)
        lacks = _MISSING * max(1, int(problem.energy.max()))
        cost = np.append(np.array(self.energies, dtype=float), np.full(problem.rounds, lacks))
        rows = np.hstack([-np.array(self.samples, dtype=float).T, -np.eye(problem.rounds)])
        found = linprog(
            cost, A_ub=rows, b_ub=np.full(problem.rounds, -float(problem.needed)),
            A_eq=[np.append(np.ones(n), np.zeros(problem.rounds))], b_eq=[1.0], method="highs",
        )  # fmt: skip
        return found.x[:n], float(found.fun), -found.ineqlin.marginals, 1.0

    def bound(self, taken: BoolArray, prices: FloatArray, energy_price: float) -> float:
        """The Lagrangian dual at some prices, by the best response to them."""
        problem = self.problem
        worth = float(prices @ (problem.clients.samples @ taken))
        spent = energy_price * float((problem.energy * taken.sum(axis=1)).sum())
        if problem.needed:
            return float(problem.needed * prices.sum() - worth + spent)
        scale = float(prices.sum())
        room = energy_price * (problem.energy_total or 0)
        return (worth - spent + room) / scale if scale > 0 else np.inf

    def followed(self, weights: FloatArray) -> BoolArray:
        """Each client's rounds by one of the columns, in the shares of their weights."""
        ends = np.cumsum(np.maximum(weights, 0))
        large_first = np.argsort(-self.problem.clients.samples, kind="stable")
        places = np.empty(len(self.problem))
        places[large_first] = (np.arange(len(self.problem)) * _GOLDEN) % 1.0
        chosen = np.minimum(np.searchsorted(ends, places * ends[-1]), len(ends) - 1)
        present = np.empty_like(self.columns[0])
        for column in np.unique(chosen).tolist():
            rows = chosen == column
            present[rows] = self.columns[column][rows]
        return present


def by_prices(problem: RosterProblem, deadline: Deadline) -> tuple[BoolArray, float]:
    """A roster, not yet repaired, and a bound on the samples of a round, or on the energy.

    Parameters
    ----------
    problem : RosterProblem
    deadline : Deadline

    Returns
    -------
    (n_clients, rounds) bools, float
    """
    mixture, minimises = _Mixture(problem), bool(problem.needed)
    even = np.ones(problem.rounds)
    mixture.add(best_response(problem, 0 * even, 1.0))
    mixture.add(best_response(problem, even, 0.0))
    best = -np.inf if minimises else np.inf
    for _ in range(_ITERATIONS):
        weights, value, prices, energy_price = mixture.solve()
        prices = np.maximum(prices, 0.0)
        taken = best_response(problem, prices, max(energy_price, 0.0))
        dual = mixture.bound(taken, prices, max(energy_price, 0.0))
        best = max(best, dual) if minimises else min(best, dual)
        if abs(best - value) <= _CLOSE * max(1.0, abs(value)) or deadline.passed:
            break
        mixture.add(taken)
    return mixture.followed(weights), best * (1 - _SAFE if minimises else 1 + _SAFE)
