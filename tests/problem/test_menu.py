"""Menus of named options: costs in any form, budgets of several resources, limits on options."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import many

import hasa_opt as hasa
from hasa_opt import AllocationProblem, Budget, Clients, Menu, solve, utility
from hasa_opt.errors import HasaError, InfeasibleError, InputError
from hasa_opt.solving.solver import starting_choice

FLEET = Clients([10, 20, 30], names=["phone", "tablet", "laptop"])
WORTH = np.array([[0, 1, 3], [0, 2, 3], [0, 0.5, 1.5]])


def three(**changes) -> Menu:
    arguments = {
        "costs": {"joules": [0, 3, 10], "bytes": [0, 5, 9]},
        "per": {"joules": "sample", "bytes": "client"},
        "attributes": {"width": [0, 0.5, 1], "epochs": [0, 1, 2]},
        "full": "wide",
    } | changes
    return Menu(["skip", "narrow", "wide"], **arguments)


def problem(
    budget=None, constraints=(), menu=None, clients=FLEET, worth=WORTH
) -> AllocationProblem:
    return AllocationProblem.build(
        clients,
        menu=three() if menu is None else menu,
        budget={"joules": 0.5} if budget is None else budget,
        utility=utility.measured(worth),
        constraints=constraints,
    )


# ------------------------------------------------------------------------------------ the tables


def test_costs_per_sample_and_per_client_and_the_option_that_shares_refer_to():
    built = problem()
    assert built.resources["joules"].tolist() == [[0, 30, 100], [0, 60, 200], [0, 90, 300]]
    assert built.resources["bytes"].tolist() == [[0, 5, 9]] * 3
    assert (built.resource, built.full_cost, built.limit) == ("joules", 600, 300)
    found = solve(built)
    assert found.options.tolist() == ["wide", "wide", "skip"]
    assert found.widths.tolist() == [1, 1, 0]
    assert found.spending == {"joules": 300, "bytes": 18}
    assert found.spent == 300


def test_widths_are_the_short_form_of_a_menu():
    widths, samples = (0.2, 0.35, 0.8), [7, 11, 30]
    worth = utility.alpha_fair()
    short = AllocationProblem.build(Clients(samples), widths=widths, budget=0.45, utility=worth)
    long = AllocationProblem.build(
        Clients(samples), menu=Menu.of_widths(widths), budget=0.45, utility=worth
    )
    for name in ("widths", "costs", "utilities", "admissible"):
        np.testing.assert_array_equal(getattr(short, name), getattr(long, name))
    assert (short.limit, short.full_cost, short.budget) == (long.limit, long.full_cost, 0.45)
    assert solve(short).options.tolist() == [f"{width:g}" for width in solve(short).widths]


def test_skip_is_an_option_of_width_0_that_costs_nothing():
    menu = Menu.of_widths([0.25, 1], skip=True)
    assert menu.names == ("skip", "0.25", "1")
    built = AllocationProblem.build(
        Clients([1, 1]), menu=menu, budget=0.5, utility=utility.measured([[0, 0.1, 1]] * 2)
    )
    assert sorted(solve(built).options.tolist()) == ["1", "skip"]


def test_a_family_with_a_logarithm_refuses_skip_without_a_table():
    menu = Menu.of_widths([0.25, 1], skip=True)
    with (
        np.errstate(divide="ignore"),
        pytest.raises(InputError, match=r"option 'skip' is -inf.*table"),
    ):
        AllocationProblem.build(
            Clients([1, 1]), menu=menu, budget=0.5, utility=utility.alpha_fair()
        )


def test_a_family_of_widths_refuses_options_without_widths():
    menu = Menu(["a", "b"], costs={"s": [1, 2]}, per="client")
    for worth in (utility.alpha_fair(), utility.saturating([1, 2, 3]), utility.hasa([1, 2, 3])):
        with pytest.raises(InputError, match="options have no widths"):
            AllocationProblem.build(FLEET, menu=menu, utility=worth)


def test_costs_by_device_class():
    menu = Menu(
        ["slow", "fast"],
        costs={"s": {"old": [9, 4], "new": [3, 1]}},
        device=["old", "new", "old"],
    )
    built = problem({}, (), menu, worth=np.zeros((3, 2)))
    assert built.resources["s"].tolist() == [[9, 4], [3, 1], [9, 4]]


def test_device_classes_may_be_a_column_of_the_clients():
    clients = Clients([10, 20, 30], device=["old", "new", "old"])
    menu = Menu(["slow", "fast"], costs={"s": {"old": [9, 4], "new": [3, 1]}}, per="sample")
    built = problem({}, (), menu, clients, np.zeros((3, 2)))
    assert built.resources["s"].tolist() == [[90, 40], [60, 20], [270, 120]]


def test_a_table_of_costs_per_sample_is_multiplied_by_the_samples():
    costs = [[1, 2], [3, 4], [5, 6]]
    menu = Menu(["a", "b"], costs={"s": costs}, per="sample", full="b")
    built = problem({"s": 1.0}, (), menu, worth=np.zeros((3, 2)))
    assert built.resources["s"].tolist() == [[10, 20], [60, 80], [150, 180]]
    assert built.full_cost == 280


def test_rows_of_named_clients_are_matched_by_name():
    costs = [[1, 2], [3, 4], [5, 6]]
    menu = Menu(
        ["a", "b"],
        costs={"s": costs},
        allowed=[[True, False], [True, True], [True, True]],
        clients=["laptop", "phone", "tablet"],
    )
    built = problem({}, (), menu, worth=np.zeros((3, 2)))
    assert built.resources["s"].tolist() == [[3, 4], [5, 6], [1, 2]]
    assert built.admissible.tolist() == [[True, True], [True, True], [True, False]]
    other = Clients([1, 1, 1], names=["phone", "tablet", "watch"])
    with pytest.raises(InputError, match=r"other clients.*'laptop', 'watch'"):
        problem({}, (), menu, other, np.zeros((3, 2)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"costs": {}}, "at least one resource"),
        ({"costs": {"joules": [0, 3]}, "per": "client"}, "there are 3 options"),
        ({"costs": {"joules": [0, 3.5, 10]}}, "whole numbers"),
        ({"costs": {"joules": [0, -3, 10]}}, "whole numbers from 0"),
        ({"per": "round"}, 'must be "client" or "sample"'),
        ({"per": {"watts": "client"}}, "per names 'watts'"),
        ({"per": None}, 'say per="client"'),
        ({"full": "huge"}, "full='huge' is not an option"),
        ({"attributes": {"width": [0, 0.5, 1.5]}}, r"width 1.5 of option 2 must lie in \[0, 1\]"),
        ({"attributes": {"width": [0, 0.5]}}, "width"),
        ({"allowed": [[True, True]] * 3}, r"\(n_clients, 3\)"),
        ({"allowed": [[True] * 3] * 2}, "allowed has 2 rows"),
        ({"allowed": [[True] * 3, [False] * 3, [True] * 3]}, "'tablet'.* has no option"),
        ({"costs": {"joules": {"a": [0, 1, 2]}}, "per": None}, r"class: give Menu\(device"),
    ],
)
def test_what_is_wrong_with_a_menu_is_named(changes, words):
    with pytest.raises(InputError, match=words):
        problem({}, (), three(**changes))


def test_options_are_distinct_however_they_are_spelled():
    with pytest.raises(InputError, match="names of options"):
        Menu(["a", " a"], costs={"s": [1, 2]}, per="client")


# ----------------------------------------------------------------------------------- budgets


def test_budgets_of_several_resources_as_shares_or_absolute():
    built = problem({"joules": 0.5, "bytes": 0.6})
    assert [row.upper for row in built.limits] == [300, floor(Fraction(6, 10) * 27)]
    assert built.rows[0].label == "Budget: bytes at most 16"
    mixed = problem({"bytes": 0.6}, [Budget("joules", 250)])
    assert (mixed.resource, mixed.limit, mixed.budget) == ("joules", 250, None)
    assert [row.upper for row in mixed.rows] == [16]


def test_the_whole_number_1_and_the_float_1_are_the_same_share():
    assert problem({"joules": 1}).limit == problem({"joules": 1.0}).limit == 600
    assert (
        problem({}, [Budget("joules", 1)]).limit == problem({}, [Budget("joules", 1.0)]).limit == 1
    )


def test_a_budget_over_a_horizon_is_spent_round_by_round():
    assert problem({}, [Budget("joules", 1000, rounds=3)]).limit == 333
    with pytest.raises(InputError, match="rounds 0 of joules must be at least 1"):
        problem({}, [Budget("joules", 1000, rounds=0)])


def test_without_any_budget_everybody_takes_the_best():
    found = solve(problem({}))
    assert found.options.tolist() == ["wide"] * 3
    assert "no budget" in repr(problem({}))
    assert "600 joules, 27 bytes" in repr(found)


@pytest.mark.parametrize(
    ("budget", "constraints", "changes", "words"),
    [
        (0.5, (), {}, "resources joules, bytes: give a mapping"),
        ({"watts": 0.5}, (), {}, "resource 'watts', which is not in the menu"),
        ({"joules": 0}, (), {}, "budget 0 must be above 0:"),
        ({"joules": 1e-20}, (), {}, "budget 1e-20 must be above 1e-12: .* such as 0.5"),
        (
            {"joules": 0.5},
            (),
            {"full": None},
            r"Menu\(full=...\), which must cost something, or give an absolute limit",
        ),
        ({"joules": 0.5}, (Budget("joules", 5),), {}, "leave one out"),
        ({}, (Budget("watts", 5),), {}, "'watts', which is not in the menu"),
    ],
)
def test_budgets_that_mean_nothing_are_refused(budget, constraints, changes, words):
    with pytest.raises(InputError, match=words):
        problem(budget, constraints, three(**changes))


def test_an_absolute_budget_that_cannot_be_met_says_how_much_is_needed():
    menu = three(costs={"joules": [4, 5, 10]}, per="client")
    with pytest.raises(InfeasibleError, match=r"11 joules .*\(12\), short by 1: raise .* least 12"):
        solve(problem({}, [Budget("joules", 11)], menu))


@pytest.mark.parametrize(
    ("at_most", "words"),
    [
        (3.5, r"Deadline of 'joules': 3\.5 must be a finite whole number .*give whole numbers"),
        ([1, 2, 0.5], r"Deadline of 'joules': 0\.5 at 2 must be"),
        (-1, "Deadline of 'joules': -1 is negative; give whole numbers from 0"),
        ("soon", "Deadline of 'joules': <U4 given: give whole numbers"),
        ([1, 2], r"Deadline of 'joules' has shape \(2,\)"),
    ],
)
def test_deadlines_are_whole_numbers_of_the_unit(at_most, words):
    with pytest.raises(InputError, match=words):
        problem({}, [hasa.Deadline("joules", at_most)])


def test_widths_and_a_menu_are_not_given_together():
    for more in ({"widths": [0.5]}, {"cost": hasa.cost.quadratic()}):
        with pytest.raises(InputError, match="leave widths= and cost= out"):
            AllocationProblem.build(FLEET, menu=three(), utility=utility.measured(WORTH), **more)
    with pytest.raises(InputError, match="give widths=, or menu="):
        AllocationProblem.build(FLEET, budget=0.5, utility=utility.measured(WORTH))
    with pytest.raises(InputError, match="budget is missing"):
        AllocationProblem.build(FLEET, widths=[0.5], utility=utility.alpha_fair())


# ------------------------------------------------------------------------------ brute force

SOLVERS = ("auto", "exact", "highs", "pulp", "greedy", "cpsat", "scip")


@dataclass(frozen=True)
class Case:
    """What a problem is built from; ``tables`` repeats its costs, as they were drawn."""

    clients: Clients
    menu: Menu
    tables: dict[str, np.ndarray]
    budget: dict
    limits: list
    worth: np.ndarray


def random_case(seed: int) -> Case:
    """A small fleet with options of any cost, some missing, several budgets and limits.

    In half of them a client may sit out; in a fifth costs are operations per sample.
    """
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, 6)), int(rng.integers(1, 5))
    per_sample = rng.random() < 0.2
    clients = Clients(rng.integers(500, 6_000, n) if per_sample else rng.integers(1, 50, n))
    names = [f"o{at}" for at in range(m)]
    skips = m > 1 and rng.random() < 0.5
    given, tables = {}, {}
    for name in [f"r{at}" for at in range(rng.integers(1, 4))]:
        shape, low, high = ((m,), 21_000_003, 337_000_034) if per_sample else ((n, m), 0, 23)
        costs = rng.integers(low, high, shape)
        if skips:
            costs[..., 0] = 0
        given[name] = costs
        tables[name] = clients.samples[:, None] * costs if per_sample else costs
    if skips:
        names[0] = "skip"
    allowed = rng.random((n, m)) < 0.8
    allowed[np.arange(n), rng.integers(0, m, n)] = True
    attributes = {"epochs": rng.integers(0, 4, m)}
    if rng.random() < 0.5:
        attributes["width"] = np.where(np.array(names) == "skip", 0, rng.integers(0, 5, m) / 4)
    menu = Menu(
        names,
        costs=given,
        per="sample" if per_sample else None,
        attributes=attributes,
        allowed=allowed,
        full=names[-1] if all(table[:, -1].sum() for table in tables.values()) else None,
    )
    budget, limits = random_limits(rng, menu, tables)
    worth = rng.integers(-5, 20, (n, m)).astype(float)
    return Case(clients, menu, tables, budget, limits, worth)


def random_limits(rng, menu: Menu, tables: dict[str, np.ndarray]) -> tuple[dict, list]:
    """Budgets of the resources as shares or absolute, and limits on what is chosen."""
    n = len(tables["r0"])
    limits: list = []
    budget = {}
    for name, table in tables.items():
        kind = rng.random()
        if kind < 0.4 and menu.full is not None:
            budget[name] = float(rng.integers(1, 12)) / 8
        elif kind < 0.8:
            limits.append(Budget(name, int(rng.integers(0, table.max(axis=1).sum() + 2))))
    if rng.random() < 0.3:
        limits.append(hasa.Quota({str(rng.choice(menu.names)): int(rng.integers(0, n + 1))}))
    if rng.random() < 0.3:
        levels = menu.attributes["epochs"]
        limits.append(hasa.Coverage({float(rng.choice(levels)): float(rng.random())}, "epochs"))
    if rng.random() < 0.2:
        limits.append(hasa.Deadline("r0", int(tables["r0"].max() * rng.random())))
    if rng.random() < 0.2:
        limits.append(hasa.AtLeast("epochs", float(rng.integers(0, 3))))
    return budget, limits


def best_by_hand(case: Case) -> float | None:
    """Try every combination, with every limit read anew from what was given."""
    menu, samples = case.menu, case.clients.samples
    full = None if menu.full is None else menu.names.index(menu.full)
    rows, best = np.arange(len(samples)), None
    for choice in itertools.product(range(len(menu)), repeat=len(samples)):
        at = np.array(choice)
        if not menu.allowed[rows, at].all():
            continue
        spent = {name: int(table[rows, at].sum()) for name, table in case.tables.items()}
        ok = all(
            spent[name] <= floor(Fraction(share) * int(case.tables[name][:, full].sum()))
            for name, share in case.budget.items()
        )
        for limit in case.limits:
            if isinstance(limit, Budget):
                ok &= spent[limit.resource] <= limit.limit
            elif isinstance(limit, hasa.Quota):
                ((name, most),) = limit.clients_at.items()
                ok &= sum(menu.names[k] == name for k in choice) <= most
            elif isinstance(limit, hasa.Coverage):
                ((level, share),) = limit.shares.items()
                enough = menu.attributes["epochs"][at] >= level
                ok &= samples[enough].sum() >= Fraction(share) * int(samples.sum()) - Fraction(
                    1, 10**9
                )
            elif isinstance(limit, hasa.Deadline):
                ok &= bool((case.tables["r0"][rows, at] <= limit.at_most).all())
            else:
                ok &= bool((menu.attributes["epochs"][at] >= limit.least).all())
        if ok:
            value = float(case.worth[rows, at].sum())
            best = value if best is None else max(best, value)
    return best


def check_case(seed: int) -> None:
    case = random_case(seed)
    expected = best_by_hand(case)
    name = SOLVERS[seed % len(SOLVERS)]
    try:
        built = AllocationProblem.build(
            case.clients,
            menu=case.menu,
            budget=case.budget,
            utility=utility.measured(case.worth),
            constraints=case.limits,
        )
        name = "auto" if name == "greedy" and built.rows else name
        found = solve(built, name)
    except InfeasibleError:
        assert expected is None
        return
    assert expected is not None
    assert repr(built)
    assert str(found)
    value = built.evaluate(found.choice)
    assert value.feasible
    assert found.bound >= expected - 1e-9
    if name == "greedy":
        assert found.objective <= expected
    else:
        assert (found.termination, found.objective) == ("optimal", expected)


def test_cbc_that_dies_without_its_preprocessing_is_asked_again():
    menu = Menu(
        ["a", "b", "c"], costs={"x": [[2, 7, 8]], "y": [[12, 15, 19]], "z": [[3, 0, 13]]}, full="c"
    )
    built = AllocationProblem.build(
        Clients([20]),
        menu=menu,
        budget={"x": 0.75, "y": 1.375, "z": 0.125},
        utility=utility.measured([[8.0, 11.0, 4.0]]),
        constraints=[hasa.Quota({"b": 1})],
    )
    with pytest.raises(InfeasibleError, match="cannot hold together"):
        solve(built, "pulp")


@pytest.mark.fuzz
@pytest.mark.parametrize("part", many(2))
def test_options_against_every_combination(part):
    for seed in range(50 * part, 50 * part + 50):
        check_case(seed)


def test_the_random_problems_are_of_every_kind():
    cases = [random_case(seed) for seed in range(300)]
    kinds = {
        "skip": sum("skip" in case.menu.names for case in cases),
        "several budgets": sum(
            len(case.budget) + sum(isinstance(limit, Budget) for limit in case.limits) > 1
            for case in cases
        ),
        "operations": sum(table.max() > 10**10 for case in cases for table in case.tables.values()),
        "operations beside a further limit": sum(
            case.tables["r0"].max() > 10**10
            and any(isinstance(limit, hasa.Quota | hasa.Coverage) for limit in case.limits)
            for case in cases
        ),
        "no allocation": sum(best_by_hand(case) is None for case in cases[:100]),
    }
    assert min(kinds.values()) >= 20, kinds


# ------------------------------------------------------------------------ knapsack instances


def documented() -> dict:
    """The functions by which the page on options reads and states a public instance."""
    page = (Path(__file__).parents[2] / "docs" / "options.rst").read_text(encoding="utf-8")
    code = re.search(r">>> def read.*?(?=>>> knapsack)", page, re.DOTALL)[0]
    lines = [line[4:] for line in code.splitlines()]
    names: dict = {"np": np, "hasa": hasa}
    exec("\n".join(lines), names)
    names["lines"] = len(lines) - lines.index("def state(capacities, classes):") - 1
    return names


def instance(rng, n: int, m: int) -> str:
    """Text of an instance: classes of 1 to 10 items, capacities at half of what could be taken."""
    classes = [rng.integers(1, 100, (rng.integers(1, 11), m + 1)) for _ in range(n)]
    capacities = sum(own[:, 1:].max(axis=0) for own in classes) // 2
    rows = [f"{n} {m}", " ".join(map(str, capacities))]
    for own in classes:
        rows += [str(len(own)), *(" ".join(map(str, item)) for item in own)]
    return "\n".join(rows)


def test_public_knapsacks_are_stated_in_ten_lines_and_solved():
    own, rng = documented(), np.random.default_rng(2)
    assert own["lines"] <= 10
    for _ in range(12):
        text = instance(rng, int(rng.integers(1, 5)), int(rng.integers(1, 6)))
        capacities, classes = own["read"](text)
        values = [
            sum(item[0] for item in chosen)
            for chosen in itertools.product(*classes)
            if all(sum(item[r + 1] for item in chosen) <= most for r, most in enumerate(capacities))
        ]
        built = own["state"](capacities, classes)
        if values:
            assert solve(built, "highs").objective == max(values)
        else:
            with pytest.raises(InfeasibleError):
                solve(built, "highs")


def test_the_largest_public_knapsacks_are_stated_at_once():
    own = documented()
    text = instance(np.random.default_rng(3), 500, 30)
    capacities, classes = own["read"](text)
    built = own["state"](capacities, classes)
    assert len(built) == 500
    assert list(built.budgets.values()) == capacities
    assert built.admissible.sum() == sum(map(len, classes))
    row = 123
    for item, numbers in enumerate(classes[row]):
        assert [table[row, item] for table in built.resources.values()] == numbers[1:]
        assert built.utilities[row, item] == numbers[0]


# --------------------------------------------------------------------------------- frames


def frames(columns: dict) -> list:
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    return [pandas.DataFrame(columns), polars.DataFrame(columns), columns]


@pytest.mark.parametrize("again", ["samples", "samples\u00a0"])
def test_two_columns_of_one_name_in_a_frame_are_refused(again):
    frame = pd.DataFrame([["a", 1, 2]], columns=["name", "samples", again])
    with pytest.raises(InputError, match=r"the frame of clients.*samples"):
        Clients.from_frame(frame)
    frame = pd.DataFrame(
        [["a", 1, 2]], columns=["option", "joules", again.replace("samples", "joules")]
    )
    with pytest.raises(InputError, match=r"columns of.*joules"):
        Menu.from_frame(frame, costs=["joules"])


def test_a_menu_and_clients_from_frames_of_any_library():
    rows = {
        "option": ["skip", "wide", "wide", "narrow", "skip", "skip"],
        "client": ["phone", "phone", "laptop", "laptop", "tablet", "laptop"],
        "joules": [0, 7, 9, 4, 0, 0],
        "width": [0.0, 1.0, 1.0, 0.5, 0.0, 0.0],
    }
    fleet = {
        "name": ["phone", "tablet", "laptop"],
        "samples": [10, 20, 30],
        "max_width": [1.0, 0.5, 1.0],
    }
    for menu_frame, fleet_frame in zip(frames(rows), frames(fleet), strict=True):
        menu = Menu.from_frame(menu_frame, client="client", costs=["joules"])
        clients = Clients.from_frame(fleet_frame)
        assert clients.names == FLEET.names
        built = problem({}, [Budget("joules", 9)], menu, clients, np.array([[0, 5, 1]] * 3, float))
        found = solve(built)
        assert found.options.tolist() == ["wide", "skip", "skip"]
        assert found.spending == {"joules": 7}


def test_an_allocation_as_a_frame_of_any_library():
    found = solve(problem())
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    for library, kind in (("pandas", pandas.DataFrame), ("polars", polars.DataFrame)):
        table = found.frame(library)
        assert isinstance(table, kind)
        assert list(table["client"]) == ["phone", "tablet", "laptop"]
        assert list(table["option"]) == ["wide", "wide", "skip"]
        assert list(table["joules"]) == [100, 200, 0]
        assert list(table["epochs"]) == [2, 2, 0]
        assert list(table["utility"]) == [3, 3, 0]
    with pytest.raises(InputError, match="library 'dask' is not known"):
        found.frame("dask")


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ({"option": ["a"]}, {"costs": ["s"]}, "no column 's'"),
        ({"option": ["a", "a"], "s": [1, 2]}, {"costs": ["s"]}, "stands twice"),
        (
            {"option": ["a", "a"], "who": ["x", "y"], "s": [1, 2], "width": [0.5, 0.6]},
            {"costs": ["s"], "client": "who"},
            "width 0.5 and 0.6",
        ),
        (
            {"option": ["a", "b", "a"], "who": ["x", "x", "y"], "s": [1, 2, 3]},
            {"costs": ["s"], "client": "who", "full": "b"},
            "full='b' is no option of 'y'",
        ),
    ],
)
def test_what_is_wrong_with_a_frame_is_named(rows, options, words):
    with pytest.raises(InputError, match=words):
        Menu.from_frame(rows, **options)


def test_what_is_no_frame_is_refused():
    with pytest.raises(InputError, match="the menu is a int: give a data frame"):
        Menu.from_frame(3, costs=["s"])


# --------------------------------------------------------------------------------- switches


def test_switches_by_the_names_of_options():
    before = solve(problem())
    other = Menu(
        ["wide", "narrow", "skip"],
        costs={"joules": [10, 3, 0]},
        per="sample",
        attributes={"width": [1, 0.5, 0], "epochs": [2, 1, 0]},
        full="wide",
    )
    turned = Clients([30, 10, 20], names=["laptop", "phone", "tablet"])
    worth = np.array([[9, 5, 0], [0, 5, 9], [0, 5, 9]], float)
    built = problem({"joules": 1}, [hasa.Switches(before, at_most=0)], other, turned, worth)
    assert solve(built).options.tolist() == ["skip", "wide", "wide"]
    mapped = problem(
        {"joules": 1},
        [hasa.Switches({"phone": "narrow", "laptop": "narrow"}, 0)],
        other,
        turned,
        worth,
    )
    assert solve(mapped).options.tolist() == ["narrow", "narrow", "skip"]


def test_a_warm_start_from_another_menu_is_matched_by_name_or_by_width():
    before = solve(problem())
    menu = Menu(
        ["wide", "skip"], costs={"joules": [5, 0]}, per="client", attributes={"rank": [4, 0]}
    )
    other = problem({}, [Budget("joules", 15)], menu, worth=np.array([[2, 1]] * 3, float))
    assert starting_choice(other, before).tolist() == [0, 0, 1]
    narrow = AllocationProblem.build(
        FLEET, widths=[0.25, 0.5, 0.75], budget=0.5, utility=utility.alpha_fair()
    )
    wide = AllocationProblem.build(
        FLEET, widths=[0.2, 0.4, 0.8, 1.0], budget=0.6, utility=utility.alpha_fair()
    )
    held = solve(narrow)
    expected = [np.flatnonzero(wide.widths <= width)[-1] for width in held.widths]
    assert starting_choice(wide, held).tolist() == expected


def test_sensitivity_names_options():
    found = hasa.sensitivity(solve(problem()))
    assert {own.width for own in found.first_to_widen(3)} <= set(three().names)
    assert str(found)


# ------------------------------------------------------------------------------------ clock


@given(
    speed=st.lists(st.floats(1e3, 1e12), min_size=2, max_size=2),
    down=st.floats(1, 1e9),
    up=st.floats(1, 1e9),
    startup=st.floats(0, 100),
    watts=st.tuples(st.floats(0, 50), st.floats(0, 50)),
    flops=st.lists(st.integers(0, 10**12), min_size=3, max_size=3),
    size=st.lists(st.integers(0, 10**9), min_size=3, max_size=3),
)
@settings(max_examples=100)
def test_the_clock_against_its_formula(speed, down, up, startup, watts, flops, size):
    clock = hasa.Clock(speed, down, up, startup_s=startup, compute_w=watts[0], radio_w=watts[1])
    seconds, joules = clock.seconds(flops, size), clock.joules(flops, size)
    costs = clock.costs(flops, size)
    assert seconds.shape == joules.shape == (2, 3)
    for row, option in itertools.product(range(2), range(3)):
        compute = flops[option] / speed[row]
        transfer = size[option] / down + size[option] / up
        idle = flops[option] == size[option] == 0
        expected = 0 if idle else startup + transfer + compute
        assert seconds[row, option] == pytest.approx(expected, rel=1e-12)
        power = watts[0] * compute + watts[1] * transfer
        assert joules[row, option] == pytest.approx(power, rel=1e-12)
        assert 1000 * expected * (1 - 2e-9) <= costs["milliseconds"][row, option]
        assert costs["milliseconds"][row, option] < 1000 * expected * (1 + 2e-9) + 1 + 1e-9
        assert costs["millijoules"][row, option] < 1000 * power * (1 + 2e-9) + 1 + 1e-9


def test_a_deadline_rules_options_out_with_the_reason():
    clock = hasa.Clock([100, 10, 1], 1e9, 1e9, deadline_s=[5, 5, 60])
    costs = clock.costs([0, 50, 200], [0, 0, 0])
    menu = Menu(["skip", "narrow", "wide"], costs=costs)
    built = problem({}, [clock.deadline()], menu)
    assert built.admissible.tolist() == [
        [True, True, True],
        [True, True, False],
        [True, True, False],
    ]
    without = Menu(["narrow", "wide"], costs=clock.costs([50, 200], [0, 0]))
    short = hasa.Clock([100, 10, 1], 1e9, 1e9, deadline_s=20).deadline()
    with pytest.raises(InfeasibleError, match=r"'laptop'.*takes the least, 50000 mill.*20000"):
        problem({}, [short], without, worth=np.zeros((3, 2)))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"flops_per_s": 0}, "flops_per_s = 0 must be above 0"),
        ({"startup_s": -1}, "startup_s = -1 must be at least 0"),
        ({"compute_w": 1}, "belong together"),
        ({"deadline_s": 0}, "deadline_s = 0 must be above 0"),
        ({"flops_per_s": [[1]]}, "one number, or one per client"),
    ],
)
def test_a_clock_that_cannot_run_is_refused(arguments, words):
    given_all = {"flops_per_s": 1, "down_bytes_per_s": 1, "up_bytes_per_s": 1} | arguments
    with pytest.raises(HasaError, match=words):
        hasa.Clock(**given_all)


def test_a_budget_in_units_is_not_taken_for_a_share():
    menu = hasa.Menu(["a", "b"], costs={"joules": [10, 300]}, per="client", full="b")
    worth = hasa.utility.measured([[0, 1]] * 3)
    wanted = r'budget 2000 is a share, .* Budget\("resource", 2000\)'
    clients = hasa.Clients([1, 2, 3])
    with pytest.raises(hasa.InputError, match=wanted):
        hasa.AllocationProblem.build(clients, menu=menu, utility=worth, budget={"joules": 2000})
    at_most = [hasa.Budget("joules", 320)]
    problem = hasa.AllocationProblem.build(clients, menu=menu, utility=worth, constraints=at_most)
    assert hasa.solve(problem).options.tolist().count("b") == 1
