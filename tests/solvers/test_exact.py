"""The exact solver against an independent integer dynamic program, and at its edges."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import many

import hasa_opt as hasa
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Termination
from hasa_opt.solvers.base import Answer, Request
from hasa_opt.solvers.bounds.relaxation import relax

pytest.importorskip("numba")

from hasa_opt.solvers.exact import ExactBackend, stages
from hasa_opt.solvers.exact import run as exact_run
from hasa_opt.solvers.exact.kernels import multiplier

KINDS = ("log", "saturating", "measured", "negative", "ties", "correlated")


def problem_of(costs, utilities, limit, admissible=None):
    """A problem from bare arrays, without the checks of ``build``."""
    costs = np.asarray(costs, dtype=np.int64)
    utilities = np.asarray(utilities, dtype=np.float64)
    n_clients, n_widths = costs.shape
    if admissible is None:
        admissible = np.ones(costs.shape, dtype=bool)
    full = max(1, int(costs.max(axis=1).sum()))
    return AllocationProblem(
        hasa.Clients(np.ones(n_clients, dtype=np.int64)),
        hasa.Menu.of_widths(np.arange(1, n_widths + 1) / n_widths),
        costs,
        utilities,
        admissible,
        budget=limit / full,
        limit=int(limit),
        full_cost=full,
    )


def best_by_budget(problem):
    """Optimum by the textbook recursion over every integer budget (float64 additions only)."""
    best = np.zeros(problem.limit + 1)
    for row in range(len(problem)):
        nxt = np.full(problem.limit + 1, -np.inf)
        for k in np.flatnonzero(problem.admissible[row]):
            cost = int(problem.costs[row, k])
            if cost <= problem.limit:
                shifted = best[: problem.limit + 1 - cost] + problem.utilities[row, k]
                nxt[cost:] = np.maximum(nxt[cost:], shifted)
        best = nxt
    return float(best[-1])


def random_problem(rng, kind):
    n, m = int(rng.integers(1, 41)), int(rng.integers(1, 17))
    menu = np.sort(rng.choice(np.arange(1, 30), m, replace=False))
    size = rng.integers(1, 9, n)
    costs = size[:, None] * menu[None, :]
    weight = rng.random(n)[:, None]
    if kind == "log":
        utilities = weight * np.log(menu / 30)
    elif kind == "saturating":
        utilities = weight * -np.expm1(-menu / rng.uniform(2, 20))
    elif kind == "measured":
        utilities = rng.random((n, m))
        costs = rng.integers(0, 60, (n, m))
    elif kind == "negative":
        utilities = -rng.random((n, m)) * rng.choice([1, 100], (n, 1))
    elif kind == "ties":
        utilities = rng.integers(-3, 4, (n, m)).astype(float)
        costs = rng.integers(0, 12, (n, m)) * rng.choice([1, 4])
    else:
        utilities = costs + rng.choice([0, 5, 10]) * np.ones((n, m))
        if rng.random() < 0.5:
            costs[:, 0] = 0
            utilities[:, 0] = 0
    if rng.random() < 0.3:
        copies = rng.integers(0, max(1, n // 4), n)
        costs, utilities = costs[copies], utilities[copies]
    admissible = rng.random((n, m)) < rng.choice([0.4, 0.8, 1.0])
    admissible[np.arange(n), rng.integers(0, m, n)] = True
    least = int(np.where(admissible, costs, 1 << 40).min(axis=1).sum())
    most = int(np.where(admissible, costs, 0).max(axis=1).sum())
    share = rng.choice([0, rng.random() ** 3, rng.random(), 1, 1.2])
    utilities = utilities * 10.0 ** float(rng.choice([-12, -6, 0, 0, 0, 6, 12]))
    return problem_of(costs, utilities, least + int(share * (most - least)), admissible)


def solved(problem, **limits):
    return ExactBackend().solve(problem, Request(problem, **limits))


def check(problem, answer, optimum):
    found = problem.evaluate(answer.choice)
    assert found.feasible, found.violations
    room = 1e-12 * problem.magnitude
    assert answer.termination is Termination.OPTIMAL
    assert abs(found.objective - optimum) <= room
    assert abs(answer.objective - found.objective) <= room
    assert answer.bound >= optimum - room
    assert answer.bound <= optimum + room


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", KINDS)
def test_random_instances_against_the_integer_recursion(kind):
    rng = np.random.default_rng(KINDS.index(kind))
    for _ in many(170):
        problem = random_problem(rng, kind)
        check(problem, solved(problem), best_by_budget(problem))


def test_every_path_gives_the_same_optimum(monkeypatch):
    """Sampling, tiny lists, stages and branching, which small instances do not reach otherwise."""
    rng = np.random.default_rng(7)
    small, large = (1, 2, 1 << 16), (1 << 16,)
    for sample_from, first_cap, caps, giant in ((1, 1, small, 10.0), (1, 9, large, 10.0),
                                                (50, 1, large, 1.5)):  # fmt: skip
        monkeypatch.setattr(multiplier, "_SAMPLE_FROM", sample_from)
        monkeypatch.setattr(exact_run, "_FIRST_CAP", first_cap)
        monkeypatch.setattr(stages, "CAPS", caps)
        monkeypatch.setattr(exact_run, "CAPS", caps)
        monkeypatch.setattr(exact_run, "_GIANT", giant)
        monkeypatch.setattr(exact_run, "_GIANT_MOVES", 0)
        for _ in range(15):
            for kind in KINDS:
                problem = random_problem(rng, kind)
                check(problem, solved(problem), best_by_budget(problem))


def test_early_stops_keep_a_valid_bound(monkeypatch):
    monkeypatch.setattr(exact_run, "_FIRST_CAP", 2)
    rng = np.random.default_rng(8)
    open_gaps = 0
    for _ in range(25):
        for kind in KINDS:
            problem = random_problem(rng, kind)
            optimum = best_by_budget(problem)
            room = 1e-12 * problem.magnitude
            stops = ({"options": {"max_states": 2}}, {"gap": 1e-2}, {"time_limit_s": 0.0})
            for limits in stops:
                answer = solved(problem, **limits)
                found = problem.evaluate(answer.choice)
                assert found.feasible
                assert answer.bound >= optimum - room
                assert found.objective <= optimum + room
                if answer.termination is Termination.OPTIMAL:
                    assert found.objective >= optimum - room
                else:
                    open_gaps += 1
                if "gap" in limits:
                    allowed = 1.001e-2 * abs(relax(problem).bound) + room
                    assert answer.bound - found.objective <= allowed
    assert open_gaps > 20


def middle_problem(kind, n=300, seed=0):
    rng = np.random.default_rng(seed)
    samples = rng.integers(20, 2000, n)
    if kind == "log":
        utility = hasa.utility.hasa(rng.random(n))
    else:
        utility = hasa.utility.measured(rng.random((n, 8)))
    return AllocationProblem.build(
        hasa.Clients(samples), widths=np.linspace(0.3, 1, 8).round(2), budget=0.5, utility=utility
    )


@pytest.mark.parametrize("kind", ["log", "measured"])
def test_agrees_with_highs(kind):
    problem = middle_problem(kind)
    mine, peer = hasa.solve(problem, "exact"), hasa.solve(problem, "highs", time_limit_s=10)
    assert mine.termination is Termination.OPTIMAL
    assert mine.objective >= peer.objective - 1e-12 * problem.magnitude
    assert peer.bound >= mine.objective - 1e-9 * problem.magnitude
    for states in (1, 10, 100):
        early = hasa.solve(problem, "exact", max_states=states)
        assert early.claim_held
        assert early.bound >= peer.objective - 1e-12 * problem.magnitude


def correlated_problem(rng, n, largest, kind):
    """Utility = factor * cost + a constant of the width, with and without a free width."""
    m = int(rng.integers(2, 6))
    constant = float(rng.choice([1, largest // 10 + 1, largest, 3 * largest]))
    shape = {
        "free": np.arange(m) > 0, "inverse": -1.0 * (np.arange(m) > 0), "steps": np.arange(m),
        "two steps": np.minimum(np.arange(m), 2), "none": np.zeros(m),
        "any": rng.integers(-2, 4, m),
    }[kind]  # fmt: skip
    costs = np.sort(rng.integers(1, largest, (n, m)), axis=1)
    noise = rng.choice([0.0, 0.0, 0.01]) * constant * rng.standard_normal(costs.shape)
    utilities = rng.choice([1.0, 1.0, 0.37]) * costs + constant * shape + noise
    if rng.random() < 0.7:
        costs[:, 0], utilities[:, 0] = 0, 0.0
    least, most = int(costs.min(axis=1).sum()), int(costs.max(axis=1).sum())
    admissible = rng.random(costs.shape) < rng.choice([0.7, 1.0])
    admissible[:, 0] = True
    return problem_of(costs, utilities, least + int(rng.random() * (most - least)), admissible)


CORRELATED = ("free", "inverse", "steps", "two steps", "none", "any")


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", CORRELATED)
def test_branching_on_counts_keeps_the_optimum(kind, monkeypatch):
    monkeypatch.setattr(exact_run, "_COUNT_MOVES", 0)
    monkeypatch.setattr(exact_run, "_FIRST_CAP", 1)
    monkeypatch.setattr(exact_run, "_GAIN", 1.0)
    counted = []
    fixed = exact_run.Run._fixed

    def noted(self, part, unit):
        counted.append(part.count)
        return fixed(self, part, unit)

    monkeypatch.setattr(exact_run.Run, "_fixed", noted)
    rng = np.random.default_rng(CORRELATED.index(kind))
    for _ in many(50):
        problem = correlated_problem(rng, int(rng.integers(2, 25)), 60, kind)
        optimum = best_by_budget(problem)
        check(problem, solved(problem), optimum)
        early = solved(problem, options={"max_states": 2})
        assert problem.evaluate(early.choice).feasible
        assert early.bound >= optimum - 1e-12 * problem.magnitude
    assert counted or kind == "none"


@pytest.mark.parametrize("kind", ["free", "inverse", "two steps"])
def test_strongly_correlated_utilities_are_solved(kind):
    rng = np.random.default_rng(0)
    costs = np.sort(rng.integers(1, 10**6, (1000, 8)), axis=1)
    count = {"free": 1, "inverse": -1, "two steps": np.minimum(np.arange(8), 2)}[kind]
    utilities = costs + 10**5 * count
    costs[:, 0], utilities[:, 0] = 0, 0
    problem = problem_of(costs, utilities, int(costs[:, -1].sum()) // 20)
    answer = solved(problem, time_limit_s=4)
    assert problem.evaluate(answer.choice).feasible
    assert answer.bound - answer.objective <= 1e-7 * answer.bound
    assert kind != "free" or answer.termination is Termination.OPTIMAL


@pytest.mark.parametrize("kind", ["client", "steps", "multiples", "none"])
def test_every_reading_of_a_constant_is_solved(kind):
    """Sample counts times a menu, so that costs share divisors, and utility = cost + constant."""
    rng = np.random.default_rng(5)
    samples = rng.integers(1, 10**5, 1000)
    factor = 12 if kind == "multiples" else 1
    costs = factor * samples[:, None] * np.arange(6, 22, 2)
    constant = {
        "client": rng.integers(1, 10**5, 1000)[:, None],
        "steps": 10**4 * np.arange(8),
        "multiples": 10**4,
        "none": 0,
    }[kind]
    utilities = (costs + constant).astype(float)
    if kind == "multiples":
        costs[:, 0], utilities[:, 0] = 0, 0
    for share in (0.1, 0.4):
        least, most = int(costs.min(axis=1).sum()), int(costs.max(axis=1).sum())
        problem = problem_of(costs, utilities, least + int(share * (most - least)))
        answer = solved(problem, time_limit_s=20)
        assert answer.termination is Termination.OPTIMAL
        assert problem.evaluate(answer.choice).feasible


@pytest.mark.parametrize("slack", [-7, 0, 3, 60])
def test_fill_is_the_best_of_all_pairs(slack):
    from itertools import product

    from hasa_opt.solvers.exact.counts import fill
    from hasa_opt.solvers.exact.kernels.core import Core

    rng = np.random.default_rng(slack + 10)
    n, empty = 6, np.zeros(0)
    cost = rng.integers(1, 30, 2 * n) * np.where(np.arange(2 * n) < 6, -1, 1)
    regret = rng.choice([0.0, 0.5, 2.0], 2 * n)
    every = np.arange(n + 1)
    core = Core(2 * every, np.tile([1, 2], n), cost, regret, empty, empty, every, every[:-1])
    best = np.inf
    for chosen in product((None, 0, 1), repeat=n):
        moves = [2 * at + own for at, own in enumerate(chosen) if own is not None]
        left = slack - int(cost[moves].sum())
        if left >= 0:
            best = min(best, regret[moves].sum() + 1.5 * left)
    loss, moves = fill(core, 1.5, slack, 1 << 15)
    assert len({at // 2 for at in moves}) == len(moves)
    assert slack - cost[moves].sum() >= 0
    assert loss == pytest.approx(regret[moves].sum() + 1.5 * (slack - cost[moves].sum()))
    assert loss >= best - 1e-12
    # Each sum of the narrowing half goes with the widest that fits: best if regrets are equal.
    even = fill(core._replace(regret=np.zeros(2 * n)), 1.5, slack, 1 << 15)[0]
    sums = [
        int(sum(cost[2 * at + own] for at, own in enumerate(chosen) if own is not None))
        for chosen in product((None, 0, 1), repeat=n)
    ]
    assert even == 1.5 * min(slack - total for total in sums if total <= slack)


def test_identical_clients_are_solved_as_classes():
    rng = np.random.default_rng(3)
    for _ in range(60):
        n, kinds = int(rng.integers(3, 61)), int(rng.integers(1, 4))
        label = rng.integers(0, kinds, n)
        menu = np.sort(rng.choice(np.arange(1, 20), 5, replace=False))
        costs = rng.integers(1, 6, kinds)[label, None] * menu
        utilities = (rng.random(kinds)[:, None] * np.log(menu))[label]
        limit = int(costs.min(axis=1).sum() + rng.random() * (costs.max(axis=1) - 1).sum())
        problem = problem_of(costs, utilities, max(limit, int(costs.min(axis=1).sum())))
        check(problem, solved(problem), best_by_budget(problem))


def test_a_hundred_thousand_identical_clients():
    label = np.random.default_rng(0).integers(0, 3, 100_000)
    menu = np.arange(3, 11)
    costs = np.array([107, 211, 503])[label, None] * menu
    utilities = (np.array([0.3, 0.7, 0.9])[:, None] * np.log(menu))[label]
    problem = problem_of(costs, utilities, int(0.6 * costs.max(axis=1).sum()) + 13)
    solved(problem)
    started = time.process_time()
    answer = solved(problem)
    assert time.process_time() - started < 5.0  # minutes, if no clients were alike
    assert answer.termination is Termination.OPTIMAL
    assert problem.evaluate(answer.choice).feasible


@pytest.mark.parametrize("seed", [1, 4])
def test_giants_are_branched_on(seed):
    """Sizes of a heavy tail: a few clients outweigh all the others together."""
    rng = np.random.default_rng(seed)
    samples = (20 * (1 + rng.pareto(0.8, 1000))).astype(np.int64) + 1
    curves = rng.random((1000, 8)).cumsum(axis=1)
    utility = hasa.utility.hasa(rng.random(1000)) if seed % 2 else hasa.utility.measured(curves)
    problem = AllocationProblem.build(
        hasa.Clients(samples), widths=np.linspace(0.3, 1, 8).round(2), budget=0.5, utility=utility
    )
    result = hasa.solve(problem, "exact", time_limit_s=20)
    peer = hasa.solve(problem, "highs", time_limit_s=3)
    assert result.termination is Termination.OPTIMAL
    if peer.has_solution:  # on a busy machine it may not come so far
        assert peer.objective <= result.objective + 1e-12 * problem.magnitude
    assert peer.bound >= result.objective - 1e-9 * problem.magnitude


def test_no_time_still_gives_an_allocation_and_a_bound(monkeypatch):
    def relaxed(*given):  # all of the moment of grace is taken by the relaxation
        found = multiplier.relax(*given)
        monkeypatch.setattr("hasa_opt._utils.deadline._GRACE_S", 0.0)
        return found

    monkeypatch.setattr(exact_run, "relax", relaxed)
    problem = middle_problem("log")
    answer = solved(problem, time_limit_s=0.0)
    optimum = solved(problem).objective
    assert answer.termination is Termination.TIME_LIMIT
    assert problem.evaluate(answer.choice).feasible
    assert answer.objective <= optimum <= answer.bound + 1e-12 * problem.magnitude


def test_stops_at_the_gap():
    problem = middle_problem("log")
    result = hasa.solve(problem, "exact", gap=1e-2)
    assert result.termination is Termination.GAP_REACHED
    assert 0 < result.gap <= 1e-2


def test_interrupt_keeps_the_incumbent(monkeypatch):
    problem = middle_problem("log")

    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(exact_run.Search, "advance", interrupted)
    result = hasa.solve(problem, "exact")
    assert result.termination is Termination.INTERRUPTED
    assert result.has_solution
    assert result.claim_held


def test_warm_start_is_the_first_incumbent():
    problem = middle_problem("log")
    best = hasa.solve(problem, "exact")
    again = hasa.solve(problem, "exact", warm_start=best, time_limit_s=0)
    assert again.objective == best.objective
    costly = np.full(len(problem), problem.widths.size - 1)
    assert hasa.solve(problem, "exact", warm_start=costly).objective == best.objective


@pytest.mark.parametrize("kind", ["log", "measured"])
def test_a_start_never_changes_the_answer(kind, monkeypatch):
    monkeypatch.setattr(multiplier, "_SAMPLE_FROM", 10)
    problem = middle_problem(kind)
    best = hasa.solve(problem, "exact")
    random = np.random.default_rng(0).integers(0, problem.widths.size, len(problem))
    elsewhere = hasa.solve(problem.with_budget(1.1 * problem.budget), "exact")
    for start in (
        elsewhere,
        best,
        np.zeros_like(random),
        np.full_like(random, random.max()),
        random,
    ):
        again = hasa.solve(problem, "exact", warm_start=start)
        assert again.termination is best.termination
        assert again.objective == pytest.approx(best.objective, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_learnt_of_the_tables_is_true_under_any_budget(kind, monkeypatch):
    monkeypatch.setattr(multiplier, "_SAMPLE_FROM", 10)
    rng = np.random.default_rng(2)
    sure = 0
    for _ in range(12):
        problem = random_problem(rng, kind)
        rows, full, before = np.arange(len(problem)), problem.full_cost, None
        for _ in range(6):
            least = (int(problem.cheapest.sum()) + 1) / full
            problem = problem.with_budget(rng.uniform(least, least + 1.1))
            before = hasa.solve(problem, "exact", warm_start=before)
            check(problem, before, best_by_budget(problem))
            choice, spent, known = problem.learnt["exact"]
            assert spent == problem.costs[rows, choice].sum()
            for price in (known.lowest, known.highest):
                told = (known.lowest <= known.highest) & np.isfinite(price) & (price >= 0)
                net = problem.utilities - np.where(told, price, 0.0)[:, None] * problem.costs
                best = np.where(problem.admissible, net, -np.inf).max(axis=1)
                room = 1e-12 * np.abs(net).max()
                assert net[rows, choice][told] == pytest.approx(best[told], abs=room)
                sure += told.sum()
    assert sure


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.25, 2.0])
@pytest.mark.parametrize("kind", ["log", "measured"])
def test_an_interval_that_misses_teaches_nothing_false(kind, factor, monkeypatch):
    interval = multiplier._interval

    def missing(table, limit, widening, start):
        low, high = interval(table, limit, 1.0, None)
        middle = factor * (low + high) / 2  # wide enough that clients have steps within
        return (0.9 * middle, 1.1 * middle) if widening == 1.0 else (low, high)

    problems = [middle_problem(kind, n=2000).with_budget(b) for b in (0.52, 0.5, 0.48, 0.52)]
    fresh = [hasa.solve(problem).objective for problem in problems]
    monkeypatch.setattr(multiplier, "_interval", missing)
    monkeypatch.setattr(multiplier, "_SAMPLE_FROM", 1000)
    problem = middle_problem(kind, n=2000)
    former = hasa.solve(problem)
    for other, objective in zip(problems, fresh, strict=True):
        problem = problem.with_budget(other.budget)
        former = hasa.solve(problem, warm_start=former)
        assert former.termination is Termination.OPTIMAL, former.message
        assert former.objective == pytest.approx(objective, rel=1e-12)


def test_an_interval_from_a_sample_is_one():
    problem = middle_problem("log", n=2000)
    table = multiplier.Table(problem.costs, problem.utilities, problem.admissible)
    for limit in (int(problem.cheapest.sum()), problem.limit, 10 * problem.limit):
        for widening in (1.0, 8.0, 1e6):
            low, high = multiplier._interval(table, limit, widening, None)
            assert low <= high


def test_what_is_learnt_is_of_no_other_tables():
    problem = middle_problem("log")
    best = hasa.solve(problem, "exact")
    assert problem.with_budget(0.4).with_budget(0.6).learnt is problem.learnt
    reverse = replace(problem, utilities=-problem.utilities)
    assert not reverse.learnt
    answer = hasa.solve(reverse, "exact", warm_start=best)
    assert answer.objective == hasa.solve(reverse, "exact").objective
    assert answer.termination is Termination.OPTIMAL


def test_what_is_learnt_wrongly_is_found_out(monkeypatch):
    """A bug there ends in a refused claim or in a true gap, never in a false optimum."""
    monkeypatch.setattr(multiplier, "_SAMPLE_FROM", 10)
    problem = middle_problem("measured")
    best = hasa.solve(problem, "exact")
    start = problem.learnt["exact"]
    wrong = start.choice.copy()
    wrong[:200] = 0
    spent = int(problem.costs[np.arange(len(problem)), wrong].sum())
    everywhere = np.full(len(problem), np.inf)
    known = start.known._replace(lowest=-everywhere, highest=everywhere, step=everywhere)
    problem.learnt["exact"] = start._replace(choice=wrong, spent=spent, known=known)
    result = hasa.solve(problem, "exact", warm_start=best)
    assert result.objective <= best.objective
    assert result.bound >= best.objective - 1e-9
    assert result.termination is not Termination.OPTIMAL or result.gap == 0


def test_another_budget_shares_what_the_tables_gave():
    problem = middle_problem("log")
    least, magnitude = problem.cheapest, problem.magnitude
    other = problem.with_budget(0.9 * problem.budget)
    assert other.cheapest is least
    assert other.magnitude == magnitude
    assert other.limits[0].upper == other.limit != problem.limit


def test_a_wrong_price_does_not_weaken_verification(monkeypatch):
    """A false optimum is caught although the backend names a price that suits it."""
    problem = middle_problem("log")
    true = hasa.solve(problem, "exact")
    cheapest = np.zeros(len(problem), dtype=np.int64)
    worth = problem.evaluate(cheapest).objective
    for price in (true.price, 0.0, 1e9, -1.0, float("nan"), float("inf")):
        false = Answer(Termination.OPTIMAL, cheapest, worth, worth, prices=np.array([price]))
        monkeypatch.setattr(ExactBackend, "solve", lambda *_, answer=false: answer)
        result = hasa.solve(problem, "exact")
        assert not result.claim_held
        assert result.termination is Termination.FAILED
        assert result.bound >= true.objective


def test_huge_costs():
    rng = np.random.default_rng(5)
    costs = np.sort(rng.integers(0, 2**62 // 20, (20, 4)), axis=1)
    utilities = rng.random((20, 4)).cumsum(axis=1)
    limit = int(costs.max(axis=1).sum()) // 2
    problem = problem_of(costs, utilities, max(limit, int(costs[:, 0].sum())))
    answer = solved(problem)
    scaled = problem_of(costs >> 40, utilities, problem.limit >> 40)
    rough = solved(scaled).objective
    assert answer.termination is Termination.OPTIMAL
    assert problem.evaluate(answer.choice).feasible
    assert abs(answer.objective - rough) < 0.1


def test_edges():
    one = problem_of([[3, 5, 9]], [[1.0, 2.0, 9.0]], 8)
    check(one, solved(one), 2.0)
    single = problem_of([[3], [5]], [[1.0], [-2.0]], 8)
    check(single, solved(single), -1.0)
    rng = np.random.default_rng(2)
    costs, utilities = rng.integers(1, 9, (30, 5)), rng.random((30, 5))
    tight = problem_of(costs, utilities, costs.min(axis=1).sum())
    check(tight, solved(tight), best_by_budget(tight))
    loose = problem_of(costs, utilities, costs.max(axis=1).sum())
    check(loose, solved(loose), utilities.max(axis=1).sum())
    fixed = np.zeros((30, 5), dtype=bool)
    fixed[np.arange(30), rng.integers(0, 5, 30)] = True
    masked = problem_of(costs, utilities, costs[fixed].sum(), fixed)
    check(masked, solved(masked), utilities[fixed].sum())
    free = problem_of(np.zeros((4, 3)), np.arange(12.0).reshape(4, 3), 0)
    check(free, solved(free), 2.0 + 5 + 8 + 11)
    assert solved(problem_of([[3, 4]], [[1.0, 2.0]], 2)).termination is Termination.INFEASIBLE


def test_options_are_checked():
    problem = middle_problem("log", 5)
    with pytest.raises(hasa.errors.InputError, match="max_states"):
        hasa.solve(problem, "exact", mip_rel_gap=0.1)
    with pytest.raises(hasa.errors.InputError, match="threads"):
        hasa.solve(problem, "exact", threads=-1)
    with pytest.raises(hasa.errors.InputError, match="at least 1"):
        hasa.solve(problem, "exact", max_states=0)


def test_auto_takes_what_proves_the_optimum_within_seconds():
    problem = middle_problem("log", 30)
    limited = AllocationProblem.build(
        problem.clients,
        widths=problem.widths,
        budget=0.5,
        utility=hasa.utility.measured(problem.utilities),
        constraints=[hasa.Quota({0.3: 5})],
    )
    assert hasa.solve(limited).solver == "highs"
    assert hasa.solve(problem).solver == "exact"


@pytest.mark.parametrize("unit", [1.0, 3.0, 0.375, 1e6])
@pytest.mark.parametrize("seed", range(6))
def test_multiples_of_one_number_against_brute_force(unit: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    costs = rng.integers(1, 60, (25, 5))
    table = (costs + rng.integers(-4, 5, (25, 5))) * unit
    limit = int(rng.integers(costs.min(axis=1).sum(), costs.max(axis=1).sum()))
    problem = problem_of(costs, table, limit)
    result = hasa.solve(problem, "exact")
    assert result.termination == "optimal"
    assert result.objective == result.bound == best_by_budget(problem)


@pytest.mark.parametrize(
    ("table", "unit"),
    [
        ([[3, -6], [0, 9]], 3.0),
        ([[0, 0.75], [1.5, -2.25]], 0.75),
        ([[0.1, 0.2], [0.3, 0.4]], 0.0),
        ([[0, 0], [0, 0]], 0.0),
        ([[2.0**60, 3 * 2.0**60], [0, 2.0**61]], 2.0**60),
    ],
)
def test_the_number_that_all_utilities_are_multiples_of(table: list, unit: float) -> None:
    utilities = np.array(table, dtype=np.float64)
    everywhere = np.ones(utilities.shape, dtype=bool)
    assert multiplier.lattice(utilities, everywhere, 1e-9) == unit


def test_whole_numbers_need_no_search_below_one() -> None:
    """Profits on a circle: a gap of 1e-8 stayed open whatever the number of states."""
    rng = np.random.default_rng(0)
    costs = rng.integers(1, 1001, (20_000, 10))
    table = np.rint(2 / 3 * np.sqrt(4e6 - (costs - 2000.0) ** 2))
    limit = int(costs.min(axis=1).sum() + costs.max(axis=1).sum()) // 2
    answer = ExactBackend().solve(problem := problem_of(costs, table, limit),
                                  Request(problem, options={"max_states": 1000}))  # fmt: skip
    assert answer.termination is Termination.OPTIMAL
    assert answer.bound == problem.evaluate(answer.choice).objective


LARGE = """
import time
import numpy as np
import hasa_opt as hasa
from hasa_opt.solvers import registry

