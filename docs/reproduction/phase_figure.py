"""The phase diagram, drawn from the two CSV files alone."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import phase
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure

from hasa_opt._utils.checks import FloatArray

__all__ = ["draw", "grid"]

LINES = (-2, -1, -0.5, 0.5, 1, 2, 4)
PANELS = {
    "optimum": "Integer program\non known curves",
    "HASA, score = need": "HASA,\nscore ranks as the need",
    "HASA, unrelated": "HASA,\nscore unrelated to need",
    "HASA, against need": "HASA,\nscore against the need",
}
LIMIT = 6.0


def grid(rows: list[dict[str, str]], budget: float, name: str) -> FloatArray:
    """Gains ``(spreads, steepnesses)`` of one panel, as the file holds them."""
    return np.array(
        [
            [
                float(row[name])
                for row in rows
                if float(row["budget"]) == budget and float(row["spread"]) == spread
            ]
            for spread in phase.SPREAD
        ]
    )


def draw() -> Figure:
    """Draw one row per budget, one panel per policy; the tasks stand at their measured place."""
    rows = phase.read(phase.PLANTED)
    figure, axes = plt.subplots(
        len(phase.BUDGETS), len(PANELS), figsize=(12, 6.4), sharex=True, sharey=True
    )
    for line, budget in zip(axes, phase.BUDGETS, strict=True):
        for axis, (name, title) in zip(line, PANELS.items(), strict=True):
            filled = _panel(axis, grid(rows, budget, name))
            _tasks(axis, budget, labelled=name == "optimum")
            if budget == phase.BUDGETS[0]:
                axis.set_title(title, fontsize=10)
        line[0].set_ylabel(f"budget {budget:g}\nspread of need")
    for axis in axes[-1]:
        axis.set_xlabel("steepness, points per 0.1 of width")
    figure.subplots_adjust(left=0.07, right=0.9, bottom=0.09, top=0.91, wspace=0.08, hspace=0.1)
    bar = figure.colorbar(filled, cax=figure.add_axes((0.92, 0.09, 0.013, 0.82)))
    bar.set_ticks(range(-6, 7, 2))
    bar.set_label("gain over uniform, points of the client mean")
    return figure


def _panel(axis: Axes, gains: FloatArray) -> QuadContourSet:
    """Colours and lines of equal gain."""
    levels = np.linspace(-LIMIT, LIMIT, 49)
    filled = axis.contourf(
        phase.STEEPNESS,
        phase.SPREAD,
        gains,
        levels,
        cmap="RdBu",
        norm=TwoSlopeNorm(0, -LIMIT, LIMIT),
        extend="both",
    )
    lines = axis.contour(
        phase.STEEPNESS, phase.SPREAD, gains, LINES, colors="#404040", linewidths=0.8
    )
    axis.clabel(lines, fmt="%+g", fontsize=8)
    return filled


def _tasks(axis: Axes, budget: float, *, labelled: bool) -> None:
    """Mark where the measured curves of each task stand."""
    for name, (table, samples) in phase.tables().items():
        found = phase.place(table, samples, budget)
        axis.plot(found.steepness, found.spread, "o", color="black", markersize=4)
        if labelled:
            right = found.steepness < 0.7 * phase.STEEPNESS[-1]
            axis.annotate(
                name,
                found,
                xytext=(6 if right else -6, -11 if name == "docstrings" else 3),
                textcoords="offset points",
                ha="left" if right else "right",
                fontsize=9,
                bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.8},
            )
