"""The bound of the prices of all limits, and what its regrets rule out."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from importlib import import_module

import networkx as nx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import TIMES
from support.limited_problems import KINDS, limited_problem, optimum, relaxed, site_tree, tolerance

import hasa_opt as hasa
from hasa_opt import AllocationProblem, SiteBudgets
from hasa_opt.problem.limits import RobustRow, Row
from hasa_opt.problem.linear import LinearModel
from hasa_opt.solvers.bounds import dual as module
from hasa_opt.solvers.bounds.dual import Dual, Prices, best_prices, priced, promising
from hasa_opt.solvers.bounds.programs import linear_program
from hasa_opt.solvers.bounds.relaxation import hull_steps
from hasa_opt.solvers.bounds.site_tree import SiteTree
from hasa_opt.testing import best_objective

pytestmark = pytest.mark.slow

LAW = settings(max_examples=60 * TIMES, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def feasible_problems(kinds: tuple[str, ...], count: int, **sizes: tuple[int, int]):
    """Feasible random problems with their optima, in turn of each kind."""
    found = 0
    for seed in range(5 * count):
        problem = limited_problem(kinds[seed % len(kinds)], 10_000 + seed, **sizes)
        best = optimum(problem)
        if best is not None:
            yield problem, best
            found += 1
        if found == count:
            return
    raise AssertionError("too few of the problems are feasible")


def two_sided(problem: AllocationProblem, rng: np.random.Generator) -> AllocationProblem:
    """With a row of both limits over some clients, and a robust one."""
    rows = list(problem.rows)
    members = np.flatnonzero(rng.random(len(problem)) < 0.6)
    table = rng.integers(0, 20, (members.size, problem.widths.size))
    low, high = np.sort(rng.integers(0, 10 * members.size + 1, 2)).tolist()
    rows.append(Row("both", table, lower=low, upper=high, members=members))
    more = rng.integers(0, 9, problem.costs.shape)
    gamma = int(rng.integers(0, len(problem) + 1))
    limit = int(problem.costs.max(axis=1).sum())
    rows.append(RobustRow("robust", problem.costs, upper=limit, gamma=gamma, deviation=more))
    return replace(problem, rows=tuple(rows), constraints=())


def any_prices(problem: AllocationProblem, rng: np.random.Generator) -> Prices:
    """Prices of the right signs, of all sizes, some of them 0."""
    size = rng.random(len(problem.limits)) * 10.0 ** rng.uniform(-4, 3)
    size *= (problem.span or 1.0) / max(1.0, float(problem.costs.max()))
    size[rng.random(size.size) < 0.3] = 0
    signs = [
        rng.choice([-1, 1]) if row.lower is not None and row.upper is not None
        else 1 if row.lower is None else -1
        for row in problem.limits
    ]  # fmt: skip
    exposure = None
    robust = [row for row in problem.limits if isinstance(row, RobustRow)]
    if robust and rng.random() < 0.8:
        exposure = rng.random(len(problem))
        exposure *= min(1.0, robust[0].gamma / exposure.sum())
    return Prices(size * signs, exposure)


@pytest.mark.fuzz
@LAW
@given(st.sampled_from(KINDS), st.integers(0, 10**6), st.booleans())
def test_any_prices_give_a_bound(kind: str, seed: int, extended: bool) -> None:
    rng = np.random.default_rng(seed)
    problem = limited_problem(kind, seed, n_clients=(1, 6), n_widths=(1, 4))
    if extended:
        problem = two_sided(problem, rng)
    best = best_objective(problem)
    if best is None:
        return
    prices = any_prices(problem, rng)
    found = priced(problem, prices)
    paid = sum(
        abs(price) * max(abs(row.upper or 0), abs(row.lower or 0))
        for row, price in zip(problem.limits, prices.limits, strict=True)
    )
    assert found.bound >= best - tolerance(problem) - 1e-13 * paid
    assert (found.regret.min(axis=1) == 0).all()
    assert np.isinf(found.regret[~problem.admissible]).all()


def test_the_bound_is_the_worth_of_the_best_widths_and_what_is_left() -> None:
    """One row over some clients, by hand: max(5 - 2 x 1, 2) + max(9, 1) + 2 x 1 = 14."""
    problem = AllocationProblem.build(
        hasa.Clients([1, 1], site=["a", "root"]),
        widths=(0.5, 1.0),
        budget=1,
        utility=hasa.utility.measured([[2.0, 5.0], [1.0, 9.0]]),
        constraints=[SiteBudgets(nx.DiGraph([("root", "a")]), {"a": 2})],
    )
    assert priced(problem, Prices(np.array([0.0, 2.0]))).bound == 14.0


def test_inadmissible_widths_do_not_blur_the_bound() -> None:
    """Costs of 2**58 that differ by a few units, beside a free width that is ruled out."""
    costs = 2**58 + np.array([[-(2**58), 3, 7], [-(2**58), 1, 4], [-(2**58), 2, 9]])
    problem = AllocationProblem.build(
        hasa.Clients([1, 1, 1]),
        widths=(0.2, 0.5, 1.0),
        budget=Fraction(int(costs[:, 1].sum() + 5), int(costs[:, 2].sum())),
        utility=hasa.utility.measured([[0.0, 0.0, 1.0], [0.0, 0.0, 2.0], [0.0, 0.0, 3.0]]),
        cost=hasa.cost.table(costs),
        constraints=[hasa.MinWidth(0.5)],
    )
    assert priced(problem, Prices(np.array([0.5]))).bound == pytest.approx(0 + 0.5 + 0 + 2.5)


@pytest.fixture(scope="module")
def sited() -> list[tuple[AllocationProblem, float | None, float | None]]:
    """Problems with limits of sites, their linear optima, and those of HiGHS on the same rows."""
    found = []
    for seed in range(150):
        problem = limited_problem("sites", 20_000 + seed)
        best, value = relaxed(problem), None
        if best is not None:
            vertex = linear_program(LinearModel.relaxation(problem))
            assert vertex is not None
            value = vertex.value
        found.append((problem, best, value))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True], ids=["numpy", "compiled"])
def test_a_tree_gives_the_prices_of_the_linear_program(
    compiled: bool, sited: list[tuple[AllocationProblem, float | None, float | None]]
) -> None:
    steps_of = hull_steps
    if compiled:
        pytest.importorskip("numba")
        steps_of = import_module("hasa_opt.solvers.exact.backend").hull_steps
    compared = 0
    for problem, best, value in sited:
        tree = SiteTree.of(problem, steps_of=steps_of)
        assert tree is not None
        assert tree.feasible == (best is not None)
        if best is None:
            continue
        assert (tree.prices >= 0).all()
        bound = priced(problem, Prices(tree.prices)).bound
        assert bound == pytest.approx(best, rel=1e-9, abs=tolerance(problem))
        assert problem.evaluate(tree.start).feasible
        if value is not None:
            assert bound == pytest.approx(value, rel=1e-9, abs=tolerance(problem))
        compared += 1
    assert compared >= 90


def test_deep_trees() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        parents = site_tree(rng, 40) if seed % 2 else list(range(-1, 39))
        tree = nx.DiGraph([(f"s{up}", f"s{at}") for at, up in enumerate(parents) if at])
        costs = np.sort(rng.integers(0, 30, (60, 4)), axis=1)
        limits = {f"s{at}": int(rng.integers(300, 900)) for at in range(40)}
        problem = AllocationProblem.build(
            hasa.Clients(np.ones(60, dtype=int), site=[f"s{at}" for at in rng.integers(0, 40, 60)]),
            widths=(0.25, 0.5, 0.75, 1.0),
            budget=0.6,
            utility=hasa.utility.measured(rng.random((60, 4)).cumsum(axis=1)),
            cost=hasa.cost.table(costs),
            constraints=[SiteBudgets(tree, limits)],
        )
        own, vertex = SiteTree.of(problem), linear_program(LinearModel.relaxation(problem))
        assert own is not None
        assert own.feasible == (vertex is not None)
        if vertex is not None:
            bound = priced(problem, Prices(own.prices)).bound
            assert bound == pytest.approx(vertex.value, rel=1e-9)


@pytest.mark.slow
def test_boxes_end_at_the_bound_of_the_linear_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample of 25 clients and cores of few columns in place of one linear program."""
    kinds = ("budget", "budgets", "coverage", "coverages", "quota", "switches", "mix")
    problems = list(feasible_problems(kinds, 40, n_clients=(60, 80), n_widths=(2, 8)))
    exact = [best_prices(problem) for problem, _ in problems]
    monkeypatch.setattr(module, "_DIRECT", 30)
    monkeypatch.setattr(module, "_SAMPLE", 25)
    monkeypatch.setattr(module, "_CORE", 40)
    for (problem, best), direct in zip(problems, exact, strict=True):
        found = best_prices(problem)
        assert found is not None
        assert direct is not None
        assert found.bound >= best - tolerance(problem)
        assert found.bound == pytest.approx(direct.bound, abs=1e-6 * problem.magnitude)


