"""The page to play with holds what was solved, in little room."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest

import hasa_opt as hasa
from hasa_opt.solving import page


def fleet(n_clients: int, names: list[str] | None = None, **more: Any) -> hasa.AllocationProblem:
    rng = np.random.default_rng(0)
    clients = hasa.Clients(
        np.maximum(1, rng.lognormal(5, 1, n_clients).astype(int)), names=names,
        site=rng.choice(["north", "south"], n_clients).tolist(),
    )  # fmt: skip
    return hasa.AllocationProblem.build(
        clients, widths=np.arange(1, 9) / 8, budget=0.5,
        utility=hasa.utility.hasa(rng.random(n_clients)), **more,
    )  # fmt: skip


def held(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert found is not None
    content: dict[str, Any] = json.loads(found[1])
    return content


def choices(content: dict[str, Any]) -> list[list[int]]:
    """The allocation at each budget, from the changes."""
    state = np.array(content["first"])
    found = [state.tolist()]
    for change in content["changes"]:
        steps, options = np.reshape(np.array(change, dtype=int), (-1, 2)).T
        state[np.cumsum(steps)] = options
        found.append(state.tolist())
    return found


@pytest.mark.parametrize("n_clients", [3, 40, 700])
def test_the_page_holds_every_allocation(tmp_path: Path, n_clients: int) -> None:
    found = hasa.frontier(fleet(n_clients), np.linspace(0.2, 0.9, 25))
    content = held(found.explore(tmp_path / "explore.html"))
    assert content["values"] == found.budgets.tolist()
    assert choices(content) == [own.choice.tolist() for own in found.allocations]
    assert content["utility"] == pytest.approx(found.objectives.tolist())
    assert content["bound"] == pytest.approx(found.bounds.tolist())
    assert content["price"] == pytest.approx(found.prices.tolist())
    samples = found.allocations[0].problem.clients.samples
    for at, own in enumerate(found.allocations):
        assert content["counts"][at] == np.bincount(own.choice, minlength=8).tolist()
        assert content["weights"][at] == [int(samples[own.choice == k].sum()) for k in range(8)]
        before = found.allocations[max(at - 1, 0)]
        assert content["changed"][at] == np.count_nonzero(own.choice != before.choice)


def test_who_changes_next_is_what_the_sensitivity_says(tmp_path: Path) -> None:
    found = hasa.frontier(fleet(50), [0.3, 0.5, 1.0])
    content = held(found.explore(tmp_path / "explore.html"))
    for own, ways in zip(found.allocations, content["next"], strict=True):
        sure = hasa.sensitivity(own, n_samples=1)
        for way, changes in zip(ways, (sure.first_to_widen(), sure.first_to_narrow()), strict=True):
            assert [name for name, *_ in way] == [change.client for change in changes]
            assert [price for *_, price in way] == pytest.approx(
                [change.price for change in changes]
            )
            assert [[now, then] for _, now, then, _ in way] == [
                [f"{change.width:g}", f"{change.then:g}"] for change in changes
            ]
    assert content["next"][-1][0] == []


def test_each_limit_has_its_use_bound_and_price(tmp_path: Path) -> None:
    problem = fleet(60, constraints=[hasa.Coverage({0.75: 0.2}), hasa.Quota({1.0: 5})])
    found = hasa.frontier(problem, [0.4, 0.6, 0.8])
    limits = held(found.explore(tmp_path / "explore.html"))["limits"]
    rows = found.allocations[0].problem.limits
    assert [limit["label"] for limit in limits] == [row.label for row in rows]
    assert [limit["least"] for limit in limits] == [False, True, False]
    for at, own in enumerate(found.allocations):
        for place, limit in enumerate(limits):
            row = own.problem.limits[place]
            assert limit["used"][at] == row.total(own.choice)
            assert limit["bound"][at] == row.bound
            assert limit["price"][at] == pytest.approx(own.prices[place])


def test_of_many_limits_those_that_bind_are_shown(tmp_path: Path) -> None:
    tree = nx.DiGraph([("all", f"site {k}") for k in range(30)])
    rng = np.random.default_rng(0)
    clients = hasa.Clients(rng.integers(5, 90, 200), site=[f"site {k % 30}" for k in range(200)])
    most = {f"site {k}": 900 if k == 7 else 10**6 for k in range(30)}
    problem = hasa.AllocationProblem.build(
        clients, widths=(0.25, 0.5, 1.0), budget=0.5, utility=hasa.utility.hasa(rng.random(200)),
        constraints=[hasa.SiteBudgets(tree, most)],
    )  # fmt: skip
    found = hasa.frontier(problem, [0.4, 0.5, 0.6])
    content = held(found.explore(tmp_path / "explore.html"))
    assert content["more_limits"] == 31 - 12
    assert [limit["label"] for limit in content["limits"] if any(limit["price"])] == [
        row.label
        for place, row in enumerate(problem.limits)
        if any(own.prices[place] for own in found.allocations)
    ]


def test_over_another_limit(tmp_path: Path) -> None:
    problem = fleet(30, constraints=[hasa.Coverage({0.75: 0.2})])
    found = hasa.frontier(problem, [0.2, 0.3], over="Coverage")
    content = held(found.explore(tmp_path / "explore.html"))
    assert content["over"] == content["limits"][1]["label"] == "Coverage"
    assert content["next"] is None
    assert not content["share"]
    assert content["price"] == pytest.approx(found.prices.tolist())


def test_names_cannot_leave_their_place(tmp_path: Path) -> None:
    names = ["</script><script>alert(1)</script>", "<!-- a", "b & 'c' \u00fc"]
    found = hasa.frontier(fleet(3, names), [0.5, 0.6])
    path = found.explore(tmp_path / "explore.html")
    assert held(path)["names"] == list(found.allocations[0].problem.clients.all_names)
    assert path.read_text(encoding="utf-8").count("</script>") == 2


def test_the_page_asks_for_nothing_from_outside(tmp_path: Path) -> None:
    text = hasa.frontier(fleet(3), [0.5]).explore(tmp_path / "explore.html").read_text("utf-8")
    assert "default-src 'none'" in text
    addresses = set(re.findall(r"https?://[^\"' ]+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert "/*DATA*/" not in text


def test_who_does_not_fit_in_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = hasa.frontier(fleet(2000), [0.4, 0.5, 0.6])
    whole = held(found.explore(tmp_path / "whole.html"))
    size = (tmp_path / "whole.html").stat().st_size
    monkeypatch.setattr(page, "MOST_BYTES", size - 1)
    content = held(found.explore(tmp_path / "counted.html"))
    assert content["names"] is None
    assert {"first", "changes"}.isdisjoint(content)
    for name in ("counts", "weights", "next", "changed", "limits"):
        assert content[name] == whole[name]
    assert (tmp_path / "counted.html").stat().st_size < size
    monkeypatch.setattr(page, "MOST_BYTES", 1000)
    with pytest.raises(hasa.InputError, match=r"3 budgets take .* give fewer"):
        found.explore(tmp_path / "none.html")


@pytest.mark.slow
def test_ten_thousand_clients_at_three_hundred_budgets_fit_in(tmp_path: Path) -> None:
    found = hasa.frontier(fleet(10_000), 300)
    path = found.explore(tmp_path / "explore.html")
    assert len(found.allocations) == 300
    assert path.stat().st_size < 1.5e6
    assert choices(held(path)) == [own.choice.tolist() for own in found.allocations]


def test_budgets_without_an_allocation_are_left_out(tmp_path: Path) -> None:
    found = hasa.frontier(fleet(5), [0.3, 0.5, 0.7])
    nothing = replace(found.allocations[1], held=None, totals=None)
    some = replace(found, allocations=(found.allocations[0], nothing, found.allocations[2]))
    assert held(some.explore(tmp_path / "some.html"))["values"] == [0.3, 0.7]
    none = replace(found, allocations=(nothing,) * 3)
    with pytest.raises(hasa.errors.NoSolutionError):
        none.explore(tmp_path / "none.html")
    with pytest.raises(hasa.InputError, match="does not exist"):
        some.explore(tmp_path / "nowhere" / "page.html")


# -------------------------------------------------------------------------- so many budgets


def test_so_many_budgets_go_from_the_cheapest_to_the_dearest() -> None:
    problem = fleet(20)
    found = hasa.frontier(problem, 9)
    assert len(found.budgets) == 9
    assert found.allocations[0].spent == problem.cheapest.sum()
    assert found.allocations[-1].spent == problem.dearest
    assert np.diff(found.budgets) == pytest.approx(0.875 / 8, abs=1e-5)


def test_so_many_budgets_begin_where_the_limits_can_be_met() -> None:
    problem = fleet(6, constraints=[hasa.Coverage({0.75: 0.5})])
    found = hasa.frontier(problem, 8)
    assert len(found.budgets) == 8
    step = (problem.dearest - int(problem.cheapest.sum())) // 999 + 1
    less = found.allocations[0].problem.limit - step
    with pytest.raises(hasa.InfeasibleError):
        hasa.solve(problem.with_budget(less / problem.full_cost))


def test_so_many_budgets_of_whole_units() -> None:
    menu = hasa.Menu(["light", "full"], costs={"joules": [3, 7]}, per="client")
    problem = hasa.AllocationProblem.build(
        hasa.Clients([5, 6]), menu=menu, constraints=[hasa.Budget("joules", 10)],
        utility=hasa.utility.measured([[1, 2], [3, 9]]),
    )  # fmt: skip
    found = hasa.frontier(problem, 100)
    assert found.budgets.tolist() == list(range(6, 15))
    assert found.allocations[0].spent == 6


def test_a_number_of_values_is_for_the_budget_alone() -> None:
    problem = fleet(5, constraints=[hasa.Coverage({0.75: 0.1})])
    with pytest.raises(hasa.InputError, match="found for the budget alone; give those of"):
        hasa.frontier(problem, 9, over="Coverage")
