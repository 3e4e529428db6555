"""A robust budget: our own solver against brute force, and what must hold in the worst case."""

from __future__ import annotations

import itertools
import re
import time
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import TIMES, many

import hasa_opt as hasa
from hasa_opt import AllocationProblem, Robust, Termination
from hasa_opt.solvers import registry
from hasa_opt.solvers.base import Request
from hasa_opt.solvers.bounds.audit import Thresholds

pytest.importorskip("numba")

from hasa_opt.solvers.exact import ExactBackend
from hasa_opt.solvers.exact import limits as exact_robust
from hasa_opt.solvers.exact import run as exact_run

pytestmark = pytest.mark.slow

MENU = (0.25, 0.5, 0.75, 1.0)


def make(costs, utilities, limit, robust, caps=None, more=()):
    """A problem from a cost table whose budget is exactly ``limit``."""
    costs = np.asarray(costs)
    n_clients, n_widths = costs.shape
    full = max(1, int(costs.max(axis=1).sum()))
    menu = MENU[:n_widths]
    return AllocationProblem.build(
        hasa.Clients(np.ones(n_clients, dtype=int), max_width=caps),
        widths=menu,
        budget=Fraction(int(limit), full),
        utility=hasa.utility.measured(utilities),
        cost=hasa.cost.table(costs, full=full),
        constraints=[*([robust] if robust else []), *more],
    )


def draw(seed: int, n_clients: int | None = None) -> AllocationProblem:
    """Any kind of deviation, utility, cost, cap and budget."""
    rng = np.random.default_rng(seed)
    n = n_clients or int(rng.integers(1, 7))
    m = int(rng.integers(1, 5))
    unit = int(rng.choice([1, 1, 1, 2**40]))
    costs = rng.integers(0, 30, (n, m)) * unit + (rng.integers(0, 9, (n, m)) if unit > 1 else 0)
    utilities = (rng.normal(size=(n, m)), rng.integers(0, 4, (n, m)).astype(float))[seed % 2]
    if rng.random() < 0.7:
        costs, utilities = np.sort(costs, axis=1), np.sort(utilities, axis=1)
    if rng.random() < 0.2:
        costs[:, 0] = 0
    deviation = (
        float(rng.choice([0.0, 0.2, 0.37, 1.0])),
        rng.integers(0, 15, n) * unit,
        rng.integers(0, 15, (n, m)) * unit,
        rng.integers(0, 3, (n, m)) * unit,
    )[seed % 4]
    gamma = int(rng.choice([0, 1, 2, 3, n, n + 2]))
    caps = rng.choice(MENU[:m], n) if rng.random() < 0.3 else None
    more = [hasa.Forbidden({0: MENU[m - 1]})] if m > 1 and caps is None and seed % 5 == 0 else []
    least, most = int(costs.min(axis=1).sum()), int(costs.max(axis=1).sum())
    limit = least + int(rng.uniform(0.2, 1.3) * (most - least)) + 1
    return make(costs, utilities, limit, Robust(gamma, deviation), caps, more)


