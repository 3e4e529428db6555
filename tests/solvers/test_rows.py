"""Limits beyond the budget by our own backends: every answer holds, and every gap is true."""

from __future__ import annotations

import time
from collections.abc import Callable
from fractions import Fraction
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from statistics import median

import networkx as nx
import numpy as np
import pytest
from support import TIMES, many
from support.limited_problems import KINDS, limited_problem, optimum, tolerance

import hasa_opt as hasa
from hasa_opt import AllocationProblem, Budget, Coverage, Quota, SiteBudgets
from hasa_opt._utils.deadline import OutOfTime
from hasa_opt.problem.linear import LinearModel
from hasa_opt.problem.result import Allocation, Termination
from hasa_opt.solvers import registry
from hasa_opt.solvers.base import Answer, Request

pytest.importorskip("numba")
from hasa_opt.solvers.exact import ExactBackend

pytestmark = pytest.mark.slow

OWN = ("exact", "greedy")


def built(
    costs: np.ndarray, table: np.ndarray, limit: int, constraints: list, **more: object
) -> AllocationProblem:
    """A problem from bare tables; widths 1/m to 1."""
    n_clients, n_widths = costs.shape
    full = max(1, int(costs.max(axis=1).sum()))
    return AllocationProblem.build(
        hasa.Clients(np.ones(n_clients, dtype=int), **more),
        widths=np.arange(1, n_widths + 1) / n_widths,
        budget=Fraction(max(1, limit), full),
        utility=hasa.utility.measured(table),
        cost=hasa.cost.table(costs, full=full),
        constraints=constraints,
    )


def holds(result: Allocation, best: float) -> None:
    """Allocation, bound and termination against the true optimum."""
    room = tolerance(result.problem)
    assert result.has_solution, result.message
    assert result.claim_held, result.message
    assert result.problem.evaluate(result.choice).feasible
    assert result.objective - room <= best <= result.bound + room
    if result.termination is Termination.OPTIMAL:
        assert result.objective >= best - room
    else:
        assert result.termination is Termination.GAP_REACHED
        assert result.gap > 0
        assert best - result.objective <= result.gap * abs(result.objective) + room


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_the_optimum_lies_between_allocation_and_bound(kind: str) -> None:
    infeasible = 0
    for seed in many(80):
        problem = limited_problem(kind, seed)
        best = optimum(problem)
        infeasible += best is None
        for solver in OWN:
            if not registry.supports(problem, solver):
                continue
            if best is not None:
                holds(hasa.solve(problem, solver), best)
            elif infeasible > 5:
                answer = registry.load(solver).solve(problem, Request(problem))
                assert answer.termination is Termination.INFEASIBLE, seed
            else:
                with pytest.raises(hasa.InfeasibleError):
                    hasa.solve(problem, solver)
    assert 0 < infeasible < 40 * TIMES


def test_what_is_not_understood_is_refused_before_any_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    costs, table = rng.integers(1, 9, (4, 3)), rng.random((4, 3))
    refused = {
        "greedy": [[Coverage({1.0: 0.2})], [Quota({1.0: 1})], [hasa.Switches(np.ones(4), 2)],
                   [Budget(costs, 20), Quota({1.0: 1})]],
        "exact": [[hasa.Robust(1, 0.1), Budget(costs, 20)], [hasa.Robust(1, 0.1), Quota({1.0: 1})]],
    }  # fmt: skip
    monkeypatch.setattr(registry, "load", lambda name: pytest.fail("work before the refusal"))
    for solver, cases in refused.items():
        for constraints in cases:
            named = "|".join(type(item).__name__ for item in constraints)
            with pytest.raises(hasa.errors.UnsupportedConstraintError, match=named):
                hasa.solve(built(costs, table, 20, constraints), solver)


