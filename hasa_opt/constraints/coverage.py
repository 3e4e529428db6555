"""At least a share of the samples trains at a width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np

from hasa_opt.basics.rational import rational
from hasa_opt.constraints.limit import Row, items
from hasa_opt.constraints.terms import Terms
from hasa_opt.errors import InputError

__all__ = ["Coverage"]


@dataclass(frozen=True)
class Coverage:
    """At least a share of the training samples sits on clients at or above a width.

    Keeps the outermost units of the supernet trained.

    Parameters
    ----------
    shares : mapping of width to share in [0, 1]
        Each width must stand in the menu.

    Examples
    --------
    >>> Coverage({0.8: 0.1})
    Coverage(shares={0.8: 0.1})
    """

    shares: Mapping[float, float]

    def rows(self, terms: Terms) -> tuple[Row, ...]:
        """One row per width of the mapping."""
        samples = terms.clients.samples
        rows = []
        for width, share in items(self.shares, "Coverage", "a share"):
            least = terms.menu_index(width, "Coverage")
            wanted = rational(share, "share")
            if not 0 <= wanted <= 1:
                raise InputError(f"Coverage share {share} of width {width} must lie in [0, 1]")
            label = f"Coverage: {float(wanted):.4g} of the samples at width {width} or wider"
            holds = np.arange(terms.units.size) >= least
            lower = ceil(wanted * int(samples.sum()))
            rows.append(Row(label, samples[:, None] * holds, lower=lower))
        return tuple(rows)
