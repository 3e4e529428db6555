"""Problems: exact limits, cost and utility families, evaluation in integers."""

from __future__ import annotations

import time
from fractions import Fraction
from math import exp, floor, log

import numpy as np
import pytest

import hasa_opt as hasa
from hasa_opt import AllocationProblem, Clients, Coverage, Quota, cost, utility
from hasa_opt._utils.rational import INT64_ROOM, menu_units, outer_product, rational, told_from
from hasa_opt.errors import HasaError, InfeasibleError, InputError

WIDTHS = (0.2, 0.35, 0.5, 0.65, 0.8)


def build(samples=(3, 4), **more) -> AllocationProblem:
    clients = Clients(samples, max_width=more.pop("max_width", None))
    arguments = {"widths": WIDTHS, "budget": 0.5, "utility": utility.alpha_fair()} | more
    return AllocationProblem.build(clients, **arguments)


# --------------------------------------------------------------------- limits, menus, rationals


@pytest.mark.parametrize(
    "budget", [0.5, 0.1, 0.3, 1 / 3, 0.7, 1, 0.1 + 0.2, Fraction(2, 7), "0.35"]
)
@pytest.mark.parametrize("menu", [WIDTHS, (1 / 3, 2 / 3, 1.0), (0.1, 0.1 + 0.2), (0.125, 1)])
@pytest.mark.parametrize("family", ["width", "quadratic"])
def test_the_limit_is_exact(budget, menu, family):
    samples = [7, 11, 1_000_003]
    problem = build(samples, widths=menu, budget=budget, cost=getattr(cost, family)())
    exact = [Fraction(width).limit_denominator(1000) for width in menu]
    share = Fraction(budget).limit_denominator(1000)
    power = {"width": 1, "quadratic": 2}[family]
    denominator = np.lcm.reduce([width.denominator for width in exact])
    unit = int(denominator) ** power
    assert problem.full_cost == sum(samples) * unit
    assert problem.limit == floor(share * sum(samples) * unit)
    for row, size in enumerate(samples):
        assert problem.costs[row].tolist() == [size * width**power * unit for width in exact]


def test_float_noise_does_not_move_a_budget():
    # 0.1 + 0.2 as a budget for one client at width 0.3, in floats 0.30000000000000004.
    noisy = build([10], widths=(0.3, 1.0), budget=0.1 + 0.2)
    clean = build([10], widths=(0.1 + 0.2, 1.0), budget=0.3)
    assert noisy.limit == clean.limit == 30
    assert noisy.costs.tolist() == clean.costs.tolist() == [[30, 100]]
    assert noisy.evaluate([0]).feasible


@pytest.mark.parametrize("count", [2, 5, 13, 61])
def test_a_linspace_menu_is_read_as_it_was_meant(count):
    units, denominator = menu_units(np.linspace(0.2, 0.8, count))
    meant = [Fraction(1, 5) + Fraction(3, 5) * k / (count - 1) for k in range(count)]
    assert [Fraction(int(unit), denominator) for unit in units] == meant


def test_rational():
    assert rational(0.35, "x") == Fraction(7, 20)
    assert rational(1 / 3, "x") == Fraction(1, 3)
    assert rational(np.float64(0.1) * 3, "x", snap=True) == Fraction(3, 10)
    assert rational(0.2999999, "x", snap=True) == Fraction(2999999, 10**7)
    assert float(rational(np.float64(0.1) * 3, "x")) == 0.1 * 3
    assert rational(Fraction(3, 7), "x") == Fraction(3, 7)
    assert rational(0.123456789012345, "x") == Fraction("0.123456789012345")


@pytest.mark.parametrize("budget", [0.3 - 1e-8, 0.29999, 0.2999999, 0.1])
def test_a_budget_is_told_from_the_least_one(budget):
    with pytest.raises(InfeasibleError) as caught:
        build([10**7, 10**7], widths=(0.3, 1.0), budget=budget).check_budget()
    assert f"budget {budget} is below the narrowest possible allocation (0.3)" in str(caught.value)
    with pytest.raises(InfeasibleError, match=r"budget 0\.3 is below .* \(0\.30000003\), short by"):
        build([10**8], widths=(0.30000003, 1.0), budget=0.3).check_budget()


