"""CPU time of the exact solver against HiGHS and CBC, and how it grows.

Run it with ``python benchmarks/bench_exact.py`` (about five minutes) or add ``--full``. Every
figure is the median over fresh seeds of CPU seconds, children included, on one thread. Each
answer is checked in exact integers. Where a peer stopped at its time limit or without a proof
its figure and the ratio are lower bounds, marked ">".

``--easy`` prints the easy families alone; with ``PYTHONPATH`` at another checkout it measures that.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Callable
from functools import partial
from statistics import geometric_mean, median

import numpy as np

import hasa_opt as hasa
from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Termination
from hasa_opt.solvers.base import Answer, Request
from hasa_opt.solvers.registry import load

MENU = np.linspace(0.3, 1, 8).round(2)
PEERS = {"highs": "time_limit", "pulp": "timeLimit"}
"""Each with its own name for a time limit: ours would leave it running beside what comes next."""


def cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def clients(rng: np.random.Generator, n: int) -> hasa.Clients:
    return hasa.Clients(rng.integers(20, 2000, n))


def logarithmic(n: int, seed: int) -> AllocationProblem:
    rng = np.random.default_rng(seed)
    utility = hasa.utility.hasa(rng.random(n))
    return AllocationProblem.build(clients(rng, n), widths=MENU, budget=0.5, utility=utility)


def measured(n: int, seed: int) -> AllocationProblem:
    """Noisy concave curves, as a probe of every client would give."""
    rng = np.random.default_rng(seed)
    own = clients(rng, n)
    steps = np.sort(rng.random((n, 8)), axis=1)[:, ::-1] + rng.normal(0, 0.1, (n, 8))
    table = steps.cumsum(axis=1) * own.samples[:, None]
    utility = hasa.utility.measured(table)
    return AllocationProblem.build(own, widths=MENU, budget=0.6, utility=utility)


def arbitrary(n: int, seed: int) -> AllocationProblem:
    """Utilities of any shape."""
    rng = np.random.default_rng(seed)
    utility = hasa.utility.measured(rng.random((n, 8)))
    return AllocationProblem.build(clients(rng, n), widths=MENU, budget=0.5, utility=utility)


def identical(n: int, seed: int) -> AllocationProblem:
    """Three kinds of devices."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, n)
    own = hasa.Clients(rng.integers(20, 2000, 3)[kind])
    utility = hasa.utility.hasa(np.array([0.1, 0.5, 0.9])[kind])
    return AllocationProblem.build(own, widths=MENU, budget=0.5, utility=utility)


def heavy_tail(n: int, seed: int) -> AllocationProblem:
    """Sizes of a Pareto tail: a few clients outweigh all the others together."""
    rng = np.random.default_rng(seed)
    own = hasa.Clients((20 * (1 + rng.pareto(0.8, n))).astype(np.int64))
    utility = hasa.utility.hasa(rng.random(n))
    return AllocationProblem.build(own, widths=MENU, budget=0.5, utility=utility)


def _priced(costs: IntArray, table: FloatArray, budget: float) -> AllocationProblem:
    return AllocationProblem.build(
        hasa.Clients(np.ones(costs.shape[0], dtype=np.int64)),
        widths=MENU,
        budget=budget,
        utility=hasa.utility.measured(table),
        cost=hasa.cost.table(costs),
    )


def correlated(n: int, seed: int) -> AllocationProblem:
    """Utility = cost + constant, costs up to 1,000."""
    costs = np.sort(np.random.default_rng(seed).integers(1, 1000, (n, 8)), axis=1)
    return _priced(costs, costs + 100.0, 0.6)


def correlated_free(n: int, seed: int, largest: int = 1000) -> AllocationProblem:
    """The same with a free width of utility 0: the knapsack's strongly correlated family."""
    costs = np.sort(np.random.default_rng(seed).integers(1, largest, (n, 8)), axis=1)
    table = costs + largest / 10
    costs[:, 0], table[:, 0] = 0, 0.0
    return _priced(costs, table, 0.4)


