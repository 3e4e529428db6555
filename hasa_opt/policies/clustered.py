"""Clustered training: a model for each group of alike clients, found while they train."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt.policies.recommended import Recommended, with_models
from hasa_opt.policies.subnets import Subnets

__all__ = ["Clustered"]


@dataclass(frozen=True, eq=False)
class Clustered(Recommended):
    """Uniform widths, and one whole model for each group once groups are found.

    Clustered federated learning (Sattler, Müller and Samek, arXiv:1910.01991), with the groups that
    ``recommended`` finds, by the same looks: in the counts of labels
    (:func:`~hasa_opt.rules.by_counts`), else in the cosines of the updates
    (:func:`~hasa_opt.rules.by_updates`). Models begin as copies of what all had until then.
    Without groups all share the supernet to the end.
    """

    confirm: bool = False
    alone: bool = False

    def _plan(
        self, groups: IntArray, loss: FloatArray | None, number: int, past: Subnets | None
    ) -> Subnets:
        """Uniform widths within what is left of the budget, and the groups' models."""
        everybody = super()._plan(np.zeros_like(groups), loss, number, past)
        return with_models(everybody, groups, everybody.reason) if groups.any() else everybody