@pytest.mark.parametrize("bits", [40, 50, 55, 58])
def test_huge_integers(bits: int) -> None:
    """Limits that are met exactly, in integers that no float64 holds."""
    for seed in range(8):
        rng = np.random.default_rng([bits, seed])
        n_clients, n_widths = int(rng.integers(2, 8)), int(rng.integers(2, 5))
        shape, rows = (n_clients, n_widths), np.arange(n_clients)
        met = rng.integers(0, n_widths, n_clients)
        costs, more = rng.integers(0, 2**bits // n_clients, (2, *shape))
        near = 2**bits // n_clients + rng.integers(0, 5, shape)
        share = Fraction(int((met == n_widths - 1).sum()), n_clients)
        extra = Budget(more, int(more[rows, met].sum()))
        for own in (costs, near):
            limit = int(own[rows, met].sum())
            for constraints in ([extra], [extra, Coverage({1.0: share})]):
                problem = built(own, rng.random(shape), limit, constraints)
                for solver in OWN:
                    if registry.supports(problem, solver):
                        holds(hasa.solve(problem, solver), optimum(problem))


@pytest.mark.parametrize("unit", [0.0, 1e-300, 1e-200, 1e200, 1e300])
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_extreme_utilities(unit: float) -> None:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        costs, more = rng.integers(0, 20, (2, 6, 3))
        table = rng.random((6, 3)) * unit
        for item in (Budget(more, 60), Quota({1.0: 2}), Coverage({1.0: Fraction(1, 3)})):
            problem = built(costs, table, 60, [item])
            best = optimum(problem)
            if best is not None:
                holds(hasa.solve(problem, "exact"), best)


def test_twenty_budgets_at_once() -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        met, rows = rng.integers(0, 4, 8), np.arange(8)
        costs, *others = rng.integers(0, 50, (21, 8, 4))
        limits = [
            Budget(table, int(table[rows, met].sum()) + int(rng.integers(0, 30)), f"r{at}")
            for at, table in enumerate(others)
        ]
        problem = built(costs, rng.random((8, 4)), int(costs[rows, met].sum()), limits)
        for solver in OWN:
            holds(hasa.solve(problem, solver), optimum(problem))


@pytest.mark.parametrize("room", [6_000, 10_000])
def test_a_hundred_sites_of_three(room: int) -> None:
    """With the budget between all sites, and without: then each site is solved alone."""
    rng = np.random.default_rng(0)
    costs = np.sort(rng.integers(1, 100, (300, 5)), axis=1)
    names = [f"s{at % 100}" for at in range(300)]
    tree = nx.DiGraph([("root", f"s{at}") for at in range(100)])
    least = np.bincount(np.arange(300) % 100, costs[:, 0]).astype(int)
    limits = {f"s{at}": int(least[at] + rng.integers(0, 150)) for at in range(100)}
    table = np.cumsum(rng.random((300, 5)), axis=1)
    sites = SiteBudgets(tree, limits)
    problem = built(costs, table, int(costs[:, 0].sum()) + room, [sites], site=names)
    result = hasa.solve(problem, "exact")
    best = hasa.solve(problem, "highs", gap=1e-6)
    assert result.gap < (1e-7 if room == 10_000 else 2e-2)
    assert result.bound >= best.objective - tolerance(problem)
    assert best.bound >= result.objective - tolerance(problem)


def _family() -> Callable[[str, int, int], AllocationProblem]:
    """The problems of the benchmark."""
    path = Path(__file__).parents[2] / "benchmarks" / "bench_limits.py"
    spec = spec_from_file_location("bench_limits", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.limited


@pytest.mark.parametrize(
    "kind",
    ["Budget", "3 x Budget", "SiteBudgets", "Coverage", "2 x Coverage", "Quota", "Switches",
     "Budget + SiteBudgets", "Coverage + Quota + Budget"],
)  # fmt: skip
def test_gap_of_a_thousand_clients(kind: str) -> None:
    gaps = []
    for seed in range(3):
        problem = _family()(kind, 1000, seed)
        answer = registry.load("exact").solve(problem, Request(problem))
        found = problem.evaluate(answer.choice)
        assert found.feasible
        gaps.append((answer.bound - found.objective) / abs(found.objective))
    assert median(gaps) <= 1e-4


def large(n_clients: int, constraints: list, **more: object) -> AllocationProblem:
    rng = np.random.default_rng(n_clients)
    return AllocationProblem.build(
        hasa.Clients(rng.integers(20, 2000, n_clients), **more),
        widths=np.linspace(0.3, 1, 8).round(2),
        budget=0.5,
        utility=hasa.utility.hasa(rng.random(n_clients)),
        constraints=constraints,
    )


@pytest.mark.parametrize(
    "limit",
    [Coverage({1.0: 0.15}), Quota({1.0: 150, 0.3: 100}), Budget(np.arange(1, 9), 2_200)],
    ids=lambda limit: type(limit).__name__,
)
def test_prices_of_some_hundred_clients_take_small_programs(
    monkeypatch: pytest.MonkeyPatch, limit: hasa.Coverage
) -> None:
    """They prove what one program over all options does."""
    from hasa_opt.solvers.bounds import dual

    problem = large(600, [limit])
    columns = []
    solved = dual.linear_program

    def seen(model: LinearModel, *arguments: object, **more: object) -> object:
        columns.append(model.objective.size)
        return solved(model, *arguments, **more)

    monkeypatch.setattr(dual, "linear_program", seen)
    found = dual.best_prices(problem)
    assert max(columns) < problem.costs.size / 2
    monkeypatch.setattr(dual, "_DIRECT", len(problem))
    direct = dual.best_prices(problem)
    assert columns[-1] == problem.costs.size
    assert found.bound == pytest.approx(direct.bound, abs=1e-10 * problem.magnitude)


def test_repair_charges_for_what_pairs_can_break_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from hasa_opt.solvers.bounds import repair

    table = np.sort(np.random.default_rng(0).integers(1, 1000, (400, 8)), axis=1)
    problem = large(400, [Budget(table, int(0.9 * table[:, -1].sum())), Coverage({1.0: 0.15})])
    dual, charged = Request(problem).dual, set()
    charge = repair._Near._charge

    def seen(near: repair._Near, limit: int, *more: object) -> object:
        charged.add(limit)
        return charge(near, limit, *more)

    monkeypatch.setattr(repair._Near, "_charge", seen)
    choice = repair.repaired(problem, dual)
    assert charged == {0, 2}
    every = np.ones(len(problem.limits), dtype=bool)
    monkeypatch.setattr(repair._Near, "_matters", lambda *_: every)
    assert repair.repaired(problem, dual).tolist() == choice.tolist()
    assert charged == {0, 1, 2}


@pytest.mark.parametrize("limit_s", [0.1, 0.7])
def test_ends_in_time_with_a_bound(limit_s: float) -> None:
    """Machine noise aside: CPU seconds are counted."""
    table = np.arange(1, 9)
    constraints = [Coverage({1.0: 0.1}), Quota({1.0: 5000, 0.3: 7000}), Budget(table, 90_000)]
    problem = large(20_000, constraints)
    hasa.solve(large(50, [Quota({1.0: 5})]), "exact")
    started = time.process_time()
    result = hasa.solve(problem, "exact", time_limit_s=limit_s)
    assert time.process_time() - started < 1.1 * limit_s + 2.0
    # A fast machine has tried everything before the limit, and found nothing.
    assert result.termination in (Termination.TIME_LIMIT, Termination.FAILED)
    assert result.bound <= problem.ceiling


def test_out_of_time_keeps_the_bound_of_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """HiGHS without an answer is no proof that there is none."""
    from hasa_opt.solvers.bounds import dual as module
    from hasa_opt.solvers.bounds.programs import Unsolved

    def unsolved(*args: object, **more: object) -> None:
        raise Unsolved("Time limit reached")

    problem = large(100, [Quota({1.0: 5})])
    best = hasa.solve(problem, "highs").objective
    monkeypatch.setattr(module, "linear_program", unsolved)
    request = Request(problem)
    assert request.dual is not None
    assert request.dual.bound == pytest.approx(request.relaxation.bound)
    assert registry.load("exact").solve(problem, request).bound >= best


def test_sites_keep_their_allocation_when_time_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from hasa_opt.solvers.exact import limits as module

    def late(*args: object) -> None:
        raise OutOfTime

    monkeypatch.setattr(module, "_solved", late)
    tree = nx.DiGraph([("root", "a")])
    problem = large(60, [SiteBudgets(tree, {"a": 10**6})], site=["a", "root"] * 30)
    result = hasa.solve(problem, "exact")
    assert result.has_solution
    assert result.gap < 1e-2


def test_named_prices_do_not_weaken_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    """A false optimum is caught although the backend names prices that suit it."""
    tree = nx.DiGraph([("root", "a")])
    problem = large(60, [SiteBudgets(tree, {"a": 150_000})], site=["a", "root"] * 30)
    true = hasa.solve(problem, "exact")
    assert true.gap < 1e-3
    assert true.prices.shape == (2,)
    cheapest = np.zeros(len(problem), dtype=np.int64)
    worth = problem.evaluate(cheapest).objective
    for prices in (true.prices, [0.0, 0.0], [1e9, 1.0], [-1.0, 0.0], [np.nan, 0.0], [1.0], 0.5):
        false = Answer(Termination.OPTIMAL, cheapest, worth, worth, prices=np.array(prices))
        monkeypatch.setattr(ExactBackend, "solve", lambda *_, answer=false: answer)
        result = hasa.solve(problem, "exact")
        assert not result.claim_held
        assert result.termination is Termination.FAILED
        assert result.bound >= true.objective


def test_large_conflicts_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the size of one linear program, and of one branch and bound."""
    from hasa_opt.solvers.bounds import dual, repair

    monkeypatch.setattr(dual, "_DIRECT", 100)
    monkeypatch.setattr(dual, "_SAMPLE", 50)
    monkeypatch.setattr(repair, "_SEARCH_COLUMNS", 500)
    problem = large(300, [Coverage({1.0: 0.9})])
    for request in (Request(problem), Request(problem, time_limit_s=60.0)):
        answer = registry.load("exact").solve(problem, request)
        assert answer.termination is Termination.INFEASIBLE
    with pytest.raises(hasa.InfeasibleError, match="Coverage"):
        hasa.solve(problem, "exact")


def test_a_search_over_few_columns_finds_what_repair_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from hasa_opt.solvers.bounds import repair

    monkeypatch.setattr(repair, "_SEARCH_COLUMNS", 500)
    problem = large(300, [Coverage({1.0: 0.1}), Quota({0.3: 50})])
    request = Request(problem)
    assert request.dual is not None
    choice, ended = repair.searched(problem, request.dual)
    assert ended is Termination.GAP_REACHED
    assert choice is not None
    gap = request.dual.bound - problem.evaluate(choice).objective
    assert 0 <= gap <= 0.01 * problem.span
