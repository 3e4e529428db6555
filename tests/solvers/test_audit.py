"""The second opinion on a proof of optimality, against brute force."""

from __future__ import annotations

import numpy as np
import pytest

import hasa_opt as hasa
from hasa_opt.solvers.base import Answer
from hasa_opt.solvers.bounds.audit import better_exists
from hasa_opt.solvers.bounds.relaxation import relax
from hasa_opt.solvers.registry import SolverRecord, register, unregister
from hasa_opt.testing import random_problem


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 3.0])
def test_it_knows_the_optimum_and_what_is_below(brute, factor):
    refuted = 0
    for seed in range(150):
        problem = random_problem(seed)
        best = brute(problem)
        if problem.rows or best is None:
            continue
        price = factor * relax(problem).price
        assert better_exists(problem, price, best) is False
        step = 1e-6 * problem.span
        if step > 1e-12 * problem.magnitude:
            assert better_exists(problem, price, best - step) is True
            refuted += 1
    assert refuted > 50


def test_it_gives_up_where_states_abound():
    rng = np.random.default_rng(0)
    samples = rng.integers(10**6, 10**7, 60)
    correlated = samples[:, None] * np.arange(1, 9) / 1e6 + 1.0
    problem = hasa.AllocationProblem.build(
        hasa.Clients(samples),
        widths=np.arange(1, 9) / 10,
        budget=0.4,
        utility=hasa.utility.measured(correlated),
    )
    price = relax(problem).price
    assert better_exists(problem, price, relax(problem).bound - 5.0) is not False


class Runner:
    """A backend that gives the best allocation but one, and calls it optimal."""

    def solve(self, problem, request):
        found = []
        for place in np.ndindex(*[problem.widths.size] * len(problem)):
            evaluation = problem.evaluate(np.array(place))
            if evaluation.feasible:
                found.append((evaluation.objective, place))
        objective, place = sorted(found)[-2]
        return Answer(hasa.Termination.OPTIMAL, np.array(place), objective, objective)


def test_second_best_called_optimal_is_caught_every_time():
    register(SolverRecord("runner-up", f"{__name__}:Runner", "lies"))
    rng = np.random.default_rng(4)
    try:
        for _ in range(200):
            n_clients, n_widths = rng.integers(2, 5), rng.integers(2, 5)
            problem = hasa.AllocationProblem.build(
                hasa.Clients(rng.integers(1, 40, n_clients)),
                widths=np.sort(rng.choice(np.arange(1, 11), n_widths, replace=False)) / 10,
                budget=1.0,
                utility=hasa.utility.measured(rng.normal(size=(n_clients, n_widths))),
            )
            result = hasa.solve(problem, "runner-up")
            assert result.termination is hasa.Termination.FAILED
            assert not result.claim_held
            assert "better allocation" in result.message or "is known" in result.message
    finally:
        unregister("runner-up")


STATUSES = [status for status in hasa.Termination if status is not hasa.Termination.INFEASIBLE]


class Sly:
    """A backend that gives the best allocation but one under any status, with a false bound."""

    status = hasa.Termination.OPTIMAL

    def solve(self, problem, request):
        answer = Runner().solve(problem, request)
        return Answer(Sly.status, answer.choice, answer.objective, answer.objective)


@pytest.mark.parametrize("constrained", [False, True])
@pytest.mark.parametrize("status", STATUSES)
def test_a_false_bound_is_no_proof_under_any_status(status, constrained, monkeypatch):
    monkeypatch.setattr(Sly, "status", status)
    register(SolverRecord("sly", f"{__name__}:Sly", "lies", constraints=(hasa.Coverage,)))
    rng = np.random.default_rng(11)
    try:
        for _ in range(40):
            problem = hasa.AllocationProblem.build(
                hasa.Clients(rng.integers(1, 40, 4)),
                widths=[0.2, 0.5, 1.0],
                budget=0.8,
                utility=hasa.utility.measured(rng.normal(size=(4, 3))),
                constraints=[hasa.Coverage({0.5: 0.1})] if constrained else [],
            )
            result = hasa.solve(problem, "sly")
            assert result.termination is not hasa.Termination.OPTIMAL
            if not constrained or status is hasa.Termination.OPTIMAL:
                assert not result.claim_held
    finally:
        unregister("sly")
