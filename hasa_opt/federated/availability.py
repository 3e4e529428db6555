"""Availability: when clients can take part, by chance or by traces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import BoolArray, FloatArray, IntArray, float_array, listed
from hasa_opt._utils.frames import columns_of
from hasa_opt._utils.names import tidy
from hasa_opt._utils.streams import Purpose, priorities
from hasa_opt.errors import InputError

_UNITS = ("rounds", "seconds")
_COLUMNS = ("client", "from", "to")
_NANO = 1e-9
"""Sums of seconds are rounded: so much later counts as the same moment."""


@dataclass(frozen=True, eq=False, init=False)
class Availability:
    """When clients can take part in a round, which is looked at as the round begins.

    Parameters
    ----------
    share : float or (n_clients,) floats in [0, 1]
        Probability that a client can take part, drawn anew for every round and client, as a
        function of (seed, round, client) alone.
    traces : data frame or mapping of column to values, optional
        Columns "client", "from" and "to": whoever is named there can take part from one moment,
        up to the other without it. A client without a row never can. Default: all can at any time.
    unit : {"rounds", "seconds"}
        Of the traces: rounds are counted from 0; seconds pass by the clock of the participation.
    period : float, optional
        After so many units the traces begin again: 86400 seconds are a day.

    Raises
    ------
    InputError
        For a probability, a moment, a unit or a period that is none.

    Examples
    --------
    >>> nights = {"client": ["phone", "watch"], "from": [0, 2], "to": [3, 6]}
    >>> at_night = Availability(traces=nights, period=8)
    >>> at_night.present(["phone", "watch"], np.array([7, 8]), (0, 2), 10.0).tolist()
    [True, True]
    """

    share: float | FloatArray
    clients: tuple[str, ...] | None
    spans: FloatArray
    unit: Literal["rounds", "seconds"]
    period: float | None

    def __init__(
        self,
        share: npt.ArrayLike = 1.0,
        *,
        traces: Any = None,
        unit: Literal["rounds", "seconds"] = "rounds",
        period: float | None = None,
    ) -> None:
        if unit not in _UNITS:
            raise InputError(f"unit {unit!r} is not known: use one of {_UNITS}")
        if period is not None and (traces is None or not 0 < period < np.inf):
            raise InputError(f"period = {period} must be above 0 and finite, and of traces")
        clients, spans = (None, np.zeros((0, 2))) if traces is None else _read(traces, period)
        given = {"share": _shares(share), "clients": clients, "spans": spans}
        for name, value in (given | {"unit": unit, "period": period}).items():
            object.__setattr__(self, name, value)

    def check(self, names: Sequence[str], timed: bool) -> None:
        """Refuse what does not fit the clients.

        Parameters
        ----------
        names : n_clients strings
        timed : bool
            Whether a clock says how long a round lasts.

        Raises
        ------
        InputError
            Naming clients that there are not, another number of shares, or seconds without a clock.
        """
        if np.ndim(self.share) and len(np.asarray(self.share)) != len(names):
            raise InputError(
                f"availability has {len(np.asarray(self.share))} shares for {len(names)} clients: "
                "give one number, or one per client"
            )
        strange = sorted(set(self.clients or ()) - {tidy(name) for name in names})
        if strange:
            raise InputError(
                f"the traces name {listed(strange, repr)}, which the task does not have: leave the "
                "rows out, or name them as the task does"
            )
        if self.clients is not None and self.unit == "seconds" and not timed:
            raise InputError(
                'traces in seconds need a clock: give Participation(clock=...), or unit="rounds"'
            )

    def present(
        self, names: Sequence[str], numbers: IntArray, key: tuple[int, int], moment: float
    ) -> BoolArray:
        """Who can take part in a round.

        Parameters
        ----------
        names : n_clients strings
        numbers : (n_clients,) int64
            Their :func:`~hasa_opt._utils.streams.client_number`.
        key : (int, int)
            (seed, round).
        moment : float
            When it begins, in the unit of the traces.

        Returns
        -------
        (n_clients,) bools
        """
        drawn = (priorities(Purpose.AVAILABILITY, key, numbers) >> np.uint64(11)) * 2.0**-53
        able: BoolArray = drawn < self.share
        if self.clients is None:
            return able
        now = moment + _NANO if self.period is None else (moment + _NANO) % self.period
        inside = (self.spans[:, 0] <= now) & (now < self.spans[:, 1])
        there = {self.clients[row] for row in np.flatnonzero(inside)}
        found: BoolArray = able & np.array([tidy(name) in there for name in names])
        return found

    def wait(self, moment: float) -> float:
        """How long it takes from a moment until somebody's trace begins.

        0 without traces, and where none begins any more.
        """
        if self.clients is None:
            return 0.0
        ahead = self.spans[:, 0] - moment
        ahead = ahead[ahead > 0] if self.period is None else self.period - -ahead % self.period
        return float(ahead.min(initial=np.inf)) if ahead.size else 0.0

    def record(self) -> dict[str, Any]:
        """What tells it from others, as JSON gives it back."""
        return {
            "share": np.asarray(self.share).tolist(),
            "clients": None if self.clients is None else list(self.clients),
            "spans": self.spans.tolist(),
            "unit": self.unit,
            "period": self.period,
        }


def _shares(share: npt.ArrayLike) -> float | FloatArray:
    values = float_array(share, "share")
    if values.ndim > 1 or not ((values >= 0) & (values <= 1)).all():
        raise InputError(
            f"share {values.tolist()} must be a probability, from 0 to 1, or one per client"
        )
    return values if values.ndim else float(values)


def _read(traces: Any, period: float | None) -> tuple[tuple[str, ...], FloatArray]:
    """Whose each span is, and where it begins and ends, ``(n_spans, 2)``."""
    columns = columns_of(traces, "the traces")
    missing = [name for name in _COLUMNS if name not in columns]
    if missing:
        raise InputError(
            f"the traces have no column {missing[0]!r} (they have: {listed(columns, repr)}): give "
            f"{listed(_COLUMNS, repr)}"
        )
    spans = np.column_stack([float_array(columns[name], name) for name in _COLUMNS[1:]])
    latest = np.inf if period is None else period
    wrong = ~((spans[:, 0] >= 0) & (spans[:, 0] < spans[:, 1]) & (spans[:, 1] <= latest))
    if wrong.any():
        begin, end = spans[np.flatnonzero(wrong)[0]]
        within = "" if period is None else f" within the period of {period:g}"
        raise InputError(
            f"a trace from {begin:g} to {end:g}: it must begin at 0 or later, and end after "
            f"that{within}; split one that goes on past its end"
        )
    return tuple(tidy(str(name)) for name in columns["client"]), spans
