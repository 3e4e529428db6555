"""Laws that hold for every problem."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import TIMES

import hasa_opt as hasa
from hasa_opt import AllocationProblem, Clients, Coverage, Quota, rules, scores, solve
from hasa_opt.errors import InfeasibleError
from hasa_opt.problem.linear import LinearModel
from hasa_opt.solvers.bounds.relaxation import lagrangian, lagrangian_bound, relax

LAW = settings(max_examples=40 * TIMES, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def cases(draw):
    """Arguments of a problem whose budget is feasible."""
    n_clients = draw(st.integers(1, 6))
    menu = sorted(draw(st.sets(st.integers(1, 20), min_size=1, max_size=4)))
    whole = st.integers(-30, 30)
    table = draw(
        st.lists(
            st.lists(whole, min_size=len(menu), max_size=len(menu)),
            min_size=n_clients,
            max_size=n_clients,
        )
    )
    samples = draw(st.lists(st.integers(1, 500), min_size=n_clients, max_size=n_clients))
    low, high = Fraction(menu[0], 20), Fraction(menu[-1], 20)
    share = draw(st.fractions(0, 1, max_denominator=50))
    caps = draw(st.lists(st.sampled_from(menu), min_size=n_clients, max_size=n_clients))
    return {
        "samples": np.array(samples),
        "caps": np.array(caps) / 20,
        "menu": np.array(menu) / 20,
        "table": np.array(table, dtype=float),
        "budget": low + share * (high - low),
    }


def build(case, constraints=(), **changed) -> AllocationProblem:
    case = case | changed
    return AllocationProblem.build(
        Clients(case["samples"], max_width=case["caps"]),
        widths=case["menu"],
        budget=case["budget"],
        utility=hasa.utility.measured(case["table"]),
        constraints=constraints,
    )


def best(problem: AllocationProblem) -> float:
    """Optimum by HiGHS; minus infinity if infeasible."""
    try:
        result = solve(problem, "highs")
    except InfeasibleError:
        return float("-inf")
    assert result.termination is hasa.Termination.OPTIMAL
    return result.objective


@pytest.mark.fuzz
@LAW
@given(cases(), st.randoms(use_true_random=False))
def test_permuting_the_clients_preserves_the_optimum(case, random):
    order = list(range(case["samples"].size))
    random.shuffle(order)
    moved = {name: case[name][order] for name in ("samples", "caps", "table")}
    assert best(build(case, **moved)) == best(build(case))


@pytest.mark.fuzz
@LAW
@given(cases(), st.integers(0, 20))
def test_the_lagrangian_takes_the_first_best_width(case, price):
    problem = build(case)
    net = problem.utilities - price * problem.costs.astype(float)
    net[~problem.admissible] = -np.inf
    found = lagrangian(problem, float(price))
    assert found.choice.tolist() == net.argmax(axis=1).tolist()
    assert found.bound == pytest.approx(net.max(axis=1).sum() + price * problem.limit, abs=1e-6)


@pytest.mark.fuzz
@LAW
@given(cases(), st.fractions(0, 1, max_denominator=30))
def test_a_larger_budget_never_lowers_the_optimum(case, more):
    assert best(build(case, budget=case["budget"] + more)) >= best(build(case))


@pytest.mark.fuzz
@LAW
@given(cases(), st.integers(0, 6), st.floats(0, 1), st.booleans(), st.data())
def test_a_further_constraint_never_raises_the_optimum(case, most, share, both, data):
    width = float(data.draw(st.sampled_from(list(case["menu"]))))
    first = [Quota({width: most})]
    second = [*first, Coverage({width: round(share, 3)})] if both else first
    plain, one, two = (best(build(case, constraints)) for constraints in ((), first, second))
    assert plain >= one >= two


@pytest.mark.fuzz
@LAW
@given(cases(), st.sampled_from([1e-6, 0.25, 3.0, 1e7]), st.integers(-100, 100))
def test_scaling_and_shifting_utilities_scales_and_shifts_the_optimum(case, factor, shift):
    n_clients = case["samples"].size
    scaled = best(build(case, table=case["table"] * factor))
    assert scaled == pytest.approx(best(build(case)) * factor, rel=1e-9, abs=1e-9 * factor)
    shifted = best(build(case, table=case["table"] + shift))
    assert shifted == pytest.approx(best(build(case)) + shift * n_clients, abs=1e-9)


@pytest.mark.fuzz
@LAW
@given(cases(), st.integers(2, 1000))
def test_the_unit_of_samples_does_not_matter(case, factor):
    assert best(build(case, samples=case["samples"] * factor)) == best(build(case))


@pytest.mark.fuzz
@LAW
@given(cases())
def test_greedy_is_below_the_optimum_and_the_optimum_below_every_bound(case):
    problem = build(case)
    greedy, highs = solve(problem, "greedy"), solve(problem, "highs")
    room = 1e-9 * (1 + problem.magnitude)
    assert greedy.objective <= highs.objective + room
    assert highs.objective <= min(greedy.bound, highs.bound) + room
    relaxation = relax(problem)
    assert problem.evaluate(relaxation.choice).feasible
    assert relaxation.bound >= highs.objective - room
    for price in (0.0, relaxation.price / 2, relaxation.price * 2 + 0.01):
        assert lagrangian_bound(problem, price) >= relaxation.bound - room


@pytest.mark.fuzz
@LAW
@given(cases())
def test_a_warm_start_changes_nothing_about_the_optimum(case):
    problem = build(case)
    greedy = solve(problem, "greedy")
    assert solve(problem, "highs", warm_start=greedy).objective == best(problem)


@pytest.mark.fuzz
@LAW
@given(cases(), st.data())
def test_the_linear_model_says_the_same_as_the_problem(case, data):
    width = float(case["menu"][-1])
    problem = build(case, [Quota({width: 2}), Coverage({width: 0.3})])
    model = LinearModel.of(problem)
    choice = np.array(
        [data.draw(st.sampled_from(np.flatnonzero(row).tolist())) for row in problem.admissible]
    )
    x = model.columns(choice)
    found = problem.evaluate(choice)
    # A client of one width has no column.
    for row in np.flatnonzero(problem.admissible.sum(axis=1) == 1):
        choice[row] = model.base[row]
    np.testing.assert_array_equal(model.choice(x), choice)
    assert model.holds_choice(x)
    assert model.utility(float(model.objective @ x)) == pytest.approx(found.objective, abs=1e-9)
    total = model.matrix @ x
    assert bool(np.all(total <= model.upper) and np.all(total >= model.lower)) == found.feasible


@pytest.mark.fuzz
@LAW
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12),
    st.data(),
)
def test_the_rule_meets_any_budget_that_can_be_met(values, data):
    size = len(values)
    samples = np.array(data.draw(st.lists(st.integers(1, 10**6), min_size=size, max_size=size)))
    caps = np.array(data.draw(st.lists(st.floats(0.2, 1.0), min_size=size, max_size=size)))
    budget = data.draw(st.floats(0.2, 1.0))
    found = rules.hasa(values, samples, caps=caps, budget=budget)
    weights = samples / samples.sum()
    assert np.all((found >= 0.2) & (found <= caps))
    assert weights @ found == pytest.approx(min(budget, weights @ caps), abs=1e-12)
    order = np.argsort(values, kind="stable")
    uncapped = rules.hasa(values, samples, budget=min(budget, 0.8))
    assert np.all(np.diff(uncapped[order]) >= -1e-15)


@pytest.mark.fuzz
@LAW
@given(
    st.lists(
        st.lists(st.integers(0, 50), min_size=4, max_size=4).filter(any), min_size=1, max_size=8
    ),
    st.floats(1e-3, 10),
)
def test_scores_lie_in_their_ranges(table, alpha):
    for name, highest in (
        ("jensen_shannon", np.log(2)),
        ("hellinger", 1),
        ("total_variation", 1),
        ("label_entropy", np.log(4)),
        ("kl_divergence", np.inf),
    ):
        found = scores.SCORES[name](table, alpha=alpha)
        assert np.all(found >= -1e-15)
        assert np.all(found <= highest + 1e-12)
        copied = scores.SCORES[name](np.array(table) * 1, alpha=alpha)
        np.testing.assert_array_equal(found, copied)
