"""Partitions: what is proven, how fast and with how much memory, on planted groups.

Run it with ``python benchmarks/bench_partition.py`` (some minutes; ``--only 2`` is shorter). Four
groups are planted: the similarity of a pair is 1 inside and -1 between them, plus normal noise of a
standard deviation s. Every process that computes has one thread. Each line is a process of its own,
whose imports and first call are not counted; CPU seconds include those of programs that a backend
starts, memory is the peak of the whole process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

GROUPS, NEIGHBOURS = 4, 20


class Case(NamedTuple):
    """Clients, noise, solver, seconds of the time limit, and what is to be reached."""

    clients: int
    noise: float
    solver: str
    limit_s: float
    target: str


CASES = (
    Case(40, 1.0, "auto", 60, "proven in 1 s"),
    *(
        Case(40, 1.5, solver, 60, "proven in 10 CPU s, by two")
        for solver in ("highs", "cpsat", "scip", "pulp", "cvxpy")
    ),
    Case(40, 2.0, "auto", 60, "gap <= 10% in 60 s"),
    Case(1000, 1.0, "auto", 10, "gap <= 2% in 10 s"),
    Case(10_000, 1.0, "sparse", 30, "30 s, 2 GB"),
)


def planted(clients: int, noise: float, seed: int) -> np.ndarray[Any, Any]:
    """Similarities of all pairs."""
    rng = np.random.default_rng(seed)
    group = np.arange(clients) % GROUPS
    upper = np.where(group[:, None] == group, 1.0, -1.0) + noise * rng.normal(size=(clients,) * 2)
    return np.triu(upper, 1) + np.triu(upper, 1).T


def sparse(clients: int, noise: float, seed: int) -> sp.csr_array:
    """Similarities of some twenty pairs of each client, half of them inside its group."""
    rng = np.random.default_rng(seed)
    group = np.arange(clients) // NEIGHBOURS
    one = np.repeat(np.arange(clients), NEIGHBOURS // 2)
    inside = group[one] * NEIGHBOURS + rng.integers(0, NEIGHBOURS, one.size)
    other = np.where(rng.random(one.size) < 0.5, inside, rng.integers(0, clients, one.size))
    pairs = np.unique(np.sort(np.column_stack([one, other])[one != other], axis=1), axis=0)
    signs = np.where(group[pairs[:, 0]] == group[pairs[:, 1]], 1.0, -1.0)
    upper = sp.csr_array((signs + noise * rng.normal(size=len(pairs)), pairs.T), (clients, clients))
    return sp.csr_array(upper + upper.T)


def seconds() -> float:
    from hasa_opt._utils import isolated

    own = (resource.getrusage(kind) for kind in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in own) + isolated.cpu_seconds()


def measure(case: Case, seed: int) -> dict[str, Any]:
    import hasa_opt as hasa

    make, solver = (sparse, "auto") if case.solver == "sparse" else (planted, case.solver)
    similarity = make(case.clients, case.noise, seed)
    hasa.partition(planted(5, 1.0, 0), solver)
    cpu, wall = seconds(), time.perf_counter()
    found = hasa.partition(similarity, solver, time_limit_s=case.limit_s)
    return {
        "solver": found.solver,
        "termination": str(found.termination),
        "groups": found.n_groups,
        "objective": found.objective,
        "gap": found.gap,
        "wall": time.perf_counter() - wall,
        "cpu": seconds() - cpu,
        "gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="instances of each case")
    parser.add_argument("--only", type=int, help="so many cases")
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case is not None:
        print(json.dumps(measure(CASES[given.case], given.seed)))
        return
    print(f"{'clients':>7}{'s':>5}  {'solver':<8}{'seed':>4}  {'ended':<12}{'groups':>6}"
          f"{'objective':>12}{'gap %':>8}{'CPU s':>7}{'wall s':>8}{'GB':>6}  target")  # fmt: skip
    for at, case in enumerate(CASES[: given.only]):
        for seed in range(given.seeds):
            command = [sys.executable, __file__, "--case", str(at), "--seed", str(seed)]
            alone = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=alone)
            row = json.loads(done.stdout)
            print(f"{case.clients:>7}{case.noise:>5g}  {row['solver']:<8}{seed:>4}  "
                  f"{row['termination']:<12}{row['groups']:>6}{row['objective']:>12.2f}"
                  f"{100 * row['gap']:>8.3f}{row['cpu']:>7.1f}{row['wall']:>8.1f}{row['gb']:>6.2f}"
                  f"  {case.target}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
