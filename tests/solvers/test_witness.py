"""Any allocation within the limits, or the proof that there is none, in whole numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support import many
from support.limited_problems import KINDS, exact_limits, limited_problem

import hasa_opt as hasa
from hasa_opt import AllocationProblem, Termination
from hasa_opt.solvers import registry
from hasa_opt.solvers.bounds import witness as module
from hasa_opt.solvers.bounds.programs import Unsolved
from hasa_opt.solvers.bounds.witness import witness
from hasa_opt.solving.infeasible import explain_infeasible
from hasa_opt.testing.problems import best_objective


def narrow(seed: int) -> AllocationProblem:
    """Costs of up to 1e10 or more; limits from both sides, one in three a unit short."""
    rng = np.random.default_rng([7, seed])
    problem = exact_limits(seed, int(rng.integers(20, 60)))
    both, lower = problem.rows
    if rng.integers(2):
        both = replace(both, lower=both.upper)
    if rng.integers(2):
        lower = replace(lower, upper=lower.lower)
    return replace(problem, limit=problem.limit - (seed % 3 == 2), rows=(both, lower))


TAKE_ROWS = [line.name for line in registry.solvers() if line.stance(hasa.Budget) == "yes"]


@pytest.mark.slow
@pytest.mark.fuzz
@pytest.mark.parametrize("solver", TAKE_ROWS)
def test_no_false_claim_of_infeasibility_is_passed_on(solver: str) -> None:
    """HiGHS and CBC call some of these infeasible that are not."""
    if not registry.find_solver(solver).available:
        pytest.skip(registry.find_solver(solver).install)
    feasible = 0
    for seed in many(12):
        problem = narrow(seed)
        best = best_objective(problem)
        try:
            result = hasa.solve(problem, solver)
        except hasa.InfeasibleError:
            assert best is None, seed
            continue
        assert result.has_solution == (best is not None), (seed, result.message)
        if best is not None:
            feasible += 1
            assert result.objective <= best + 1e-9
            assert result.bound >= best - 1e-9
            proven = result.termination is Termination.OPTIMAL
            assert not proven or result.objective >= best - 1e-9
    assert feasible


@pytest.mark.slow
@pytest.mark.fuzz
def test_every_conflict_is_one_and_none_is_missed() -> None:
    for seed in many(60):
        problem = narrow(seed)
        conflict = explain_infeasible(problem)
        assert (conflict is None) == (best_objective(problem) is not None), seed


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", KINDS)
def test_a_witness_is_found_where_there_is_one(kind: str) -> None:
    for seed in many(12):
        problem = limited_problem(kind, seed, n_clients=(1, 7), n_widths=(1, 4))
        found = witness(problem)
        assert (found is None) == (best_objective(problem) is None), seed
        assert found is None or problem.evaluate(found).feasible


def test_limits_that_are_left_out_may_be_broken() -> None:
    problem = hasa.AllocationProblem.build(
        hasa.Clients([1, 1]),
        widths=(0.5, 1.0),
        budget=0.5,
        constraints=[hasa.Coverage({1.0: 0.5})],
        utility=hasa.utility.alpha_fair(),
    )
    assert witness(problem) is None
    np.testing.assert_array_equal(witness(problem, [0]), [0, 0])
    found = witness(problem, [1])
    assert found is not None
    assert (found == 1).any()
    assert witness(problem, []) is not None


def test_too_many_states_prove_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of the states still finds allocations, and never one that breaks a limit."""
    monkeypatch.setattr(module, "_STATES", 3)
    monkeypatch.setattr(module, "_PART", 3)
    ends = set()
    for seed in range(60):
        problem = narrow(seed)
        try:
            found = witness(problem)
        except Unsolved:
            ends.add("open")
            continue
        ends.add("none" if found is None else "found")
        assert (found is not None) <= (best_objective(problem) is not None)
        assert found is None or problem.evaluate(found).feasible
        assert found is not None or best_objective(problem) is None
    assert ends == {"open", "none", "found"}


def test_more_clients_than_a_search_can_look_at_are_left_to_others() -> None:
    problem = hasa.AllocationProblem.build(
        hasa.Clients([1] * 101), widths=(0.5, 1.0), budget=1, utility=hasa.utility.alpha_fair()
    )
    with pytest.raises(Unsolved, match="too many clients"):
        witness(problem)
