"""Shadow prices against finite differences, and which clients change first."""

from __future__ import annotations

from dataclasses import replace

import networkx as nx
import numpy as np
import pytest

import hasa_opt as hasa
from hasa_opt.errors import InputError
from hasa_opt.solvers.bounds.dual import best_prices
from hasa_opt.solvers.bounds.relaxation import relax
from hasa_opt.solvers.bounds.site_tree import SiteTree

pytestmark = pytest.mark.slow

MENU = (0.25, 0.5, 0.75, 1.0)
TREE = nx.DiGraph([("world", "north"), ("world", "south")])


def fleet(seed: int, kind: str, n_clients: int = 40) -> hasa.AllocationProblem:
    rng = np.random.default_rng(seed)
    samples = rng.integers(10, 100, n_clients)
    site = rng.choice(["north", "south"], n_clients)
    table = np.cumsum(np.sort(rng.random((n_clients, 4)), axis=1)[:, ::-1], axis=1)
    north = int(samples[site == "north"].sum())
    constraints = {
        "budget": [],
        "sites": [hasa.SiteBudgets(TREE, {"north": int(4 * north * 0.4)})],
        "coverage": [hasa.Coverage({1.0: 0.3})],
        "uplink": [hasa.Budget([1, 3, 4, 9], 4 * n_clients, name="uplink")],
        "quota": [hasa.Quota({1.0: n_clients // 8})],
    }[kind]
    return hasa.AllocationProblem.build(
        hasa.Clients(samples, site=site.tolist()),
        widths=MENU,
        budget=0.55,
        utility=hasa.utility.measured(table),
        constraints=constraints,
    )


def bound(problem: hasa.AllocationProblem) -> float:
    found = best_prices(problem, SiteTree.of(problem))
    assert found is not None
    return found.bound


def moved(problem: hasa.AllocationProblem, at: int, by: int) -> hasa.AllocationProblem:
    if at == 0:
        return replace(problem, limit=problem.limit + by)
    row = problem.rows[at - 1]
    side = "upper" if row.upper is not None else "lower"
    rows = list(problem.rows)
    rows[at - 1] = replace(row, **{side: getattr(row, side) + by})
    return replace(problem, rows=tuple(rows))


@pytest.mark.parametrize("kind", ["budget", "sites", "coverage", "uplink", "quota"])
def test_a_price_is_the_slope_of_the_bound(kind: str) -> None:
    priced = 0
    for seed in range(4):
        problem = fleet(seed, kind)
        result = hasa.solve(problem, "exact")
        assert result.price == result.prices[0]
        assert result.prices.shape == (len(problem.limits),)
        room = 1e-9 * problem.magnitude
        for at, price in enumerate(result.prices):
            more = bound(moved(problem, at, 1)) - bound(problem)
            less = bound(problem) - bound(moved(problem, at, -1))
            assert more - room <= price <= less + room, (seed, at)
            priced += bool(at) and abs(price) > room
    assert kind == "budget" or priced >= 2


def test_prices_in_words() -> None:
    result = hasa.solve(fleet(0, "sites"), "exact")
    words = result.describe_prices()
    assert "SiteBudgets: north: one unit more is worth" in words
    assert "budget: one unit more is worth" in words
    free = hasa.solve(fleet(0, "budget").with_budget(2.0), "exact")
    assert free.describe_prices() == "no limit binds: more of any is worth nothing"
    covered = hasa.solve(fleet(1, "coverage"), "exact")
    assert "Coverage: 0.3 of the samples at width 1.0 or wider: one unit less" in (
        covered.describe_prices()
    )


def on_the_edge(seed: int) -> tuple[hasa.AllocationProblem, object]:
    """A budget that whole steps spend to the last unit: the linear relaxation is the optimum."""
    problem = fleet(seed, "budget")
    relaxation = relax(problem)
    spent = int(problem.costs[np.arange(len(problem)), relaxation.choice].sum())
    problem = replace(problem, limit=spent)
    return problem, relax(problem)


def steps_around(
    problem: hasa.AllocationProblem, choice: np.ndarray
) -> tuple[list[tuple[float, int, int]], list[tuple[float, int, int]]]:
    """Gain by cost of each client's steps on its concave hull: after its option, and before it."""
    ahead, behind = [], []
    for client, (costs, worth) in enumerate(zip(problem.costs, problem.utilities, strict=True)):
        at = int(np.lexsort((-worth, costs))[0])
        while True:
            dearer = np.flatnonzero(costs > costs[at])
            if not dearer.size:
                break
            slopes = (worth[dearer] - worth[at]) / (costs[dearer] - costs[at])
            then = int(dearer[slopes.argmax()])
            if slopes.max() <= 0:
                break
            side = behind if costs[then] <= costs[choice[client]] else ahead
            side.append((float(slopes.max()), client, then))
            at = then
    return ahead, behind


@pytest.mark.parametrize("seed", range(20))
def test_the_next_step_of_the_relaxation_is_the_first_to_change(seed: int) -> None:
    problem, relaxation = on_the_edge(seed)
    result = hasa.solve(problem, "exact")
    np.testing.assert_array_equal(result.choice, relaxation.choice)
    found = hasa.sensitivity(result, n_samples=1)
    ahead, behind = steps_around(problem, result.choice)
    price, client, option = max(ahead)
    widened, narrowed = found.first_to_widen(1)[0], found.first_to_narrow(1)[0]
    assert widened.client == problem.clients.name(client)
    assert widened.then == problem.widths[option]
    assert widened.price == pytest.approx(price)
    price, client, _ = min(behind)
    assert narrowed.client == problem.clients.name(client)
    assert narrowed.price == pytest.approx(price)
    assert widened.price <= narrowed.price


def test_noise_moves_those_at_the_edge() -> None:
    problem, _ = on_the_edge(3)
    result = hasa.solve(problem, "exact")
    still = hasa.sensitivity(result, noise=0.0)
    assert (still.kept == 1).all()
    found = hasa.sensitivity(result, noise=0.2, n_samples=200)
    assert found.kept.min() < 0.9 < found.kept.max()
    again = hasa.sensitivity(result, noise=0.2, n_samples=200)
    np.testing.assert_array_equal(found.kept, again.kept)
    other = hasa.sensitivity(result, noise=0.2, n_samples=200, seed=1)
    assert (found.kept != other.kept).any()
    names = [name for name, _ in found.least_certain(3)]
    assert found.kept[[int(name.split("-")[1]) for name in names]].max() <= found.kept.max()
    distance = found.narrow_price - found.widen_price
    assert np.corrcoef(distance[np.isfinite(distance)], found.kept[np.isfinite(distance)])[0, 1] > 0
    assert "more budget first widens" in str(found)


def test_one_noisy_score_alone() -> None:
    problem, _ = on_the_edge(5)
    noise = np.zeros(len(problem))
    noise[7] = 3.0
    found = hasa.sensitivity(hasa.solve(problem, "exact"), noise=noise, n_samples=60)
    assert found.kept[7] == found.kept.min() < 1


def test_further_limits_keep_their_prices() -> None:
    result = hasa.solve(fleet(2, "sites"), "exact")
    found = hasa.sensitivity(result, n_samples=20)
    assert len(found.first_to_widen(3)) == 3
    assert found.wider.shape == found.narrower.shape == (len(result.problem),)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"noise": -0.1}, "at least 0"),
        ({"noise": [0.1, 0.2]}, "one per client"),
        ({"noise": "loud"}, "noise"),
        ({"n_samples": 0}, "at least 1"),
        ({"n_samples": 1.5}, "whole number"),
    ],
)
def test_wrong_input(options: dict, words: str) -> None:
    result = hasa.solve(fleet(0, "budget"), "exact")
    with pytest.raises(InputError, match=words):
        hasa.sensitivity(result, **options)


def test_without_a_result() -> None:
    with pytest.raises(InputError, match="Allocation"):
        hasa.sensitivity(None)
