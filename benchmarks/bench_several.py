"""Hard problems under several budgets: ``exact`` beside HiGHS, one thread each, the same CPU time.

Run it with ``python benchmarks/bench_several.py`` (seven minutes; ``--only 4`` is shorter). The
problems are multidimensional multiple-choice knapsacks by the recipe of Khan, Li, Manning and Akbar
(Solving the knapsack problem for adaptive multimedia systems, Studia Informatica Universalis 2,
2002): weights are whole numbers up to 10, uniform; a profit is what the weights cost at a price per
resource, and a uniform part; each capacity is half of what the heaviest items take, about the mean.

``several.csv`` holds the bound of the linear relaxation and the best values of longer runs: of
HiGHS on one thread and of CP-SAT on two, both on the whole program in whole numbers, and of
``exact``, each with the CPU seconds that it had. Shortfalls are in per cent of the best of them and
of the bound.
"""

from __future__ import annotations

import argparse
import csv
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bench_limits import Plain

import hasa_opt as hasa
from hasa_opt._utils.deadline import Deadline
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.solvers.base import Request
from hasa_opt.solvers.registry import load

REFERENCES = Path(__file__).with_name("several.csv")
HEAVIEST = DEAREST = 10
WALL = 20.0
"""Seconds that may pass for each of CPU time, where other work shares the machine."""


def knapsack(classes: int, items: int, resources: int, seed: int) -> AllocationProblem:
    """Classes are clients, items are options, resources are budgets."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, HEAVIEST + 1, (resources, classes, items))
    prices = rng.integers(1, DEAREST + 1, resources)
    profits = np.tensordot(prices, weights, 1)
    profits += rng.integers(0, 3 * DEAREST * resources + 1, (classes, items))
    names = [f"w{at}" for at in range(resources)]
    menu = hasa.Menu(
        [f"item {at}" for at in range(items)],
        costs=dict(zip(names, weights, strict=True)),
        per="client",
    )
    return AllocationProblem.build(
        hasa.Clients([1] * classes),
        menu=menu,
        utility=hasa.utility.measured(profits),
        constraints=[hasa.Budget(name, classes * HEAVIEST // 2) for name in names],
    )


@dataclass(frozen=True)
class Run:
    """Value and bound of one solver on one problem, and its CPU seconds."""

    value: float
    bound: float
    seconds: float

    @classmethod
    def of(cls, problem: AllocationProblem, solver: str, limit_s: float) -> Run:
        """Run a solver alone; HiGHS knows nothing beforehand and has one thread."""
        started = time.process_time()
        deadline = Deadline.after(WALL * limit_s, lambda: time.process_time() - started > limit_s)
        kind, options = (Plain, {"threads": 1}) if solver == "highs" else (Request, {})
        request = kind(problem, WALL * limit_s, options=options, deadline=deadline)
        bound = load(solver).solve(problem, request).bound
        return cls(request.best.objective, bound, time.process_time() - started)

    @property
    def proven(self) -> bool:
        """Whether no better value is possible: profits are whole numbers."""
        return self.bound < self.value + 1 - 1e-6


def references() -> list[dict[str, float]]:
    """Lines of the table: size and seed, bound, and best value by solver with its seconds."""
    with REFERENCES.open() as file:
        lines = list(csv.DictReader(file))
    return [{key: float(value) for key, value in line.items() if value} for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=float, default=10.0, help="CPU seconds for each solve")
    parser.add_argument("--only", type=int, help="so many problems")
    given = parser.parse_args()
    Run.of(knapsack(20, 4, 3, 0), "exact", 60.0)
    print(f"{given.limit:g} CPU seconds each; shortfalls in % of the reference and of the bound")
    print(f"{'classes x items, resources':<28}{'HiGHS':>9}{'CPU s':>7}{'short':>8}"
          f"{'exact':>9}{'CPU s':>7}{'short':>8}{'bound':>8}")  # fmt: skip
    for line in references()[: given.only]:
        size = [int(line[key]) for key in ("classes", "items", "resources", "seed")]
        problem = knapsack(*size)
        best = max(line[solver] for solver in ("highs", "cpsat", "exact") if solver in line)
        text = f"{size[0]} x {size[1]}, {size[2]}"
        text = f"{text:<28}"
        for solver in ("highs", "exact"):
            run = Run.of(problem, solver, given.limit)
            short = 100 * (1 - run.value / best)
            text += f"{run.value:>9.0f}{run.seconds:>7.1f}{short:>8.3f}"
        proven = " proven" if run.proven else ""
        print(f"{text}{100 * (1 - run.value / line['bound']):>8.3f}{proven}", flush=True)


if __name__ == "__main__":
    main()
