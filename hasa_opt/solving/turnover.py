"""What a new allocation changes since an earlier one, client by client, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray, expect
from hasa_opt._utils.column_files import write_columns
from hasa_opt._utils.frames import Framed
from hasa_opt._utils.rational import written
from hasa_opt._utils.showing import SHOWN_ROWS, Shown, new_table
from hasa_opt.problem.matching import earlier_rows
from hasa_opt.problem.menu import WIDTH
from hasa_opt.problem.result import Allocation
from hasa_opt.solving.earlier import Earlier

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["JOINED", "LEFT", "MOVED", "Changes", "changes"]

JOINED, LEFT, MOVED = "joined", "left", "changed"
"""The kinds of changes."""

_NEW = "had no allocation"
_GONE = "is no client any more"
_ROUNDING = 1e-14
"""Differences of utility that are none, relative to the sum of all utilities."""


@dataclass(frozen=True, eq=False)
class Changes(Framed, Shown):
    """Who joined, left or changed option since an earlier allocation, and why; see :func:`changes`.

    Attributes
    ----------
    names : tuple of str
        The clients that joined, in their order, then those that left, then those of another option.
    kinds : tuple of str
        :data:`JOINED`, :data:`LEFT` or :data:`MOVED`.
    before, now : tuple of str
        Names of the options; "" where there is none.
    reasons : tuple of str
    stayed : int
        How many clients are in both, of whatever option.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    before: tuple[str, ...]
    now: tuple[str, ...]
    reasons: tuple[str, ...]
    stayed: int

    def __len__(self) -> int:
        return len(self.names)

    def in_columns(self) -> dict[str, list[str]]:
        """A row for each change: whose, which, from which option to which, and why."""
        return {
            "name": list(self.names),
            "change": list(self.kinds),
            "before": list(self.before),
            "now": list(self.now),
            "reason": list(self.reasons),
        }

    def write(self, path: str | PathLike[str]) -> None:
        """Write the changes as CSV, or as Parquet if the name ends in .parquet.

        Parameters
        ----------
        path : path of the file to write
            Its folder must exist; a file that is there is replaced in one step.

        Raises
        ------
        InputError, StorageError
            If there can be no such file, or the disk does not take it.
        MissingExtraError
            For Parquet without pyarrow.
        """
        write_columns(path, self.in_columns())

    @property
    def summary(self) -> str:
        """How many of each kind, in one line."""
        joined, left, moved = map(self.kinds.count, (JOINED, LEFT, MOVED))
        return f"{joined:,} joined, {left:,} left, {moved:,} of the other {self.stayed:,} changed"

    def __repr__(self) -> str:
        return f"Changes({self.summary})"

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        columns = self.in_columns()
        table = new_table("client", "change", "before", "now", "reason")
        for cells in list(zip(*columns.values(), strict=True))[:SHOWN_ROWS]:
            table.add_row(*map(Text, cells))
        if len(self) > SHOWN_ROWS:
            table.caption = f"the first {SHOWN_ROWS} of {len(self)} changes"
        return Group(table, Text(self.summary))


