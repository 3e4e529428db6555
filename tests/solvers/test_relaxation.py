"""The linear relaxation of many clients: a sample brackets the price, few are looked at closely."""

from __future__ import annotations

import numpy as np
import pytest

import hasa_opt as hasa
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.solvers.bounds import relaxation
from hasa_opt.solvers.bounds.relaxation import Relaxation, relax


def random_problem(seed: int, n_clients: int) -> AllocationProblem:
    rng = np.random.default_rng(seed)
    table = rng.random((n_clients, 5)) if seed % 3 else rng.integers(0, 5, (n_clients, 5)) / 4
    return AllocationProblem.build(
        hasa.Clients(
            rng.integers(1, 500, n_clients), max_width=rng.choice([0.4, 0.8, 1.0], n_clients)
        ),
        widths=[0.2, 0.4, 0.6, 0.8, 1.0],
        budget=float(rng.uniform(0.25, 0.5)),
        utility=hasa.utility.measured(table),
    )


def checked(problem: AllocationProblem, found: Relaxation) -> None:
    for choice in (found.choice, found.incumbent):
        totals = problem.evaluate(choice)
        assert totals.feasible
        assert totals.objective <= found.bound + 1e-9
    assert problem.limit - problem.evaluate(found.choice).spent == found.slack
    left = found.bound - problem.evaluate(found.choice).objective
    assert left == pytest.approx(found.price * found.slack, abs=1e-9)


def test_a_bracketed_price_gives_the_same_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relaxation, "_OPEN", 3)
    bracketed = []
    original = relaxation._bracketed
    monkeypatch.setattr(
        relaxation, "_bracketed", lambda *given: bracketed.append(original(*given)) or bracketed[-1]
    )
    for seed in range(60):
        problem = random_problem(seed, int(np.random.default_rng(seed).integers(2, 400)))
        whole = relax(problem)
        monkeypatch.setattr(relaxation, "_MANY", 1)
        part = relax(problem)
        monkeypatch.setattr(relaxation, "_MANY", 20_000)
        for found in (whole, part):
            checked(problem, found)
        assert part.bound == pytest.approx(whole.bound, rel=1e-12, abs=1e-12)
    assert sum(found is not None for found in bracketed) > 40


def test_many_clients_are_filled_as_closely() -> None:
    problem = random_problem(2, 30_000)
    found = relax(problem)
    checked(problem, found)
    assert found.near is not None
    assert found.near.size < 3_000
    assert found.bound - problem.evaluate(found.incumbent).objective < 1e-6 * found.bound
