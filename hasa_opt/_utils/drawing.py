"""What all plots share: where they are drawn, colours, and how many names can be read.

Nothing here imports matplotlib before a plot is asked for. Figures are built without pyplot: they
touch neither its list of open figures nor the backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray, expect
from hasa_opt._utils.installing import needing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "COLOURS",
    "FEW",
    "axes_on",
    "counted",
    "finish",
    "name_rows",
    "short",
    "steps",
    "thinned",
]

FEW = 30
"""Clients, groups or options that are drawn one by one: as many as have room for their names."""

# Okabe and Ito's palette, without its yellow, which is too pale for lines on white.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

_MAX_NAME = 26
"""Characters of a name on an axis."""

_STEPS = 2_000
"""Points of a curve over clients: more than a screen has columns."""


def axes_on(ax: Axes | None, what: str, size: tuple[float, float]) -> Axes:
    """The axes to draw on: those given, or those of a new figure.

    Parameters
    ----------
    ax : matplotlib Axes or None
    what : str
        The method that draws, for messages.
    size : (width, height) in inches
        Of the new figure.

    Raises
    ------
    MissingExtraError
        If matplotlib is absent, with the command that installs it.
    InputError
        If they are none, such as the array of several that ``subplots`` gives.
    """
    with needing(what):
        from matplotlib.axes import Axes
        from matplotlib.figure import Figure

    if ax is None:
        return Figure(figsize=size, layout="constrained").add_subplot()
    expect(ax, Axes, "ax", package="matplotlib")
    return ax


def finish(axes: Axes, title: str) -> None:
    """Give axes a title and take away the frame to the right and above."""
    axes.set_title(title, loc="left", fontweight="bold", fontsize=11)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def short(name: str) -> str:
    """A name in one line that fits beside an axis."""
    plain = " ".join(name.split())
    return plain if len(plain) <= _MAX_NAME else plain[: _MAX_NAME - 1] + "\u2026"


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows of horizontal bars, the first at the top; of many, every few."""
    rows = thinned(len(names))
    axes.set_yticks(rows, [short(names[row]) for row in rows], parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def thinned(n: int) -> list[int]:
    """Positions that are named on an axis of ``n``: all of few, else evenly spread ones."""
    return list(range(0, n, -(-n // FEW)))


def counted(n: int) -> str:
    """A number of clients in words: ``1 client``, ``1,000,000 clients``."""
    return "1 client" if n == 1 else f"{n:,} clients"


def steps(values: FloatArray) -> tuple[FloatArray, IntArray]:
    """Sorted values, and how many there are up to each; of many, evenly spread ones.

    The first and the last are always among them.
    """
    places = np.arange(values.size)
    if values.size > _STEPS:
        places = np.unique(np.linspace(0, values.size - 1, _STEPS).astype(np.int64))
    return np.sort(values)[places], places + 1
