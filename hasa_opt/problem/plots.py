"""Pictures of a problem and of an allocation, from their columns: bars for few, counts for many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import BoolArray, FloatArray, IntArray, listed, sequence
from hasa_opt._utils.drawing import (
    COLOURS,
    FEW,
    axes_on,
    counted,
    finish,
    name_rows,
    short,
    thinned,
)
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import InputError
from hasa_opt.problem.linear import Program
from hasa_opt.problem.menu import COST, WIDTH, Menu

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "Drawn",
    "dominated",
    "groups_of",
    "plot_choice",
    "plot_groups",
    "plot_options",
    "plot_worth",
]

_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
_ROW_IN = 0.24
"""Inches of a row."""
_IN_LEGEND = 10
"""Options or clients that a legend names."""
_BLUE, _PALE = COLOURS[1], "0.88"


class Drawn(Program, Protocol):
    """A problem that is drawn: an :class:`~hasa_opt.AllocationProblem`."""

    @property
    def clients(self) -> Clients:
        """Who chooses."""

    @property
    def menu(self) -> Menu:
        """What they choose from."""

    @property
    def costs(self) -> IntArray:
        """What each option costs of the budget, ``(n_clients, m)``."""

    @property
    def resource(self) -> str:
        """What the budget is spent on."""


def groups_of(
    clients: Clients, by: str | Sequence[object]
) -> tuple[npt.NDArray[np.str_], IntArray]:
    """Groups of clients, sorted by name, and which of them each client is in.

    Parameters
    ----------
    clients : Clients
    by : {"site", "device"}, or one label for each client

    Raises
    ------
    InputError
        If the clients have no such column, or there is not one label for each.
    """
    columns = {"site": clients.site, "device": clients.device}
    if isinstance(by, str):
        if columns.get(by) is None:
            known = listed([name for name, column in columns.items() if column], repr)
            raise InputError(
                f"by={by!r}: the clients have no such column (they have: {known or 'none'}); give "
                "one of these, or a label for each client"
            )
        labels: Sequence[object] = columns[by] or ()
    else:
        labels = sequence(by, "by")
    if len(labels) != len(clients):
        raise InputError(f"by has {len(labels)} labels for {len(clients)} clients: one for each")
    names, of = np.unique(np.array([str(label) for label in labels]), return_inverse=True)
    return names, of


def plot_choice(
    ax: Axes | None, clients: Clients, menu: Menu, admissible: BoolArray, choice: IntArray
) -> Axes:
    """Each client's option: its width, and the widest that it can have; or a point on its name."""
    axes = axes_on(ax, "Allocation.plot()", (6.4, max(1.8, 1.0 + _ROW_IN * len(clients))))
    rows = np.arange(len(clients))
    if WIDTH in menu.attributes:
        widest = np.where(admissible, menu.widths, 0.0).max(axis=1)
        axes.barh(rows, widest, color=_PALE, label="widest that it can have")
        axes.barh(rows, menu.widths[choice], height=0.5, color=_BLUE, label="has")
        axes.set_xlim(0, 1.02 if menu.only_widths else 1.4)
        axes.set_xlabel("Width (share of the supernet)")
        if not menu.only_widths:
            for row, option in enumerate(choice.tolist()):
                axes.text(menu.widths[option], row, f" {menu.names[option]}", va="center",
                          fontsize=8, parse_math=False)  # fmt: skip
    else:
        who, which = np.nonzero(admissible)
        axes.scatter(which, who, s=12, color=_PALE, label="can have")
        axes.scatter(choice, rows, s=40, color=_BLUE, label="has")
        _name_options(axes, menu)
    name_rows(axes, clients.all_names)
    _legend_beside(axes)
    finish(axes, f"Who has which {menu.noun}")
    return axes


