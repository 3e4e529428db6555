"""Draw the titles from what was measured: ``python docs/reproduction/figure.py``."""

from __future__ import annotations

from pathlib import Path

import tables
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hasa_opt.study.claims import REFERENCE, against
from hasa_opt.study.inference import Difference

IMAGE = Path(__file__).parents[1] / "images" / "reproduction.png"
BLUE, GREY = "#0072B2", "0.45"
COLUMNS = 3


def draw() -> Figure:
    """One panel per setting, one row per policy: the difference to uniform, with intervals."""
    found = {name: own for name, own in tables.settings().items() if name.startswith("titles")}
    gaps = {
        name: {own.policy: own.difference for own in against(own)} for name, own in found.items()
    }
    policies = tables.ordered(policy for own in gaps.values() for policy in own)
    lines = -(-len(gaps) // COLUMNS)
    size = (10, 0.9 + lines * (0.6 + 0.17 * len(policies)))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(lines, COLUMNS, sharex=True, sharey=True, squeeze=False)
    for axes, (name, own) in zip(panels.flat, gaps.items(), strict=False):
        _, units, budget = name.split()
        axes.set_title(f"{units} hidden units, budget {budget}", fontsize=10)
        _draw(axes, [own.get(policy) for policy in policies])
    panels[0, 0].set_yticks(range(len(policies)), policies)
    panels[0, 0].set_ylim(len(policies) - 0.5, -0.5)
    figure.supxlabel(f"Difference to {REFERENCE} in the client mean, points", fontsize=10)
    return figure


def _draw(axes: Axes, rows: list[Difference | None]) -> None:
    for row, own in enumerate(rows):
        if own is None:
            continue
        colour = BLUE if own.clear else GREY
        axes.plot([own.holm_low, own.holm_high], [row, row], color=colour, lw=1)
        axes.plot([own.low, own.high], [row, row], color=colour, lw=3, solid_capstyle="butt")
        axes.plot(own.mean, row, "o", color=colour, mfc=colour if own.clear else "white", ms=4)
    axes.tick_params(labelsize=8)
    axes.axvline(0, color="0.4", lw=1, zorder=0)
    axes.grid(axis="x", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    draw().savefig(IMAGE, dpi=130)