def correlated_tight(n: int, seed: int) -> AllocationProblem:
    """The same with costs up to a million and a tight budget: hardest of all."""
    costs = np.sort(np.random.default_rng(seed).integers(1, 10**6, (n, 8)), axis=1)
    table = costs + 10**5
    costs[:, 0], table[:, 0] = 0, 0.0
    return _priced(costs, table, 0.05)


def _midway(costs: IntArray, table: FloatArray) -> AllocationProblem:
    """Budget midway between the least cost and that of the best options."""
    best = np.where(table == table.max(axis=1, keepdims=True), costs, costs.max())
    limit = int(costs.min(axis=1).sum() + best.min(axis=1).sum()) // 2
    return AllocationProblem.build(
        hasa.Clients(np.ones(costs.shape[0], dtype=np.int64)),
        menu=hasa.Menu([f"option {at}" for at in range(costs.shape[1])], costs={"cost": costs}),
        utility=hasa.utility.measured(table),
        constraints=[hasa.Budget("cost", limit)],
    )


def circle(n: int, seed: int, largest: int) -> AllocationProblem:
    """Whole profits on an arc of a circle (Pisinger, 2005), ten options."""
    costs = np.random.default_rng(seed).integers(1, largest + 1, (n, 10))
    arc = np.sqrt(4.0 * largest**2 - (costs - 2.0 * largest) ** 2)
    return _midway(costs, np.rint(2 / 3 * arc))


def uncorrelated(n: int, seed: int, largest: int = 1000) -> AllocationProblem:
    """Whole profits, whatever the costs."""
    rng = np.random.default_rng(seed)
    costs = rng.integers(1, largest + 1, (n, 10))
    return _midway(costs, rng.integers(1, largest + 1, (n, 10)).astype(np.float64))