def test_the_number_that_is_needed_lies_on_its_side_of_the_one_given():
    rng = np.random.default_rng(0)
    for _ in range(500):
        given = round(rng.random(), int(rng.integers(2, 17)))
        value = given + float(rng.choice([-1, 1])) * 10.0 ** -int(rng.integers(2, 16))
        shown = float(told_from(value, given))
        assert (shown < given, shown > given) == (value < given, value > given)
        assert abs(shown - value) <= 1e-4


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, "half", None, [1, 2]])
def test_rational_refuses_what_is_no_number(value):
    with pytest.raises(InputError, match="budget"):
        rational(value, "budget")


@pytest.mark.parametrize(
    ("widths", "words"),
    [
        ([], "empty"),
        ([0.5, 0.5], "increase strictly"),
        ([0.5, 0.2], "increase strictly"),
        ([0.0, 0.5], r"\(0, 1\]"),
        ([-0.2, 0.5], r"\(0, 1\]"),
        ([1e-20, 0.5], r"width 1e-20 must lie in \(1e-12, 1\]"),
        ([0.5, 1.2], r"\(0, 1\]"),
        ([0.5, np.nan], "finite"),
        ([0.5, np.inf], "finite"),
        ([0.5, "wide"], "finite"),
        ([[0.2, 0.5], [0.5, 0.8]], "finite"),
        ([0.1234567891, 0.9876543217], "round them"),
    ],
)
def test_bad_menus(widths, words):
    with pytest.raises(InputError, match=words):
        build(widths=widths)


def test_a_menu_of_one_width():
    assert build(widths=0.5).widths.tolist() == [0.5]


def test_a_float32_menu_is_read_as_it_was_meant():
    problem = build(widths=np.array(WIDTHS, dtype=np.float32))
    assert problem.full_cost == 7 * 20


def test_a_float32_cap_admits_the_width_it_names():
    caps = np.array([0.35, 0.65], dtype=np.float32)
    assert build(max_width=caps).admissible.sum(axis=1).tolist() == [2, 4]


@pytest.mark.parametrize("budget", [0, -0.5, np.nan, np.inf, "half", None])
def test_bad_budgets(budget):
    with pytest.raises(InputError, match="budget"):
        build(budget=budget)


@pytest.mark.parametrize("solver", ["greedy", "highs", "pulp", "cvxpy"])
def test_a_budget_beyond_everything_gives_everyone_the_widest(solver):
    assert hasa.solve(build(budget=1000), solver).widths.tolist() == [0.8, 0.8]


def test_caps_decide_what_is_admissible():
    problem = build([1, 1, 1], max_width=[0.2, 0.5, 0.649999])
    assert problem.admissible.sum(axis=1).tolist() == [1, 3, 3]
    # A cap that float noise puts a little below its width still admits it.
    assert build([1], widths=(0.1, 0.3), max_width=[0.1 * 3 - 1e-12]).admissible.all()


def test_the_arrays_are_frozen_and_the_problem_describes_itself():
    problem = build(constraints=[Coverage({0.8: 0.1})])
    for name in ("widths", "costs", "utilities", "admissible"):
        assert not getattr(problem, name).flags.writeable
    assert repr(problem) == "AllocationProblem(2 clients x 5 widths, budget 0.5, Coverage)"
    assert problem.costs.dtype == np.int64
    assert problem.utilities.dtype == np.float64
    with pytest.raises(AttributeError):
        problem.limit = 3


@pytest.mark.parametrize("clients", [[1, 2], None])
def test_clients_must_be_clients(clients):
    with pytest.raises(InputError, match=r"hasa_opt\.Clients"):
        AllocationProblem.build(clients, widths=WIDTHS, budget=1, utility=utility.alpha_fair())