rng = np.random.default_rng(0)
problem = hasa.AllocationProblem.build(
    hasa.Clients(rng.integers(20, 2000, 5_000)), widths=np.linspace(0.3, 1, 8).round(2),
    budget=0.5, utility=hasa.utility.hasa(rng.random(5_000)))
registry.load("exact")
"""
CUT_OFF = """
started = time.perf_counter()
first = hasa.solve(problem, "exact", time_limit_s=1)
assert first.has_solution and first.gap < 1e-3, first
assert first.termination == "time limit" and "compiled" in first.message, first
assert time.perf_counter() - started < 3
"""
FOUND_COMPILED = """
started = time.process_time()
later = hasa.solve(problem, "exact")
assert later.termination == "optimal", later
assert time.process_time() - started < 3, time.process_time() - started
"""


@pytest.mark.nightly
def test_what_a_time_limit_cut_off_is_compiled_for_the_next_process(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    sources = [path.read_text() for path in Path(exact_run.__file__).parent.rglob("*.py")]
    n_loops = sum(text.count("\n@kernel") + text.count("\n@helper") for text in sources)
    for code in (CUT_OFF, FOUND_COMPILED):
        run = [sys.executable, "-c", LARGE + code]
        subprocess.run(run, env=environment, check=True, timeout=600)
        until = time.monotonic() + 300
        while len(list(tmp_path.rglob("*.nbi"))) < n_loops and time.monotonic() < until:
            time.sleep(0.2)


BEFOREHAND = """
import pkgutil, sys
import numpy as np
import hasa_opt as hasa
from hasa_opt.solvers.exact import kernels
from hasa_opt.solvers.exact.backend import compile_all

