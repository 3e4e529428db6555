"""Every constraint against brute force that re-reads its meaning, on every solver that takes it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from math import ceil

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import many

import hasa_opt as hasa
from hasa_opt import AllocationProblem, Clients
from hasa_opt.problem import Row
from hasa_opt.solvers import registry

MENU = (0.2, 0.5, 0.8)
SITES = ("berlin", "berlin", "paris", "lyon", "lyon")
TREE = nx.DiGraph([("world", "germany"), ("world", "france"), ("germany", "berlin"),
                   ("france", "paris"), ("france", "lyon")])  # fmt: skip
MILP = ("highs", "pulp", "cvxpy")
Meaning = Callable[[np.ndarray, Clients], bool]


def draw(seed: int) -> tuple[Clients, np.ndarray, float]:
    rng = np.random.default_rng(seed)
    clients = Clients(rng.integers(1, 30, 5), names=list("abcde"), site=SITES)
    return clients, rng.normal(size=(5, 3)).round(1), float(rng.uniform(0.4, 0.9))


def build(seed: int, constraints: list, clients: Clients | None = None) -> AllocationProblem:
    own, table, budget = draw(seed)
    return AllocationProblem.build(
        clients or own,
        widths=MENU,
        budget=budget,
        utility=hasa.utility.measured(table),
        constraints=constraints,
    )


def best(seed: int, meaning: Meaning) -> float | None:
    """Optimum by enumeration; the budget and the constraint are written out once more."""
    clients, table, budget = draw(seed)
    worth = []
    for choice in itertools.product(range(3), repeat=5):
        widths = np.array(MENU)[list(choice)]
        within = clients.samples @ widths <= budget * clients.samples.sum() + 1e-9
        if within and meaning(widths, clients):
            worth.append(table[range(5), list(choice)].sum())
    return max(worth, default=None)


def uplink(widths: np.ndarray) -> int:
    return int(sum({0.2: 3, 0.5: 7, 0.8: 20}[width] for width in widths))


def site_cost(widths: np.ndarray, clients: Clients, sites: set[str]) -> float:
    inside = np.array([site in sites for site in clients.site])
    return 10 * float(clients.samples[inside] @ widths[inside])


PREVIOUS = np.array([0.2, 0.5, 0.8, 0.2, 0.35])
CASES: dict[str, tuple[list, Meaning]] = {
    "budget by table": (
        [hasa.Budget([3, 7, 20], 40, name="uplink")],
        lambda widths, clients: uplink(widths) <= 40,
    ),
    "budget by cost": (
        [hasa.Budget(hasa.cost.quadratic(), 2500)],
        lambda widths, clients: 100 * (clients.samples @ widths**2) <= 2500 + 1e-6,
    ),
    "two budgets": (
        [hasa.Budget([3, 7, 20], 50), hasa.Budget(np.arange(15).reshape(5, 3), 38)],
        lambda widths, clients: (
            uplink(widths) <= 50
            and sum(np.arange(15).reshape(5, 3)[range(5), np.searchsorted(MENU, widths)]) <= 38
        ),
    ),
    "site budgets": (
        [hasa.SiteBudgets(TREE, {"france": 180, "lyon": 120})],
        lambda widths, clients: (
            site_cost(widths, clients, {"paris", "lyon"}) <= 180 + 1e-6
            and site_cost(widths, clients, {"lyon"}) <= 120 + 1e-6
        ),
    ),
    "switches": (
        [hasa.Switches(PREVIOUS, 2)],
        lambda widths, clients: (np.abs(widths - PREVIOUS) > 1e-9).sum() <= 2,
    ),
    "coverage": (
        [hasa.Coverage({0.8: 0.25, 0.5: 0.5})],
        lambda widths, clients: (
            clients.weights[widths >= 0.8].sum() >= 0.25 - 1e-12
            and clients.weights[widths >= 0.5].sum() >= 0.5 - 1e-12
        ),
    ),
    "quota": (
        [hasa.Quota({0.2: 1, 0.8: 2})],
        lambda widths, clients: (widths == 0.2).sum() <= 1 and (widths == 0.8).sum() <= 2,
    ),
    "min width": (
        [hasa.MinWidth([0.2, 0.5, 0.2, 0.3, 0.2])],
        lambda widths, clients: bool((widths >= [0.2, 0.5, 0.2, 0.3, 0.2]).all()),
    ),
    "fixed": (
        [hasa.Fixed({"a": 0.5, 3: 0.2})],
        lambda widths, clients: widths[0] == 0.5 and widths[3] == 0.2,
    ),
    "forbidden": (
        [hasa.Forbidden({"b": [0.2, 0.8], "e": 0.5})],
        lambda widths, clients: widths[1] == 0.5 and widths[4] != 0.5,
    ),
    "all together": (
        [
            hasa.MinWidth(0.2),
            hasa.Forbidden({"a": 0.8}),
            hasa.Budget([3, 7, 20], 55),
            hasa.SiteBudgets(TREE, {"world": 600}),
            hasa.Quota({0.8: 2}),
        ],
        lambda widths, clients: (
            widths[0] != 0.8
            and uplink(widths) <= 55
            and site_cost(widths, clients, set(SITES)) <= 600 + 1e-6
            and (widths == 0.8).sum() <= 2
        ),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("solver", [line.name for line in registry.solvers()])
@pytest.mark.parametrize("case", CASES)
def test_agrees_with_its_meaning(case: str, solver: str) -> None:
    constraints, meaning = CASES[case]
    if not registry.find_solver(solver).available:
        pytest.skip(registry.find_solver(solver).install)
    record = registry.find_solver(solver)
    feasible = 0
    for seed in range(12):
        optimum = best(seed, meaning)
        if solver == "flow" and build(seed, constraints).dearest > build(seed, constraints).limit:
            with pytest.raises(
                hasa.errors.UnsupportedConstraintError, match=r"use (exact or )?highs"
            ):
                hasa.solve(build(seed, constraints), solver)
            return
        if any(record.stance(item) != "yes" for item in constraints):
            with pytest.raises(
                hasa.errors.UnsupportedConstraintError, match=r"use (exact or )?highs or "
            ):
                hasa.solve(build(seed, constraints), solver)
            return
        if optimum is None:
            with pytest.raises(hasa.InfeasibleError):
                hasa.solve(build(seed, constraints), solver)
            continue
        feasible += 1
        result = hasa.solve(build(seed, constraints), solver)
        assert meaning(result.widths, result.problem.clients)
        assert result.objective <= optimum + 1e-9
        assert result.bound >= optimum - 1e-9
        if solver != "greedy":
            assert result.objective == pytest.approx(optimum, abs=1e-9)
            assert result.termination is hasa.Termination.OPTIMAL
    assert feasible >= 4


@pytest.mark.parametrize(
    ("constraint", "words"),
    [
        (hasa.Budget([1, 2], 5), r"shape \(2,\)"),
        (hasa.Budget([1, 2, 3.5], 5), "whole numbers"),
        (hasa.Budget([1, 2, 3], -5), "Budget limit -5"),
        (hasa.Budget([1, 2, 3], 5.5, name="uplink"), "uplink must be a whole number"),
        (hasa.Budget([2**61] * 3, 2**60, "bytes"), "exceeds 2\\*\\*62"),
        (hasa.SiteBudgets(nx.DiGraph(), {}), "arborescence"),
        (hasa.SiteBudgets(nx.DiGraph([("a", "c"), ("b", "c")]), {}), "arborescence"),
        (hasa.SiteBudgets(nx.DiGraph([("x", "berlin")]), {"x": 1}), "'c' names site 'paris'"),
        (hasa.SiteBudgets(TREE, {"rome": 1}), "site 'rome', not in the tree"),
        (hasa.SiteBudgets(TREE, ["paris"]), "takes a mapping"),
        (hasa.Switches([0.2, 0.5], 1), "previous widths have shape"),
        (hasa.Switches(PREVIOUS, -1), "at_most -1"),
        (hasa.MinWidth("wide"), "MinWidth"),
        (hasa.Fixed({"z": 0.2}), "names client 'z'"),
        (hasa.Fixed({7: 0.2}), "from 0 to 4"),
        (hasa.Fixed({"a": 0.3}), "not in the menu"),
        (hasa.Forbidden({"a": [0.3]}), "not in the menu"),
    ],
)
def test_bad_values_name_themselves(constraint: object, words: str) -> None:
    with pytest.raises(hasa.InputError, match=words):
        build(0, [constraint])


def test_sites_are_needed_for_site_budgets() -> None:
    with pytest.raises(hasa.InputError, match=r"Clients\(site=\.\.\.\)"):
        build(0, [hasa.SiteBudgets(TREE, {})], clients=Clients([1, 2, 3, 4, 5]))


@pytest.mark.parametrize(
    "constraint", [hasa.MinWidth(0.9), hasa.Forbidden({"b": MENU}), hasa.MinWidth([1, 0, 0, 0, 0])]
)
def test_a_client_without_a_width_is_named(constraint: object) -> None:
    with pytest.raises(hasa.InfeasibleError, match=r"leaves '[ab]' \(row [01]\) no width"):
        build(0, [constraint])


def test_a_conflict_of_sites_is_explained_and_its_remedy_solves() -> None:
    constraints = [hasa.SiteBudgets(TREE, {"lyon": 0, "world": 10**6}), hasa.Quota({0.8: 5})]
    with pytest.raises(hasa.InfeasibleError) as caught:
        hasa.solve(build(3, constraints), "highs")
    assert caught.value.limits == ("SiteBudgets: lyon",)
    needed = int(2 * build(3, []).clients.samples[3:].sum())
    assert f"from 0 to {needed}" in str(caught.value)
    relaxed = [hasa.SiteBudgets(TREE, {"lyon": needed, "world": 10**6}), hasa.Quota({0.8: 5})]
    assert hasa.solve(build(3, relaxed), "highs").has_solution


def test_switches_take_an_allocation() -> None:
    before = hasa.solve(build(5, []), "highs")
    after = hasa.solve(build(5, [hasa.Switches(before, 0)]), "highs")
    assert np.array_equal(before.choice, after.choice)


def test_switches_take_bare_names_of_options_in_the_order_of_the_clients() -> None:
    before = hasa.solve(build(5, []), "highs").options
    for bare in (before, before.tolist()):
        after = hasa.solve(build(5, [hasa.Switches(bare, 0)]), "highs")
        assert after.options.tolist() == before.tolist()
    with pytest.raises(hasa.InputError, match="previous options: 2 given for 5 clients"):
        build(5, [hasa.Switches(["0.2", "0.5"], 0)])


def test_site_rows_hold_their_members_alone() -> None:
    clients = Clients(np.ones(2000, dtype=int), site=[f"s{row % 500}" for row in range(2000)])
    tree = nx.DiGraph([("root", f"s{site}") for site in range(500)])
    problem = AllocationProblem.build(
        clients,
        widths=MENU,
        budget=0.7,
        utility=hasa.utility.alpha_fair(),
        constraints=[hasa.SiteBudgets(tree, {f"s{site}": 20 for site in range(500)})],
    )
    assert sum(row.coefficients.size for row in problem.rows) == 2000 * 3
    result = hasa.solve(problem, "highs")
    assert result.termination is hasa.Termination.OPTIMAL
    assert set(result.widths) == {0.5}


def test_large_limits_are_exact() -> None:
    for limit in (2**53 + 1, 2**62):
        assert build(0, [hasa.Budget([1, 1, 1], limit)]).rows[0].upper == limit


@pytest.mark.fuzz
def test_remedies_suffice() -> None:
    """Every change that the message names is made, and then an allocation exists."""
    conflicts = 0
    for seed in many(60):
        rng = np.random.default_rng(seed)
        limits = {"berlin": int(rng.integers(0, 60)), "lyon": int(rng.integers(0, 60))}
        budget = float(rng.uniform(0.1, 0.4))
        cover = {0.8: float(rng.uniform(0.2, 0.9))}
        clients, table, _ = draw(seed)

        def problem(own_limits: dict, own_budget: float, own_cover: dict) -> AllocationProblem:
            return AllocationProblem.build(
                clients,  # noqa: B023
                widths=MENU,
                budget=own_budget,
                utility=hasa.utility.measured(table),  # noqa: B023
                constraints=[hasa.SiteBudgets(TREE, own_limits), hasa.Coverage(own_cover)],
            )

        try:
            hasa.solve(problem(limits, budget, cover), "highs")
            continue
        except hasa.InfeasibleError as error:
            message = str(error).split("Remedy: ")[1]
        conflicts += 1
        raised = re.search(r"raise the budget from [\d.e-]+ to ([\d.]+)", message)
        for site, limit in re.findall(r"SiteBudgets: (\w+)\) from \d+ to (\d+)", message):
            limits[site] = int(limit)
        covered = re.search(r"share of \(Coverage: .*?\) from [\d.]+ to ([\d.]+)", message)
        if covered:
            cover = {0.8: covered[1]}
        eased = problem(limits, float(raised[1]) if raised else budget, cover)
        assert hasa.solve(eased, "highs").has_solution, (seed, message)
    assert conflicts > 20


# ----------------------------------------------------------------------- what names itself in words


def test_budgets_of_one_name_are_numbered():
    budgets = [
        hasa.Budget([3, 7, 20], 50),
        hasa.Budget([1, 1, 9], 38),
        hasa.Budget([1, 1, 1], 9, "x"),
    ]
    rows = build(0, budgets).rows
    assert [row.label for row in rows] == [
        "Budget: resource 1 at most 50",
        "Budget: resource 2 at most 38",
        "Budget: x at most 9",
    ]
    impossible = [hasa.Budget([3, 7, 20], 50), hasa.Budget([1, 1, 9], 0)]
    with pytest.raises(hasa.InfeasibleError, match="Budget: resource 2 at most 0") as caught:
        hasa.solve(build(0, impossible), "highs")
    assert caught.value.limits == ("Budget: resource 2 at most 0",)


@given(st.lists(st.sampled_from([hasa.Budget([1, 1, 1], 9), hasa.Budget([1, 1, 1], 9, "x"),
                                 hasa.Quota({0.2: 3}), hasa.Quota({0.2: 3, 0.5: 2}),
                                 hasa.Coverage({0.5: 0.1}), hasa.SiteBudgets(TREE, {"paris": 99}),
                                 hasa.Switches([0.5] * 5, 5)])))  # fmt: skip
def test_any_two_limits_can_be_told_apart(constraints):
    labels = [row.label for row in build(0, constraints).rows]
    assert len(set(labels)) == len(labels)


def test_sites_that_are_numbers_are_named_by_their_digits():
    tree = nx.DiGraph([(0, 1), (0, 2)])
    clients = Clients([10, 10, 10], site=[1, 1, 2])

    def spent(limits):
        problem = AllocationProblem.build(
            clients, widths=MENU, budget=1.0, utility=hasa.utility.alpha_fair(),
            constraints=[hasa.SiteBudgets(tree, limits)],
        )  # fmt: skip
        return (hasa.solve(problem, "highs").widths * 100).round().tolist()

    assert spent({1: 70, "2": 20}) == [20, 50, 20] or spent({1: 70, "2": 20}) == [50, 20, 20]
    with pytest.raises(hasa.InputError, match="limits: '1' already names row 0"):
        spent({1: 70, "1": 20})
    with pytest.raises(hasa.InputError, match=r"limits site '3', not in the tree \(0, 1, 2\)"):
        spent({3: 1})
    tree.add_edge(0, "1 ")
    with pytest.raises(hasa.InputError, match="SiteBudgets tree: '1 ' already names row 1"):
        spent({0: 1})


def test_a_remedy_speaks_of_shares_where_a_share_was_given():
    problem = AllocationProblem.build(
        Clients([100, 100, 200]),
        widths=(0.25, 1.0),
        budget=0.5,
        utility=hasa.utility.alpha_fair(),
        constraints=[hasa.Coverage({1.0: 0.72})],
    )
    with pytest.raises(hasa.InfeasibleError) as caught:
        hasa.solve(problem, "highs")
    assert "raise the budget" in str(caught.value)
    tight = replace(problem, rows=(replace(problem.rows[0], lower=288),))
    assert tight.rows[0].remedy(188).endswith("from 0.72 to 0.25")


@given(
    samples=st.lists(st.integers(1, 50), min_size=1, max_size=5),
    share=st.fractions(0, 1, max_denominator=200),
    data=st.data(),
)
def test_the_share_of_a_remedy_suffices(samples, share, data):
    row = AllocationProblem.build(
        Clients(samples),
        widths=(0.5, 1.0),
        budget=1.0,
        utility=hasa.utility.alpha_fair(),
        constraints=[hasa.Coverage({1.0: share})],
    ).rows[0]
    excess = data.draw(st.integers(0, row.lower))
    eased = Fraction(row.remedy(excess).split(" to ")[-1])
    least = ceil(eased * sum(samples))
    assert least <= row.lower - excess
    assert row.lower - excess - least <= max(1, sum(samples) / 1000)


def test_noise_of_floats_is_no_share() -> None:
    """0.7 - 0.4 is a little below 0.3, and 0.1 + 0.2 a little above."""
    problem = AllocationProblem.build(
        hasa.Clients([3, 3, 4]),
        widths=(0.3, 1.0),
        budget=0.7 - 0.4,
        utility=hasa.utility.alpha_fair(),
        constraints=[hasa.Coverage({0.3: 0.1 + 0.2})],
    )
    assert problem.rows[0].lower == 3
    assert hasa.solve(problem, "exact").widths.tolist() == [0.3] * 3


def test_a_share_just_too_small_is_not_shown_as_the_one_that_suffices() -> None:
    more = {"widths": (0.3, 1.0), "budget": 0.29999999, "utility": hasa.utility.alpha_fair()}
    problem = AllocationProblem.build(hasa.Clients([3, 3, 4]), **more)
    with pytest.raises(hasa.InfeasibleError, match=r"budget 0\.29999999 is .* at least 0\.3 or"):
        hasa.solve(problem)
    covered = AllocationProblem.build(
        hasa.Clients([3, 3, 4]), **more, constraints=[hasa.Coverage({1.0: 0.4})]
    )
    with pytest.raises(hasa.InfeasibleError, match=r"raise the budget from 0\.29999999 to 0\.58"):
        hasa.solve(covered, "highs")


class Stated:
    """A limit that states whatever it was given."""

    def __init__(self, rows):
        self.given = rows

    def rows(self, terms):
        return self.given


ONES = np.ones((2, 5), dtype=np.int64)


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        (Row("r", ONES, upper=1), r"Stated\.rows\(\) gives a Row: give a list of Row"),
        ([(ONES, 1)], "gives a tuple for a row: give a Row"),
        ([Row("r", ONES.astype(float), upper=1)], r"of float64\(2, 5\): int64\(2, 5\) wanted"),
        ([Row("r", ONES[:1], upper=1)], r"of int64\(1, 5\): int64\(2, 5\) wanted"),
        ([Row("r", ONES)], "which needs a lower or an upper limit, whole numbers"),
        ([Row("r", ONES, upper=8.5)], "which needs a lower or an upper limit, whole numbers"),
    ],
)
def test_what_a_class_of_the_callers_own_gives_is_refused_by_its_name(rows, wrong):
    clients = hasa.Clients([10, 20])
    with pytest.raises(hasa.InputError, match=wrong):
        hasa.AllocationProblem.build(
            clients, widths=(0.2, 0.35, 0.5, 0.65, 0.8), budget=0.5,
            utility=hasa.utility.alpha_fair(), constraints=[Stated(rows)],
        )  # fmt: skip


@pytest.mark.parametrize("kind", [bool, np.int8, np.int32])
def test_rows_of_any_whole_numbers_are_taken(kind):
    wide = np.tile([0, 0, 1], (2, 1)).astype(kind)
    problem = hasa.AllocationProblem.build(
        hasa.Clients([10, 20]), widths=(0.2, 0.5, 1.0), budget=1.0,
        utility=hasa.utility.alpha_fair(), constraints=[Stated([Row("r", wide, upper=1)])],
    )  # fmt: skip
    assert sorted(hasa.solve(problem).widths.tolist()) == [0.5, 1.0]


def test_a_mask_of_the_callers_own_is_of_bools():
    class Masked:
        def mask(self, terms):
            return np.ones(terms.shape)

    with pytest.raises(hasa.InputError, match=r"Masked\.mask\(\) gives float64\(1, 2\): bool"):
        hasa.AllocationProblem.build(
            hasa.Clients([10]), widths=(0.2, 0.5), budget=0.5, utility=hasa.utility.alpha_fair(),
            constraints=[Masked()],
        )  # fmt: skip
