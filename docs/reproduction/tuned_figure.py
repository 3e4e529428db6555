"""Draw accuracy against cost, with the frontier: ``python docs/reproduction/tuned_figure.py``."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from tuned import PARTS

from hasa_opt.study import plots
from hasa_opt.study.results import Results
from hasa_opt.study.tradeoff import trade_offs

IMAGE = Path(__file__).parents[1] / "images" / "tuned.png"
COLUMNS = 3
"""Operations, bytes and storage: these studies have no clock."""


def newest() -> dict[str, Results]:
    """Results of each cell, of the last part that has it."""
    return {str(cell): own for part in PARTS for cell, own in part.found().items()}


def draw() -> Figure:
    """A row for each cell, a column for each cost."""
    found = newest()
    figure = Figure(figsize=(11, 2.6 * len(found)), layout="constrained")
    panels = figure.subplots(len(found), COLUMNS, squeeze=False)
    for line, (name, results) in zip(panels, found.items(), strict=True):
        for axes, trade in zip(line, trade_offs(results), strict=True):
            plots.draw_trade_off(axes, trade, results.scale)
            axes.set_ylabel("")
            axes.set_xlim(0, 1.1 * trade.costs.max())
        line[0].set_ylabel(f"{name}\nclient mean (%)")
    plots.legend(figure, panels[0, 0])
    return figure


if __name__ == "__main__":
    draw().savefig(IMAGE, dpi=100)
