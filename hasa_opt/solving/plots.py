"""Pictures of prices, of noise and of a comparison: bars for few clients, counts for many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hasa_opt._utils.checks import FloatArray
from hasa_opt._utils.drawing import COLOURS, axes_on, counted, finish, name_rows, steps

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_kept", "plot_prices", "plot_seconds"]

_ROW_IN = 0.24
"""Inches of a row."""
_NEAR = 2.0
"""Prices up to so many times the present one are shown: farther ones no budget nearby brings."""
_LEAST_S = 1e-4
"""Seconds that a logarithmic axis begins with."""
_BLUE, _ORANGE, _GREEN = COLOURS[1:4]


def plot_prices(
    ax: Axes | None,
    names: Sequence[str] | None,
    low: FloatArray,
    high: FloatArray,
    price: float,
    noun: str,
) -> Axes:
    """Prices between which each client keeps its option; without names, how many change where."""
    size = (5.6, 3.8) if names is None else (5.6, max(1.7, 1.2 + _ROW_IN * len(names)))
    axes = axes_on(ax, "Sensitivity.plot()", size)
    ends = np.concatenate([low, high])
    ends = ends[np.isfinite(ends)]
    near = (0.0, _NEAR * price) if price > 0 else (ends.min(initial=0.0), ends.max(initial=1.0))
    axes.set_xlim(*near)
    if names is None:
        for values, colour, words in (
            (-low, _BLUE, f"take a costlier {noun} at lower prices"),
            (high, _ORANGE, f"take a cheaper {noun} at higher prices"),
        ):
            changing, count = steps(values[np.isfinite(values)])
            axes.step(-changing if colour == _BLUE else changing, count, where="post",
                      color=colour, label=words)  # fmt: skip
        axes.set_ylabel("Clients that have changed by then")
        axes.yaxis.set_major_formatter("{x:,.0f}")
        finish(axes, f"When {counted(low.size)} change {noun}")
    else:
        left, until = np.clip(low, *near), np.clip(high, *near)
        axes.barh(np.arange(len(names)), until - left, left=left, height=0.6, color=_BLUE)
        name_rows(axes, names)
        finish(axes, f"Prices that keep each client's {noun}")
    axes.axvline(price, color="black", lw=1, ls="--", label=f"price now: {price:.4g}")
    axes.set_xlabel("Price of the budget, utility per unit of cost (dashed: now)")
    if names is None:
        axes.legend(frameon=False, fontsize=8)
    return axes


def plot_kept(ax: Axes | None, names: Sequence[str] | None, kept: FloatArray, noun: str) -> Axes:
    """Share of the noisy samples in which each client keeps its option; without names, sorted."""
    size = (5.2, 3.6) if names is None else (5.2, max(1.7, 1.0 + _ROW_IN * len(names)))
    axes = axes_on(ax, "Sensitivity.plot()", size)
    if names is None:
        share, count = steps(kept)
        axes.step(share, count, where="post", color=_BLUE)
        axes.set_ylabel("Clients that keep it in at most so many")
        axes.yaxis.set_major_formatter("{x:,.0f}")
        finish(axes, f"How sure {counted(kept.size)} are of their {noun}")
    else:
        axes.barh(np.arange(len(names)), kept, height=0.6, color=_BLUE)
        name_rows(axes, names)
        finish(axes, f"How sure each client's {noun} is")
    axes.set_xlim(0, 1.01)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel(f"Samples with noise in which the {noun} stays")
    return axes


def plot_seconds(
    ax: Axes | None,
    names: Sequence[str],
    seconds: Sequence[float | None],
    words: Sequence[str],
    good: Sequence[bool | None],
) -> Axes:
    """CPU seconds of each solver, with what it found in words; green: proven, red: false claim."""
    axes = axes_on(ax, "Comparison.plot()", (6.4, 1.2 + 0.3 * len(names)))
    known = [max(own, _LEAST_S) for own in seconds if own is not None]
    left = 0.5 * min(known, default=_LEAST_S)
    axes.set_xscale("log")
    axes.set_xlim(left, 2.0 * max(known, default=1.0) * 10**1.5)
    for row, (own, text, held) in enumerate(zip(seconds, words, good, strict=True)):
        if own is not None:
            colour = {True: _GREEN, False: _ORANGE, None: _BLUE}[held]
            axes.plot([left, max(own, _LEAST_S)], [row, row], color=colour, lw=1.5)
            axes.plot(max(own, _LEAST_S), row, marker="o", color=colour, markersize=7)
        axes.text(left if own is None else max(own, _LEAST_S), row, f"   {text}", va="center",
                  fontsize=8, parse_math=False)  # fmt: skip
    name_rows(axes, names)
    axes.set_xlabel("CPU seconds")
    finish(axes, "Backends on the same problem")
    return axes
