"""An allocation to start from where groups share room: the same width for each of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hasa_opt._utils.checks import IntArray
from hasa_opt._utils.deadline import Deadline
from hasa_opt.problem.condensed import Condensed
from hasa_opt.problem.groups import CapacityRow
from hasa_opt.solvers.base import Request

__all__ = ["even_shares"]


def even_shares(small: Condensed, deadline: Deadline) -> IntArray | None:
    """Choice in a condensed problem whose groups have no more than an even share of the room.

    A group that cannot be as narrow has the least that it can, and the others share the rest. None
    if nothing is found within the limits.
    """
    whole = small.whole
    admissible, rows = whole.admissible, []
    for row in whole.rows:
        if not isinstance(row, CapacityRow):
            rows.append(row)
            continue
        assert row.upper is not None
        narrowest = np.where(admissible, row.units, row.units.max()).min(axis=1)
        least = row.groups.fold(np.maximum, narrowest)
        shares = (np.maximum(least, level) for level in np.unique(row.units)[::-1])
        most = next((own for own in shares if own.sum() <= row.upper), None)
        if most is None:
            return None
        admissible = admissible & (row.units <= most[row.groups.of][:, None])
    plain = Condensed.of(replace(whole, admissible=admissible, rows=tuple(rows)))
    if int(plain.problem.cheapest.sum()) > plain.problem.limit:
        return None
    known = Request(plain.problem, deadline=deadline).known
    return None if known is None else small.condensed(plain.expanded(known))