def test_a_million_clients_by_eight_widths():
    rng = np.random.default_rng(0)
    clients = Clients(rng.integers(1, 1000, 1_000_000), max_width=rng.uniform(0.2, 1, 1_000_000))
    started = time.process_time()
    problem = AllocationProblem.build(
        clients, widths=np.arange(1, 9) / 8, budget=0.5, utility=utility.alpha_fair()
    )
    assert time.process_time() - started < 3.0  # about 0.3 s on a laptop
    assert problem.costs.shape == (1_000_000, 8)


# -------------------------------------------------------------------------------------- costs


def test_cost_tables():
    per_sample = build([3, 4], cost=cost.table([1, 2, 3, 4, 5], full=7))
    assert per_sample.costs.tolist() == [[3, 6, 9, 12, 15], [4, 8, 12, 16, 20]]
    assert per_sample.full_cost == 49
    assert per_sample.limit == 24
    to_one = build([3, 4], widths=(0.5, 1.0), cost=cost.table([1.0, 6.0]))
    assert to_one.full_cost == 42
    per_client = build([3, 4], widths=(0.5, 1.0), cost=cost.table([[1, 6], [0, 9]]))
    assert per_client.costs.tolist() == [[1, 6], [0, 9]]
    assert per_client.full_cost == 15


@pytest.mark.parametrize(
    ("table", "full", "words"),
    [
        ([1, 2, 3], 9, "shape"),
        ([[1] * 5] * 3, 9, "shape"),
        ([1, 2, 3, 4, 5], None, "full="),
        ([1, 2, 3, 4, -5], 9, "-5 at 4"),
        ([1, 2, 3, 4, 0.5], 9, "0.5"),
        ([1, 2, 3, 4, np.nan], 9, "nan"),
        ([1, 2, 3, 4, np.inf], 9, "inf"),
        ([1, 2, 3, 4, 2.0**63], 9, r"2\*\*62"),
        (["a"] * 5, 9, "whole numbers"),
        ([1, 2, 3, 4, 2**61], 9, r"overflow"),
        ([[1, 2, 3, 4, 2**62]] * 2, 9, r"overflow"),
        ([1, 2, 3, 4, 5], 0, "full cost"),
        ([1, 2, 3, 4, 5], 2**62, "full cost"),
    ],
)
def test_bad_cost_tables(table, full, words):
    with pytest.raises(InputError, match=words):
        build(cost=cost.table(table, full=full))


@pytest.mark.parametrize("family", [cost.width(), cost.quadratic()])
def test_overflow_is_refused_and_explained(family):
    with pytest.raises(InputError, match=r"2\*\*62 and would overflow"):
        build([2**60, 2**60], cost=family)
    with pytest.raises(InputError, match=r"2\*\*62 and would overflow"):
        outer_product(np.array([2**40]), np.array([2**23]), "test")


@pytest.mark.parametrize(
    ("costs", "full", "words"),
    [
        (np.ones((2, 4), dtype=np.int64), 5, "int64"),
        (np.ones((2, 5)), 5, "float64"),
        (-np.ones((2, 5), dtype=np.int64), 5, "negative"),
        (np.ones((2, 5), dtype=np.int64), 0, "full cost"),
    ],
)
def test_a_cost_of_ones_own_is_checked(costs, full, words):
    with pytest.raises(InputError, match=words):
        build(cost=lambda clients, units, denominator: cost.CostTable(costs, full))


def own(costs, full=2**62):
    return lambda clients, units, denominator: cost.CostTable(costs, full)


def test_a_cost_of_ones_own_cannot_overflow():
    with pytest.raises(InputError, match="overflow"):
        build(cost=own(np.full((2, 5), 2**62 + 1)))


def test_a_cost_of_ones_own_keeps_its_array():
    costs = np.ones((2, 5), dtype=np.int64)
    problem = build(cost=own(costs, 9))
    assert costs.flags.writeable
    assert not np.shares_memory(problem.costs, costs)


def test_a_cost_of_ones_own_may_be_a_list():
    assert build(cost=own([[1] * 5] * 2, 9)).costs.tolist() == [[1] * 5] * 2


# ---------------------------------------------------------------------------------- utilities