names = [f"{kernels.__name__}.{module.name}" for module in pkgutil.iter_modules(kernels.__path__)]
everything = [
    own.compiled for name in (*names, "hasa_opt.solvers.exact.certificate")
    for own in vars(sys.modules[name]).values() if isinstance(own, kernels.Kernel)]
compile_all()
before = {own: list(own.signatures) for own in everything}
assert len(before) > 10 and all(before.values()), before
rng = np.random.default_rng(0)
for n, constraints in ((50, ()), (30_000, ()), (50, (hasa.Robust(3, 0.1),))):
    problem = hasa.AllocationProblem.build(
        hasa.Clients(rng.integers(20, 2000, n)), widths=np.linspace(0.3, 1, 8).round(2), budget=0.5,
        utility=hasa.utility.measured(rng.random((n, 8))), constraints=constraints)
    result = hasa.solve(problem, "exact")
    hasa.solve(problem.with_budget(0.51), "exact", warm_start=result)
    hasa.solve(problem, "exact", warm_start=[0] * n)
    problem.learnt.clear()
    hasa.solve(problem, "exact", warm_start=result)
assert before == {own: list(own.signatures) for own in everything}
"""


@pytest.mark.slow
def test_every_kernel_is_compiled_beforehand():
    """One that is not would be compiled within a time limit."""
    subprocess.run([sys.executable, "-c", BEFOREHAND], check=True, timeout=600)
