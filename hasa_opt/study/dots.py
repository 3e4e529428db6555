"""Dots of a report: each seed, client and policy, with its name and value when pointed at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator

from hasa_opt._utils.checks import FloatArray
from hasa_opt._utils.scale import Scale
from hasa_opt.study.results import CHOICES, MEASURES, Results
from hasa_opt.study.tables import fitting_unit, scaled
from hasa_opt.study.tradeoff import COSTS, TradeOff, trade_offs

__all__ = ["Dot", "DotPlot", "Scatter", "ScatterDot", "dot_plots", "scatter_plots"]

_MOST = 2000
"""Dots of a plot, beyond which it is left out: a page holds and shows no more at ease."""
_LINE = 0.055
"""Height of a name as a share of that of a plot."""


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
    measure : str
        The measure that it shows; empty: it shows the same whatever is chosen.
    rows : tuple of (policy, dots, where their mean lies)
    ticks : tuple of Dot
        Numbers on the axis.
    """

    title: str
    measure: str
    rows: tuple[tuple[str, tuple[Dot, ...], float], ...]
    ticks: tuple[Dot, ...]


@dataclass(frozen=True)
class ScatterDot:
    """A policy: where it lies, its interval, and what is said of it.

    Attributes
    ----------
    policy : str
    x, y : float
        From 0 to 1.
    low, high : float
        Ends of its interval along y; y itself where there is none.
    label : float
        Where along y its name stands, so that names do not cover each other.
    says : str
    """

    policy: str
    x: float
    y: float
    low: float
    high: float
    label: float
    says: str


@dataclass(frozen=True)
class Scatter:
    """A measure of each policy against a cost.

    Attributes
    ----------
    measure, cost, words : str
        The words are those of the cost.
    dots : tuple of ScatterDot
    frontier : tuple of ScatterDot
        Those that no other beats in both, the cheapest first.
    label : str
        Of the axis of the cost.
    across, along : tuple of Dot
        Numbers on the axes of the cost and of the measure.
    """

    measure: str
    cost: str
    words: str
    dots: tuple[ScatterDot, ...]
    frontier: tuple[ScatterDot, ...]
    label: str
    across: tuple[Dot, ...]
    along: tuple[Dot, ...]


class _Axis:
    """An axis that holds all given values, with round numbers on it."""

    def __init__(self, values: FloatArray, most: int = 5) -> None:
        ticks = MaxNLocator(most).tick_values(float(values.min()), float(values.max()))
        self._ticks: list[float] = np.asarray(ticks).tolist()
        self._low, self._high = self._ticks[0], self._ticks[-1]

    def place(self, value: float) -> float:
        if self._high <= self._low:
            return 0.5
        return round(float((value - self._low) / (self._high - self._low)), 4)

    @property
    def ticks(self) -> tuple[Dot, ...]:
        return tuple(Dot(self.place(tick), f"{tick:g}") for tick in self._ticks)


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
        _plot(f"{MEASURES[name].capitalize()}, each seed", name, results, values, seeds)
        for name, values in ((name, results.measure(name)) for name in CHOICES)
    ]
    plots.append(_plot("Each client, mean over the seeds", "", results, clients, names))
    return [plot for plot in plots if sum(len(dots) for _, dots, _ in plot.rows) <= _MOST]


def scatter_plots(results: Results) -> list[Scatter]:
    """A plot for each measure and each cost that is known.

    Parameters
    ----------
    results : Results
    """
    found = (trade_offs(results, name) for name in CHOICES)
    return [_scatter(trade, results.scale) for trades in found for trade in trades]


def _plot(
    title: str, measure: str, results: Results, values: FloatArray, names: list[str]
) -> DotPlot:
    """Values ``(n_policies, n_names)`` on an axis that holds them all."""
    axis = _Axis(values)

    def dot(name: str, value: float) -> Dot:
        return Dot(axis.place(value), f"{name}: {results.scale.told(value)}")

    rows = tuple(
        (policy, tuple(map(dot, names, own.tolist())), axis.place(float(np.mean(own))))
        for policy, own in zip(results.policies, values, strict=True)
    )
    return DotPlot(title, measure, rows, axis.ticks)


def _scatter(trade: TradeOff, scale: Scale) -> Scatter:
    words, unit = COSTS[trade.cost]
    reach = np.nan_to_num(trade.reach)
    low, high = trade.values - reach, trade.values + reach
    factor, prefixed = fitting_unit(float(trade.costs.max()), unit)
    costs = trade.costs / factor
    across, along = _Axis(costs, 4), _Axis(np.concatenate([low, high]))
    labels = _apart(np.array([along.place(value) for value in trade.values.tolist()]))
    dots = tuple(
        ScatterDot(
            policy,
            x=across.place(costs[row]),
            y=along.place(trade.values[row]),
            low=along.place(low[row]),
            high=along.place(high[row]),
            label=float(labels[row]),
            says="; ".join(_said(trade, row, scale, unit)),
        )
        for row, policy in enumerate(trade.policies)
    )
    best = tuple(dots[row] for row in trade.frontier.tolist())
    axes = (f"{words} ({prefixed})", across.ticks, along.ticks)
    return Scatter(trade.measure, trade.cost, words, dots, best, *axes)


def _said(trade: TradeOff, row: int, scale: Scale, unit: str) -> Iterator[str]:
    value, cost = scale.told(trade.values[row]), scaled(trade.costs[row], unit)
    yield f"{trade.policies[row]}: {value} for {cost}"
    if np.isfinite(trade.reach[row]):
        yield f"95 % interval \N{PLUS-MINUS SIGN} {scale.amount(trade.reach[row])}"
    if row in trade.frontier:
        yield "on the frontier"


def _apart(places: FloatArray) -> FloatArray:
    """Places from 0 to 1, moved so that neighbours keep a distance, and their order."""
    least = min(_LINE, 1 / max(1, len(places)))
    order = np.argsort(places, kind="stable")
    steps = least * np.arange(len(places))
    moved = np.maximum.accumulate(places[order] - steps) + steps
    found = np.empty_like(places)
    found[order] = np.minimum(moved, 1 - steps[::-1])
    return found