def changes(
    result: Allocation, previous: Allocation | Mapping[str, str | float] | str | PathLike[str] | Any
) -> Changes:
    """Compare an allocation with an earlier one, matched by the names of the clients.

    The reason for another option is the first of these that holds:

    - the option of before is not on the menu any more, or the client cannot take it any more;
    - the client's own samples changed;
    - at the prices of the limits today it is worth more than the option of before: what changed
      is the others, or the limits;
    - it is not, by itself, but the last units of the limits are spent best like this.

    Parameters
    ----------
    result : Allocation
    previous : Allocation, path, data frame, or mapping of client name to option or width
        Of a file (CSV, or Parquet if it ends in .parquet) or a frame the columns "name" (or
        "client"), "option" or "width", and, if there is one, "samples" are used, as
        ``hasa-opt allocate --output`` writes them.

    Raises
    ------
    InputError
        If it is none of these, holds a value that breaks a rule, or is for other clients.

    Examples
    --------
    >>> import hasa_opt as hasa
    >>> clients = hasa.Clients([100, 100, 200], names=["phone", "tablet", "laptop"])
    >>> problem = hasa.AllocationProblem.build(
    ...     clients, widths=[0.25, 0.5, 1.0], budget=0.5, utility=hasa.utility.alpha_fair()
    ... )
    >>> found = hasa.changes(hasa.solve(problem), {"phone": 0.5, "tablet": 1.0, "watch": 0.25})
    >>> for change in zip(found.names, found.kinds, found.before, found.now):
    ...     print(change)
    ('laptop', 'joined', '', '0.5')
    ('watch', 'left', '0.25', '')
    ('tablet', 'changed', '1', '0.5')
    """
    expect(result, Allocation, "result")
    earlier = previous if isinstance(previous, Earlier) else Earlier.of(previous)
    clients, choice = result.problem.clients, result.choice
    rows = earlier_rows(earlier.clients, clients, "earlier allocation")
    here = np.flatnonzero(rows >= 0)
    options = earlier.options(result.problem.menu)[rows[here]]
    other = options != choice[here]
    joined, moved = np.flatnonzero(rows < 0), here[other]
    gone = np.ones(earlier.at.size, dtype=bool)
    gone[rows[here]] = False
    left = np.flatnonzero(gone)
    reasons = _reasons(result, earlier, moved, rows[moved], options[other])
    name, names_now = earlier.name, np.array(result.problem.menu.names, dtype=object)
    return Changes(
        names=(
            *map(clients.name, joined.tolist()),
            *map(name, left.tolist()),
            *map(clients.name, moved.tolist()),
        ),
        kinds=(JOINED,) * joined.size + (LEFT,) * left.size + (MOVED,) * moved.size,
        before=("",) * joined.size + (*earlier.taken(left), *earlier.taken(rows[moved])),
        now=(*names_now[choice[joined]], *("",) * left.size, *names_now[choice[moved]]),
        reasons=(_NEW,) * joined.size + (_GONE,) * left.size + reasons,
        stayed=here.size,
    )


def _reasons(
    result: Allocation, earlier: Earlier, rows: IntArray, before: IntArray, options: IntArray
) -> tuple[str, ...]:
    """Why clients, by row and by row of before, have another option than that of before."""
    clients = result.problem.clients
    possible = (options >= 0) & result.problem.admissible[rows, options]
    gains = np.zeros(rows.size)
    gains[possible] = _gains(result, rows[possible], options[possible])
    nothing = _ROUNDING * result.problem.magnitude
    known = clients.samples[rows] if earlier.samples is None else earlier.samples[before]
    facts = zip(
        earlier.taken(before), options.tolist(), possible.tolist(), clients.samples[rows].tolist(),
        known.tolist(), gains.tolist(), rows.tolist(), strict=True,
    )  # fmt: skip
    found = []
    for label, option, can, samples, samples_before, gain, row in facts:
        if option < 0:
            found.append(f"{label} is not on the menu any more")
        elif not can:
            found.append(f"cannot take {label} any more{_cap(result, row, option)}")
        elif samples != samples_before:
            found.append(f"its samples went from {samples_before} to {samples}")
        elif gain > nothing:
            found.append(f"worth {gain:.3g} more at today's prices")
        else:
            less = f"{-gain:.3g} less" if gain < -nothing else "as much"
            found.append(f"the last units of the limits: alone worth {less}")
    return tuple(found)


def _cap(result: Allocation, row: int, option: int) -> str:
    """The width that rules an option out, in words; none if something else does."""
    caps, widths = result.problem.clients.max_width, result.problem.menu.attributes.get(WIDTH)
    if caps is None or widths is None or widths[option] <= caps[row]:
        return ""
    return f": its max_width is {written(caps[row])}"


def _gains(result: Allocation, rows: IntArray, before: IntArray) -> FloatArray:
    """What the options of clients are worth beyond others, at the prices of all limits."""
    problem, now = result.problem, result.choice[rows]
    gains = problem.utilities[rows, now] - problem.utilities[rows, before]
    for limit, price in zip(problem.limits, result.prices.tolist(), strict=True):
        if price == 0:
            continue
        members = np.arange(len(problem)) if limit.members is None else limit.members
        place = np.minimum(np.searchsorted(members, rows), members.size - 1)
        counts = members[place] == rows
        units = limit.coefficients[place, now] - limit.coefficients[place, before]
        gains -= price * np.where(counts, units, 0)
    return gains