def plot_options(ax: Axes | None, menu: Menu, choice: IntArray) -> Axes:
    """How many clients have each option."""
    counts = np.bincount(choice, minlength=len(menu))
    rows = np.arange(len(menu))
    axes = axes_on(ax, "Allocation.plot()", (5.2, 1.2 + _ROW_IN * min(len(menu), FEW)))
    axes.barh(rows, counts, color=_BLUE)
    if len(menu) <= FEW:
        for row, count in enumerate(counts.tolist()):
            share = count / choice.size
            words = "<0.1%" if 0 < share < 0.0005 else f"{share:.1%}"
            axes.text(count, row, f" {count:,} ({words})", va="center", fontsize=8)
        axes.set_xlim(0, 1.35 * counts.max())
    name_rows(axes, menu.names)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.locator_params(axis="x", nbins=4)
    axes.set_ylabel(menu.noun.capitalize())
    axes.set_xlabel("Clients")
    finish(axes, f"{menu.noun.capitalize()}s of {counted(choice.size)}")
    return axes


def plot_groups(
    ax: Axes | None, menu: Menu, choice: IntArray, groups: tuple[npt.NDArray[np.str_], IntArray]
) -> Axes:
    """Shares of each group's clients that have each option; small groups of many are one row."""
    names, of = _largest(*groups)
    counts = np.zeros((len(names), len(menu)), dtype=np.int64)
    np.add.at(counts, (of, choice), 1)
    shares = counts / counts.sum(axis=1, keepdims=True)
    named = set(range(0, len(menu), -(-len(menu) // _IN_LEGEND)))
    height = max(1.0 + _ROW_IN * len(names), 1.1 + _ROW_IN * len(named))
    axes = axes_on(ax, "Allocation.plot()", (5.8, height))
    left = np.zeros(len(names))
    colours = _shades(len(menu))
    for option, share in enumerate(shares.T):
        label = menu.names[option] if option in named else None
        axes.barh(np.arange(len(names)), share, left=left, color=colours[option], label=label)
        left += share
    sizes = counts.sum(axis=1)
    name_rows(axes, [f"{name} ({size:,})" for name, size in zip(names, sizes, strict=True)])
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel("Clients of the group")
    _legend_beside(axes, menu.noun.capitalize())
    finish(axes, f"Who has which {menu.noun}, by group")
    return axes


def plot_worth(ax: Axes | None, problem: Drawn) -> Axes:
    """Utility against cost: a line for each client, or of many quantiles of each option."""
    beaten = dominated(problem.costs, problem.utilities, problem.admissible)
    few = len(problem.clients) <= FEW
    cost = "Cost" if problem.resource == COST else f"Cost ({problem.resource})"
    axes = axes_on(ax, "AllocationProblem.plot()", (6.2 if few else 5.6, 4.2))
    if few:
        _lines(axes, problem, beaten)
        axes.set_xlabel(cost)
        axes.set_ylabel("Utility")
    else:
        _bands(axes, problem, beaten)
        axes.set_xlabel(f"{cost}, as a share of the client's costliest on the menu")
        axes.set_ylabel("Utility (0: the client's least, 1: its best)")
    share = np.count_nonzero(beaten) / np.count_nonzero(problem.admissible)
    finish(axes, f"{counted(len(problem.clients))}: {share:.1%} of their {problem.menu.noun}s "
                 "are dominated")  # fmt: skip
    return axes


def dominated(costs: IntArray, utilities: FloatArray, admissible: BoolArray) -> BoolArray:
    """Options that another one of the client beats: it costs no more and is worth no less.

    Of equal ones the first stays.

    Parameters
    ----------
    costs : (n_clients, m) int64
    utilities : (n_clients, m) float64
    admissible : (n_clients, m) bool

    Returns
    -------
    (n_clients, m) bool
        False where a client does not have the option.
    """
    worth = np.where(admissible, utilities, -np.inf)
    order = np.lexsort((-worth, np.where(admissible, costs, np.iinfo(np.int64).max)), axis=-1)
    sorted_worth = np.take_along_axis(worth, order, axis=-1)
    best = np.maximum.accumulate(sorted_worth, axis=-1)
    beaten = np.zeros(costs.shape, dtype=bool)
    np.put_along_axis(beaten, order[:, 1:], sorted_worth[:, 1:] <= best[:, :-1], axis=-1)
    found: BoolArray = beaten & admissible
    return found


def _lines(axes: Axes, problem: Drawn, beaten: BoolArray) -> None:
    """A line through each client's options that are not dominated, and crosses for the others."""
    clients, costs, utilities = problem.clients, problem.costs, problem.utilities
    named = len(clients) <= _IN_LEGEND
    for row in range(len(clients)):
        kept = np.flatnonzero(problem.admissible[row] & ~beaten[row])
        kept = kept[np.argsort(costs[row, kept], kind="stable")]
        label = short(clients.name(row)) if named else None
        axes.plot(costs[row, kept], utilities[row, kept], marker="o", markersize=4, lw=1.2,
                  color=f"C{row % 10}", alpha=1.0 if named else 0.6, label=label)  # fmt: skip
    if beaten.any():
        axes.scatter(costs[beaten], utilities[beaten], marker="x", s=28, color="0.35", zorder=3,
                     label="dominated")  # fmt: skip
    if named or beaten.any():
        _legend_beside(axes)


def _bands(axes: Axes, problem: Drawn, beaten: BoolArray) -> None:
    """What each option is worth to whom has it, in quantiles; colour: how often it is dominated."""
    costs, utilities, admissible = problem.costs, problem.utilities, problem.admissible
    dearest = np.maximum(costs.max(axis=1), 1)
    least = np.where(admissible, utilities, np.inf).min(axis=1)
    span = np.where(admissible, utilities, -np.inf).max(axis=1) - least
    scale = np.where(span > 0, span, 1.0)
    places, worth, lost = [], [], []
    for option in np.flatnonzero(admissible.any(axis=0)):
        own = admissible[:, option]
        places.append(np.median(costs[own, option] / dearest[own]))
        worth.append(np.quantile((utilities[own, option] - least[own]) / scale[own], _QUANTILES))
        lost.append(np.count_nonzero(beaten[own, option]) / np.count_nonzero(own))
    order = np.argsort(places, kind="stable")
    across, bands = np.array(places)[order], np.array(worth)[order].T
    for low, high, words in ((0, 4, "80% of the clients"), (1, 3, "half of them")):
        axes.fill_between(across, bands[low], bands[high], color=_BLUE, alpha=0.2, lw=0,
                          label=words)  # fmt: skip
    axes.plot(across, bands[2], color=_BLUE, lw=1.2, label="median")
    shown = axes.scatter(across, bands[2], c=np.array(lost)[order], vmin=0, vmax=1, s=36,
                         cmap="Oranges", edgecolors="black", zorder=3)  # fmt: skip
    axes.figure.colorbar(shown, ax=axes, label="Dominated for (share of the clients)")
    axes.legend(frameon=False, loc="lower right")


def _legend_beside(axes: Axes, title: str | None = None) -> None:
    legend = axes.legend(title=title, frameon=False, loc="upper left", bbox_to_anchor=(1.03, 1.0))
    for text in legend.get_texts():
        text.set_parse_math(False)


def _largest(names: npt.NDArray[np.str_], of: IntArray) -> tuple[list[str], IntArray]:
    """Of many groups the largest, and the others as one."""
    if names.size <= FEW:
        return names.tolist(), of
    large = np.sort(np.argsort(-np.bincount(of), kind="stable")[: FEW - 1])
    row = np.full(names.size, FEW - 1)
    row[large] = np.arange(FEW - 1)
    return [*names[large].tolist(), f"{names.size - FEW + 1} others"], row[of]


def _name_options(axes: Axes, menu: Menu) -> None:
    places = thinned(len(menu))
    axes.set_xticks(places, [menu.names[place] for place in places], parse_math=False,
                    rotation=35, ha="right", rotation_mode="anchor")  # fmt: skip
    axes.set_xlim(-0.5, len(menu) - 0.5)


def _shades(n: int) -> list[tuple[float, ...]]:
    """Colours of options in the order of the menu, from pale to dark."""
    from matplotlib import colormaps

    return [colormaps["viridis_r"](place) for place in np.linspace(0.05, 1.0, n)]
