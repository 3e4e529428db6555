"""What is foretold of groups of alike clients, of which no table of widths knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt._utils.groups import sizes_in_words
from hasa_opt.policies.recommended import LEVEL
from hasa_opt.rules.groups import by_counts
from hasa_opt.rules.rotation import Found, by_updates

__all__ = ["Foretold"]

_COUNTS, _UPDATES = "the counts of labels", "the updates in the probe"

_BY_INPUTS = (
    "groups that differ in inputs alone show in the clients' updates, where a probe and the policy "
    "recommended look"
)

_LATER = (
    "where groups show later in training, the policy recommended sees them, at the cost of uniform"
)


@dataclass(frozen=True, eq=False)
class Foretold:
    """Whether there are groups of alike clients, who gain by units of their own.

    Attributes
    ----------
    by_counts : (n_clients,) int64, optional
        Group of each client by its counts of labels (:func:`hasa_opt.rules.by_counts`), all 0
        without groups; None where the counts are not known.
    by_updates : Found, optional
        What the updates in a probe show (:func:`hasa_opt.rules.by_updates`); None without a probe,
        and where the counts show groups.
    """

    by_counts: IntArray | None = None
    by_updates: Found | None = None

    @classmethod
    def of(
        cls, counts: npt.ArrayLike | Any | None, similarities: Sequence[FloatArray], seed: int
    ) -> Self:
        """Look at the counts, and then at the updates, until some groups are found.

        Parameters
        ----------
        counts : (n_clients, n_labels) integers, dense or sparse, optional
        similarities : sequence of (n_clients, n_clients) floats
            Cosines of the clients' updates, one matrix for each look, among which the level of the
            test is shared out.
        seed : int
            Of the test of the updates.
        """
        labels = None if counts is None else by_counts(counts)
        if labels is not None and labels.any():
            return cls(labels)
        found = None
        for similarity in similarities:
            found = by_updates(similarity, level=LEVEL / len(similarities), seed=seed)
            if found.groups.any():
                break
        return cls(labels, found)

    @property
    def groups(self) -> IntArray | None:
        """Group of each client, all 0 without groups; None where nothing was looked at."""
        return self.by_counts if self.by_updates is None else self.by_updates.groups

    def __str__(self) -> str:
        """The verdict in plain words."""
        groups, seen = self.groups, self.by_updates
        if groups is None:
            return f"no counts of labels, which show groups of alike clients; {_BY_INPUTS}"
        if groups.any():
            sizes = np.bincount(groups)
            by = _COUNTS if seen is None else f"{_UPDATES} (p = {seen.p_value:.2g})"
            return (
                f"{sizes.size} groups of {sizes_in_words(sizes)} alike clients by {by}: give them "
                "units of their own, train the policy recommended"
            )
        if seen is None:
            return (
                f"no groups of alike clients by {_COUNTS}: do not bother with units of their own "
                f"for these; {_BY_INPUTS}"
            )
        by = _UPDATES if self.by_counts is None else f"{_COUNTS} or by {_UPDATES}"
        return (
            f"no groups of alike clients by {by}: do not bother with units of their own; {_LATER}"
        )
