"""Draw accuracy against each cost: ``python docs/reproduction/tuned_figure.py``."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from tuned import PARTS

from hasa_opt.study import plots
from hasa_opt.study.results import Results
from hasa_opt.study.tradeoff import trade_offs

IMAGES = Path(__file__).parents[1] / "images"
COSTS = ("flops", "bytes", "storage")
"""These studies have no clock."""
COLUMNS = 4


def newest() -> dict[str, Results]:
    """Results of each cell, of the last part that has it."""
    return {str(cell): own for part in PARTS for cell, own in part.found().items()}


def draw(cost: str) -> Figure:
    """A panel for each cell."""
    found = newest()
    lines = -(-len(found) // COLUMNS)
    figure = Figure(figsize=(11, 2.3 * lines), layout="constrained")
    panels = list(figure.subplots(lines, COLUMNS, squeeze=False).flat)
    for axes, (name, results) in zip(panels, found.items(), strict=False):
        (trade,) = (own for own in trade_offs(results) if own.cost == cost)
        plots.draw_trade_off(axes, trade, results.scale)
        axes.set_title(name, fontsize=10)
        axes.set_ylabel("")
        axes.set_xlim(0, 1.1 * trade.costs.max())
    for axes in panels[len(found) :]:
        axes.set_axis_off()
    figure.supylabel("Client mean (%)", fontsize=10)
    plots.legend(figure, figure.axes[0])
    return figure


if __name__ == "__main__":
    for own in COSTS:
        draw(own).savefig(IMAGES / f"tuned_{own}.png", dpi=100)
