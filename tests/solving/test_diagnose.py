"""Conflicts of many clients: minimal, in words, with a remedy that suffices."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp

import hasa_opt as hasa
from hasa_opt.solvers.bounds.feasibility import impossible
from hasa_opt.solving.infeasible import explain_infeasible

pytestmark = pytest.mark.slow

N_CLIENTS, N_SITES = 4_000, 40
MENU = (0.2, 0.4, 0.6, 0.8, 1.0)
RNG = np.random.default_rng(0)
SAMPLES = RNG.integers(20, 2000, N_CLIENTS)
SITE = RNG.integers(0, N_SITES, N_CLIENTS)
TREE = nx.DiGraph(
    [("root", f"region-{at}") for at in range(4)]
    + [(f"region-{at % 4}", f"site-{at}") for at in range(N_SITES)]
)
CLIENTS = hasa.Clients(SAMPLES, site=[f"site-{at}" for at in SITE])
FULL = 5 * SAMPLES
NORTH = int(FULL[SITE % 4 == 0].sum())

# Budget, coverage at width 0.8, limits of sites, and which of them conflict.
CASES = {
    "budget and coverage": (0.3, 0.4, {}, {"budget", "Coverage"}),
    "region and coverage": (0.9, 0.95, {"region-0": int(0.21 * NORTH)}, {"region-0", "Coverage"}),
    "one site": (0.9, 0.1, {"site-3": 10, "root": 10**9}, {"site-3"}),
    "nothing": (0.9, 0.1, {"region-0": NORTH // 2}, set()),
}


def build(budget: float, cover: float, sites: dict) -> hasa.AllocationProblem:
    return hasa.AllocationProblem.build(
        CLIENTS,
        widths=MENU,
        budget=budget,
        utility=hasa.utility.alpha_fair(),
        constraints=[
            *([hasa.Coverage({0.8: cover})] if cover else []),
            *([hasa.SiteBudgets(TREE, sites)] if sites else []),
        ],
    )


@pytest.mark.parametrize("case", CASES)
def test_a_conflict_of_many_is_minimal(case: str) -> None:
    budget, cover, sites, members = CASES[case]
    found = explain_infeasible(build(budget, cover, sites))
    if not members:
        assert found is None
        return
    assert len(found.limits) == len(members)
    assert all(any(name in label for label in found.limits) for name in members)
    for name in members:  # without any one of them the rest can hold
        eased = build(
            2.0 if name == "budget" else budget,
            0.0 if name == "Coverage" else cover,
            {site: limit for site, limit in sites.items() if site != name},
        )
        assert explain_infeasible(eased) is None
        assert hasa.solve(eased, "exact", gap=0.1, time_limit_s=60).has_solution


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][3]])
def test_the_remedy_suffices(case: str) -> None:
    budget, cover, sites, _ = CASES[case]
    with pytest.raises(hasa.InfeasibleError) as caught:
        hasa.solve(build(budget, cover, sites), "exact")
    remedy = str(caught.value).split("Remedy: ")[1]
    raised = re.search(r"raise the budget from [\d.]+ to ([\d.]+)", remedy)
    covered = re.search(r"share of \(Coverage: .*\) from [\d.]+ to ([\d.]+)", remedy)
    site = re.search(r"SiteBudgets: (\S+)\) from \d+ to (\d+)", remedy)
    assert raised or covered or site
    if raised:
        budget = float(raised[1])
    if covered:
        cover = float(covered[1])
    if site:
        sites = sites | {site[1]: int(site[2])}
    assert hasa.solve(build(budget, cover, sites), "exact", gap=0.1, time_limit_s=60).has_solution


def test_several_sites_that_cannot_afford_their_clients_get_one_remedy() -> None:
    tight = {"region-0": NORTH // 10, "site-4": 10, "region-1": 10**9}
    with pytest.raises(hasa.InfeasibleError) as caught:
        hasa.solve(build(0.15, 0.0, tight), "exact")
    assert caught.value.limits == ("SiteBudgets: site-4",)
    remedy = str(caught.value).split("Remedy: ")[1]
    raised = dict(re.findall(r"SiteBudgets: (\S+)\) from \d+ to (\d+)", remedy))
    assert set(raised) == {"region-0", "site-4"}
    budget = float(re.search(r"raise the budget from 0.15 to ([\d.]+)", remedy)[1])
    enough = tight | {site: int(limit) for site, limit in raised.items()}
    assert hasa.solve(build(budget, 0.0, enough), "exact").has_solution
    for site, limit in raised.items():  # one unit less is too little
        with pytest.raises(hasa.InfeasibleError):
            hasa.solve(build(budget, 0.0, enough | {site: int(limit) - 1}), "exact")


def test_the_words_name_clients_and_numbers() -> None:
    found = explain_infeasible(build(0.9, 0.0, {"site-3": 10}))
    own = np.flatnonzero(SITE == 3)
    first = ", ".join(f"client-{row}" for row in own[:3])
    least = int(SAMPLES[own].sum())
    assert found.message == (
        "these limits cannot hold together: (SiteBudgets: site-3: at most 10 allowed, "
        f"{first} and {own.size - 3} more take {least} or more). "
        f"Remedy: raise the limit of (SiteBudgets: site-3) from 10 to {least}"
    )


def opposed(n: int, up_to: float, down_to: float) -> hasa.AllocationProblem:
    """Two resources of which wide widths take more and less, so that no width is dominated."""
    rng = np.random.default_rng(n)
    up = np.sort(rng.integers(1, 1000, (n, 8)), axis=1)
    down = np.sort(rng.integers(1, 1000, (n, 8)), axis=1)[:, ::-1]
    return hasa.AllocationProblem.build(
        hasa.Clients(rng.integers(20, 2000, n)),
        widths=np.linspace(0.3, 1, 8).round(2),
        budget=0.8,
        utility=hasa.utility.alpha_fair(),
        constraints=[
            hasa.Budget(up, int(up_to * up.mean(axis=1).sum()), "up"),
            hasa.Budget(down, int(down_to * down.mean(axis=1).sum()), "down"),
        ],
    )


@pytest.mark.slow
def test_opposed_budgets_of_many_clients_are_explained_and_the_remedy_solves() -> None:
    problem = opposed(20_000, 0.5, 0.5)
    started = time.process_time()
    with pytest.raises(hasa.InfeasibleError) as caught:
        hasa.solve(problem, "exact")
    assert time.process_time() - started < 20  # minutes, if every width of a client is a column
    assert len(caught.value.limits) == 2
    bounds = [row.upper for row in problem.rows]
    raised = re.findall(r"Budget: (up|down) .*?\) from (\d+) to (\d+)", str(caught.value))
    for name, old, new in raised:
        at = ("up", "down").index(name)
        assert bounds[at] == int(old) < int(new)
        bounds[at] = int(new)
    eased = tuple(replace(row, upper=at) for row, at in zip(problem.rows, bounds, strict=True))
    assert hasa.solve(replace(problem, rows=eased), "exact", gap=0.1, time_limit_s=60).has_solution
    for row in problem.rows:
        alone = replace(problem, rows=(row,))
        assert hasa.solve(alone, "exact", gap=0.1, time_limit_s=60).has_solution


def relaxed_is_infeasible(problem: hasa.AllocationProblem) -> bool:
    """The linear relaxation with a column for every width, by SciPy."""
    n_clients, n_widths = problem.costs.shape
    rows, upper = [], []
    for row in problem.limits:
        table = np.zeros(problem.costs.shape)
        table[row.at] = row.coefficients
        for bound, sign in ((row.upper, 1), (row.lower, -1)):
            if bound is not None:
                rows.append(sign * table.reshape(-1))
                upper.append(sign * bound)
    each = sp.kron(sp.eye_array(n_clients), np.ones((1, n_widths)))
    found = scipy.optimize.linprog(
        np.zeros(problem.costs.size),
        np.array(rows),
        upper,
        each,
        np.ones(n_clients),
        bounds=[(0, float(may)) for may in problem.admissible.reshape(-1)],
    )
    assert found.status in (0, 2)
    return found.status == 2


def test_impossible_agrees_with_a_plain_linear_program() -> None:
    answers = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(2, 120))
        menu = (0.25, 0.5, 0.75, 1.0)
        samples = rng.integers(1, 50, n)
        taken = rng.integers(0, 40, (n, 4))
        problem = hasa.AllocationProblem.build(
            hasa.Clients(samples, site=[f"s{at}" for at in rng.integers(0, 4, n)],
                         max_width=rng.choice([0.5, 1.0], n)),
            widths=menu,
            budget=float(rng.uniform(0.3, 0.9)),
            utility=hasa.utility.alpha_fair(),
            constraints=[
                hasa.Budget(taken, int(taken.min(axis=1).sum() * rng.uniform(1, 3)), "bytes"),
                hasa.Coverage({1.0: float(rng.uniform(0, 0.4)), 0.5: float(rng.uniform(0, 0.9))}),
                hasa.Quota({0.25: int(n * rng.uniform(0.2, 1)), 0.5: int(n * rng.uniform(0.2, 1))}),
                hasa.SiteBudgets(
                    nx.DiGraph([("root", f"s{at}") for at in range(4)]),
                    {"s0": int(4 * samples.sum() * rng.uniform(0.05, 0.5))},
                ),
            ],
        )  # fmt: skip
        answers.append(relaxed_is_infeasible(problem))
        assert impossible(problem) == answers[-1]
    assert 15 < sum(answers) < 45