@pytest.mark.parametrize("alpha", [0, 0.5, 1, 2, 1.0000001])
def test_alpha_fair(alpha):
    table = build([1, 3], utility=utility.alpha_fair([2.0, 5.0], alpha=alpha)).utilities
    for row, weight in enumerate([2.0, 5.0]):
        for column, r in enumerate(WIDTHS):
            curve = log(r) if alpha == 1 else r ** (1 - alpha) / (1 - alpha)
            assert table[row, column] == pytest.approx(weight * curve, rel=1e-14)


def test_alpha_fair_weighs_by_samples_unless_told_otherwise():
    table = build([1, 3], utility=utility.alpha_fair(alpha=0)).utilities
    np.testing.assert_allclose(table, np.outer([0.25, 0.75], WIDTHS))


def test_saturating():
    table = build(utility=utility.saturating([2.0, 0.0], tau=0.4)).utilities
    assert table[0].tolist() == pytest.approx([2 * (1 - exp(-r / 0.4)) for r in WIDTHS])
    assert table[1].tolist() == [0] * 5


@pytest.mark.parametrize(("widths", "low", "high"), [(None, 0.2, 0.8), ((0.1, 1.0), 0.1, 1.0)])
def test_hasa_is_weighted_proportional_fairness(widths, low, high):
    table = build([1, 3], utility=utility.hasa([9, 4], widths=widths)).utilities
    assert table[0].tolist() == pytest.approx([0.25 * high * log(r) for r in WIDTHS])
    assert table[1].tolist() == pytest.approx([0.75 * low * log(r) for r in WIDTHS])


def test_hasa_ranks_scores_of_any_sign():
    table = build(utility=utility.hasa([-1.0, 2.0])).utilities
    np.testing.assert_array_equal(table, build(utility=utility.hasa([0.0, 2.0])).utilities)


def test_measured_by_table_and_by_function():
    values = np.arange(10).reshape(2, 5) ** 2
    by_table = build(utility=utility.measured(values)).utilities
    by_function = build(utility=utility.measured(lambda clients, menu: values)).utilities
    np.testing.assert_array_equal(by_table, values)
    np.testing.assert_array_equal(by_function, values)
    assert build(utility=lambda clients, menu: values.tolist()).utilities.tolist() == (
        values.tolist()
    )


@pytest.mark.parametrize("make", ["float32", "read-only", "strided", "list"])
def test_a_table_of_any_layout_is_copied(make):
    wide = np.arange(20, dtype=float).reshape(2, 10)
    values = {
        "float32": wide[:, ::2].astype(np.float32),
        "read-only": wide[:, ::2].copy(),
        "strided": wide[:, ::2],
        "list": wide[:, ::2].tolist(),
    }[make]
    if make == "read-only":
        values.flags.writeable = False
    problem = build(utility=utility.measured(values))
    np.testing.assert_array_equal(problem.utilities, wide[:, ::2])
    if make != "list":
        assert not np.shares_memory(problem.utilities, values)
        assert values.flags.writeable == (make != "read-only")
    assert hasa.solve(problem, "highs").has_solution


def test_a_read_only_table_of_a_function_is_not_copied():
    own = np.zeros((2, 5))
    own.flags.writeable = False
    assert build(utility=lambda clients, menu: own).utilities is own
    assert build(utility=lambda clients, menu: own[:]).utilities is not own