def worst_case(problem: AllocationProblem, choice: np.ndarray) -> int:
    """Cost of an allocation, every subset that may deviate enumerated."""
    (robust,) = (item for item in problem.constraints if isinstance(item, Robust))
    at = np.arange(len(problem))
    costs = [int(cost) for cost in problem.costs[at, choice]]
    if isinstance(robust.deviation, float):
        share = Fraction(str(robust.deviation))
        extra = [-(-cost * share.numerator // share.denominator) for cost in costs]
    else:
        table = np.asarray(robust.deviation)
        extra = [int(d) for d in (table if table.ndim == 1 else table[at, choice])]
    size = min(robust.gamma, len(problem))
    return sum(costs) + max(sum(some) for some in itertools.combinations(extra, size))


@pytest.mark.slow
@pytest.mark.fuzz
def test_agrees_with_brute_force_and_holds_in_the_worst_case(brute) -> None:
    infeasible = binding = 0
    for seed in many(150):
        problem = draw(seed)
        best = brute(problem)
        if best is None:
            infeasible += 1
            with pytest.raises(hasa.InfeasibleError):
                hasa.solve(problem, "exact")
            continue
        result = hasa.solve(problem, "exact")
        room = 1e-12 * max(1.0, problem.magnitude)
        assert result.termination is Termination.OPTIMAL, (seed, result.message)
        assert result.objective == pytest.approx(best, abs=room), seed
        assert best - room <= result.bound <= best + room
        assert result.claim_held
        assert worst_case(problem, result.choice) <= problem.limit
        binding += best < brute(replace(problem, rows=())) - 1e-9
    assert infeasible < 75 * TIMES
    assert binding > 15 * TIMES


@pytest.mark.fuzz
def test_the_least_worst_case_is_exact() -> None:
    for seed in many(80):
        problem = draw(seed)
        thresholds = Thresholds.of(problem, problem.rows[0])
        options = [np.flatnonzero(row) for row in problem.admissible]
        every = [np.array(choice) for choice in itertools.product(*options)]
        assert thresholds.least().min() == min(worst_case(problem, choice) for choice in every)
        assert {problem.rows[0].total(choice) for choice in every} == {
            worst_case(problem, choice) for choice in every
        }


@pytest.mark.fuzz
def test_a_bound_stands_at_every_threshold() -> None:
    rng = np.random.default_rng(0)
    for seed in many(200):
        problem = draw(seed)
        thresholds = Thresholds.of(problem, problem.rows[0])
        price = float(rng.exponential()) / float(problem.costs.max() + 1)
        bounds = thresholds.bounds(price)
        for at, bound in enumerate(bounds):
            net = problem.utilities - price * thresholds.costs(at)
            net = np.where(problem.admissible, net, -np.inf)
            true = net.max(axis=1).sum() + price * thresholds.limit(at)
            size = problem.costs.sum() + 9.0 * problem.rows[0].deviation.sum() + problem.limit
            room = 1e-12 * (1 + problem.magnitude + price * float(size))
            assert true - room <= bound <= true + room


@pytest.mark.parametrize("n_clients", [None, 60])
def test_agrees_with_highs(n_clients) -> None:
    compared = 0
    for seed in range(80 if n_clients is None else 6):
        problem = draw(seed, n_clients)
        if problem.costs.max() > 2**39:
            continue
        try:
            mine = hasa.solve(problem, "exact")
        except hasa.InfeasibleError:
            with pytest.raises(hasa.InfeasibleError):
                hasa.solve(problem, "highs")
            continue
        peer = hasa.solve(problem, "highs", time_limit_s=20)
        compared += 1
        assert mine.termination is Termination.OPTIMAL
        assert mine.objective >= peer.objective - 1e-6
        assert mine.objective <= peer.bound + 1e-6
    assert compared >= (30 if n_clients is None else 3)


def middle(gamma=20, deviation=0.2, n=200, seed=0, budget=0.6, **more) -> AllocationProblem:
    rng = np.random.default_rng(seed)
    return AllocationProblem.build(
        hasa.Clients(rng.integers(20, 2000, n)),
        widths=np.linspace(0.3, 1, 8).round(2),
        budget=budget,
        utility=hasa.utility.hasa(rng.random(n)),
        constraints=[Robust(gamma, deviation)] if gamma is not None else [],
        **more,
    )


@pytest.mark.parametrize("n", [5, 200])
def test_no_deviation_is_the_plain_budget_and_all_of_them_a_dearer_one(n) -> None:
    plain = middle(None, n=n)
    alone = hasa.solve(plain, "exact")
    for gamma, deviation in ((0, 0.3), (7, 0.0), (n, np.zeros(n, dtype=int))):
        assert hasa.solve(middle(gamma, deviation, n), "exact").objective == pytest.approx(
            alone.objective, abs=1e-12
        )
    extra = np.random.default_rng(1).integers(0, 100, plain.costs.shape)
    dearer = replace(plain, costs=plain.costs + extra)
    worst = hasa.solve(middle(n + 3, extra, n), "exact")
    assert worst.objective == pytest.approx(hasa.solve(dearer, "exact").objective, abs=1e-12)


@pytest.mark.fuzz
@settings(max_examples=40 * TIMES, deadline=None)
@given(seed=st.integers(0, 10**6), gamma=st.integers(0, 6), more=st.integers(1, 3))
def test_more_protection_is_never_worth_more(seed, gamma, more) -> None:
    rng = np.random.default_rng(seed)
    costs, utilities = rng.integers(1, 30, (6, 4)), rng.normal(size=(6, 4))
    deviation = rng.integers(0, 15, (6, 4))
    limit = int(costs.min(axis=1).sum() + rng.integers(0, 120))

    def best(own_gamma: int, own_deviation: np.ndarray) -> float:
        try:
            problem = make(costs, utilities, limit, Robust(own_gamma, own_deviation))
            return hasa.solve(problem, "exact").objective
        except hasa.InfeasibleError:
            return -np.inf

    assert best(gamma + more, deviation) <= best(gamma, deviation) + 1e-12
    assert best(gamma, deviation + more) <= best(gamma, deviation) + 1e-12


STOPS = ({"time_limit_s": 0.0}, {"gap": 1e-2}, {"max_states": 1}, {"max_states": 20})


@pytest.mark.parametrize("deviation", ["share", "table"])
@pytest.mark.parametrize("stop", STOPS, ids=str)
def test_an_early_stop_keeps_a_true_bound(monkeypatch, stop, deviation) -> None:
    monkeypatch.setattr("hasa_opt._utils.deadline._GRACE_S", 0.0)
    rng = np.random.default_rng(3)
    for seed in range(3):
        table = 0.2 if deviation == "share" else rng.integers(0, 3000, (40, 8))
        problem = middle(5, table, 40, seed)
        best = hasa.solve(problem, "exact")
        early = hasa.solve(problem, "exact", **stop)
        assert best.termination is Termination.OPTIMAL
        assert early.claim_held, early.message
        if not early.has_solution:  # no time at all on a busy machine
            assert early.termination is Termination.TIME_LIMIT
            assert "time_limit_s" in stop
            assert early.bound >= best.objective - 1e-12
            continue
        assert worst_case_sorted(problem, early.choice) <= problem.limit
        assert early.objective <= best.objective + 1e-12
        assert early.bound >= best.objective - 1e-12
        if early.termination is Termination.OPTIMAL:
            assert early.objective == pytest.approx(best.objective, abs=1e-12)
        if "gap" in stop:
            assert early.gap <= 1e-2
        if "time_limit_s" in stop:
            assert early.termination is Termination.TIME_LIMIT


@pytest.mark.fuzz
@pytest.mark.parametrize("gap", [0.05, 0.2])
def test_the_gap_asked_for_is_not_exceeded(gap) -> None:
    """Also where the relaxation is worth far more than any allocation, or of another sign."""
    stopped = 0
    for seed in many(250):
        try:
            result = hasa.solve(draw(seed), "exact", gap=gap)
        except hasa.InfeasibleError:
            continue
        assert result.gap <= gap
        stopped += result.gap > 0
    assert stopped > 10


def test_what_a_closed_threshold_leaves_open_stays_in_the_bound(monkeypatch) -> None:
    """Subset sums: too few states to solve any threshold."""
    monkeypatch.setattr(exact_run, "_FIRST_CAP", 2)
    rng = np.random.default_rng(4)
    missed = 0
    for _ in range(40):
        costs = np.column_stack([np.zeros(14, dtype=int), rng.integers(50, 1000, 14)])
        deviation = np.column_stack([np.zeros(14, dtype=int), rng.integers(0, 100, 14)])
        problem = make(costs, costs.astype(float), costs.sum() // 2, Robust(3, deviation))
        best = ExactBackend().solve(problem, Request(problem))
        early = ExactBackend().solve(problem, Request(problem, options={"max_states": 2}))
        assert best.termination is Termination.OPTIMAL
        assert early.bound >= best.objective - 1e-9
        if early.objective < best.objective - 1e-9:
            missed += 1
            assert early.termination is Termination.GAP_REACHED
    assert missed > 5


def worst_case_sorted(problem: AllocationProblem, choice: np.ndarray) -> int:
    """As :func:`worst_case`, for many clients."""
    row, at = problem.rows[0], np.arange(len(problem))
    extra = sorted(row.deviation[at, choice].tolist())[len(problem) - row.gamma :]
    return int(problem.costs[at, choice].sum()) + sum(extra)


def test_ctrl_c_keeps_the_incumbent_and_every_open_bound(monkeypatch) -> None:
    problem = middle(20, np.random.default_rng(0).integers(0, 3000, (200, 8)))
    best = hasa.solve(problem, "exact").objective
    true = exact_robust._RobustRun._step
    for last in (1, 2, 5, 9):
        done = []

        def step(self, at, last=last, done=done):
            done.append(at)
            if len(done) > last:
                raise KeyboardInterrupt
            true(self, at)

        monkeypatch.setattr(exact_robust._RobustRun, "_step", step)
        result = hasa.solve(problem, "exact")
        assert result.termination is Termination.INTERRUPTED
        assert result.objective <= best + 1e-12
        assert result.bound >= best - 1e-12


def test_interrupt_within_a_threshold(monkeypatch) -> None:
    problem = middle(20, np.random.default_rng(0).integers(0, 3000, (200, 8)))
    best = hasa.solve(problem, "exact").objective

    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(exact_run.Search, "advance", interrupted)
    result = hasa.solve(problem, "exact")
    assert result.termination is Termination.INTERRUPTED
    assert result.objective <= best + 1e-12 <= result.bound + 2e-12


def test_a_warm_start_is_the_first_incumbent() -> None:
    problem = middle()
    best = hasa.solve(problem, "exact")
    again = hasa.solve(problem, "exact", warm_start=best, time_limit_s=0)
    assert again.objective == best.objective
    costly = np.full(len(problem), problem.widths.size - 1)
    assert hasa.solve(problem, "exact", warm_start=costly).objective == best.objective
    plain = hasa.solve(middle(None), "exact")
    assert not problem.evaluate(plain.choice).feasible
    assert hasa.solve(problem, "exact", warm_start=plain).objective == best.objective


def test_with_budget_keeps_the_robust_row_in_step() -> None:
    problem, anew = middle(budget=0.6).with_budget(0.7), middle(budget=0.7)
    assert problem.rows[0].upper == problem.limit == anew.limit
    eased = hasa.solve(problem, "exact")
    assert eased.objective == pytest.approx(hasa.solve(anew, "exact").objective, abs=1e-12)
    assert eased.objective > hasa.solve(middle(budget=0.6), "exact").objective
    tighter = middle(budget=0.7).with_budget(0.6)
    assert not tighter.evaluate(eased.choice).feasible


@pytest.mark.parametrize(
    "others",
    [
        [hasa.Quota({0.3: 5})],
        [hasa.Budget([1] * 8, 10**6)],
        [Robust(3, 0.1)],
        [hasa.Coverage({1.0: 0.1})],
    ],
    ids=lambda others: type(others[0]).__name__,
)
def test_beside_other_rows_it_is_refused_by_name_before_any_work(others, monkeypatch) -> None:
    problem = middle()
    constraints = [Robust(20, 0.2), *others]
    both = AllocationProblem.build(
        problem.clients,
        widths=problem.widths,
        budget=0.6,
        utility=hasa.utility.measured(problem.utilities),
        constraints=constraints,
    )
    monkeypatch.setattr(ExactBackend, "solve", lambda *_: pytest.fail("worked"))
    with pytest.raises(hasa.errors.UnsupportedConstraintError, match="highs or pulp or cvxpy"):
        hasa.solve(both, "exact")
    assert registry.find_solver("exact").understands(problem, problem.constraints[0])
    assert not registry.find_solver("exact").understands(both, constraints[0])


def test_the_same_robust_budget_twice_is_two() -> None:
    robust = Robust(2, 0.2)
    costs, utilities = np.array([[1, 2]] * 4), np.ones((4, 2))
    with pytest.raises(hasa.errors.UnsupportedConstraintError, match="beside other"):
        hasa.solve(make(costs, utilities, 8, robust, more=[robust]), "exact")


def test_auto_takes_exact_and_falls_back_on_a_solver_that_can(monkeypatch) -> None:
    problem = middle(n=12, gamma=2)
    assert hasa.solve(problem).solver == "exact"
    masked = replace(problem, constraints=(*problem.constraints, hasa.MinWidth(0.3)))
    assert hasa.solve(masked).solver == "exact"

    def broken(self, *_):
        raise hasa.errors.SolverNotInstalledError("no numba")

    monkeypatch.setattr(ExactBackend, "solve", broken)
    result = hasa.solve(problem)
    assert result.solver == "highs"
    assert result.termination is Termination.OPTIMAL


def test_a_false_claim_is_caught_by_the_second_opinion(monkeypatch) -> None:
    problem = middle(n=30, gamma=3)
    cheapest = np.zeros(30, dtype=np.int64)
    worth = problem.evaluate(cheapest).objective
    narrow = registry.Answer(Termination.OPTIMAL, cheapest, worth, worth)
    true = hasa.solve(problem, "exact")
    near = true.choice.copy()
    near[near.argmax()] -= 1
    worth = problem.evaluate(near).objective
    second = registry.Answer(Termination.OPTIMAL, near, worth, worth)
    for answer in (narrow, second):
        monkeypatch.setattr(ExactBackend, "solve", lambda *_, answer=answer: answer)
        result = hasa.solve(problem, "exact")
        assert result.termination is Termination.FAILED
        assert not result.claim_held


@pytest.mark.slow
@pytest.mark.fuzz
def test_the_remedies_of_an_infeasible_budget_suffice() -> None:
    raised = lowered = 0
    for seed in many(100):
        problem = draw(seed)
        try:
            hasa.solve(problem, "exact", time_limit_s=0)
            continue
        except hasa.InfeasibleError as error:
            message, limits = str(error), error.limits
        assert limits == (problem.rows[0].label,)
        share = re.search(r"raise the budget from [\d.e-]+ to ([\d.]+)", message)
        eased = problem.with_budget(float(share[1]))
        assert hasa.solve(eased, "exact").has_solution, message
        below = problem.with_budget(float(share[1]) * 0.998 - 1e-4)
        with pytest.raises(hasa.InfeasibleError):
            hasa.solve(below, "exact")
        raised += 1
        gamma = re.search(r"lower gamma from (\d+) to (\d+)", message)
        if gamma:
            lowered += 1
            row = problem.rows[0]
            assert int(gamma[1]) == row.gamma
            for own, suffices in ((int(gamma[2]), True), (int(gamma[2]) + 1, False)):
                thresholds = Thresholds.of(problem, replace(row, gamma=own))
                assert (thresholds.least().min() <= problem.limit) == suffices
        else:
            assert problem.cheapest.sum() > problem.limit
    assert raised > 10 * TIMES
    assert lowered > 5 * TIMES


def test_a_conflict_with_another_limit_names_the_share() -> None:
    problem = middle(n=10, gamma=2)
    both = AllocationProblem.build(
        problem.clients,
        widths=problem.widths,
        budget=0.6,
        utility=hasa.utility.measured(problem.utilities),
        constraints=[Robust(2, 0.2), hasa.Coverage({1.0: 0.9})],
    )
    with pytest.raises(hasa.InfeasibleError) as caught:
        hasa.solve(both, "highs")
    assert len(caught.value.limits) == 2
    share = re.search(r"raise the budget from 0.6 to ([\d.]+)", str(caught.value))
    if share:
        assert hasa.solve(both.with_budget(float(share[1])), "highs").has_solution


BAD = [
    (Robust(-1, 0.2), r"gamma -1 .* whole number of at least 0"),
    (Robust(1.5, 0.2), r"gamma 1\.5 .* whole number of at least 0"),
    (Robust("a", 0.2), r"gamma 'a' .* whole number of at least 0"),
    (Robust(True, 0.2), r"gamma True .* whole number of at least 0"),
    (Robust(1, "a"), r"deviation 'a' must be a finite number"),
    (Robust(1, float("nan")), r"deviation nan must be a finite number"),
    (Robust(1, -0.1), r"deviation -0\.1 must lie in \[0, 1\].*give integers"),
    (Robust(1, -1e-9), r"deviation -1e-09 must lie in \[0, 1\]"),
    (Robust(1, 1.5), r"deviation 1\.5 must lie in \[0, 1\].*give integers"),
    (Robust(1, -3), r"deviation: -3 is negative.*whole numbers from 0"),
    (Robust(1, [1, -3, 1]), r"deviation: -3 at 1 is negative.*whole numbers from 0"),
    (Robust(1, [1, float("nan"), 1]), r"deviation: nan at 1 must be"),
    (Robust(1, [0.5, 1, 1]), r"deviation: 0\.5 at 0 must .*give whole numbers"),
    (Robust(1, [1, 2]), r"shape \(2,\): give a share such as 0\.2, \(3,\) or \(3, 4\)"),
    (Robust(1, 3), r"shape \(\): give a share"),
    (Robust(1, None), r"deviation: None is not a known whole number"),
    (Robust(1, [2**61] * 3), r"largest total .* exceeds 2\*\*62.*larger units"),
]


@pytest.mark.parametrize(("robust", "words"), BAD, ids=[words for _, words in BAD])
def test_bad_values_name_themselves(robust, words) -> None:
    with pytest.raises(hasa.InputError, match=words):
        make(np.ones((3, 4), dtype=int), np.ones((3, 4)), 9, robust)


def test_a_thousand_clients_take_a_fraction_of_a_second() -> None:
    rng = np.random.default_rng(0)
    for deviation in (rng.integers(0, 3000, 1000), rng.integers(0, 3000, (1000, 8)), 0.2):
        problem = middle(100, deviation, 1000)
        ExactBackend().solve(problem, Request(problem))
        started = time.process_time()
        answer = ExactBackend().solve(problem, Request(problem))
        assert time.process_time() - started < 5.0
        assert answer.termination is Termination.OPTIMAL


@pytest.mark.slow
def test_a_hundred_thousand_clients_end_honestly_within_their_time() -> None:
    problem = middle(10_000, 0.2, 100_000)
    for limit in (0.0, 1.0, 20.0):
        started = time.perf_counter()
        result = hasa.solve(problem, "exact", time_limit_s=limit)
        assert time.perf_counter() - started < limit + 15.0
        assert result.claim_held
        assert result.has_solution or limit < 20
        if result.has_solution:
            assert worst_case_sorted(problem, result.choice) <= problem.limit
            assert result.gap < (1e-4 if limit == 20 else 0.1)
        assert result.termination is not Termination.FAILED
