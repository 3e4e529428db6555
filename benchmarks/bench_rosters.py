"""Rosters: how near to the bound, and how fast, for a factory and for a fleet.

Run it with ``python benchmarks/bench_rosters.py`` (two minutes; ``--only 1`` is shorter). Samples
are log-normal and energies independent of them; a client is available in half of the rounds, has
the energy of three to twelve rounds, must take part once in ten, and all together have the energy
that would let every client take part four times. One process, one thread; without imports.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any, Literal, NamedTuple

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

import numpy as np

import hasa_opt as hasa
from hasa_opt.solving.rosters import roster

ROUNDS, EVERY = 20, 10


class Case(NamedTuple):
    """Clients, solver, seconds of the time limit, and what is to be reached."""

    clients: int
    solver: Literal["prices", "highs"]
    limit_s: float
    target: str


CASES = (
    Case(200, "prices", 60, "gap, then HiGHS"),
    Case(200, "highs", 60, "gap <= 0.5 % in 60 s"),
    Case(100_000, "prices", 60, "gap <= 2 % in seconds"),
)


def fleet(clients: int, seed: int) -> dict[str, Any]:
    """What :func:`roster` is given."""
    rng = np.random.default_rng(seed)
    energy = rng.integers(50, 500, clients)
    available = rng.random((clients, ROUNDS)) < 0.5
    for first in range(0, ROUNDS, EVERY):
        available[np.arange(clients), first + rng.integers(0, EVERY, clients)] = True
    return {
        "clients": hasa.Clients(np.ceil(rng.lognormal(4, 1, clients)).astype(int)),
        "energy": energy,
        "rounds": ROUNDS,
        "available": available,
        "energy_each": energy * rng.integers(3, 13, clients),
        "energy_total": 4 * int(energy.sum()),
        "every": EVERY,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="instances of each case")
    parser.add_argument("--only", type=int, help="so many cases")
    given = parser.parse_args()
    print(f"{'clients':>7}{'rounds':>7}  {'asked':<7}{'found by':<9}{'seed':>4}{'share %':>9}"
          f"{'gap %':>8}{'CPU s':>7}{'wall s':>8}  target")  # fmt: skip
    for case in CASES[: given.only]:
        for seed in range(given.seeds):
            asked = fleet(case.clients, seed)
            cpu, wall = time.process_time(), time.perf_counter()
            found = roster(**asked, solver=case.solver, time_limit_s=case.limit_s)
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            print(f"{case.clients:>7,}{ROUNDS:>7}  {case.solver:<7}{found.solver:<9}{seed:>4}"
                  f"{100 * found.objective:>9.4f}{100 * found.gap:>8.4f}{cpu:>7.1f}{wall:>8.1f}"
                  f"  {case.target}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
