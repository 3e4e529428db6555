"""A client that lies to get a wider subnet: what it gains, and what that costs the others.

The server sees what clients report, a histogram and a number of samples, and cannot check either.
:data:`LIES` are three ways to exaggerate. Two things limit them. The HASA rule takes *ranks*: a
liar can pass the others, but hardly pushes them together, as it does where widths follow the scores
themselves. And *caps* hold whatever the score: no lie passes the device's own cap.

``python examples/manipulation.py`` prints what the clients of the task digits can gain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

import hasa_opt as hasa
from hasa_opt.errors import InputError
from hasa_opt.rules.widths import scaled_to_budget

Widths = NDArray[np.float64]
Numbers = NDArray[np.int64]


def _one_hot(samples: Numbers, counts: Numbers, row: int, factor: float) -> None:
    total = _times(counts[row].sum(), factor)
    rarest = (counts.sum(axis=0) - counts[row]).argmin()
    counts[row] = 0
    counts[row, rarest] = total


def _scaled(samples: Numbers, counts: Numbers, row: int, factor: float) -> None:
    counts[row] = _times(counts[row], factor)


def _more_samples(samples: Numbers, counts: Numbers, row: int, factor: float) -> None:
    samples[row] = _times(samples[row], factor)


def _times(numbers: Numbers, factor: float) -> Numbers:
    return np.maximum((numbers * factor).round(), numbers > 0).astype(np.int64)


LIES: dict[str, Callable[[Numbers, Numbers, int, float], None]] = {
    "one_hot": _one_hot,
    "scaled": _scaled,
    "samples": _more_samples,
}
"""Name of each lie -> what it does to the reported samples and counts of one client."""


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

    honest: Widths
    widths: Widths
    weights: Widths

    @property
    def gain(self) -> Widths:
        """What each liar gains, in width, ``(n_clients,)``."""
        return np.diagonal(self.widths) - self.honest

    @property
    def lost(self) -> Widths:
        """The most that an honest client loses to each liar, in width, ``(n_clients,)``."""
        return np.max(self.honest - self.widths, axis=1, where=self._others, initial=-np.inf)

    @property
    def kept(self) -> Widths:
        """Standard deviation of the others' widths, after each lie over before, ``(n_clients,)``.

        Near 0 the lie has made the honest clients as good as equal; 1 if they were before.
        """
        before = np.broadcast_to(self.honest, self.widths.shape).std(axis=1, where=self._others)
        after = self.widths.std(axis=1, where=self._others)
        return np.divide(after, before, out=np.ones_like(before), where=before > 0)

    @property
    def spent(self) -> Widths:
        """Mean width by true numbers of samples, what is computed in truth, ``(n_clients,)``."""
        return self.widths @ self.weights

    @property
    def _others(self) -> NDArray[np.bool_]:
        return ~np.eye(self.honest.size, dtype=bool)


def grab(
    clients: hasa.Clients,
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
        Name in ``hasa_opt.scores.SCORES``.
    by : "rank" or "score"
        The HASA rule, or the same rule with scores scaled from 0 to 1 in place of ranks.
    budget, widths
        As for ``hasa_opt.rules.hasa``.
    """

    def given(told: hasa.Clients) -> Widths:
        scores = hasa.scores.SCORES[score](told.counts)
        places = hasa.scores.rank_normalize(scores) if by == "rank" else _from_0_to_1(scores)
        preliminary = widths[0] + (widths[1] - widths[0]) * places
        return scaled_to_budget(
            preliminary, told.samples, budget=budget, widths=widths, caps=told.max_width
        )

    told = [given(reported(clients, row, lie, factor)) for row in range(len(clients))]
    return Grab(given(clients), np.stack(told), clients.weights)


def reported(clients: hasa.Clients, row: int, lie: str, factor: float = 10.0) -> hasa.Clients:
    """What the server sees if one client lies.

    Parameters
    ----------
    clients : Clients
        With their true counts.
    row : int
        The liar.
    lie : str
        ``"scaled"`` multiplies its histogram, ``"one_hot"`` also moves all of it to the label that
        the others count least, ``"samples"`` multiplies its number of samples.
    factor : float
        Above 0; below 1 it understates. Results are rounded; what was there stays at least 1.
    """
    if clients.counts is None:
        raise InputError("these clients have no counts: give Clients(..., counts=...)")
    counts = clients.counts
    dense = np.array(counts if isinstance(counts, np.ndarray) else counts.toarray())
    samples = clients.samples.copy()
    LIES[lie](samples, dense, row, factor)
    return hasa.Clients(samples, counts=dense, max_width=clients.max_width, names=clients.names)


def _from_0_to_1(scores: Widths) -> Widths:
    spread = np.ptp(scores)
    return (scores - scores.min()) / spread if spread > 0 else np.zeros(scores.size)


def main() -> None:
    """Print the gains of every lie, with widths by rank and by score."""
    from hasa_opt import tasks

    clients = tasks.load("digits").clients()
    for lie in LIES:
        for by in ("rank", "score"):
            found = grab(clients, lie, by=by)
            print(
                f"{lie:7} by {by:5}: gain {found.gain.mean():+.2f}, at most "
                f"{found.gain.max():+.2f}; spread left {found.kept.mean():.2f}; "
                f"spent {found.spent.min():.2f} to {found.spent.max():.2f}"
            )


if __name__ == "__main__":
    main()
