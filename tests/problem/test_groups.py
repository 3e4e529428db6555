"""SameOption and Capacity against every combination, by what they mean in words."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

import hasa_opt as hasa
from hasa_opt.errors import InfeasibleError, UnsupportedConstraintError

BACKENDS = [
    record.name
    for record in hasa.solvers()
    if record.available and record.name not in ("greedy", "flow")
]


def followed(allowed, values, option):
    """What one client takes where its group takes an option; None: it rules the option out."""
    if allowed[option]:
        return option
    below = [own for own, may in enumerate(allowed) if may and values[own] <= values[option]]
    return max(below, key=lambda own: (values[own], -own), default=None)


def lines_of(members, allowed, values):
    """What the clients of a group may have together."""
    found = set()
    for option in range(len(values)):
        own = [followed(allowed[client], values, option) for client in members]
        if any(allowed[client][option] for client in members) and None not in own:
            found.add(tuple(own))
    return found


def capacity_holds(choice, groups, values, at_most):
    widest = {}
    for client, group in enumerate(groups):
        widest[group] = max(widest.get(group, Fraction(0)), values[choice[client]])
    return sum(widest.values()) <= at_most


class Case:
    """A small problem with groups, and all that it admits."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.n, self.m = int(rng.integers(2, 6)), int(rng.integers(2, 5))
        self.values = [Fraction(int(v), 8) for v in rng.integers(0, 9, self.m)]
        self.groups = [f"g{at}" for at in rng.integers(0, 3, self.n)]
        self.allowed = rng.random((self.n, self.m)) < 0.7
        self.allowed[np.arange(self.n), rng.integers(0, self.m, self.n)] = True
        self.costs = rng.integers(0, 9, (self.n, self.m))
        self.worth = rng.normal(size=(self.n, self.m)).round(3)
        self.limit = int(rng.integers(0, 6 * self.n))
        self.same, self.room = rng.random() < 0.7, None
        if not self.same or rng.random() < 0.5:
            self.room = Fraction(int(rng.integers(1, 17)), 8)
        self.room_groups = self.groups
        if rng.random() < 0.3:
            self.room_groups = [f"r{at}" for at in rng.integers(0, 2, self.n)]
        self.quota = int(rng.integers(0, self.n + 1)) if rng.random() < 0.3 else None
        self.covered = Fraction(int(rng.integers(0, 4)), 4) if rng.random() < 0.4 else None
        self.samples = rng.integers(1, 5, self.n)
        self.other = rng.integers(0, 5, self.m) if rng.random() < 0.3 else None
        self.gamma = int(rng.integers(0, 3)) if rng.random() < 0.25 else None
        self.deviation = rng.integers(0, 4, (self.n, self.m))
        self.fair = rng.random() < 0.25

    def build(self):
        limits = [hasa.Budget("cost", self.limit)]
        if self.gamma is not None:
            limits = [hasa.Budget("cost", self.limit), hasa.Robust(self.gamma, self.deviation)]
        if self.same:
            limits.append(hasa.SameOption(self.groups))
        if self.room is not None:
            limits.append(hasa.Capacity(self.room_groups, self.room))
        if self.quota is not None:
            limits.append(hasa.Quota({"o0": self.quota}))
        if self.covered is not None:
            limits.append(hasa.Coverage({float(max(self.values)): float(self.covered)}))
        if self.other is not None:
            limits.append(hasa.Budget(self.other, 2 * self.n, name="other"))
        if self.fair:
            limits.append(hasa.Fairness("maxmin"))
        return hasa.AllocationProblem.build(
            hasa.Clients(self.samples, names=[f"c{at}" for at in range(self.n)]),
            menu=hasa.Menu(
                [f"o{at}" for at in range(self.m)],
                costs={"cost": self.costs},
                attributes={"width": [float(value) for value in self.values]},
                allowed=self.allowed,
            ),
            utility=hasa.utility.measured(self.worth),
            constraints=limits,
        )

    def admitted(self):
        """Every choice within all limits."""
        for choice in itertools.product(range(self.m), repeat=self.n):
            if self.admits(choice):
                yield choice

    def admits(self, choice):
        rows = range(self.n)
        if not all(self.allowed[row][choice[row]] for row in rows):
            return False
        for group in set(self.groups) if self.same else ():
            members = [row for row in rows if self.groups[row] == group]
            line = tuple(choice[row] for row in members)
            if line not in lines_of(members, self.allowed, self.values):
                return False
        if self.room is not None and not capacity_holds(
            choice, self.room_groups, self.values, self.room
        ):
            return False
        if self.quota is not None and choice.count(0) > self.quota:
            return False
        wide = sum(
            int(self.samples[row]) for row in rows if self.values[choice[row]] == max(self.values)
        )
        if self.covered is not None and wide < self.covered * int(self.samples.sum()):
            return False
        if self.other is not None and sum(self.other[own] for own in choice) > 2 * self.n:
            return False
        more = sorted((self.deviation[row, choice[row]] for row in rows), reverse=True)
        spent = sum(self.costs[row, choice[row]] for row in rows)
        return spent + sum(more[: self.gamma or 0]) <= self.limit

    def best(self):
        """Poorest (with Fairness) and objective of the best choice, or None."""
        worths = [[self.worth[row, own] for row, own in enumerate(c)] for c in self.admitted()]
        scores = [(min(own) if self.fair else 0.0, sum(own)) for own in worths]
        return max(scores, default=None)


def check(seed, solver):
    case = Case(seed)
    problem, wanted = case.build(), case.best()
    if solver == "exact" and case.gamma is not None:
        with pytest.raises(UnsupportedConstraintError, match="Robust"):
            hasa.solve(problem, solver)
        return
    if wanted is None:
        with pytest.raises(InfeasibleError):
            hasa.solve(problem, solver)
        return
    found = hasa.solve(problem, solver)
    assert case.admits(tuple(found.choice.tolist()))
    assert found.claim_held, found.message
    if solver != "exact" or not problem.rows:
        assert found.termination == "optimal", found
    if found.termination == "optimal":
        assert found.objective == pytest.approx(wanted[1], abs=1e-9)
        assert not case.fair or found.poorest == wanted[0]
    assert found.bound >= wanted[1] - 1e-9
    assert found.prices.shape == (len(problem.limits),)


@pytest.mark.parametrize("solver", ["auto", *BACKENDS])
def test_against_every_combination(solver):
    for seed in range(60 if solver in ("auto", "highs", "exact") else 25):
        check(seed, solver)


def test_the_small_problems_are_of_every_kind():
    cases = [Case(seed) for seed in range(60)]
    infeasible = sum(case.best() is None for case in cases)
    lowered = sum(
        case.same and any(not case.allowed[row].all() for row in range(case.n)) for case in cases
    )
    both = sum(case.same and case.room is not None for case in cases)
    alone = sum(not case.same for case in cases)
    assert min(infeasible, 60 - infeasible, lowered, both, alone) >= 8
