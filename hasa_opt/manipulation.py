"""A client that lies to get a wider subnet: what it gains, and what that costs the others.

The server sees what clients report, a histogram and a number of samples, and cannot check either.
:data:`LIES` are three ways to exaggerate. Two things limit them. The HASA rule takes *ranks*: a
liar can pass the others, but hardly pushes them together, as it does where widths follow the scores
themselves. And *caps* hold whatever the score: no lie passes the device's own cap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray, expect, number, whole
from hasa_opt.clients.clients import Clients
from hasa_opt.clients.counts import dense
from hasa_opt.errors import InputError
from hasa_opt.rules.scores import SCORES, rank_normalize
from hasa_opt.rules.widths import between, scaled_to_budget

__all__ = ["LIES", "Grab", "grab", "reported"]

_MOST = 1e6
_Lie = Callable[[IntArray, IntArray, int, float], None]


@dataclass(frozen=True, eq=False)
class Grab:
    """Widths with and without a lie.

    Attributes
    ----------
    honest : (n_clients,) floats
        Widths if nobody lies.
    widths : (n_clients, n_clients) floats
        In row i, the widths of all clients if client i alone lies.
    weights : (n_clients,) floats
        Each client's true share of all samples.
    """

    honest: FloatArray
    widths: FloatArray
    weights: FloatArray

    @property
    def gain(self) -> FloatArray:
        """What each liar gains, in width, ``(n_clients,)``."""
        return np.asarray(np.diagonal(self.widths) - self.honest)

    @property
    def lost(self) -> FloatArray:
        """The most that an honest client loses to each liar, in width, ``(n_clients,)``."""
        others = ~np.eye(self.honest.size, dtype=bool)
        return np.asarray(np.max(self.honest - self.widths, axis=1, where=others, initial=-np.inf))

    @property
    def kept(self) -> FloatArray:
        """Standard deviation of the others' widths, after each lie over before, ``(n_clients,)``.

        Near 0 the lie has made the honest clients as good as equal; 1 if they were before.
        """
        others = ~np.eye(self.honest.size, dtype=bool)
        before = np.broadcast_to(self.honest, self.widths.shape).std(axis=1, where=others)
        after = self.widths.std(axis=1, where=others)
        kept: FloatArray = np.divide(after, before, out=np.ones_like(before), where=before > 0)
        return kept

    @property
    def spent(self) -> FloatArray:
        """Mean width by true numbers of samples, what is computed in truth, ``(n_clients,)``."""
        return np.asarray(self.widths @ self.weights)


def grab(
    clients: Clients,
    lie: str,
    *,
    factor: float = 10.0,
    score: str = "jensen_shannon",
    by: Literal["rank", "score"] = "rank",
    budget: float = 0.5,
    widths: tuple[float, float] = (0.2, 0.8),
) -> Grab:
    """Let each client lie in turn, and give out widths by what is reported.

    Parameters
    ----------
    clients : Clients
        At least two, with their true counts; ``max_width`` are their caps.
    lie, factor
        As for :func:`reported`.
    score : str
        A key of :data:`~hasa_opt.rules.scores.SCORES`.
    by : "rank" or "score"
        The HASA rule, or the same rule with scores scaled from 0 to 1 in place of ranks.
    budget, widths
        As for :func:`hasa_opt.rules.hasa`.

    Returns
    -------
    Grab

    Raises
    ------
    InputError
        For an unknown lie, score or ``by``, or fewer than two clients.
    """
    expect(clients, Clients, "clients")
    if score not in SCORES:
        raise InputError(f"score {score!r} is not known: choose from {', '.join(SCORES)}")
    if by not in ("rank", "score"):
        raise InputError(f"by {by!r} is not known: choose 'rank' or 'score'")
    if len(clients) < 2:
        raise InputError("one client has nobody to take width from: give at least two")

    def given(told: Clients) -> FloatArray:
        scores = SCORES[score](told.counts)
        places = rank_normalize(scores) if by == "rank" else _scaled(scores)
        return scaled_to_budget(
            between(places, widths),
            told.samples,
            budget=budget,
            widths=widths,
            caps=told.max_width,
        )

    told = [given(reported(clients, row, lie, factor)) for row in range(len(clients))]
    return Grab(given(clients), np.stack(told), clients.weights)


def reported(clients: Clients, row: int, lie: str, factor: float = 10.0) -> Clients:
    """What the server sees if one client lies.

    Parameters
    ----------
    clients : Clients
        With their true counts.
    row : int
        The liar.
    lie : str
        A key of :data:`LIES`: ``"scaled"`` multiplies its histogram, ``"one_hot"`` also moves all
        of it to the label that the others count least, ``"samples"`` multiplies its number of
        samples.
    factor : float
        Above 0, at most a million; below 1 it understates. Results are rounded; what was there
        stays at least 1.

    Returns
    -------
    Clients

    Raises
    ------
    InputError
        For an unknown lie or row, clients without counts, or a factor out of range.
    """
    if lie not in LIES:
        raise InputError(f"lie {lie!r} is not known: choose from {', '.join(LIES)}")
    expect(clients, Clients, "clients")
    if whole(row, "row") >= len(clients):
        raise InputError(f"row {row} is none of {len(clients)} clients: count from 0")
    if clients.counts is None:
        raise InputError("these clients have no counts: give Clients(..., counts=...)")
    if not 0 < (times := number(factor, "factor")) <= _MOST:
        raise InputError(f"factor {factor} must be greater than 0 and at most {_MOST:g}")
    samples, counts = clients.samples.copy(), dense(clients.counts).copy()
    LIES[lie](samples, counts, row, times)
    return Clients(samples, counts=counts, max_width=clients.max_width, names=clients.names)


def _one_hot(samples: IntArray, counts: IntArray, row: int, factor: float) -> None:
    total = _times(counts[row].sum(), factor)
    rarest = (counts.sum(axis=0) - counts[row]).argmin()
    counts[row] = 0
    counts[row, rarest] = total


def _inflated(samples: IntArray, counts: IntArray, row: int, factor: float) -> None:
    counts[row] = _times(counts[row], factor)


def _more_samples(samples: IntArray, counts: IntArray, row: int, factor: float) -> None:
    samples[row] = _times(samples[row], factor)


def _times(numbers: IntArray, factor: float) -> IntArray:
    larger: IntArray = np.maximum((numbers * factor).round(), numbers > 0).astype(np.int64)
    return larger


LIES: dict[str, _Lie] = {"one_hot": _one_hot, "scaled": _inflated, "samples": _more_samples}
"""Ways to exaggerate, by name."""


def _scaled(scores: FloatArray) -> FloatArray:
    spread = np.ptp(scores)
    return (scores - scores.min()) / spread if spread > 0 else np.zeros(scores.size)
