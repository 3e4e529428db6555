"""Explanations against every allocation, enumerated."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support import many
from support.limited_problems import KINDS, limited_problem, tolerance

import hasa_opt as hasa
from hasa_opt import AllocationProblem, Clients, Explanation, InfeasibleError, InputError, utility
from hasa_opt.problem.limits import RobustRow


def fleet(**changes: Any) -> AllocationProblem:
    settings = {
        "widths": [0.25, 0.5, 1.0],
        "budget": 0.5,
        "utility": utility.hasa([0.1, 0.5, 0.9, 0.2]),
    } | changes
    clients = Clients(
        [100, 100, 200, 50], names=["a", "b", "c", "d"], max_width=[1, 1, 1, 0.5],
    )  # fmt: skip
    return AllocationProblem.build(clients, **settings)


def best_of_both(problem: AllocationProblem, row: int, least: float) -> tuple[float, float]:
    """Best sums of utilities without and with an option of so much utility for a client."""
    options = [np.flatnonzero(allowed) for allowed in problem.admissible]
    sums = {False: -np.inf, True: -np.inf}
    for choice in itertools.product(*options):
        totals = problem.evaluate(np.array(choice))
        if totals.feasible:
            has = bool(problem.utilities[row, choice[row]] >= least)
            sums[has] = max(sums[has], totals.objective)
    return sums[False], sums[True]


def rows(problem: AllocationProblem) -> np.ndarray:
    return np.arange(len(problem))


def changed(problem: AllocationProblem, label: str, value: int) -> AllocationProblem:
    """The problem under another limit."""
    if label == "budget":
        robust = (
            replace(row, upper=value) if isinstance(row, RobustRow) else row for row in problem.rows
        )
        return replace(problem, limit=value, rows=tuple(robust))
    limits = list(problem.rows)
    at = [limit.label for limit in limits].index(label)
    side = "lower" if limits[at].upper is None else "upper"
    limits[at] = replace(limits[at], **{side: value})
    return replace(problem, rows=tuple(limits))


def check(found: Explanation) -> int:
    """Hold everything that is said against the enumeration; how many limits would do."""
    problem, row = found.result.problem, found.row
    own = problem.utilities[row, found.result.choice[row]]
    worth = problem.utilities[row][problem.admissible[row]]
    if found.then is None:
        assert own == worth.max()
        return 0
    least, near = problem.utilities[row, found.then], 10 * tolerance(problem)
    assert least == worth[worth > own].min()
    without, with_it = best_of_both(problem, row, least)
    if found.forced is None:
        assert with_it == -np.inf
    else:
        assert abs(found.forced.objective - with_it) <= near
        (flip,) = (own for own in found.flips if own.what.startswith("utility of"))
        assert flip.verified
        assert abs(flip.then - flip.now - max(0, without - with_it)) <= near
    limits = [own for own in found.flips if not own.what.startswith("utility of")]
    for flip in limits:
        assert flip.verified
        less = 1 if flip.then > flip.now else -1
        without, with_it = best_of_both(changed(problem, flip.what, flip.then), row, least)
        assert with_it >= without - near
        without, with_it = best_of_both(changed(problem, flip.what, flip.then - less), row, least)
        assert without >= with_it - near
    for obstacle in found.obstacles:
        limit = next(own for own in problem.limits if own.label == obstacle.limit)
        alone = found.result.choice.copy()
        alone[row] = found.then
        assert obstacle.excess == limit.excess(alone)
        assert obstacle.more == limit.total(alone) - limit.total(found.result.choice)
    return len(limits)


@pytest.mark.fuzz
def test_explanations_against_every_allocation() -> None:
    explained = flips = 0
    for seed in many(40):
        kind = KINDS[seed % len(KINDS)]
        try:
            problem = limited_problem(kind, seed, n_clients=(2, 5), n_widths=(2, 4))
            result = hasa.solve(problem, "highs")
        except InfeasibleError:
            continue
        worth = np.where(problem.admissible, problem.utilities, -np.inf)
        poor = np.flatnonzero(problem.utilities[rows(problem), result.choice] < worth.max(axis=1))
        found = hasa.explain(result, int(poor[-1]) if poor.size else 0, solver="highs")
        assert str(found)
        flips += check(found)
        explained += found.then is not None
    assert explained > 10
    assert flips > 3


def test_what_is_said_of_a_client() -> None:
    result = hasa.solve(fleet(), "highs")
    found = hasa.explain(result, "b")
    assert check(found) == 1
    assert (found.client, found.option, found.row) == ("b", "0.5", 1)
    assert repr(found) == "Explanation('b': '0.5', next '1')"
    lines = str(found).splitlines()
    assert lines[0].startswith("b has width 0.5, worth -0.1")
    assert lines[1].startswith("next better: width 1, worth ")
    assert lines[2].startswith("in the way: budget: +200 of it, worth ")
    assert found.changes == {"c": ("0.5", "0.25")}
    assert f"they would lose {found.loss:.4g}" in str(found)
    assert lines[-1].startswith("would do: budget: 900 to ")
    assert lines[-1].endswith(" (verified)")


def test_the_best_that_a_client_may_have_is_in_nobodys_way() -> None:
    found = hasa.explain(hasa.solve(fleet(budget=1.0), "highs"), "d")
    assert (found.then, found.obstacles, found.flips, found.gain) == (None, (), (), 0.0)
    assert np.isnan(found.loss)
    assert found.ruled_out == ("1",)
    assert str(found).endswith("no limit stands in its way")


def test_a_robust_budget_is_raised_with_the_budget() -> None:
    result = hasa.solve(fleet(constraints=[hasa.Robust(2, 0.3)], budget=0.6), "highs")
    found = hasa.explain(result, "c", solver="highs")
    assert check(found) == 1
    assert found.forced is None
    assert [flip.what for flip in found.flips] == ["budget"]
    assert any("Robust" in obstacle.limit for obstacle in found.obstacles)


def test_what_nobody_could_have_is_said() -> None:
    result = hasa.solve(fleet(constraints=[hasa.Quota({1.0: 0})]), "highs")
    found = hasa.explain(result, "c")
    assert check(found) == len(found.flips)
    assert found.forced is None
    assert found.changes == {}
    assert "no allocation within the limits is known" in str(found)


def test_a_result_that_is_not_the_best_is_named() -> None:
    narrow = fleet().checked(np.zeros(4, dtype=int))
    result = replace(
        hasa.solve(fleet(), "highs"), held=narrow, totals=None,
        termination=hasa.Termination.TIME_LIMIT,
    )  # fmt: skip
    found = hasa.explain(result, "a")
    assert not found.flips[0].verified
    assert "so the result is not the best" in str(found)


def test_in_large_problems_limits_are_not_searched() -> None:
    rng = np.random.default_rng(0)
    problem = AllocationProblem.build(
        Clients(rng.integers(10, 99, 900)), widths=[0.25, 0.5, 1.0], budget=0.5,
        utility=utility.measured(np.sort(rng.random((900, 3)))),
    )  # fmt: skip
    result = hasa.solve(problem, "highs")
    row = int(np.flatnonzero(result.choice < 2)[0])
    found = hasa.explain(result, row, solver="highs")
    assert not found.searched
    assert [flip.verified for flip in found.flips] == [False]
    assert "up to 2,000 options: not here" in " ".join(str(found).split())


@pytest.mark.parametrize(
    ("client", "words"),
    [
        ("z", "explain names client 'z': give a name, or a row from 0 to 3"),
        (9, "explain names client 9"),
        (None, "client None: give a name, or a row"),
    ],
)
def test_clients_that_are_not_there_are_refused(client: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        hasa.explain(hasa.solve(fleet(), "highs"), client)


def test_under_fairness_sums_do_not_decide() -> None:
    result = hasa.solve(fleet(constraints=[hasa.Fairness("maxmin")]), "highs")
    with pytest.raises(InputError, match=r"Fairness\(maxmin\) puts last"):
        hasa.explain(result, "a")
