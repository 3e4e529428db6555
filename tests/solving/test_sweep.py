"""Limits and scales of utilities over a grid, each point the problem that it says it is."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

import hasa_opt as hasa
from hasa_opt import AllocationProblem, Clients, InputError

NAMES = ["a", "b", "c", "d", "e", "f"]
SITES = ["x", "x", "y", "y", "y", "x"]


def built(
    budget: Any = 0.5, scales: tuple[float, ...] = (1,) * 6, **limits: Any
) -> AllocationProblem:
    """A problem with a limit of each kind, their numbers as given."""
    given = {"quota": 3, "cover": 0, "tokens": 14, "room": 2.0} | limits
    rng = np.random.default_rng(5)
    worth = np.sort(rng.random((6, 3)), axis=1) * np.array(scales)[:, None]
    return AllocationProblem.build(
        Clients(rng.integers(20, 90, 6), names=NAMES, site=SITES), widths=[0.25, 0.5, 1],
        budget=budget, utility=hasa.utility.measured(worth),
        constraints=[
            hasa.Quota({0.5: given["quota"]}), hasa.Coverage({1.0: given["cover"]}),
            hasa.Budget([1, 2, 4], given["tokens"], "tokens"),
            hasa.Capacity(SITES, given["room"]), hasa.Robust(1, 0.1),
        ],
    )  # fmt: skip


OVER = {
    "budget": ("budget", [0.45, 0.6, 0.9]),
    "Quota": ("quota", [0, 2, 6]),
    "Coverage": ("cover", [0, 0.1, 0.3]),
    "Budget: tokens": ("tokens", [8, 12, 24]),
    "Capacity": ("room", [0.75, 1.25, 2]),
}


@pytest.mark.parametrize("over", OVER)
def test_a_frontier_over_any_limit_is_what_build_would_have_made(over: str) -> None:
    argument, values = OVER[over]
    problem = built()
    found = hasa.frontier(problem, values, "highs", over=over)
    for value, own in zip(values, found.allocations, strict=True):
        other = built(**{argument: value})
        assert [(row.lower, row.upper, row.share) for row in own.problem.limits] == [
            (row.lower, row.upper, row.share) for row in other.limits
        ]
        assert own.objective == pytest.approx(hasa.solve(other, "highs").objective, rel=1e-9)
    assert len(set(found.objectives.tolist())) > 1
    assert found.budgets.tolist() == values
    assert [row.upper for row in problem.limits] == [row.upper for row in built().limits]


def test_prices_are_those_of_the_limit_and_labels_tell_the_change() -> None:
    found = hasa.frontier(built(), [8, 12], "highs", over="Budget: tokens")
    at = [row.label for row in built().limits].index("Budget: tokens at most 14")
    assert found.prices.tolist() == [own.prices[at] for own in found.allocations]
    assert found.prices[0] > 0
    labels = [own.problem.limits[at].label for own in found.allocations]
    assert labels == [f"Budget: tokens at most 14, changed to {value}" for value in (8, 12)]
    assert repr(found) == "Frontier(2 values of Budget: tokens from 8 to 12)"
    assert "Budget: tokens" in str(found).splitlines()[0]


def test_an_absolute_budget_is_changed_in_whole_units() -> None:
    menu = hasa.Menu(
        ["p", "q"], costs={"joules": [[1, 5], [2, 7]], "bytes": [[3, 9], [1, 1]]},
        attributes={"width": [0.5, 1]},
    )  # fmt: skip
    problem = AllocationProblem.build(
        Clients([10, 20]), menu=menu, utility=hasa.utility.alpha_fair(),
        constraints=[hasa.Budget("joules", 6), hasa.Budget("bytes", 12)],
    )  # fmt: skip
    for over, values in (("budget", [3, 7, 12]), ("joules", [3, 7, 12]), ("bytes", [4, 10])):
        found = hasa.frontier(problem, values, "highs", over=over)
        limits = [own.problem.budgets["bytes" if over == "bytes" else "joules"]
                  for own in found.allocations]  # fmt: skip
        assert limits == values
    with pytest.raises(InputError, match=r"budget 0.5 in units must be a whole number"):
        hasa.frontier(problem, [0.5])


@pytest.mark.slow
def test_a_sweep_solves_every_combination() -> None:
    problem = built()
    grid = {"budget": [0.45, 0.6], "Quota": [1, 4]}
    found = hasa.sweep(problem, "highs", limits=grid, scales={"c": [1, 50]})
    assert found.names == ("budget", "Quota", "scale of c")
    assert [point.values for point in found.points] == list(product([0.45, 0.6], [1, 4], [1, 50]))
    for point in found.points:
        budget, quota, scale = point.values
        other = built(budget, (1, 1, scale, 1, 1, 1), quota=quota)
        best = hasa.solve(other, "highs")
        assert point.allocation is not None
        assert point.allocation.objective == pytest.approx(best.objective, rel=1e-9)
        assert point.allocation.problem.limit == other.limit
    assert repr(found) == "Sweep(8 points over budget, Quota, scale of c)"


def test_each_point_starts_from_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    from hasa_opt.solving import parameters

    starts, solve = [], parameters.solve

    def watched(problem: AllocationProblem, solver: str, **options: Any) -> hasa.Allocation:
        starts.append(options["warm_start"])
        return solve(problem, solver, **options)

    monkeypatch.setattr(parameters, "solve", watched)
    found = hasa.sweep(built(), "highs", limits={"Coverage": [0.05, 1.0, 0.1]})
    assert [point.allocation is None for point in found.points] == [False, True, False]
    assert starts == [None, found.points[0].allocation, found.points[0].allocation]


def test_points_without_an_allocation_say_why() -> None:
    found = hasa.sweep(built(), "highs", limits={"budget": [0.1, 0.6]})
    assert found.points[0].allocation is None
    assert "raise the budget from 0.1" in found.points[0].why
    assert found.points[1].why == ""
    assert "infeasible" in str(found)
    columns = found.in_columns()
    assert columns["termination"] == ["infeasible", "optimal"]
    assert columns["objective"][0] is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "nothing is to be changed"),
        ({"limits": {"Quotas": [1]}}, r"no limit 'Quotas': the limits are 'budget'"),
        ({"limits": {"": [1]}}, "give its label"),
        ({"limits": {"Robust": [1]}}, "has no number of its own"),
        ({"limits": {"Quota": [1], "Quota: at most": [2]}}, "are one limit"),
        ({"limits": {"Quota": []}}, "one or more numbers"),
        ({"limits": {"Quota": [1.5]}}, "must be a whole number"),
        ({"limits": {"Coverage": [1.5]}}, "must be a share of at least 0, and no more than 1"),
        ({"limits": {"budget": [float("nan")]}}, "must be finite"),
        ({"scales": {"nobody": [1]}}, "names client 'nobody'"),
        ({"scales": {"c": [0]}}, "must be above 0"),
        ({"scales": {"c": [1e308 * 8]}}, "must be finite"),
        ({"scales": {"c": [1], 2: [2]}}, "are one client"),
    ],
)
def test_what_cannot_be_changed_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        hasa.sweep(built(), "highs", **given)


def test_a_label_that_may_be_two_is_refused() -> None:
    problem = AllocationProblem.build(
        Clients([1, 2, 3]), widths=[0.5, 1], budget=0.9, utility=hasa.utility.alpha_fair(),
        constraints=[hasa.Quota({0.5: 2, 1.0: 2})],
    )  # fmt: skip
    with pytest.raises(InputError, match=r"limit 'Quota' may be .*: give more of its label"):
        hasa.frontier(problem, [1], over="Quota")