def _without(problem: AllocationProblem, client: int, choice: np.ndarray) -> np.ndarray | None:
    """Best allocation that gives one client another width: next to the optimum."""
    admissible = problem.admissible.copy()
    admissible[client, choice[client]] = False
    if not admissible[client].any():
        return None
    try:
        return hasa.solve(replace(problem, admissible=admissible), "exact").choice
    except hasa.InfeasibleError:
        return None


@pytest.mark.parametrize("kind", KINDS)
def test_some_optimum_is_among_the_promising(kind: str) -> None:
    kept_all = removed = 0
    sizes = {"n_clients": (2, 7), "n_widths": (2, 4)}
    for problem, best in feasible_problems((kind,), 10, **sizes):
        prices = best_prices(problem)
        assert prices is not None
        known = hasa.solve(problem, "exact").choice
        for choice in (known, _without(problem, 0, known), _without(problem, 1, known)):
            if choice is not None:
                kept = promising(problem, prices, choice)
                reduced = replace(problem, admissible=kept)
                assert optimum(reduced) == pytest.approx(best, abs=tolerance(problem))
                kept_all += int(kept.sum())
                removed += int(problem.admissible.sum() - kept.sum())
    assert removed > 0.2 * kept_all


def test_a_dual_of_true_regrets() -> None:
    """Bound less regrets less price x slack is the worth of every allocation."""
    for problem, _ in feasible_problems(KINDS, 30, n_clients=(2, 6), n_widths=(2, 4)):
        found = best_prices(problem)
        assert isinstance(found, Dual)
        rng, rows = np.random.default_rng(0), np.arange(len(problem))
        for _ in range(20):
            choice = np.where(problem.admissible, rng.random(problem.costs.shape), -1).argmax(1)
            slack = sum(
                price * ((row.upper if price > 0 else row.lower or 0) - row.total(choice))
                for row, price in zip(problem.limits, found.prices.limits, strict=True)
                if price
            )
            worth = found.bound - found.regret[rows, choice].sum() - slack
            size = abs(found.bound) + abs(slack) + problem.magnitude
            assert worth == pytest.approx(problem.evaluate(choice).objective, abs=1e-9 * size)
