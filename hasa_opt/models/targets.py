"""Targets: which of them count, which of them train, and the loss of predictions against them.

A target is a class, or a word of the vocabulary; those without a label are negative.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

__all__ = ["IGNORED", "OUTSIDE", "counted", "cross_entropy", "known", "trainable"]

IGNORED, OUTSIDE = -100, -1
"""Labels of a target that counts nowhere, such as padding, and of a word outside the vocabulary,
which no model can predict: it trains nothing, and counts as an error."""


def known(targets: Tensor) -> Tensor:
    """Which targets have a label that a model can predict; a boolean of the targets' shape."""
    return targets >= 0


def counted(targets: Tensor) -> Tensor:
    """Which targets a model is judged by; a boolean of the targets' shape."""
    return targets != IGNORED


def trainable(targets: Tensor) -> Tensor:
    """Copy the targets, with :data:`IGNORED` in the place of those without a known label."""
    return targets.masked_fill(~known(targets), IGNORED)


def cross_entropy(logits: Tensor, targets: Tensor, reduction: str = "none") -> Tensor:
    """Cross entropy in nats; ignored targets have none.

    Parameters
    ----------
    logits : (..., n_outputs) tensor
    targets : (...) int64 tensor
        Classes; :data:`IGNORED` is the only negative one.
    reduction : {"none", "sum", "mean"}
        "none" gives one number per target, in one dimension.
    """
    return functional.cross_entropy(
        logits.flatten(0, -2), targets.flatten(), ignore_index=IGNORED, reduction=reduction
    )
