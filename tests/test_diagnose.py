"""Conflicts of many clients: minimal, in words, with a remedy that suffices."""

from __future__ import annotations

import re

import networkx as nx
import numpy as np
import pytest

import hasa_opt as hasa
from hasa_opt.diagnose import explain_infeasible

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
        assert hasa.solve(eased, "exact", time_limit_s=60).has_solution


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][3]])
def test_the_remedy_suffices(case: str) -> None:
    budget, cover, sites, _ = CASES[case]
    with pytest.raises(hasa.InfeasibleError) as caught:
        hasa.solve(build(budget, cover, sites), "exact")
    remedy = str(caught.value).split("Remedy: ")[1]
    raised = re.search(r"raise the budget from [\d.]+ to ([\d.]+)", remedy)
    covered = re.search(r"Coverage: .*\) from \d+ to (\d+)", remedy)
    site = re.search(r"SiteBudgets: (\S+)\) from \d+ to (\d+)", remedy)
    assert raised or covered or site
    if raised:
        budget = float(raised[1])
    if covered:
        cover = int(covered[1]) / int(SAMPLES.sum()) - 1e-12
    if site:
        sites = sites | {site[1]: int(site[2])}
    assert hasa.solve(build(budget, cover, sites), "exact", time_limit_s=60).has_solution


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
