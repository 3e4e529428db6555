"""The paper's rule beside an allocation on a menu: its widths, and how far they miss the budget."""

from __future__ import annotations

from dataclasses import dataclass

import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray
from hasa_opt.rules.widths import budget_miss, hasa

__all__ = ["PaperRule", "paper_rule"]

_ROUNDING = 1e-9
"""Relative; the exact rule meets its budget to 1e-12 unless caps and the widest width bind."""


@dataclass(frozen=True, eq=False)
class PaperRule:
    """Widths of the HASA rule, which need not stand on a menu.

    Attributes
    ----------
    widths : (n_clients,) float64
        Of the exact rule.
    miss, two_pass_miss : float
        Relative error of the budget that the exact rule and the paper's two passes realise.
    """

    widths: FloatArray
    miss: float
    two_pass_miss: float

    def __str__(self) -> str:
        words = (
            f"Off the budget: the exact rule by {self.miss:+.2%}, "
            f"the paper's two-pass rule by {self.two_pass_miss:+.2%}."
        )
        if self.miss >= -_ROUNDING:
            return words
        return f"{words} No wider allocation is possible: the caps and the widest width bind."


def paper_rule(
    scores: npt.ArrayLike,
    samples: npt.ArrayLike,
    *,
    budget: float = 0.5,
    widths: tuple[float, float] = (0.2, 0.8),
    caps: npt.ArrayLike | None = None,
) -> PaperRule:
    """Apply the rule exactly and in the paper's two passes.

    Parameters
    ----------
    scores, samples, budget, widths, caps
        As for :func:`hasa_opt.rules.hasa`.
    """
    exact = hasa(scores, samples, budget=budget, widths=widths, caps=caps)
    paper = hasa(scores, samples, budget=budget, widths=widths, caps=caps, passes=2)
    misses = [budget_miss(found, samples, budget=budget) for found in (exact, paper)]
    return PaperRule(exact, *misses)
