"""Groups found in updates: false alarms where there are none, and power where there are.

Run it with ``python benchmarks/bench_groups.py`` (some five minutes; ``--runs 20`` is shorter).
Updates are one direction common to all, or to a group, plus normal noise in 500 dimensions. "Plain"
rotates the cosines as they are, "restored" what :func:`hasa_opt.rules.by_updates` does: it gives
them lengths before and scales them after. "Any" asks for the clearest groups whatever the cosine
between them, "contradict" for groups that contradict each other.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any
from unittest import mock

import numpy as np

from hasa_opt.rules import by_updates, rotation

DIMENSIONS, LEVELS = 500, (0.05, 0.01)
Array = np.ndarray[Any, Any]


def cosines(means: Array, sizes: Array, rng: np.random.Generator) -> Array:
    """Cosines of means plus noise of so large an expected length."""
    noise = rng.standard_normal((len(means), DIMENSIONS)) / np.sqrt(DIMENSIONS)
    noise[:, : means.shape[1]] += means / sizes[:, None]
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    return noise @ noise.T


def without_groups(clients: int, common: float, unequal: bool, rng: np.random.Generator) -> Array:
    """Cosines ``common`` in the mean of equal noise; unequal noise is half to twice as long."""
    sizes = np.full(clients, np.sqrt(1 - common))
    if unequal:
        sizes *= np.exp(rng.uniform(-np.log(2), np.log(2), clients))
    return cosines(np.full((clients, 1), np.sqrt(common)), sizes, rng)


def planted(groups: Array, inside: float, between: float, rng: np.random.Generator) -> Array:
    """Cosines of ``inside`` and ``between`` in the mean."""
    count = groups.max() + 1
    products = np.full((count, count), between) + (inside - between) * np.eye(count)
    means = np.linalg.cholesky(products)[groups]
    return cosines(means, np.full(len(groups), np.sqrt(1 - inside)), rng)


def plain(updates: Array, rotations: Array) -> Array:
    return rotations @ updates @ rotations.transpose(0, 2, 1)


def found(similarity: Array, seed: int, *, restored: bool, anything: bool) -> rotation.Found:
    """1,000 draws, the updates counted, unless the larger level is out of reach before."""
    with mock.patch.multiple(
        rotation,
        _turned=rotation._turned if restored else plain,
        _lengthened=rotation._lengthened if restored else lambda table, *_: table[None],
        _contradict=(lambda *_: True) if anything else rotation._contradict,
    ):
        return by_updates(similarity, level=max(LEVELS), draws=999, seed=seed)


def alarms(make: Callable[[np.random.Generator], Array], runs: int) -> list[str]:
    """Shares of runs with groups: any and contradicting ones, plain and restored, in words."""
    cells = []
    for anything, restored in product((True, False), (False, True)):
        p_values = [
            found(
                make(np.random.default_rng(run)), run, restored=restored, anything=anything
            ).p_value
            for run in range(runs)
        ]
        shares = (100 * float(np.mean([p <= level for p in p_values])) for level in LEVELS)
        cells.append(" / ".join(f"{share:.1f}" for share in shares))
    return cells


def power(groups: Array, inside: float, between: float, runs: int) -> list[str]:
    """Shares of runs with groups, and with exactly the planted ones, plain and restored."""
    cells = []
    for restored in (False, True):
        results = []
        for run in range(runs):
            similarity = planted(groups, inside, between, np.random.default_rng(run))
            results.append(found(similarity, run, restored=restored, anything=False))
        hits = [result for result in results if result.p_value <= min(LEVELS)]
        exact = sum(np.array_equal(result.groups, groups) for result in hits)
        cells.append(f"{100 * len(hits) / runs:.0f} ({100 * exact / runs:.0f})")
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100, help="draws of the updates of each line")
    runs = parser.parse_args().runs

    print(f"False alarms, % of {runs} runs, at the levels 5% / 1%")
    line = "{:>7}{:>8}  {:<8}{:>13}{:>13}{:>20}{:>13}"
    print(line.format("clients", "cosine", "noise", "any: plain", "restored", "contradict: plain",
                      "restored"))  # fmt: skip
    for clients, common, unequal in product((8, 12, 20), (0.0, 0.3), (False, True)):
        make = partial(without_groups, clients, common, unequal)
        noise = "unequal" if unequal else "equal"
        print(line.format(clients, common, noise, *alarms(make, runs)), flush=True)

    print(f"\nPower, % of {runs} runs at the level 1% (with exactly the planted groups)")
    line = "{:>7}{:>8}{:>8}{:>9}{:>13}{:>13}"
    print(line.format("clients", "groups", "inside", "between", "plain", "restored"))
    cases = [(0.3, at) for at in (-0.1, 0.0, 0.1, 0.15, 0.2)] + [(0.1, at) for at in (0.0, 0.05)]
    for (clients, count), (inside, between) in product(((8, 2), (12, 3)), cases):
        cells = power(np.arange(clients) % count, inside, between, runs)
        print(line.format(clients, count, inside, between, *cells), flush=True)


if __name__ == "__main__":
    main()
