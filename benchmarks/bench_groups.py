"""Groups found in updates: false alarms where there are none, and power where there are.

Run it with ``python benchmarks/bench_groups.py`` (some five minutes; ``--runs 20`` is shorter).
Updates are one direction common to all, or to a group, plus normal noise in 500 dimensions. "Plain"
rotates the cosines as they are, "restored" what :func:`hasa_opt.rules.by_updates` does: it gives
them lengths before and scales them after. "Any" asks for the clearest groups whatever the cosine
between them, "contradict" for groups that contradict each other.

``--real images`` and ``--real texts`` count false alarms of real training instead: clients between
whom nothing differs train half of 30 rounds at width 0.5, and the updates are looked at when the
policy ``recommended`` does, at its level. ``--real probes`` counts in how many probes of ten rounds
a headroom sees groups, where there are some and where there are none. ``--gains`` prints what ten
such probes foretell of the groups' gain (some four minutes); in the twins, where nothing differs,
counts that are made up call every second client another kind.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import Any
from unittest import mock

import numpy as np
import torch
from scipy.stats import beta

import hasa_opt as hasa
from hasa_opt import federated, models, tasks
from hasa_opt.forecast.foretold import Foretold
from hasa_opt.policies.recommended import LEVEL
from hasa_opt.rules import by_updates, rotation

DIMENSIONS, LEVELS = 500, (0.05, 0.01)
ROUNDS, EVERY = 15, 3  # the first half of 30 rounds, and between two looks of ``recommended``
FIRST_SEED = 1000
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


def dealt_alike(task: tasks.Task, seed: int) -> tasks.Task:
    """All training samples shuffled over the clients, who keep their sizes; counts go unused."""
    splits = [task.train[client] for client in range(len(task))]
    order = torch.from_numpy(np.random.default_rng(seed).permutation(int(task.samples.sum())))
    inputs = torch.cat([split.tensor for split in splits])[order]
    targets = torch.cat([split.targets for split in splits])[order]
    sizes = task.samples.tolist()
    pairs = zip(inputs.split(sizes), targets.split(sizes), strict=True)
    return replace(task, train=[tasks.Split(*pair) for pair in pairs])


def images(name: str, seed: int) -> tuple[tasks.Task, models.SupernetModel, float]:
    task = tasks.load(name, seed=seed)
    task = dealt_alike(task, seed) if name == "domains" else task
    return task, models.CNN.for_data(task.train[0].inputs, task.n_outputs), 0.01


def texts(name: str, seed: int) -> tuple[tasks.Task, models.SupernetModel, float]:
    task = dealt_alike(tasks.load(name, seed=seed, n_texts=3000), seed)
    model = models.GRULanguageModel.for_data(task.train[0].inputs, task.n_outputs, hidden=64)
    return task, model, 0.02


@dataclass
class Looks:
    """Uniform widths, and what the updates show at each look."""

    seed: int
    found: list[rotation.Found] = field(default_factory=list)
    every: int = EVERY

    def __call__(self, seen: federated.Seen) -> Array | None:
        """Look, and leave the widths as they are."""
        if not seen.round:
            return np.full(len(seen.samples), 0.5)
        level = LEVEL * EVERY / ROUNDS
        self.found.append(by_updates(seen.update_similarity, level=level, seed=self.seed))
        return None


def alarm(make: Callable[[str, int], Any], name: str, seed: int) -> bool:
    """Whether groups are found in a run without any."""
    task, model, rate = make(name, seed)
    looks = Looks(seed)
    federated.run(
        models.fresh(model, seed),
        task,
        looks,
        rounds=ROUNDS + 1,  # Nobody is asked after the last round.
        training=federated.LocalTraining(learning_rate=rate),
        evaluation=federated.Evaluation(every=ROUNDS + 1),
        execution=federated.Execution(engine="batched"),
        seed=seed,
    )
    return any(found.groups.any() for found in looks.found)


def probe_of(name: str, seed: int, is_forced: bool = False) -> tuple[hasa.Probe, tasks.Task]:
    """A probe of five widths and ten rounds; in groups that made-up counts show, if it is forced.

    A name that ends in "+norm" has a network that normalises each channel, and half the step size.
    """
    kind, normed, _ = name.partition("+")
    task = tasks.load(kind, seed=seed)
    if is_forced:
        apart = np.kron(np.array([[90, 10], [10, 90]]), np.ones((1, task.n_outputs // 2), int))
        task = replace(task, counts=apart[np.arange(len(task)) % 2])
    options = {"norm_channels": 1} if normed else {}
    model = models.CNN.for_data(task.train[0].inputs, task.n_outputs, **options)
    training = federated.LocalTraining(learning_rate=0.01 if normed else 0.02)
    widths = (0.2, 0.35, 0.5, 0.65, 0.8)
    return hasa.probe(models.fresh(model, seed), task, widths, 10, seed, training=training), task


def probed(name: str, seed: int) -> bool:
    """Whether the updates in such a probe show groups."""
    groups = Foretold.of(None, probe_of(name, seed)[0].similarities, seed).groups
    assert groups is not None, "ten rounds are looked at"
    return bool(groups.any())


def gains(runs: int = 10) -> None:
    """What probes foretell of the gain of groups, where there are some and where there are none."""
    line = "{:<18}{:>7}{:>6}{:>7}{:>8}{:>15}{:>15}{:>15}"
    print(line.format("task", "budget", "runs", "mean", "spread", "half interval", "surely above 0",
                      "surely below 0"))  # fmt: skip
    for name in ("domains", "fonts", "rotated+norm", "fonts_twin", "rotated_twin+norm"):
        probes = [probe_of(name, FIRST_SEED + run, "twin" in name) for run in range(runs)]
        for budget in (0.5, 0.35):
            rooms = [hasa.headroom(each, task.clients(), budget) for each, task in probes]
            found = [room.foretold.gain for room in rooms if room.foretold.gain is not None]
            value, low, high = np.array([(each.value, each.low, each.high) for each in found]).T
            half, spread = (high - low).mean() / 2, value.std(ddof=1)
            shown = [f"{each:.1f}" for each in (value.mean(), spread, half)]
            print(line.format(name, budget, len(found), *shown, (low > 0).sum(), (high < 0).sum()),
                  flush=True)  # fmt: skip


REAL = {
    "images": (
        partial(alarm, images),
        ("rotated_twin", "fonts_twin", "unequal_twin", "domains"),
        50,
    ),
    "texts": (partial(alarm, texts), ("docstrings", "code_and_prose"), 25),
    "probes": (
        probed,
        ("fonts", "fonts_twin", "rotated", "rotated_twin", "rotated+norm", "rotated_twin+norm"),
        15,
    ),
}
"""What is run, on which tasks, and how many times on each."""


def interval(hits: int, runs: int, confidence: float = 0.95) -> tuple[float, float]:
    """Of a share, by Clopper and Pearson (1934)."""
    tail = (1 - confidence) / 2
    low = beta.ppf(tail, hits, runs - hits + 1) if hits else 0.0
    high = beta.ppf(1 - tail, hits + 1, runs - hits) if hits < runs else 1.0
    return float(low), float(high)


def real(kind: str) -> None:
    """Count the runs in which groups are found."""
    find, names, runs = REAL[kind]
    line = "{:<18}{:>6}{:>12}{:>9}{:>18}"
    print(f"Groups found in the updates at the level of {LEVEL:.0%} over all looks of a run")
    print(line.format("task", "runs", "with groups", "share %", "95 % interval, %"))
    total = 0
    for name in names:
        hits = sum(find(name, FIRST_SEED + run) for run in range(runs))
        total += hits
        _print_share(line, name, hits, runs)
    if kind != "probes":
        _print_share(line, "all", total, runs * len(names))


def _print_share(line: str, name: str, hits: int, runs: int) -> None:
    low, high = (100 * end for end in interval(hits, runs))
    cells = name, runs, hits, f"{100 * hits / runs:.1f}", f"{low:.1f} to {high:.1f}"
    print(line.format(*cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100, help="draws of the updates of each line")
    parser.add_argument("--real", choices=REAL, help="train instead")
    parser.add_argument("--gains", action="store_true", help="probe what groups gain instead")
    arguments = parser.parse_args()
    if arguments.gains:
        gains()
    elif arguments.real:
        real(arguments.real)
    else:
        simulated(arguments.runs)


def simulated(runs: int) -> None:
    """False alarms and power of the test on drawn updates."""
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
