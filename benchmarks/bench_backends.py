"""Every installed backend on the same problems: CPU seconds and how each one ended.

Run it with ``python benchmarks/bench_backends.py`` (under three minutes on two cores). CPU seconds
are those of ``hasa.compare``: translation, solver, its threads and child processes, verification.
Each backend gets the same wall-clock limit for each problem; imports and compilation are done
beforehand, on problems of other sizes.
"""

from __future__ import annotations

import argparse
import os
import platform

import numpy as np

import hasa_opt as hasa
from hasa_opt.solving.comparison import ComparisonRow

MENU = np.linspace(0.3, 1, 8).round(2)
FAMILIES: dict[str, tuple[hasa.Coverage, ...]] = {
    "budget alone": (),
    "with Coverage of a fifth of the samples at width 1": (hasa.Coverage({1.0: 0.2}),),
}


def problem(n: int, constraints: tuple[hasa.Coverage, ...]) -> hasa.AllocationProblem:
    """Clients of 20 to 1,999 samples, the HASA utility of random scores, half the budget."""
    rng = np.random.default_rng(n)
    clients = hasa.Clients(rng.integers(20, 2000, n))
    utility = hasa.utility.hasa(rng.random(n))
    return hasa.AllocationProblem.build(
        clients, widths=MENU, budget=0.5, utility=utility, constraints=constraints
    )


def cell(row: ComparisonRow) -> str:
    """CPU seconds of one backend on one problem, and how it ended."""
    if row.cpu_seconds is None:
        return "not run"
    gap = "none of its own"
    if row.own_objective is not None and row.bound is not None:
        gap = f"gap {(row.bound - row.own_objective) / abs(row.own_objective):.0e}"
    ended = "optimal" if row.termination == hasa.Termination.OPTIMAL else gap
    limit = ", limit" if row.termination == hasa.Termination.TIME_LIMIT else ""
    claim = ", DISPROVED" if row.claim_held is False else ""
    return f"{row.cpu_seconds:6.3f} {ended}{limit}{claim}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--limit", type=float, default=10.0, help="seconds for each solve")
    given = parser.parse_args()
    for constraints in FAMILIES.values():
        hasa.compare(problem(20, constraints), time_limit_s=60.0)
    hasa.solve(problem(30_000, ()), "exact")
    print(f"{platform.machine()}, {os.cpu_count()} cores, {given.limit:g} s for each solve")
    for family, constraints in FAMILIES.items():
        comparisons = [
            hasa.compare(problem(n, constraints), time_limit_s=given.limit) for n in given.clients
        ]
        print(f"\n{family}, {MENU.size} widths: CPU seconds")
        print(f"{'':10}" + "".join(f"{f'{n} clients':28}" for n in given.clients).rstrip())
        for rows in zip(*(comparison.rows for comparison in comparisons), strict=True):
            cells = "".join(f"{cell(row):28}" for row in rows)
            print(f"{rows[0].solver:10}{cells}".rstrip(), flush=True)


if __name__ == "__main__":
    main()
