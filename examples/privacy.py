"""What private scores cost: how many clients get another width than their own data would give.

``python examples/privacy.py`` draws docs/images/privacy.png: the changes for two tasks, and what
the allocations are worth in training. It takes some three CPU minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

import hasa_opt as hasa
from hasa_opt.errors import InputError
from hasa_opt.rules.private import sensitivity, sigma

EPSILONS = (0.1, 0.3, 1, 3, 10, 30, 100)
PANELS = (
    ("digits", 1.0, "Digits: a sample is one label"),
    ("docstrings", 12.0, "Docstrings: a sample is up to 12 words"),
)
SEEDS, ROUNDS = range(5), 15


@dataclass(frozen=True, eq=False)
class WidthChanges:
    """Allocations from private scores, beside the one from the plain scores.

    Attributes
    ----------
    epsilons : (n_epsilons,) floats
    sigmas : (n_epsilons,) floats
        Standard deviation of the noise on each count, in tokens.
    plain : (n_clients,) floats
        Widths from the scores without noise.
    widths : (n_epsilons, n_seeds, n_clients) floats
        Widths from the private scores.
    shuffled : (n_seeds, n_clients) floats
        Widths from the plain scores dealt out at random: all that noise can do.
    """

    epsilons: NDArray[np.float64]
    sigmas: NDArray[np.float64]
    plain: NDArray[np.float64]
    widths: NDArray[np.float64]
    shuffled: NDArray[np.float64]

    @property
    def changed(self) -> NDArray[np.int64]:
        """Clients of another width than the plain one, ``(n_epsilons, n_seeds)``."""
        return (self.widths != self.plain).sum(axis=2)

    @property
    def changed_by_chance(self) -> float:
        """Clients of another width where scores are dealt out at random, mean over seeds."""
        return float((self.shuffled != self.plain).sum(axis=1).mean())

    def draw(self, axes: Axes) -> None:
        """Draw the share of clients that change width against epsilon."""
        share = 100 * self.changed / self.plain.size
        (line,) = axes.plot(
            self.epsilons, share.mean(axis=1), "o-", markersize=4, label="private scores"
        )
        low, high = np.quantile(share, [0.1, 0.9], axis=1)
        axes.fill_between(self.epsilons, low, high, color=line.get_color(), alpha=0.15, lw=0)
        chance = 100 * self.changed_by_chance / self.plain.size
        label = "scores dealt out at random"
        axes.axhline(chance, color=line.get_color(), linestyle=":", label=label)
        axes.set(xscale="log", xlabel="epsilon", ylabel="Clients of another width (%)")
        axes.set_ylim(0, 102)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)


def widths_against_epsilon(
    clients: hasa.Clients,
    epsilons: Sequence[float],
    *,
    delta: float = 1e-5,
    widths: Sequence[float] = (0.2, 0.35, 0.5, 0.65, 0.8),
    budget: float = 0.5,
    seeds: Sequence[int] = range(20),
    solver: str = "auto",
    **mechanism: Any,
) -> WidthChanges:
    """Allocate from private scores at several epsilons, each with several draws of the noise.

    Each allocation is the optimum of the integer program with the HASA utility.

    Parameters
    ----------
    clients : Clients
        With counts.
    epsilons : floats above 0
    delta : float
        Between 0 and 1; below one over the number of training samples is usual.
    widths, budget
        Menu and budget of the allocation.
    seeds : whole numbers
        One draw of the noise each.
    solver : str
        As for ``hasa_opt.solve``.
    **mechanism
        ``unit``, ``sample_norm`` and ``clip`` of ``hasa_opt.scores.private``.
    """
    if clients.counts is None:
        raise InputError("these clients have no counts: give Clients(..., counts=...)")
    reach = sensitivity(**mechanism)

    def allocate(scores: NDArray[np.float64]) -> NDArray[np.float64]:
        problem = hasa.AllocationProblem.build(
            clients, widths=widths, budget=budget, utility=hasa.utility.hasa(scores)
        )
        return hasa.solve(problem, solver).widths

    def noisy(epsilon: float, seed: int) -> NDArray[np.float64]:
        scores = hasa.scores.private(clients.counts, epsilon, delta, seed=seed, **mechanism)
        return allocate(scores)

    plain = hasa.scores.jensen_shannon(clients.counts)
    return WidthChanges(
        np.array(epsilons, dtype=np.float64),
        np.array([sigma(epsilon, delta, reach) for epsilon in epsilons]),
        allocate(plain),
        np.array([[noisy(epsilon, seed) for seed in seeds] for epsilon in epsilons]),
        np.array([allocate(np.random.default_rng(seed).permutation(plain)) for seed in seeds]),
    )


def draw() -> Figure:
    """Draw one panel for each task, and one of what the digits' allocations are worth."""
    from hasa_opt import tasks

    figure = Figure(figsize=(13.6, 3.6), layout="constrained")
    *panels, last = figure.subplots(1, 3)
    found = {}
    for axes, (name, norm, title) in zip(panels, PANELS, strict=True):
        found[name] = widths_against_epsilon(tasks.load(name).clients(), EPSILONS, sample_norm=norm)
        found[name].draw(axes)
        axes.set_title(title, loc="left", fontsize=11)
        changed = found[name].changed.mean(axis=1).round(1)
        print(name, "changed:", changed, "of", found[name].plain.size)
    draw_accuracy(last, found["digits"])
    return figure


def draw_accuracy(axes: Axes, found: WidthChanges) -> None:
    """Draw the client mean after training with the widths of private scores."""
    private = np.array(
        [
            [accuracy(found.widths[row, seed], seed) for seed in SEEDS]
            for row in range(len(EPSILONS))
        ]
    )
    plain = np.array([accuracy(found.plain, seed) for seed in SEEDS])
    uniform = np.array([accuracy(np.full(found.plain.size, 0.5), seed) for seed in SEEDS])
    error = private.std(axis=1, ddof=1) / len(SEEDS) ** 0.5
    axes.errorbar(EPSILONS, private.mean(axis=1), error, marker="o", label="private scores")
    axes.axhline(plain.mean(), color="black", ls=":", label="plain scores")
    axes.axhline(uniform.mean(), color="0.6", ls="--", label="uniform")
    axes.set(xscale="log", xlabel="epsilon", ylabel="Client mean test accuracy (%)")
    axes.set_title(f"Digits: accuracy, {len(SEEDS)} seeds", loc="left", fontsize=11)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    for name, own in (("plain", plain), ("uniform", uniform), *zip(EPSILONS, private, strict=True)):
        gap = own - plain
        print(f"{name}: {own.mean():.1f} %, {gap.mean():+.1f} points from plain scores")


def accuracy(widths: NDArray[np.float64], seed: int) -> float:
    """Client mean on the test data after training, in percent."""
    from hasa_opt import federated, models, tasks

    task = tasks.load("digits")
    model = models.CNN.for_data(task.train[0].inputs, task.n_outputs)
    history = federated.run(
        models.fresh(model, seed),
        task,
        widths,
        rounds=ROUNDS,
        seed=seed,
        execution=federated.Execution(engine="auto"),
    )
    return 100 * float(history.final_accuracy.mean())


if __name__ == "__main__":
    images = Path(__file__).parents[1] / "docs" / "images"
    draw().savefig(images / "privacy.png", dpi=110)
