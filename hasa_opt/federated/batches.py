"""Batches of a client's split, and the loss that training and evaluation share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from hasa_opt.tasks.task import IGNORED

if TYPE_CHECKING:
    from hasa_opt.tasks import Split


def batches(
    split: Split, batch_size: int, order: Tensor, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (inputs, targets) batches of the samples in the given order.

    Sequences lose the trailing columns that are padding in the whole batch. The models read from
    left to right, so no prediction changes.

    Parameters
    ----------
    split
        The client's samples.
    batch_size
        Samples per batch; the last batch may be smaller.
    order
        Indices of the samples, shape (n,), int64.
    device
        Where the batches go.
    """
    lengths = _lengths(split.targets) if split.targets.dim() == 2 else None
    for batch in torch.split(order, batch_size):
        inputs, targets = split.inputs[batch], split.targets[batch]
        if lengths is not None:
            longest = max(1, int(lengths[batch].max()))
            inputs, targets = inputs[:, :longest], targets[:, :longest]
        yield inputs.to(device), targets.to(device)


def _lengths(targets: Tensor) -> Tensor:
    """Find each sequence's length: the last position that is no padding, plus one, shape (n,)."""
    positions = torch.arange(1, targets.shape[1] + 1)
    return (positions * (targets != IGNORED)).amax(dim=1)


def summed_loss(logits: Tensor, targets: Tensor) -> tuple[Tensor, int]:
    """Sum the cross entropy over the targets with a known label, and count them.

    Parameters
    ----------
    logits
        Shape (batch, ..., n_outputs).
    targets
        Shape (batch, ...), int64; negative targets do not enter the loss.

    Returns
    -------
    tuple
        The summed loss in nats (a scalar tensor) and the number of targets in it.
    """
    known = targets >= 0
    loss = functional.cross_entropy(
        logits.flatten(0, -2),
        targets.masked_fill(~known, IGNORED).flatten(),
        ignore_index=IGNORED,
        reduction="sum",
    )
    return loss, int(known.sum())