def weakly_correlated(n: int, seed: int, largest: int = 1000) -> AllocationProblem:
    """Whole profits within a tenth of the largest cost of the costs."""
    rng = np.random.default_rng(seed)
    costs = rng.integers(1, largest + 1, (n, 10))
    off = rng.integers(-largest // 10, largest // 10 + 1, (n, 10))
    return _midway(costs, np.maximum(1.0, costs + off))


def three_budgets(n: int, seed: int) -> AllocationProblem:
    """As the first family, with two resources more, of costs of their own."""
    rng = np.random.default_rng(seed)
    more = [np.sort(rng.integers(1, 1000, (n, 8)), axis=1) for _ in range(2)]
    return AllocationProblem.build(
        clients(rng, n),
        widths=MENU,
        budget=0.5,
        utility=hasa.utility.hasa(rng.random(n)),
        constraints=[hasa.Budget(table, int(table[:, 3].sum())) for table in more],
    )


class Plain(Request):
    """A request that knows no allocation beforehand, so that the peer gets the whole model."""

    known = None  # type: ignore[assignment]


def timed(
    problem: AllocationProblem, name: str, limit_s: float, kind: type[Request]
) -> tuple[float, Answer]:
    """CPU seconds of one backend alone, its answer checked."""
    request = kind(problem, options={"threads": 1, PEERS[name]: float(limit_s)})
    started = cpu_seconds()
    answer = load(name).solve(problem, request)
    seconds = cpu_seconds() - started
    if answer.choice is not None and not problem.evaluate(answer.choice).feasible:
        answer = Answer(Termination.FAILED, native="over the budget")
    return seconds, answer


def exact_seconds(problem: AllocationProblem, limit_s: float | None = None) -> tuple[float, Answer]:
    """Median of five runs where they are short: a clock tick is too coarse for one."""
    runs = []
    for _ in range(5):
        started = time.process_time()
        answer = load("exact").solve(problem, Request(problem, limit_s))
        runs.append(time.process_time() - started)
        if runs[0] > 0.2:
            break
    assert answer.choice is not None
    assert problem.evaluate(answer.choice).feasible
    return median(runs), answer


def peers(
    problem: AllocationProblem, limit_s: float, kind: type[Request], bound: float
) -> tuple[list[tuple[bool, float]], bool]:
    """Whether each peer fails to prove its answer, and its CPU seconds; whether one lies."""
    runs, wrong = [], False
    for peer in PEERS:
        spent, answer = timed(problem, peer, limit_s, kind)
        runs.append((answer.termination is not Termination.OPTIMAL, spent))
        if answer.choice is not None:
            worth = problem.evaluate(answer.choice).objective
            wrong |= worth > bound + 1e-11 * problem.magnitude
    return runs, wrong


def versus(
    name: str,
    family: Callable[..., AllocationProblem],
    n: int,
    seeds: int,
    limit_s: float,
    target: float = 0.0,
) -> None:
    """One line: exact, both peers on the plain and on the reduced model, ratio to the faster.

    A peer may take ``limit_s`` of wall clock, or half as long again as the target asks for.
    """
    mine, gaps = [], []
    runs: dict[type[Request], list[list[tuple[bool, float]]]] = {Plain: [], Request: []}
    wrong = unproven = False
    for seed in range(seeds):
        problem = family(n, 1000 + seed)
        seconds, answer = exact_seconds(problem, limit_s)
        unproven |= answer.termination is not Termination.OPTIMAL
        for kind in runs:
            patience = max(limit_s, 1.5 * target * seconds) if kind is Plain else limit_s
            found, lie = peers(problem, patience, kind, answer.bound)
            runs[kind].append(found)
            wrong |= lie
        mine.append(seconds)
        gaps.append((answer.bound - answer.objective) / abs(answer.objective))
    line = f"{name:<16}{n:>7}{median(mine):>10.5f}"
    for seen in runs.values():
        for peer in zip(*seen, strict=True):
            line += _marked(any(open_ for open_, _ in peer), f"{median(s for _, s in peer):.2f}")
        best = [min(own) for own in seen]
        ratio = geometric_mean(s / own for (_, s), own in zip(best, mine, strict=True))
        line += _marked(any(open_ for open_, _ in best), f"{ratio:.0f}")
    flaws = f"{'  NOT PROVEN' if unproven else ''}{'  WRONG' if wrong else ''}"
    print(f"{line}{max(gaps):>9.1e}{flaws}", flush=True)


def _marked(lower: bool, figure: str) -> str:
    return f"{'>' * lower + figure:>8}"


def alone(
    name: str, family: Callable[..., AllocationProblem], n: int, seeds: int, limit_s: float
) -> None:
    """One line without peers."""
    runs = [exact_seconds(family(n, 1000 + seed), limit_s) for seed in range(seeds)]
    gap = max((answer.bound - answer.objective) / abs(answer.objective) for _, answer in runs)
    ended = {str(answer.termination) for _, answer in runs}
    seconds = [spent for spent, _ in runs]
    print(
        f"{name:<17}{n:>8}{median(seconds):>11.5f}{max(seconds):>11.5f} (max)"
        f"{gap:>10.1e}  {', '.join(sorted(ended))}",
        flush=True,
    )


def warm(name: str, family: Callable[..., AllocationProblem], n: int, seeds: int) -> None:
    """One line: a first solve, and one of 102 % of the budget from its allocation."""
    cold, again = [], []
    for seed in range(seeds):
        problem = family(n, 3000 + seed)
        other = problem.with_budget(1.02 * problem.budget)
        times = [time.process_time()]
        before = hasa.solve(problem, "exact")
        times.append(time.process_time())
        hasa.solve(other, "exact", warm_start=before)
        times.append(time.process_time())
        first, second = np.diff(times).tolist()
        cold.append(first)
        again.append(second)
    print(f"{name:<16}{n:>7}{median(cold):>10.5f}{median(again):>10.5f}", flush=True)


EASY = (("uncorrelated", uncorrelated), ("weakly correl.", weakly_correlated))


def scale(
    name: str, family: Callable[..., AllocationProblem], sizes: list[int], seeds: int
) -> None:
    """CPU seconds by size, growth exponent, and passes of numpy over the utility table."""
    medians = []
    for n in sizes:
        runs, passes, whole = [], [], []
        for seed in range(seeds):
            problem = family(n, 2000 + seed)
            seconds, answer = exact_seconds(problem)
            runs.append(seconds)
            started = time.process_time()
            problem.utilities.max(axis=1).sum()
            passes.append(time.process_time() - started)
            started = time.process_time()
            hasa.solve(family(n, 2000 + seed), "exact")
            whole.append(time.process_time() - started)
        medians.append(median(runs))
        print(
            f"{name:<17}{n:>9}{medians[-1]:>11.4f}{median(whole):>11.4f}"
            f"{medians[-1] / median(passes):>9.1f}  {answer.termination}",
            flush=True,
        )
    exponent = np.log(medians[2] / medians[0]) / np.log(sizes[2] / sizes[0])
    print(f"{name:<17}growth exponent from {sizes[0]} to {sizes[2]}: {exponent:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="more instances, larger ones")
    parser.add_argument("--easy", action="store_true", help="the easy families alone")
    given = parser.parse_args()
    full = given.full
    started = time.process_time()
    exact_seconds(logarithmic(50, 0))
    for family in (identical, arbitrary, weakly_correlated):
        exact_seconds(family(30_000, 0))
    print(f"first call, compilation or its cache: {time.process_time() - started:.1f} s\n")
    if given.easy:
        for n in (1000, 10_000):
            for name, family in EASY:
                alone(name, family, n, 15, 5.0)
        return
    print(
        "CPU seconds (median): exact, HiGHS and CBC on the plain model and the ratio to the faster"
    )
    print("(geometric mean), the same on the model that we reduced, largest gap of exact")
    head = f"{'family':<16}{'clients':>7}{'exact':>10}"
    print(head + f"{'HiGHS':>8}{'CBC':>8}{'ratio':>8}" * 2 + f"{'gap':>9}")
    seeds, limit_s = (6, 30.0) if full else (3, 4.0)
    for name, family in (
        ("log", logarithmic),
        ("measured", measured),
        ("arbitrary", arbitrary),
        *EASY,
        ("correlated", correlated),
        ("three budgets", three_budgets),
    ):
        versus(name, family, 1000, seeds, limit_s)
        if full:
            versus(name, family, 10_000, 3, 4.0, target=1000.0)
    print(
        "\nCPU seconds (median) with verification: a first solve, and 102 % of the budget from it"
    )
    for name, family in (("log", logarithmic), ("measured", measured), ("correlated", correlated)):
        for n in (1000, 100_000):
            warm(name, family, n, 5)
    print("\nexact alone: CPU seconds (median, largest), largest gap")
    for n in (1000, 10_000):
        alone("correlated", correlated, n, 5, 5.0)
        alone("correlated free", correlated_free, n, 5, 5.0)
        alone("correlated tight", correlated_tight, n, 3 if full else 1, 5.0)
        alone("heavy tail", heavy_tail, n, 5, 5.0)
        for name, family in EASY:
            alone(name, family, n, 5, 5.0)
    for largest in (1_000, 100_000):
        family = partial(circle, largest=largest)
        alone(f"circle {largest}", family, 100_000, 5, 20.0)
    alone("three kinds", identical, 100_000, 5, 5.0)
    print("\nCPU seconds by size: solver, build + solve + verification, passes of numpy's row max")
    sizes = [10_000, 100_000, 1_000_000, *([10_000_000] if full else [])]
    for name, family in (("log", logarithmic), ("arbitrary", arbitrary)):
        scale(name, family, sizes, 3 if full else 2)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"\npeak memory of this process: {peak:.2f} GiB")


if __name__ == "__main__":
    main()
