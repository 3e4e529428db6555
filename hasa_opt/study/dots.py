"""Dots of a report: every seed and every client, each with its name and value when pointed at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator

from hasa_opt._utils.checks import FloatArray
from hasa_opt.study.results import MEASURES, Results

__all__ = ["Dot", "DotPlot", "dot_plots"]

_SHOWN = ("mean", "weighted", "worst", "worst_third")
_MOST = 2000
"""Dots of a plot, beyond which it is left out: a page holds and shows no more at ease."""


@dataclass(frozen=True)
class Dot:
    """One value: where it lies, from 0 to 1, and what is said of it."""

    at: float
    says: str


@dataclass(frozen=True)
class DotPlot:
    """Values of each policy on one axis.

    Attributes
    ----------
    title : str
    rows : tuple of (policy, dots, where their mean lies)
    ticks : tuple of Dot
        Numbers on the axis.
    """

    title: str
    rows: tuple[tuple[str, tuple[Dot, ...], float], ...]
    ticks: tuple[Dot, ...]


def dot_plots(results: Results) -> list[DotPlot]:
    """A plot for each measure, of the seeds, and one of the clients.

    Parameters
    ----------
    results : Results
    """
    rows = results.measured()
    if not rows.size:
        return []
    seeds = [f"seed {seed}" for seed in results.seeds]
    names = [results.clients[row] for row in rows]
    clients = results.scale.shown(results.own[..., rows]).mean(axis=1)
    plots = [
        _plot(f"{MEASURES[name].capitalize()}, each seed", results, results.measure(name), seeds)
        for name in _SHOWN
    ]
    plots.append(_plot("Each client, mean over the seeds", results, clients, names))
    return [plot for plot in plots if sum(len(dots) for _, dots, _ in plot.rows) <= _MOST]


def _plot(title: str, results: Results, values: FloatArray, names: list[str]) -> DotPlot:
    """Values ``(n_policies, n_names)`` on an axis that holds them all."""
    ticks = np.asarray(MaxNLocator(5).tick_values(float(values.min()), float(values.max())))
    low, high = float(ticks[0]), float(ticks[-1])
    unit = " %" if results.scale.is_share else ""

    def place(value: float) -> float:
        return round((value - low) / (high - low), 4) if high > low else 0.5

    def dot(name: str, value: float) -> Dot:
        return Dot(place(value), f"{name}: {results.scale.number(value)}{unit}")

    rows = tuple(
        (policy, tuple(map(dot, names, own.tolist())), place(float(np.mean(own))))
        for policy, own in zip(results.policies, values, strict=True)
    )
    return DotPlot(title, rows, tuple(Dot(place(tick), f"{tick:g}") for tick in ticks.tolist()))
