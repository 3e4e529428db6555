"""Gaps and CPU time of our own backends under each constraint, beside HiGHS on one thread.

Run it with ``python benchmarks/bench_limits.py`` (some ten minutes; ``--seeds 3 --limit 5`` is
shorter). Every figure is the median over fresh seeds; the gap of our own backend is to its own
bound, and so is that of HiGHS. A ratio is HiGHS' CPU time over ours, as far as it got in its time
limit.
"""

from __future__ import annotations

import argparse
import time
from contextlib import suppress
from statistics import geometric_mean, median
from typing import Any

import networkx as nx
import numpy as np

import hasa_opt as hasa
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import relative_gap
from hasa_opt.solvers.base import Request
from hasa_opt.solvers.registry import load

MENU = np.linspace(0.3, 1, 8).round(2)
KINDS = {
    "Budget": ("budget",),
    "3 x Budget": ("budget", "budget", "budget"),
    "SiteBudgets": ("sites",),
    "Coverage": ("coverage",),
    "2 x Coverage": ("coverages",),
    "Quota": ("quota",),
    "Switches": ("switches",),
    "Budget + SiteBudgets": ("budget", "sites"),
    "Coverage + Quota + Budget": ("coverage", "quota", "budget"),
}
OWN = {"exact": KINDS, "greedy": ("Budget", "3 x Budget", "SiteBudgets", "Budget + SiteBudgets")}


def limited(kind: str, n: int, seed: int) -> AllocationProblem:
    """Clients of many sizes and log utilities, each constraint tight enough to bind."""
    rng = np.random.default_rng(seed)
    samples = rng.integers(20, 2000, n)
    n_sites = max(4, n // 50)
    site = rng.integers(1, n_sites, n)
    parts = {
        "budget": lambda: hasa.Budget(*_resource(rng, n)),
        "sites": lambda: _sites(rng, samples, site, n_sites),
        "coverage": lambda: hasa.Coverage({1.0: 0.15}),
        "coverages": lambda: hasa.Coverage({1.0: 0.1, 0.7: 0.3}),
        "quota": lambda: hasa.Quota({1.0: n // 4, 0.3: n // 5}),
        "switches": lambda: hasa.Switches(MENU[rng.integers(0, 5, n)], n // 3),
    }
    return AllocationProblem.build(
        hasa.Clients(samples, site=[f"s{at}" for at in site]),
        widths=MENU,
        budget=0.5,
        utility=hasa.utility.hasa(rng.random(n)),
        constraints=[parts[part]() for part in KINDS[kind]],
    )


def _resource(rng: np.random.Generator, n: int) -> tuple[Any, int]:
    table = np.sort(rng.integers(1, 1000, (n, 8)), axis=1)
    return table, int(table[:, 2].sum())


def _sites(
    rng: np.random.Generator, samples: np.ndarray, site: np.ndarray, n_sites: int
) -> hasa.SiteBudgets:
    """A tree in which each site has four parts, each limited."""
    full = np.bincount(site, 100 * samples, n_sites)
    for at in range(n_sites - 1, 0, -1):
        full[(at - 1) // 4] += full[at]
    tree = nx.DiGraph([(f"s{(at - 1) // 4}", f"s{at}") for at in range(1, n_sites)])
    limits = {f"s{at}": int(full[at] * rng.uniform(0.35, 0.8)) for at in range(1, n_sites)}
    return hasa.SiteBudgets(tree, limits)


def answered(problem: AllocationProblem, solver: str, **more: Any) -> tuple[float, float]:
    """CPU seconds and gap of one backend alone, its allocation checked."""
    started = time.process_time()
    answer = load(solver).solve(problem, Request(problem, **more))
    seconds = time.process_time() - started
    if answer.choice is None:
        return seconds, np.inf
    found = problem.evaluate(answer.choice)
    assert found.feasible
    return seconds, relative_gap(problem, found.objective, answer.bound)


class Plain(Request):
    """A request that knows no allocation beforehand, so that the peer gets the whole model."""

    known = None  # type: ignore[assignment]


def peer(problem: AllocationProblem, limit_s: float) -> tuple[float, float]:
    """The same of HiGHS."""
    started = time.process_time()
    request = Plain(problem, limit_s, options={"threads": 1})
    answer = load("highs").solve(problem, request)
    seconds = time.process_time() - started
    if answer.choice is None:
        return seconds, np.inf
    objective = problem.evaluate(answer.choice).objective
    return seconds, relative_gap(problem, objective, answer.bound)


def explained(n: int = 100_000, n_sites: int = 2_000, seed: int = 0) -> tuple[float, int]:
    """CPU seconds until a coverage that the budget rules out is explained; limits beside it."""
    rng = np.random.default_rng(seed)
    samples, site = rng.integers(20, 2000, n), rng.integers(1, n_sites, n)
    problem = AllocationProblem.build(
        hasa.Clients(samples, site=[f"s{at}" for at in site]),
        widths=MENU,
        budget=0.5,
        utility=hasa.utility.hasa(rng.random(n)),
        constraints=[_sites(rng, samples, site, n_sites), hasa.Coverage({1.0: 0.5})],
    )
    started = time.process_time()
    with suppress(hasa.InfeasibleError):
        hasa.solve(problem, "exact")
    return time.process_time() - started, len(problem.rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=9)
    parser.add_argument("--limit", type=float, default=20.0, help="seconds for HiGHS; 0: without")
    given = parser.parse_args()
    answered(limited("SiteBudgets", 100, 0), "exact")
    print(
        f"{given.clients} clients x 8 widths, {given.seeds} seeds, medians; HiGHS: {given.limit} s"
    )
    print(f"{'constraint':<27}{'exact s':>9}{'gap':>9}{'largest':>9}{'greedy s':>9}{'gap':>9}"
          f"{'HiGHS s':>9}{'gap':>9}{'ratio':>7}")  # fmt: skip
    ratios = []
    for kind in KINDS:
        problems = [limited(kind, given.clients, 1000 + seed) for seed in range(given.seeds)]
        exact = [answered(problem, "exact") for problem in problems]
        line = f"{kind:<27}{_columns(exact)}{max(gap for _, gap in exact):>9.1e}"
        greedy = [answered(problem, "greedy") for problem in problems if kind in OWN["greedy"]]
        line += _columns(greedy) if greedy else f"{'-':>9}{'-':>9}"
        if given.limit:
            theirs = [peer(problem, given.limit) for problem in problems]
            ratios.append(
                geometric_mean(
                    other / max(own, 1e-3)
                    for (other, _), (own, _) in zip(theirs, exact, strict=True)
                )
            )
            line += f"{_columns(theirs)}{ratios[-1]:>7.1f}"
        print(line, flush=True)
    if ratios:
        print(
            f"ratios: geometric mean {geometric_mean(ratios):.1f} (target 20), "
            f"least {min(ratios):.1f} (target 5)"
        )
    seconds, n_limits = explained()
    print(f"why 100,000 clients under {n_limits:,} limits have no allocation: {seconds:.2f} s")


def _columns(runs: list[tuple[float, float]]) -> str:
    return f"{median(run[0] for run in runs):>9.3f}{median(run[1] for run in runs):>9.1e}"


if __name__ == "__main__":
    main()
