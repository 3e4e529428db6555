"""Which of the allocations within all limits counts as the best."""

from __future__ import annotations

from dataclasses import dataclass

from hasa_opt.errors import InputError

__all__ = ["Fairness"]

_MODES = ("maxmin", "leximin")


@dataclass(frozen=True)
class Fairness:
    """Raise the poorest client first; a preference among allocations, no limit.

    The poorest client is the one of the smallest utility ``u_i(width)``. Utilities are compared
    as they are: two clients are equally poor if their utilities are the same number.

    - ``maxmin``: among the allocations within all limits with the largest smallest utility, the
      one with the largest sum of utilities (max-min fairness, for example Kleinberg, Rabani and
      Tardos, Fairness in routing and load balancing, 2001).
    - ``leximin``: the sorted vector of utilities is lexicographically largest: the poorest first,
      then the second poorest, and so on (Ogryczak, Luss, Pioro, Nace and Tomaszewski, Fair
      optimization and networks: a survey, 2014). It determines the sum of the utilities.

    The objective that is reported is the sum of the utilities as always, and the bound is on the
    sums of allocations that are as fair. At most one per problem.

    Parameters
    ----------
    mode : {"maxmin", "leximin"}

    Examples
    --------
    >>> Fairness("maxmin").feature
    'Fairness(maxmin)'
    """

    mode: str

    def __post_init__(self) -> None:
        if not isinstance(self.mode, str) or self.mode not in _MODES:
            raise InputError(
                f"Fairness mode {self.mode!r} is not known: choose one of {', '.join(_MODES)}"
            )

    @property
    def feature(self) -> str:
        """What a solver must list among its constraints."""
        return f"Fairness({self.mode})"