def table_with(value) -> np.ndarray:
    table = np.zeros((2, 5))
    table[1, 3] = value
    return table


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            lambda: utility.measured(table_with(np.nan)),
            r"'client-1' \(row 1\) at width 0\.65 is nan",
        ),
        (lambda: utility.measured(table_with(np.inf)), r"\(row 1\) at width 0\.65 is inf"),
        (lambda: utility.measured(table_with(-np.inf)), r"\(row 1\) at width 0\.65 is -inf"),
        (lambda: utility.measured(np.zeros((2, 4))), r"\(2, 4\).*\(2, 5\) expected"),
        (lambda: utility.measured(np.zeros(5)), "expected"),
        (lambda: utility.measured([[1], [2, 3]]), "utility table: no array, ragged"),
        (lambda: utility.measured(np.full((2, 5), 1j)), "utility table: complex numbers"),
        (lambda: lambda clients, menu: np.full((2, 5), 1 + 0j), "utility table: complex numbers"),
        (lambda: utility.measured([["a"] * 5] * 2), "utility table are of type"),
        (lambda: np.zeros((2, 5)), "utility.measured"),
        (lambda: utility.alpha_fair(alpha=-1), "alpha"),
        (lambda: utility.alpha_fair(alpha=np.inf), "max-min"),
        (lambda: utility.alpha_fair(alpha=np.nan), "alpha"),
        (lambda: utility.alpha_fair([1.0]), "weights"),
        (lambda: utility.alpha_fair([1.0, -1.0]), "weights of row 1"),
        (lambda: utility.alpha_fair([1.0, np.nan]), "weights of row 1"),
        (lambda: utility.saturating([1, 2], tau=0), "tau"),
        (lambda: utility.saturating([1, 2], tau=np.nan), "tau"),
        (lambda: utility.saturating([1, -2]), "scores of row 1"),
        (lambda: utility.saturating([1, 2, 3]), "scores have shape"),
        (lambda: utility.hasa([1, np.nan]), "row 1"),
        (lambda: utility.hasa([1, 2], widths=(0.8, 0.2)), "r_min"),
    ],
)
def test_bad_utilities_name_themselves(given, words):
    with pytest.raises(InputError, match=words):
        build(utility=given())


@pytest.mark.parametrize("solver", ["greedy", "highs", "pulp", "cvxpy"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_inadmissible_width_needs_no_utility(solver, value):
    values = np.tile(np.arange(5.0), (2, 1))
    values[0, 3:] = value
    problem = build(max_width=[0.5, 1], utility=utility.measured(values), budget=1)
    with np.errstate(invalid="ignore"):
        result = hasa.solve(problem, solver)
    assert result.choice.tolist() == [2, 4]
    assert result.objective == 6
    assert result.bound == pytest.approx(6)


# -------------------------------------------------------------------------------- constraints


def test_rows_of_coverage_and_quota():
    problem = build(
        [3, 7], constraints=[Coverage({0.65: 1 / 3}), Quota({0.8: 1, 0.2: np.int64(2)})]
    )
    coverage, first, second = problem.rows
    assert coverage.lower == 4  # a third of 10, rounded up
    assert coverage.coefficients.tolist() == [[0, 0, 0, 3, 3], [0, 0, 0, 7, 7]]
    assert (coverage.upper, first.lower) == (None, None)
    assert (first.upper, second.upper) == (1, 2)
    assert first.coefficients.tolist() == [[0, 0, 0, 0, 1]] * 2
    assert problem.limits[0].label == "budget"
    assert coverage.excess(np.array([3, 0])) == 1
    assert coverage.excess(np.array([0, 4])) == 0
    assert first.excess(np.array([4, 4])) == 1


@pytest.mark.parametrize(
    ("constraint", "words"),
    [
        (lambda: Coverage({0.4: 0.1}), r"Coverage names width 0\.4.*0\.35, 0\.5"),
        (lambda: Coverage({0.8: 1.1}), r"\[0, 1\]"),
        (lambda: Coverage({0.8: -0.1}), r"\[0, 1\]"),
        (lambda: Coverage({0.8: np.nan}), "finite"),
        (lambda: Quota({0.4: 1}), r"Quota names width 0\.4"),
        (lambda: Quota({0.8: -1}), "whole number"),
        (lambda: Quota({0.8: 1.5}), "whole number"),
        (lambda: Quota({0.8: True}), "whole number"),
    ],
)
def test_bad_constraints_name_themselves(constraint, words):
    with pytest.raises(InputError, match=words):
        build(constraints=[constraint()])


@pytest.mark.parametrize(
    "constraints",
    [
        lambda: [Quota({0.8: float("nan")})],
        lambda: [Quota({0.8: float("inf")})],
        lambda: [Quota({0.8: None})],
        lambda: [Coverage([0.8])],
        lambda: Coverage({0.8: 0.1}),
        lambda: [0.8],
    ],
)
def test_what_is_no_constraint_is_an_input_error(constraints):
    with pytest.raises(HasaError):
        build(constraints=constraints())


def test_shares_may_be_fractions():
    assert build([1, 2], constraints=[Coverage({0.8: Fraction(1, 3)})]).rows[0].lower == 1


# --------------------------------------------------------------------------------- evaluation


def test_evaluate_names_every_violation():
    problem = build(
        [10, 10],
        max_width=[0.5, 1.0],
        budget=0.5,
        constraints=[Coverage({0.2: 1, 0.8: 1}), Quota({0.8: 0})],
    )
    found = problem.evaluate([3, 4])
    assert not found.feasible
    assert len(found.violations) == 4
    text = "; ".join(found.violations)
    for words in (
        "client-0 cannot train width 0.65",
        "budget is broken by 90",
        "width 0.8 or wider is broken by 10",
        "Quota: at most 0 clients at width 0.8 is broken by 1",
    ):
        assert words in text
    assert found.spent == 290
    assert found.limit == 200
    assert problem.evaluate([0, 0]).spent == 80


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ([0], "shape"),
        ([0, 0, 0], "shape"),
        (0, "shape"),
        ([0, 5], "choice 5 of row 1"),
        ([-1, 0], "choice -1 of row 0"),
        ([0.0, 1.0], "integer indices"),
        ([True, False], "integer indices"),
        (["0", "1"], "integer indices"),
    ],
)
def test_evaluate_refuses_what_is_no_choice(choice, words):
    with pytest.raises(InputError, match=words):
        build().evaluate(choice)


