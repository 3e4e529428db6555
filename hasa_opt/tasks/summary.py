"""Summary: what targets show, for models to be built and scores to be computed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hasa_opt._utils.checks import IntArray
from hasa_opt.models.targets import known
from hasa_opt.tasks.learning import LearningProblem

__all__ = ["count_outputs", "describe_counts", "summarize"]

BINS = 10
"""Intervals in which numbers are counted: tenths, a choice."""


def count_outputs(problem: LearningProblem, targets: Tensor) -> int:
    """How many outputs targets show: classes, probabilities, or numbers of a sample."""
    if problem.has_numbers(targets):
        return 1 if targets.dim() == 1 else int(targets.shape[1])
    if targets.is_floating_point():
        return int(targets.shape[-1])
    return max(0, int(targets.max())) + 1 if targets.numel() else 1


def summarize(problem: LearningProblem, targets: Sequence[Tensor]) -> IntArray:
    """Count what occurs in each client's training targets.

    How often each class or token occurs (of soft labels the likeliest); how often each label is a
    yes and, in the last column, how many samples have no label; or, of other numbers, how many lie
    in each tenth of all clients' numbers.

    Parameters
    ----------
    problem : LearningProblem
    targets : n_clients tensors

    Returns
    -------
    (n_clients, n_labels) int64
    """
    if problem.loss == "bce_with_logits":
        found = [_yes(own) for own in targets]
    elif problem.has_numbers(targets[0]):
        found = _in_tenths(targets)
    else:
        width = max(count_outputs(problem, own) for own in targets)
        classes = [own.argmax(-1) if own.is_floating_point() else own for own in targets]
        found = [own[known(own)].bincount(minlength=width) for own in classes]
    return np.stack([counted.numpy(force=True) for counted in found]).astype(np.int64)


def describe_counts(problem: LearningProblem, targets: Tensor) -> str:
    """What :func:`summarize` counts, in words."""
    if problem.loss == "bce_with_logits":
        return "how often each label is a yes, and none is"
    if problem.has_numbers(targets):
        return "how many targets lie in each tenth of all clients'"
    return "how often each token occurs" if problem.loss == "next_token" else "the classes"


def _yes(targets: Tensor) -> Tensor:
    labels = (targets.reshape(len(targets), -1) > 0.5).long()
    none = (labels.sum(1) == 0).sum()
    return torch.cat([labels.sum(0), none[None]])


def _in_tenths(targets: Sequence[Tensor]) -> list[Tensor]:
    pooled = torch.cat([own.flatten() for own in targets]).double()
    cuts = np.unique(np.nanquantile(pooled.numpy(force=True), np.arange(1, BINS) / BINS))
    edges = torch.from_numpy(cuts)
    places = [torch.bucketize(own.flatten().double(), edges) for own in targets]
    return [place.bincount(minlength=len(edges) + 1) for place in places]
