"""Figures of the results of a study: who trains which width, and what that is worth.

They are drawn from :class:`Results` alone, so that those of a file will do; curves are in
:mod:`hasa_opt.study.curves`.

The functions build :class:`matplotlib.figure.Figure` objects directly: they touch neither pyplot's
list of open figures nor the backend. Save one with ``figure.savefig(path)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt._utils.drawing import COLOURS, FEW, finish, short
from hasa_opt._utils.scale import Scale
from hasa_opt.errors import InputError
from hasa_opt.policies.policy import split_name
from hasa_opt.study.claims import REFERENCE, Contrast, against
from hasa_opt.study.results import MEASURES, Kind, Results
from hasa_opt.study.tables import fitting_unit
from hasa_opt.study.tradeoff import COSTS, TradeOff, trade_offs

__all__ = [
    "MANY",
    "WIDTH_IN",
    "allocation",
    "by_client",
    "client_height",
    "differences",
    "draw_allocation",
    "draw_by_client",
    "legend",
    "spread",
    "style",
    "trade_off",
]

MANY = 6
"""With more policies than this, curves have no bands, and clients are drawn as a matrix."""

_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">")
_DASHES = ("-", "--", ":", "-.")
_FILLINGS = ("full", "none", "left", "bottom")

_MAX_NUMBERS = 12
"""Clients up to which the cells of a matrix have room for a number."""

WIDTH_IN = 5.2
"""Inches that one panel is wide."""


def allocation(results: Results) -> Figure:
    """Mean width that each client trained, by policy; 0 where it is left out.

    Parameters
    ----------
    results : Results
        Error bars show the standard deviation over seeds where widths vary.

    Returns
    -------
    matplotlib Figure
        One marker per policy and client, or a matrix of more than six policies. Of more than 30
        clients, the 30 with the most training samples are shown.
    """
    return _alone(results, draw_allocation, client_height(results))


def differences(results: Results, measure: str = "mean") -> Figure:
    """Gain of each policy over uniform in a measure, with its intervals.

    Parameters
    ----------
    results : Results
        Of two or more seeds, one policy being "uniform".
    measure : str
        As for :meth:`Results.measure`.

    Returns
    -------
    matplotlib Figure
        A second panel shows the full supernet, where it was measured.
    """
    over = f"{results.scale.minus.capitalize()} {REFERENCE}"
    kinds: dict[Kind, str] = {"own": "what clients deploy", "supernet": "the full supernet"}
    found = {kind: against(results, measure=measure, kind=kind) for kind in kinds}
    panels = {kind: contrasts for kind, contrasts in found.items() if contrasts}
    height = 1.1 + 0.26 * len(results.policies)
    figure = Figure(figsize=(WIDTH_IN, height * len(panels)), layout="constrained")
    every = figure.subplots(len(panels), squeeze=False, sharex=True).flat
    for axes, (kind, contrasts) in zip(every, panels.items(), strict=True):
        _draw_differences(axes, contrasts, results, kind, measure)
        finish(axes, f"{over}: {kinds[kind]}")
        axes.grid(axis="x", color="0.9")
    return figure


def by_client(results: Results) -> Figure:
    """The metric on test data of what each client deploys, by policy.

    Parameters
    ----------
    results : Results
        Error bars show the standard deviation over seeds.

    Returns
    -------
    matplotlib Figure
        One marker per policy and client, or a matrix of more than six policies. Of more than 30
        clients, the 30 with the most training samples are shown.
    """
    return _alone(results, draw_by_client, client_height(results))


def trade_off(results: Results, measure: str = "mean") -> Figure:
    """A measure of each policy against what it takes, with the frontier of those unbeaten in both.

    Parameters
    ----------
    results : Results
    measure : str
        As for :meth:`Results.measure`.

    Returns
    -------
    matplotlib Figure
        A panel for the operations, the bytes, the server's storage, and, with a clock, seconds
        and joules. Bars are 95 % intervals of the difference to uniform, paired by seed.

    Raises
    ------
    InputError
        If no client was measured, so that there is nothing to draw.
    """
    trades = trade_offs(results, measure)
    if not trades:
        raise InputError("no client was tested under all policies and seeds: nothing to draw")
    rows = -(-len(trades) // 2)
    figure = Figure(figsize=(1.7 * WIDTH_IN, 0.9 + 2.9 * rows), layout="constrained")
    panels = figure.subplots(rows, min(2, len(trades)), squeeze=False).flat
    for trade, axes in zip(trades, panels, strict=False):
        draw_trade_off(axes, trade, results.scale)
    for axes in panels:
        axes.set_axis_off()
    legend(figure, figure.axes[0])
    return figure


def draw_trade_off(axes: Axes, trade: TradeOff, scale: Scale) -> None:
    """Draw a measure of each policy against one cost, and the frontier."""
    words, unit = COSTS[trade.cost]
    for row, policy in enumerate(trade.policies):
        reach = trade.reach[row]
        axes.errorbar(
            trade.costs[row],
            trade.values[row],
            yerr=reach if np.isfinite(reach) else None,
            label=policy,
            markersize=7,
            elinewidth=1,
            **(style(policy, trade.policies) | {"linestyle": "none"}),
        )
    best = trade.frontier
    axes.plot(trade.costs[best], trade.values[best], color="0.6", lw=1.2, zorder=0)
    factor, prefixed = fitting_unit(float(trade.costs.max()), unit)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / factor:g}")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(f"{words} ({prefixed})")
    axes.set_ylabel(scale.label(f"{MEASURES[trade.measure].capitalize()}: test"))
    axes.grid(color="0.9")
    finish(axes, "")


def _alone(results: Results, draw: Callable[[Axes, Results], None], height: float) -> Figure:
    figure = Figure(figsize=(WIDTH_IN, height), layout="constrained")
    axes = figure.add_subplot()
    draw(axes, results)
    legend(figure, axes)
    return figure


def draw_allocation(axes: Axes, results: Results) -> None:
    """Draw the mean width that each client trained."""
    trained = np.where(results.excluded, 0.0, results.trained)
    widths = dict(zip(results.policies, trained, strict=True))
    title, label = "Mean width that each client trained", "Width (share of the supernet)"
    if len(widths) > MANY:
        _draw_matrix(axes, results, trained, title, label, "Blues", (0.0, 1.0))
    else:
        _draw_per_client(axes, results, widths, title, label)
        axes.set_xlim(0, 1.02)


def draw_by_client(axes: Axes, results: Results) -> None:
    """Draw the metric of each client."""
    scale = results.scale
    title, label = f"Test {scale.name} of each client", scale.label("Test")
    values = scale.shown(results.own)
    if len(results.policies) <= MANY:
        final = dict(zip(results.policies, values, strict=True))
        _draw_per_client(axes, results, final, title, label)
        return
    known = REFERENCE in results.policies
    base = values[results.row(REFERENCE)] if known else values.mean(axis=0)
    gaps = scale.gain(values, base).mean(axis=1)
    reach = max(float(np.nanmax(np.abs(gaps), initial=0)), 1e-9)
    sides = ("above", "below") if scale.higher_is_better else ("below", "above")
    label += f"; blue: {sides[0]} {REFERENCE if known else 'the mean'}, red: {sides[1]}"
    _draw_matrix(axes, results, values, title, label, "RdBu", (-reach, reach), gaps)


def _draw_differences(
    axes: Axes, contrasts: Sequence[Contrast], results: Results, kind: Kind, measure: str
) -> None:
    """Draw one row per policy: mean gain, its t interval, the corrected one, and single seeds."""
    scale, worth = results.scale, results.worth(measure, kind)
    base = worth[results.row(REFERENCE)]
    for row, contrast in enumerate(contrasts):
        gap = contrast.difference
        colour = COLOURS[1] if gap.clear else "0.35"
        axes.plot([gap.holm_low, gap.holm_high], [row, row], color=colour, lw=1)
        axes.plot([gap.low, gap.high], [row, row], color=colour, lw=3.5, solid_capstyle="butt")
        seeds = worth[results.row(contrast.policy)] - base
        axes.plot(seeds, np.full(len(seeds), row + 0.28), "o", color="0.55", markersize=2)
        face = colour if gap.clear else "white"
        axes.plot(gap.mean, row, marker="o", color=colour, markerfacecolor=face, markersize=6)
    axes.axvline(0, color="0.6", lw=1, zorder=0)
    names = [short(contrast.policy) for contrast in contrasts]
    axes.set_yticks(range(len(contrasts)), names, parse_math=False)
    axes.set_ylim(len(contrasts) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    label = f"Difference to {REFERENCE}, {MEASURES[measure]} (points)"
    axes.set_xlabel(
        label if scale.is_share else f"Gain over {REFERENCE}, {MEASURES[measure]} of {scale.name}"
    )


def client_height(results: Results) -> float:
    """Height in inches of a plot by client: markers in rows, or a matrix of many policies."""
    if len(results.policies) > MANY:
        return 2.1 + 0.21 * len(results.policies)
    return 1.2 + len(_shown(results.samples)) * (0.16 + 0.09 * len(results.policies))


def _draw_per_client(
    axes: Axes, results: Results, values: Mapping[str, FloatArray], title: str, label: str
) -> None:
    """Draw one row per client; each value array is ``(n_seeds, n_clients)``."""
    shown = _shown(results.samples)
    names = [short(results.clients[row]) for row in shown]
    offsets = np.linspace(-0.3, 0.3, len(values)) if len(values) > 1 else np.zeros(1)
    for index, (policy, seeds) in enumerate(values.items()):
        drawn = seeds[:, shown]
        axes.errorbar(
            drawn.mean(axis=0),
            np.arange(len(shown)) + offsets[index],
            xerr=spread(drawn) if np.ptp(drawn, axis=0).any() else None,
            label=policy,
            markersize=5,
            elinewidth=1,
            **(style(policy, results.policies) | {"linestyle": "none"}),
        )
    for row in range(0, len(shown), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="0.96", lw=0, zorder=0)
    axes.set_yticks(np.arange(len(shown)), names, parse_math=False)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="0.85")
    axes.set_xlabel(label)
    finish(axes, title + _left_away(results, shown))


def _draw_matrix(
    axes: Axes,
    results: Results,
    values: FloatArray,
    title: str,
    label: str,
    palette: str,
    limits: tuple[float, float],
    colours: FloatArray | None = None,
) -> None:
    """Draw one row per policy, one column per client: means over seeds as numbers and colours.

    Values are ``(n_policies, n_seeds, n_clients)``; colours, if they show something else,
    ``(n_policies, n_clients)``.
    """
    shown = _shown(results.samples)
    means = values.mean(axis=1)[:, shown]
    shades = means if colours is None else colours[:, shown]
    axes.imshow(shades, cmap=palette, vmin=limits[0], vmax=limits[1], aspect="auto", alpha=0.75)
    if len(shown) <= _MAX_NUMBERS:
        for (row, column), value in np.ndenumerate(means):
            axes.text(column, row, _in_a_cell(value), ha="center", va="center", fontsize=7.5)
    names = [short(results.clients[row]) for row in shown]
    turned: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(np.arange(len(shown)), names, parse_math=False, fontsize=8, **turned)
    policies = [short(policy) for policy in results.policies]
    axes.set_yticks(np.arange(len(means)), policies, parse_math=False, fontsize=8.5)
    axes.tick_params(length=0)
    axes.set_xlabel(label)
    finish(axes, title + _left_away(results, shown))
    axes.spines[["left", "bottom"]].set_visible(False)


def _in_a_cell(value: float) -> str:
    if 0 < abs(value) < 0.01 or abs(value) >= 1000:
        return f"{value:.3g}"
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}"


def _left_away(results: Results, shown: IntArray) -> str:
    hidden = len(results.clients) - len(shown)
    return f" ({len(shown)} largest clients)" if hidden else ""


def _shown(samples: IntArray) -> IntArray:
    """Rows of the clients to draw, in the order of the task."""
    largest = np.argsort(-samples, kind="stable")[:FEW]
    return np.sort(largest)


def spread(values: FloatArray) -> FloatArray:
    """Sample standard deviation over seeds (axis 0); zero for a single seed."""
    if len(values) == 1:
        return np.zeros_like(values[0])
    deviations: FloatArray = values.std(axis=0, ddof=1)
    return deviations


def style(policy: str, policies: Sequence[str]) -> dict[str, Any]:
    """One colour and marker per allocation; one dash and filling per set of loop options."""
    parts = [split_name(name) for name in policies]
    rules = list(dict.fromkeys(rule for rule, _ in parts))
    options = list(dict.fromkeys([(), *(changes for _, changes in parts)]))
    rule, changes = split_name(policy)
    index, dash = rules.index(rule), options.index(changes) % len(_DASHES)
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": _MARKERS[index % len(_MARKERS)],
        "linestyle": _DASHES[dash],
        "fillstyle": _FILLINGS[dash],
    }


def legend(figure: Figure, *axes: Axes) -> None:
    """Name what the axes show, each label as the first of them draws it."""
    found: dict[str, Artist] = {}
    for panel in axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    labels = list(found)
    if not labels:
        return
    inches = figure.get_size_inches()[0]
    fitting = int(11 * inches / (max(map(len, labels), default=0) + 5))
    columns = min(max(1, fitting), 4, len(labels))
    drawn = figure.legend(
        list(found.values()), labels, loc="outside lower center", ncols=columns, frameon=False
    )
    for text in drawn.get_texts():
        text.set_parse_math(False)