def test_evaluate_is_exact_near_two_to_the_62():
    # In float64 neighbours at this size differ by 512: one unit over would go unseen.
    size = 2**60 - 1
    problem = build(
        [size, size, size],
        widths=(0.5, 1.0),
        budget=1,
        cost=cost.table([[0, size], [1, size], [0, size + 2]]),
    )
    full = 3 * size + 2
    assert full < INT64_ROOM
    assert problem.full_cost == full
    assert problem.evaluate([1, 1, 1]).spent == full
    tight = build(
        [1, 1, 1],
        widths=(0.5, 1.0),
        budget=Fraction(full - 1, full),
        cost=cost.table([[0, size], [1, size], [0, size + 2]]),
    )
    assert tight.limit == full - 1
    assert tight.evaluate([1, 1, 1]).violations == ("budget is broken by 1",)
    assert tight.evaluate([0, 1, 1]).spent == 2 * size + 2
    assert tight.evaluate([0, 1, 1]).feasible


@pytest.mark.parametrize("solver", ["auto", "highs", "cvxpy", "pulp"])
def test_one_unit_decides_where_floats_are_too_coarse(solver):
    size = 2**60 - 1
    problem = build(
        [1, 1, 1],
        widths=(0.5, 1.0),
        budget=Fraction(2 * size, 3 * size + 2),
        cost=cost.table([[0, size], [0, size], [0, size + 2]]),
        utility=utility.measured([[0, 1], [0, 1], [0, 5]]),
    )
    result = hasa.solve(problem, solver)
    assert result.objective == result.bound == 5
    assert result.spent <= problem.limit


def test_huge_costs_are_not_mistaken_for_infeasibility():
    problem = build([2**58 + 1, 2**58 + 5, 2**57 + 9], widths=(0.25, 0.5, 1.0), budget=0.6)
    assert problem.evaluate([1, 1, 1]).feasible
    best = hasa.solve(problem, "exact").objective
    assert hasa.solve(problem, "pulp").objective == best


def test_resources_are_named_in_one_table() -> None:
    ours = {"width", "quadratic", "flops", "parameters", "transfer_bytes"}
    assert ours <= set(cost.RESOURCES)
    clients = Clients([2, 3])
    units, denominator = np.array([1, 2]), 2
    for name, family in (("width", cost.width), ("quadratic", cost.quadratic)):
        table = cost.named(name)(clients, units, denominator)
        np.testing.assert_array_equal(table.costs, family()(clients, units, denominator).costs)
    with pytest.raises(InputError, match=r"cost 'flops' is not known: choose from width, quad"):
        cost.named("flops")
