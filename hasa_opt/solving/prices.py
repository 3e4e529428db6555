"""Which clients would change their width first, and how sure each width is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, IntArray, expect, float_array, number
from hasa_opt._utils.drawing import FEW
from hasa_opt._utils.frames import Framed
from hasa_opt._utils.showing import Shown
from hasa_opt.errors import InputError
from hasa_opt.problem.condensed import Condensed
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Allocation
from hasa_opt.solvers.bounds.dual import Prices, priced
from hasa_opt.solvers.bounds.relaxation import relax
from hasa_opt.solving.plots import plot_kept, plot_prices

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from rich.text import Text

__all__ = ["Change", "Sensitivity", "sensitivity"]


@dataclass(frozen=True)
class Change:
    """A client's next change of width, or of option.

    Attributes
    ----------
    client : str
    width, then : float or str
        Now and after the change: widths, or names where the options are not widths alone.
    price : float
        Price of the budget at which the two are worth the same, utility per unit of cost.
    """

    client: str
    width: float | str
    then: float | str
    price: float


@dataclass(frozen=True, eq=False)
class Sensitivity(Framed, Shown):
    """How an allocation would answer to another budget or to noise in the utilities.

    Attributes
    ----------
    result : Allocation
    widen_price : (n_clients,) float64
        Price of the budget below which the client would have a costlier width: more budget lowers
        the price. Minus infinity at the costliest.
    narrow_price : (n_clients,) float64
        Price above which it would have a cheaper one. Infinity at the cheapest.
    wider, narrower : (n_clients,) int64
        Index of that width in the menu; the present one where there is none.
    kept : (n_clients,) float64
        Share of the noisy samples in which the client has the same width as without noise.
    """

    result: Allocation
    widen_price: FloatArray
    narrow_price: FloatArray
    wider: IntArray
    narrower: IntArray
    kept: FloatArray

    def in_columns(self) -> dict[str, Any]:
        """A row for each client: its option now, the next ones with their prices, and ``kept``."""
        problem, now = self.result.problem, self.result.choice
        names = np.array(problem.menu.names)
        return {
            "client": list(problem.clients.all_names),
            "option": names[now],
            "wider": names[self.wider],
            "widen_price": self.widen_price,
            "narrower": names[self.narrower],
            "narrow_price": self.narrow_price,
            "kept": self.kept,
        }

    def first_to_widen(self, n: int = 5) -> list[Change]:
        """Clients that more budget would reach first."""
        return _first(self.result, self.widen_price, self.wider, n, costlier=True)

    def first_to_narrow(self, n: int = 5) -> list[Change]:
        """Clients that less budget would cost their width first."""
        return _first(self.result, self.narrow_price, self.narrower, n, costlier=False)

    def least_certain(self, n: int = 5) -> list[tuple[str, float]]:
        """Clients whose width depends most on the noise, with the share that kept it."""
        rows = np.argsort(self.kept, kind="stable")[:n]
        return [(self.result.problem.clients.name(int(row)), float(self.kept[row])) for row in rows]

    def plot(self, of: str = "price", *, ax: Axes | None = None) -> Figure | SubFigure:
        """Draw at which prices of the budget clients change, or how sure their widths are.

        Up to 30 clients have a bar each; of more it is counted how many change up to a price, or
        keep their width in at most a share of the samples.

        Parameters
        ----------
        of : {"price", "noise"}
        ax : matplotlib Axes, optional
            Where to draw. Default: a figure of its own.

        Returns
        -------
        matplotlib Figure or SubFigure
            The one that was drawn in.

        Raises
        ------
        InputError
            For another ``of``.
        MissingExtraError
            If matplotlib is absent, with the command that installs it.
        """
        if of not in ("price", "noise"):
            raise InputError(f'of={of!r} is not known: give "price" or "noise"')
        problem = self.result.problem
        noun, n_clients = problem.menu.noun, len(problem)
        names = problem.clients.all_names if n_clients <= FEW else None
        if of == "noise":
            return plot_kept(ax, names, self.kept, noun).figure
        return plot_prices(
            ax, names, self.widen_price, self.narrow_price, self.result.price, noun
        ).figure

    def __repr__(self) -> str:
        return f"Sensitivity({self.result!r})"

    def __rich__(self) -> Text:
        from rich.text import Text

        lines = [f"price of the budget: {self.result.price:.4g} utility per unit of cost"]
        for words, changes in (
            ("more budget first widens", self.first_to_widen(3)),
            ("less budget first narrows", self.first_to_narrow(3)),
        ):
            named = (f"{own.client} ({_shown(own.width)} to {_shown(own.then)})" for own in changes)
            lines.append(f"{words}: {', '.join(named) or 'nobody'}")
        named = (f"{name} (kept in {share:.0%})" for name, share in self.least_certain(3))
        lines.append(f"least certain under noise: {', '.join(named)}")
        return Text("\n".join(lines))


def sensitivity(
    result: Allocation,
    *,
    noise: npt.ArrayLike = 0.1,
    n_samples: int = 100,
    seed: int = 0,
) -> Sensitivity:
    """Which clients would change width first if the budget moved, or their score had noise.

    The first two follow from the prices of the linear relaxation: a client changes where the price
    of the budget passes its own marginal gain. Noise multiplies all utilities of a client, as an
    error of its score does, by ``exp(noise x z)`` with a standard normal ``z``; in each sample
    every client has its best width at the prices of that sample, or, with further limits, at the
    prices of the result.

    Parameters
    ----------
    result : Allocation
    noise : float or (n_clients,) floats of at least 0
        Relative standard deviation of the scores.
    n_samples : int
    seed : int

    Returns
    -------
    Sensitivity

    Raises
    ------
    InputError
        For noise or a number of samples that breaks a rule.
    NoSolutionError
        If the result holds no allocation.

    Examples
    --------
    >>> import hasa_opt as hasa
    >>> clients = hasa.Clients([100, 100, 200], names=["a", "b", "c"])
    >>> problem = hasa.AllocationProblem.build(
    ...     clients, widths=[0.25, 0.5, 1.0], budget=0.5, utility=hasa.utility.hasa([0.1, 0.5, 0.9])
    ... )
    >>> found = hasa.sensitivity(hasa.solve(problem, "highs"))
    >>> found.first_to_widen(1)[0].client
    'c'
    """
    expect(result, Allocation, "result")
    problem = result.problem
    deviation = float_array(noise, "noise")
    if deviation.shape not in ((), (len(problem),)) or (deviation < 0).any():
        raise InputError(f"noise {noise!r} must be one number of at least 0, or one per client")
    if not (number(n_samples, "n_samples") >= 1 and n_samples == int(n_samples)):
        raise InputError(f"n_samples {n_samples} must be a whole number of at least 1")
    small = Condensed.of(problem)
    widen, wider = _next(small, result, costlier=True)
    narrow, narrower = _next(small, result, costlier=False)
    usual = _best(small, result)
    same = np.zeros(len(problem))
    rng = np.random.default_rng(seed)
    for _ in range(int(n_samples)):
        factor = np.exp(deviation * rng.standard_normal(len(problem)))
        noisy = replace(problem, utilities=problem.utilities * factor[:, None])
        same += _best(Condensed.of(noisy), result) == usual
    return Sensitivity(result, widen, narrow, wider, narrower, same / int(n_samples))


def next_changes(result: Allocation, n: int) -> tuple[list[Change], list[Change]]:
    """Clients that more of the budget, and less of it, would reach first; see :class:`Sensitivity`.

    Parameters
    ----------
    result : Allocation
    n : int
        Of each.
    """
    small = Condensed.of(result.problem)
    more, less = (
        _first(result, *_next(small, result, costlier), n, costlier) for costlier in (True, False)
    )
    return more, less


def _first(
    result: Allocation, prices: FloatArray, then: IntArray, n: int, costlier: bool
) -> list[Change]:
    """The first changes as the price falls, or rises."""
    problem, choice = result.problem, result.choice
    rows = np.argsort(-prices if costlier else prices, kind="stable")[:n]
    return [
        Change(
            problem.clients.name(int(row)),
            _named(problem, int(choice[row])),
            _named(problem, int(then[row])),
            float(prices[row]),
        )
        for row in rows
        if np.isfinite(prices[row])
    ]


def _best(small: Condensed, result: Allocation) -> IntArray:
    """Best widths at the prices of the linear relaxation."""
    if not small.problem.rows:
        return small.expanded(relax(small.problem).choice)
    return small.expanded(priced(small.problem, Prices(small.prices(result.prices))).start)


def _next(small: Condensed, result: Allocation, costlier: bool) -> tuple[FloatArray, IntArray]:
    """Price at which each client takes a costlier width, or a cheaper one, and which that is."""
    problem, choice = small.problem, small.condensed(result.choice)
    prices = small.prices(result.prices)
    prices[0] = 0.0
    net = -priced(problem, Prices(prices)).regret
    rows = np.arange(len(problem))
    more = problem.costs - problem.costs[rows, choice][:, None]
    gain = net - net[rows, choice][:, None]
    other = (more > 0 if costlier else more < 0) & problem.admissible
    rate = np.divide(gain, np.abs(more), out=np.full(net.shape, -np.inf), where=other)
    then = small.expanded(rate.argmax(axis=1))
    stays = then == result.choice
    price = np.where(stays, -np.inf, small.spread(rate.max(axis=1)))
    then = np.where(np.isfinite(price), then, result.choice)
    return price if costlier else -price, then


def _named(problem: AllocationProblem, option: int) -> float | str:
    """The width of an option where options are widths, else its name."""
    if problem.menu.only_widths:
        return float(problem.widths[option])
    return problem.menu.names[option]


def _shown(option: float | str) -> str:
    return option if isinstance(option, str) else f"{option:g}"
