"""What surrounds the exact solver at a million clients, as ratios to the solver, with targets.

Run it with ``python benchmarks/bench_scale.py``. Ratios of medians of CPU seconds, on one thread;
those of threads are of wall time, which means little on busy cores: what a loop that shares
nothing gains from a second thread, at best 2, is printed with them.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import TypeVar

import networkx as nx
import numpy as np

import hasa_opt as hasa
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.solvers.base import Request
from hasa_opt.solvers.registry import load

MENU = np.linspace(0.3, 1, 8).round(2)
CLIENTS = 1_000_000
REPEATS = 5
TARGETS = {
    "build + solve + verification / solver": 2.0,
    "warm re-solve at 102 % of the budget / cold": 0.5,
    "solver / one pass of numpy's row max": 10.0,
    "greedy / solver": 2.0,
}

Result = TypeVar("Result")
Part = TypeVar("Part")


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """CPU seconds of one run, and what it returns."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def once(build: Callable[[], AllocationProblem]) -> dict[str, float]:
    """CPU seconds of the parts, each on a freshly built problem."""
    building, problem = timed(build)
    cold, before = timed(lambda: hasa.solve(problem, "exact"))
    other = problem.with_budget(1.02 * problem.budget)
    fresh = build().with_budget(other.budget)
    return {
        "build": building,
        "solve": cold,
        "solver": timed(lambda: load("exact").solve(problem, Request(problem)))[0],
        "greedy": timed(lambda: load("greedy").solve(problem, Request(problem)))[0],
        "cold": timed(lambda: hasa.solve(fresh, "exact"))[0],
        "warm": timed(lambda: hasa.solve(other, "exact", warm_start=before))[0],
        "pass": timed(lambda: problem.utilities.max(axis=1).sum())[0],
    }


def report(name: str, utility: hasa.utility.Utility, clients: hasa.Clients) -> None:
    """One line per target."""

    def build() -> AllocationProblem:
        return AllocationProblem.build(clients, widths=MENU, budget=0.5, utility=utility)

    runs = [once(build) for _ in range(REPEATS)]
    spent = {part: median(run[part] for run in runs) for part in runs[0]}
    print(f"{name}: " + ", ".join(f"{part} {seconds:.3f} s" for part, seconds in spent.items()))
    ratios = (
        (spent["build"] + spent["solve"]) / spent["solver"],
        spent["warm"] / spent["cold"],
        spent["solver"] / spent["pass"],
        spent["greedy"] / spent["solver"],
    )
    for (what, target), ratio in zip(TARGETS.items(), ratios, strict=True):
        verdict = "" if ratio <= target else "  MISSED"
        print(f"  {what:<46}{ratio:>6.2f}  (target {target:g}){verdict}", flush=True)


def threads(utility: hasa.utility.Utility, clients: hasa.Clients) -> None:
    """Wall time of two threads, and of two solves at once, beside one thread."""
    problem = AllocationProblem.build(clients, widths=MENU, budget=0.5, utility=utility)

    def solve(number: int) -> None:
        load("exact").solve(problem, Request(problem, options={"threads": number}))

    def elapsed(call: Callable[[Part], object], *parts: Part) -> float:
        started = time.perf_counter()
        with ThreadPoolExecutor(len(parts)) as pool:
            list(pool.map(call, parts))
        return time.perf_counter() - started

    text = bytes(1 << 26)
    runs = [
        (
            elapsed(solve, 1),
            elapsed(solve, 2),
            elapsed(solve, 1, 1),
            elapsed(hashlib.sha256, text),
            elapsed(hashlib.sha256, text, text),
        )
        for _ in range(4 * REPEATS)
    ]
    one, two, both, alone, beside = (median(run) for run in zip(*runs, strict=True))
    print(
        f"  threads, wall time: one {one:.3f} s, two {one / two:.2f} times as fast (target 1.6), "
        f"two solves {both / one:.2f} times (target 1.2); a loop that shares nothing gains "
        f"{2 * alone / beside:.2f}",
        flush=True,
    )


def nested() -> None:
    """One line for nested budgets of 1,000 sites in 20 regions."""
    rng = np.random.default_rng(1)
    samples, site = rng.integers(20, 2000, CLIENTS), rng.integers(0, 1000, CLIENTS)
    tree = nx.DiGraph([("all", f"region-{at}") for at in range(20)])
    tree.add_edges_from((f"region-{at % 20}", f"site-{at}") for at in range(1000))
    full = np.bincount(site, 100 * samples, 1000)
    limits = {f"site-{at}": int(full[at] * rng.uniform(0.4, 0.7)) for at in range(1000)}
    for at in range(20):
        limits[f"region-{at}"] = int(full[at::20].sum() * rng.uniform(0.4, 0.55))
    building, problem = timed(
        lambda: AllocationProblem.build(
            hasa.Clients(samples, site=[f"site-{at}" for at in site.tolist()]),
            widths=MENU,
            budget=0.5,
            utility=hasa.utility.hasa(rng.random(CLIENTS)),
            constraints=[hasa.SiteBudgets(tree, limits)],
        )
    )
    solving, result = timed(lambda: hasa.solve(problem, "exact"))
    print(
        f"nested site budgets: build {building:.2f} s, solve with verification {solving:.2f} s, "
        f"relative gap {result.gap:.1e}"
    )


def main() -> None:
    rng = np.random.default_rng(0)
    few = hasa.Clients(rng.integers(20, 2000, 30_000))
    warm_up = AllocationProblem.build(
        few, widths=MENU, budget=0.5, utility=hasa.utility.hasa(rng.random(30_000))
    )
    print(f"first call, compilation or its cache: {timed(lambda: hasa.solve(warm_up))[0]:.1f} s")
    clients = hasa.Clients(rng.integers(20, 2000, CLIENTS))
    scores, table = rng.random(CLIENTS), rng.random((CLIENTS, MENU.size))
    for name, utility in (
        ("log of scores", hasa.utility.hasa(scores)),
        ("measured table", hasa.utility.measured(table)),
    ):
        report(name, utility, clients)
        threads(utility, clients)
    nested()


if __name__ == "__main__":
    main()
