"""The poorest client first: against brute force that sorts the utilities of every allocation."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import TIMES, many

import hasa_opt as hasa
from hasa_opt import AllocationProblem, Fairness, Termination
from hasa_opt.errors import UnsupportedConstraintError
from hasa_opt.problem.cost import CostTable
from hasa_opt.solvers import base, registry
from hasa_opt.solvers.base import Answer
from hasa_opt.solving import fairness as stages
from hasa_opt.solving.comparison import Comparison, ComparisonRow

MODES = ("maxmin", "leximin")
Vector = tuple[float, ...]


def build(
    utilities: np.ndarray, costs: np.ndarray, limit: int, *constraints: object, caps: object = None
) -> AllocationProblem:
    clients, widths = np.shape(utilities)
    full = int(np.sum(costs)) + 1
    return AllocationProblem.build(
        hasa.Clients(np.arange(1, clients + 1), max_width=caps),
        widths=np.arange(1, widths + 1) / widths,
        budget=(limit + 0.5) / full,
        utility=hasa.utility.measured(np.asarray(utilities, dtype=float)),
        cost=lambda *_: CostTable(np.asarray(costs, dtype=np.int64), full),
        constraints=constraints,
    )


def draw(seed: int, *constraints: object) -> AllocationProblem:
    """Ties of every kind: few utilities, few costs, zero costs, identical clients, masks."""
    rng = np.random.default_rng(seed)
    clients, widths = int(rng.integers(1, 8)), int(rng.integers(1, 5))
    shape = (clients, widths)
    utilities = [
        rng.integers(0, 4, shape).astype(float),
        rng.integers(-3, 3, shape) / 2,
        rng.normal(size=shape),
    ][rng.integers(3)]
    costs = rng.integers(0, [3, 10, 100][rng.integers(3)], shape)
    if rng.random() < 0.3:
        costs[:] = costs[0]
    if rng.random() < 0.2:
        utilities[:] = utilities[0]
    masks: list[object] = []
    if rng.random() < 0.3:
        masks.append(hasa.MinWidth(rng.choice([0.0, 0.4, 1.0], clients)))
    if rng.random() < 0.2 and widths > 1:
        masks.append(hasa.Forbidden({0: 1 / widths}))
    limit = int(costs.min(axis=1).sum() - 1 + rng.integers(0, costs.max(axis=1).sum() + 2))
    return build(utilities, costs, max(limit, 0), *masks, *constraints)


def best(problem: AllocationProblem, mode: str) -> Vector | None:
    """Best sorted utilities, or smallest utility and sum, by enumeration."""
    options = [np.flatnonzero(row).tolist() for row in problem.admissible]
    choices = np.array(list(itertools.product(*options)))
    clients = np.arange(len(problem))
    keep = problem.costs[clients, choices].sum(axis=1) <= problem.limit
    if problem.rows:
        keep &= [problem.evaluate(choice).feasible for choice in choices]
    rows = np.sort(problem.utilities[clients, choices[keep]], axis=1).tolist()
    return max((reached(row, mode) for row in rows), default=None)


def reached(utilities: list[float], mode: str) -> Vector:
    poorest_first = sorted(utilities)
    return tuple(poorest_first) if mode == "leximin" else (poorest_first[0], sum(poorest_first))


def utilities_of(result: hasa.Allocation) -> list[float]:
    rows = np.arange(len(result.problem))
    return sorted(result.problem.utilities[rows, result.choice].tolist())


def assert_best(problem: AllocationProblem, mode: str, solver: str) -> bool:
    """Compare with brute force; False if there is no allocation."""
    optimum = best(problem, mode)
    if optimum is None:
        with pytest.raises(hasa.InfeasibleError):
            hasa.solve(problem, solver)
        return False
    result = hasa.solve(problem, solver)
    assert problem.evaluate(result.choice).feasible
    assert result.problem is problem
    assert reached(utilities_of(result), mode) == pytest.approx(optimum, abs=1e-9)
    assert result.poorest == optimum[0]
    assert result.termination is Termination.OPTIMAL, result
    assert result.bound == pytest.approx(result.objective, abs=1e-9)
    assert result.claim_held, result.message
    return True


@pytest.mark.fuzz
@pytest.mark.parametrize("mode", MODES)
def test_exact_agrees_with_brute_force(mode: str) -> None:
    right = sum(assert_best(draw(seed, Fairness(mode)), mode, "exact") for seed in many(100))
    assert right > 70 * TIMES


@pytest.mark.parametrize(("solver", "count"), [("highs", 30), ("pulp", 10), ("cvxpy", 10)])
def test_maxmin_agrees_with_brute_force(solver: str, count: int) -> None:
    problems = [draw(seed, Fairness("maxmin")) for seed in range(count)]
    assert sum(assert_best(problem, "maxmin", solver) for problem in problems) > count / 2


ROWS: dict[str, Callable[[int], list[object]]] = {
    "coverage": lambda widths: [hasa.Coverage({1.0: 0.3})],
    "quota": lambda widths: [hasa.Quota({1.0: 2, 1 / widths: 1})],
    "budget": lambda widths: [hasa.Budget(np.arange(widths), widths)],
    "robust": lambda widths: [hasa.Robust(1, 2 * np.ones(5, dtype=int))],
    "switches": lambda widths: [hasa.Switches(np.full(5, 1.0), 3), hasa.Quota({1.0: 3})],
}


@pytest.mark.parametrize("case", ROWS)
@pytest.mark.parametrize(("solver", "count"), [("highs", 10), ("pulp", 4)])
def test_maxmin_with_further_limits(case: str, solver: str, count: int) -> None:
    feasible = 0
    for seed in range(count):
        rng = np.random.default_rng(seed)
        utilities = rng.integers(0, 6, (5, 3)) if seed % 2 else rng.normal(size=(5, 3))
        costs = rng.integers(0, 12, (5, 3))
        problem = build(utilities, costs, int(rng.integers(15, 45)), *ROWS[case](3),
                        Fairness("maxmin"))  # fmt: skip
        feasible += assert_best(problem, "maxmin", solver)
    assert feasible > count / 3


@pytest.mark.parametrize(
    ("clients", "levels", "seed"),
    [*((40, 4, seed) for seed in range(2)), *((11, 6, seed) for seed in range(12))],
)
def test_leximin_with_heavy_ties_against_a_dynamic_program(
    clients: int, levels: int, seed: int
) -> None:
    """Many clients on few levels: the reachable counts per level, by cost, are few."""
    rng = np.random.default_rng(seed)
    utilities = rng.integers(0, levels, (clients, 5))
    costs = np.sort(rng.integers(0, 30, (clients, 5)), axis=1)
    utilities = np.sort(utilities, axis=1) if seed % 2 else utilities
    limit = int(costs.min(axis=1).sum() + rng.integers(0, 4 * clients))
    cheapest = {(0,) * (levels - 1): 0}
    for worth, price in zip(utilities, costs, strict=True):
        grown: dict[tuple[int, ...], int] = {}
        for counts, spent in cheapest.items():
            for value, cost in zip(worth.tolist(), price.tolist(), strict=True):
                key = tuple(count + (value <= at) for at, count in enumerate(counts))
                grown[key] = min(grown.get(key, limit + 1), spent + cost)
        cheapest = {key: spent for key, spent in grown.items() if spent <= limit}
    result = hasa.solve(build(utilities, costs, limit, Fairness("leximin")), "exact")
    found = np.array(utilities_of(result))
    assert tuple((found <= at).sum() for at in range(levels - 1)) == min(cheapest)
    assert result.termination is Termination.OPTIMAL


def test_which_client_stays_poor_matters_for_the_others() -> None:
    # Either client can leave level 0 for one unit; only the second one gets to level 3 with it.
    problem = build([[0, 1], [0, 3]], [[0, 1], [0, 1]], 1, Fairness("leximin"))
    assert utilities_of(hasa.solve(problem)) == [0, 3]


def test_a_client_that_took_a_place_below_may_leave_it_again() -> None:
    utilities = [[0, 3, 4, 4], [4, 4, 5, 7], [0, 2, 3, 6], [0, 1, 4, 7], [0, 0, 2, 7], [0, 2, 5, 6]]
    costs = [
        [7, 9, 21, 28],
        [0, 10, 17, 24],
        [4, 19, 20, 23],
        [1, 6, 17, 25],
        [0, 5, 6, 11],
        [3, 10, 11, 25],
    ]
    assert assert_best(build(utilities, costs, 49, Fairness("leximin")), "leximin", "exact")


def test_identical_clients_are_fast() -> None:
    menu = np.array([[0, 3, 5, 6], [1, 3, 4, 8], [0, 1, 5, 7]])
    costs = np.array([[1, 4, 6, 9], [1, 2, 7, 8], [2, 3, 4, 9]])
    kind = np.arange(1000) % 3
    problem = build(menu[kind], costs[kind], 4321, Fairness("leximin"))
    started = time.process_time()
    result = hasa.solve(problem, "exact")
    assert result.termination is Termination.OPTIMAL
    assert time.process_time() - started < 10


def test_leximin_is_at_least_as_fair_as_maxmin() -> None:
    for seed in range(30):
        problems = [draw(seed, Fairness(mode)) for mode in MODES]
        if best(problems[0], "maxmin") is None:
            continue
        maxmin, leximin = (hasa.solve(problem) for problem in problems)
        assert leximin.poorest == maxmin.poorest
        assert leximin.objective <= maxmin.objective + 1e-9
        assert utilities_of(leximin) >= utilities_of(maxmin)


@pytest.mark.fuzz
@settings(max_examples=60 * TIMES, deadline=None)
@given(st.integers(0, 10_000), st.randoms(use_true_random=False), st.sampled_from(MODES))
def test_the_order_of_the_clients_does_not_matter(seed: int, random: object, mode: str) -> None:
    rng = np.random.default_rng(seed)
    utilities, costs = rng.integers(0, 4, (6, 3)), rng.integers(0, 6, (6, 3))
    limit = int(costs.min(axis=1).sum() + rng.integers(0, 12))
    order = list(range(6))
    random.shuffle(order)  # type: ignore[attr-defined]
    found = [
        utilities_of(hasa.solve(build(utilities[at], costs[at], limit, Fairness(mode)), "exact"))
        for at in (list(range(6)), order)
    ]
    if mode == "leximin":
        assert found[0] == found[1]
    else:
        assert (found[0][0], sum(found[0])) == (found[1][0], sum(found[1]))


# ------------------------------------------------------------------------------ simple answers


@pytest.mark.parametrize("mode", MODES)
def test_one_client_and_equal_clients(mode: str) -> None:
    single = hasa.solve(build([[1, 5, 2]], [[0, 7, 3]], 6, Fairness(mode)))
    assert single.choice.tolist() == [2]
    equal = hasa.solve(build(np.ones((4, 3)), np.ones((4, 3)), 4, Fairness(mode)))
    assert equal.termination is Termination.OPTIMAL
    assert equal.poorest == 1
    caps = build([[0, 9], [1, 2]], [[0, 1], [0, 1]], 9, Fairness(mode), caps=[0.5, 1.0])
    assert hasa.solve(caps).choice.tolist() == [0, 1]


@pytest.mark.parametrize("mode", MODES)
def test_a_budget_that_is_too_small_names_itself(mode: str) -> None:
    with pytest.raises(hasa.InfeasibleError, match="raise the budget"):
        hasa.solve(build([[1, 2]], [[3, 4]], 2, Fairness(mode)))


def test_limits_that_collide_are_named() -> None:
    limits = [hasa.Quota({0.5: 0}), hasa.Quota({1.0: 0}), Fairness("maxmin")]
    with pytest.raises(hasa.InfeasibleError, match=r"cannot hold together.*Quota"):
        hasa.solve(build([[1, 2]], [[3, 4]], 9, *limits), "highs")


def test_greedy_takes_the_level_too() -> None:
    problem = draw(7, Fairness("maxmin"))
    result = hasa.solve(problem, "greedy")
    optimum = best(problem, "maxmin")
    assert optimum is not None
    assert result.poorest == optimum[0]
    assert result.objective <= optimum[1] + 1e-9 <= result.bound + 2e-9


# ------------------------------------------------------------------------- time and interruption


@pytest.mark.parametrize(
    ("solver", "mode"),
    [("exact", "maxmin"), ("exact", "leximin"), ("highs", "maxmin"), ("greedy", "maxmin")],
)
def test_without_time_nothing_is_proven(
    solver: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    utilities, costs = rng.normal(size=(50, 4)), rng.integers(0, 50, (50, 4))
    problem = build(utilities, costs, int(costs.min(axis=1).sum() + 100), Fairness(mode))
    proven = hasa.solve(problem, "exact")
    monkeypatch.setattr("hasa_opt._utils.deadline._GRACE_S", -1e-9)
    result = hasa.solve(problem, solver, time_limit_s=0)
    assert result.termination is Termination.TIME_LIMIT
    assert result.bound >= proven.objective
    assert not result.has_solution or problem.evaluate(result.choice).feasible
    assert "not proven" in result.message


def test_without_time_further_limits_are_not_proven_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hasa_opt._utils.deadline._GRACE_S", -1e-9)
    problem = build([[1, 2, 3]] * 4, [[1, 2, 3]] * 4, 9, hasa.Quota({1.0: 1}), Fairness("maxmin"))
    result = hasa.solve(problem, "highs", time_limit_s=0)
    assert result.termination is Termination.TIME_LIMIT


def test_ctrl_c_ends_with_the_best_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    problem = draw(3, Fairness("leximin"))
    monkeypatch.setattr("hasa_opt.solving.leximin.Leximin._raise_each", interrupted)
    result = hasa.solve(problem, "exact")
    assert result.termination is Termination.INTERRUPTED
    assert problem.evaluate(result.choice).feasible
    monkeypatch.setattr(stages._Stages, "_affordable", interrupted)
    problem = draw(3, Fairness("maxmin"))
    assert hasa.solve(problem, "exact").termination is Termination.INTERRUPTED
    assert hasa.solve(problem, "greedy").termination is Termination.INTERRUPTED


@pytest.mark.parametrize(("mode", "limit"), [("leximin", None), ("maxmin", hasa.Quota({1.0: 1}))])
def test_progress_is_told_up_to_the_end_and_can_stop(mode: str, limit: object) -> None:
    limits = [] if limit is None else [limit]
    problem = build([[1, 2, 3]] * 4, [[1, 2, 3]] * 4, 9, *limits, Fairness(mode))
    seen: list[hasa.Progress] = []
    result = hasa.solve(problem, "exact", on_progress=seen.append)
    assert (seen[-1].incumbent, seen[-1].bound) == (result.objective, result.bound)
    stopped = hasa.solve(problem, "exact", on_progress=lambda news: True)
    assert stopped.termination is Termination.INTERRUPTED


def test_who_found_the_level_is_named() -> None:
    problem = build([[1, 2, 3]] * 4, [[1, 2, 3]] * 4, 9, hasa.Quota({1.0: 1}), Fairness("maxmin"))
    known = {"greedy", "repair", "exact"}
    assert hasa.solve(problem, "exact").incumbent_from in known
    stopped = hasa.solve(problem, "exact", on_progress=lambda news: news.incumbent is not None)
    assert stopped.incumbent_from in known


# --------------------------------------------------------------------------------- what is claimed


def quota_problem() -> AllocationProblem:
    utilities, costs = [[1, 4, 5]] * 4, [[1, 2, 3]] * 4
    return build(utilities, costs, 12, hasa.Quota({1.0: 2}), Fairness("maxmin"))


def scripted(liar: Callable[..., str], script: Callable[..., Answer]) -> str:
    name = liar(script)
    registry.register(
        replace(
            registry.find_solver(name), constraints=(hasa.Budget, hasa.Quota, Fairness("maxmin"))
        )
    )
    return name


def test_a_false_claim_of_infeasibility_does_not_lower_the_level(
    liar: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "repaired", lambda *_: None)

    def script(problem: AllocationProblem, request: registry.Request) -> Answer:
        if not problem.utilities.any():
            return Answer(Termination.INFEASIBLE)
        return registry.load("highs").solve(problem, request)

    # Two at each of the wider widths; without utilities the cheapest allocation is none of these.
    quotas = hasa.Quota({1.0: 2, 2 / 3: 2})
    problem = build([[1, 4, 5]] * 4, [[1, 2, 2]] * 4, 12, quotas, Fairness("maxmin"))
    honest = hasa.solve(problem, "highs")
    assert (honest.poorest, honest.objective) == (4, 18)
    result = hasa.solve(problem, scripted(liar, script))
    assert result.poorest == 4
    assert not result.claim_held
    assert "level of the poorest client 4, proven" in result.message


def test_a_false_claim_in_the_last_stage_is_overruled(liar: Callable[..., str]) -> None:
    name = scripted(liar, lambda *_: Answer(Termination.INFEASIBLE))
    result = hasa.solve(quota_problem(), name)
    assert result.termination is Termination.FAILED
    assert not result.claim_held
    assert result.bound >= 18


def test_an_open_level_is_never_optimal(liar: Callable[..., str]) -> None:
    def script(problem: AllocationProblem, request: registry.Request) -> Answer:
        if not problem.utilities.any():
            return Answer(Termination.TIME_LIMIT)
        return registry.load("highs").solve(problem, request)

    problem = build([[1, 4, 5]] * 4, [[3, 2, 2]] * 4, 11, hasa.Quota({1.0: 2, 2 / 3: 1}),
                    Fairness("maxmin"))  # fmt: skip
    assert hasa.solve(problem, "highs").termination is Termination.OPTIMAL
    result = hasa.solve(problem, scripted(liar, script))
    assert result.termination is Termination.TIME_LIMIT
    assert result.has_solution
    assert "not proven" in result.message


def test_a_crash_leads_to_the_fallback(liar: Callable[..., str]) -> None:
    def script(*_: object) -> Answer:
        raise RuntimeError("boom")

    result = hasa.solve(quota_problem(), scripted(liar, script), fallback="highs")
    assert result.solver == "highs"
    assert result.termination is Termination.OPTIMAL
    assert "boom" in result.fallback_from[0]


def test_a_fallback_that_raises_the_poorest_hands_over_what_is_fairer(
    liar: Callable[..., str],
) -> None:
    """What the first solver reached at a lower level is worth more, and is not the answer."""
    idle = scripted(liar, lambda problem, request: Answer(Termination.FAILED))
    costs = {
        "joules": [[4, 3, 3], [4, 1, 1], [1, 0, 2]],
        "bytes": [[2, 4, 0], [4, 3, 2], [1, 3, 2]],
    }
    problem = AllocationProblem.build(
        hasa.Clients([1, 1, 1]),
        menu=hasa.Menu(["a", "b", "c"], costs=costs),
        utility=hasa.utility.measured([[2, 7, 1], [6, 0, 6], [1, 4, 4]]),
        constraints=[hasa.Budget("joules", 7), hasa.Budget("bytes", 7), Fairness("maxmin")],
    )
    alone = hasa.solve(problem, "highs")
    result = hasa.solve(problem, idle, fallback="highs")
    assert (result.poorest, result.objective) == (alone.poorest, alone.objective)
    assert result.termination is Termination.OPTIMAL


# -------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("solver", "constraints", "words"),
    [
        ("highs", [Fairness("leximin")], r"'highs'.*Fairness\(leximin\): use exact$"),
        ("greedy", [Fairness("leximin")], r"Fairness\(leximin\): use exact$"),
        ("greedy", [hasa.Quota({1.0: 1}), Fairness("maxmin")], "Quota: use exact or highs or pulp"),
        (
            "exact",
            [Fairness("leximin"), hasa.Coverage({1.0: 0.1})],
            r"beside other constraints: no solver takes Fairness\(leximin\) and Coverage together",
        ),
        ("auto", [Fairness("leximin"), hasa.Quota({1.0: 1})], "leave one of them out"),
    ],
)
def test_what_a_solver_cannot_do_is_refused(solver: str, constraints: list, words: str) -> None:
    with pytest.raises(UnsupportedConstraintError, match=words):
        hasa.solve(build([[1, 2]], [[3, 4]], 9, *constraints), solver)


def test_leximin_without_the_rows_it_would_ignore(liar: Callable[..., str]) -> None:
    name = liar(lambda *_: Answer(Termination.FAILED))
    registry.register(
        replace(registry.find_solver(name), constraints=(hasa.Quota, Fairness("leximin")))
    )
    with pytest.raises(UnsupportedConstraintError, match="budget and masks alone"):
        hasa.solve(build([[1, 2]], [[3, 4]], 9, hasa.Quota({1.0: 1}), Fairness("leximin")), name)


def test_bad_values_name_themselves() -> None:
    with pytest.raises(hasa.InputError, match=r"'utopian'.*maxmin, leximin"):
        Fairness("utopian")
    with pytest.raises(hasa.InputError, match="at most one preference"):
        build([[1, 2]], [[3, 4]], 9, Fairness("maxmin"), Fairness("leximin"))
    with pytest.raises(hasa.InputError, match="max_states"):
        hasa.solve(build([[1, 2]], [[3, 4]], 9, Fairness("leximin")), "exact", max_states=3)


# ------------------------------------------------------------------------- the rest of the library


def test_compare_agrees() -> None:
    problem = draw(11, Fairness("maxmin"))
    comparison = hasa.compare(problem, ["exact", "highs", "pulp", "cvxpy", "greedy"])
    assert comparison.verdict.startswith("exact, highs, pulp, cvxpy")
    assert "agree on" in comparison.verdict
    assert {row.poorest for row in comparison.rows} == {hasa.solve(problem).poorest}


def test_a_richer_but_less_fair_allocation_is_no_disagreement() -> None:
    problem = build([[1, 2], [0, 9], [0, 2]], [[0, 3]] * 3, 6, Fairness("maxmin"))
    fair = hasa.solve(problem, "highs")
    rows = [
        ComparisonRow("highs", "optimal", fair.objective, poorest=fair.poorest, gap=0.0),
        ComparisonRow("other", "time limit", fair.objective + 5, poorest=-1.0, gap=0.1),
    ]
    assert Comparison(tuple(rows)).verdict.startswith("highs proves the optimum")
    fairer = ComparisonRow("other", "time limit", 0.0, poorest=fair.poorest + 1, gap=0.1)
    assert "DISAGREE: the poorest client" in Comparison((rows[0], fairer)).verdict
    assert "poorest client is raised to -1" in Comparison((rows[1],)).verdict


@pytest.mark.parametrize("mode", MODES)
def test_more_budget_is_never_less_fair(mode: str) -> None:
    rng = np.random.default_rng(5)
    problem = build(rng.normal(size=(20, 4)), rng.integers(1, 20, (20, 4)), 200, Fairness(mode))
    floor = problem.cheapest.sum() / problem.full_cost
    found = hasa.frontier(problem, [floor + 0.01, floor + 0.1, floor + 0.3])
    vectors = [utilities_of(allocation) for allocation in found.allocations]
    keys = [reached(vector, mode) for vector in vectors]
    assert keys == sorted(keys)
    alone = hasa.solve(problem.with_budget(floor + 0.1))
    assert reached(utilities_of(alone), mode) == pytest.approx(keys[1])


def test_the_largest_instances_take_seconds() -> None:
    rng = np.random.default_rng(0)
    problem = AllocationProblem.build(
        hasa.Clients(rng.integers(1, 500, 20_000)),
        widths=np.arange(1, 9) / 8,
        budget=0.5,
        utility=hasa.utility.saturating(rng.random(20_000)),
        constraints=[Fairness("leximin")],
    )
    started = time.process_time()
    result = hasa.solve(problem, "exact")
    assert result.termination is Termination.OPTIMAL
    assert time.process_time() - started < 20
