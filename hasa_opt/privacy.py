"""What private scores cost: how many clients get another width than their own data would give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray, expect, float_array, sequence, whole
from hasa_opt.clients.clients import Clients
from hasa_opt.clients.counts import Counts
from hasa_opt.errors import InputError
from hasa_opt.problem import utility
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.rules.private import sensitivity, sigma
from hasa_opt.rules.scores import jensen_shannon, private
from hasa_opt.solving.solver import solve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["WidthChanges", "widths_against_epsilon"]


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

    epsilons: FloatArray
    sigmas: FloatArray
    plain: FloatArray
    widths: FloatArray
    shuffled: FloatArray

    @property
    def changed(self) -> IntArray:
        """Clients of another width than the plain one, ``(n_epsilons, n_seeds)``."""
        return np.asarray((self.widths != self.plain).sum(axis=2))

    @property
    def changed_by_chance(self) -> float:
        """Clients of another width where scores are dealt out at random, mean over seeds."""
        return float((self.shuffled != self.plain).sum(axis=1).mean())

    def plot(self) -> Figure:
        """Draw the share of clients that change width against epsilon.

        Returns
        -------
        matplotlib Figure
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.2, 3.6), layout="constrained")
        self.draw(figure.add_subplot())
        return figure

    def draw(self, axes: Axes, *, label: str = "scores") -> None:
        """Draw the same into axes of a figure of one's own.

        Parameters
        ----------
        axes : matplotlib Axes
        label : str
            What the legend calls the scores.
        """
        share = 100 * self.changed / self.plain.size
        (line,) = axes.plot(
            self.epsilons, share.mean(axis=1), "o-", markersize=4, label=f"private {label}"
        )
        low, high = np.quantile(share, [0.1, 0.9], axis=1)
        axes.fill_between(self.epsilons, low, high, color=line.get_color(), alpha=0.15, lw=0)
        chance = 100 * self.changed_by_chance / self.plain.size
        dealt = f"{label} dealt out at random"
        axes.axhline(chance, color=line.get_color(), linestyle=":", label=dealt)
        axes.set_xscale("log")
        axes.set_ylim(0, 102)
        axes.set_xlabel("epsilon")
        axes.set_ylabel("Clients of another width (%)")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)


def widths_against_epsilon(
    clients: Clients,
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
        As for :func:`hasa_opt.solve`.
    **mechanism
        ``unit``, ``sample_norm`` and ``clip`` of :func:`~hasa_opt.rules.scores.private`.

    Returns
    -------
    WidthChanges

    Raises
    ------
    InputError
        If a client has no counts, or a value breaks these rules.
    """
    counts = _counts(clients)
    levels = float_array(epsilons, "epsilons")
    if levels.ndim != 1 or levels.size == 0:
        raise InputError(f"epsilons {epsilons!r} must be one or more numbers above 0")
    draws = [whole(seed, "seed") for seed in sequence(seeds, "seeds")]
    if not draws:
        raise InputError("seeds are empty: give at least one, each is a draw of the noise")
    reach = sensitivity(**mechanism)
    sigmas = np.array([sigma(level, delta, reach) for level in levels])

    def allocate(scores: FloatArray) -> FloatArray:
        problem = AllocationProblem.build(
            clients, widths=widths, budget=budget, utility=utility.hasa(scores)
        )
        return solve(problem, solver).widths

    plain = jensen_shannon(counts)
    noisy = [
        [allocate(private(counts, level, delta, seed=seed, **mechanism)) for seed in draws]
        for level in levels
    ]
    dealt = [allocate(np.random.default_rng(seed).permutation(plain)) for seed in draws]
    return WidthChanges(levels, sigmas, allocate(plain), np.array(noisy), np.array(dealt))


def _counts(clients: Clients) -> Counts:
    expect(clients, Clients, "clients")
    if clients.counts is None:
        raise InputError("these clients have no counts: give Clients(..., counts=...)")
    return clients.counts
