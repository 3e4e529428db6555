"""What is foretold of groups of alike clients, of which no table of widths knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt._utils.groups import sizes_in_words
from hasa_opt.forecast.gains import Gain
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
    gain : Gain, optional
        What units of their own gain the groups over uniform, as a probe has measured it; None
        without groups, and where no probe has.
    unwatched : str
        Why a probe has compared no updates; empty where it has, and without a probe.
    """

    by_counts: IntArray | None = None
    by_updates: Found | None = None
    gain: Gain | None = None
    unwatched: str = ""

    @classmethod
    def of(
        cls,
        counts: npt.ArrayLike | Any | None,
        similarities: Sequence[FloatArray] = (),
        seed: int = 0,
        unwatched: str = "",
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
        unwatched : str
            Why a probe has no similarities.
        """
        labels = None if counts is None else by_counts(counts)
        if labels is not None and labels.any():
            return cls(labels)
        found = None
        for similarity in similarities:
            found = by_updates(similarity, level=LEVEL / len(similarities), seed=seed)
            if found.groups.any():
                break
        return cls(labels, found, unwatched=unwatched)

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
            found = f"{sizes.size} groups of {sizes_in_words(sizes)} alike clients by {by}"
            return f"{found}: {self._advice}"
        if seen is None:
            return (
                f"no groups of alike clients by {_COUNTS}: do not bother with units of their own "
                f"for these; {self._unwatched}{_BY_INPUTS}"
            )
        by = _UPDATES if self.by_counts is None else f"{_COUNTS} or by {_UPDATES}"
        return (
            f"no groups of alike clients by {by}: do not bother with units of their own; {_LATER}"
        )

    @property
    def _unwatched(self) -> str:
        return self.unwatched and f"the probe compared no updates, as {self.unwatched}; "

    @property
    def _advice(self) -> str:
        """What to do with groups that were found."""
        if self.gain is None:
            return "give them units of their own, train the policy recommended"
        worth = f"units of their own are worth {self.gain.told} here"
        if self.gain.low > 0:
            return f"{worth}, train the policy recommended"
        return f"{worth}, which is no sure gain: do not bother"
