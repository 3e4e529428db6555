"""Loss and accuracy of a model on a client's split."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from hasa_opt.federated.batches import batches, known_logits, output_layer
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.tasks.task import IGNORED

if TYPE_CHECKING:
    from hasa_opt.tasks import Split


@dataclass(frozen=True)
class Evaluation:
    """How well a model predicts a split.

    Parameters
    ----------
    loss
        Mean cross entropy over the targets with a known label, in nats; NaN if there is none.
    accuracy
        Share of the targets that are predicted, between 0 and 1; a label outside the vocabulary
        counts as an error. NaN without targets.
    """

    loss: float
    accuracy: float


@torch.no_grad()
def evaluate(model: SupernetModel, split: Split, batch_size: int = 64) -> Evaluation:
    """Measure loss and top-1 accuracy without training; the model's mode is left as it was."""
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    loss, correct, n_known, n_targets = 0.0, 0, 0, 0
    head, order = output_layer(model, split), torch.arange(len(split.inputs))
    for inputs, targets in batches(split, batch_size, order, device):
        logits, labels = known_logits(model, head, inputs, targets)
        loss += float(functional.cross_entropy(logits, labels, reduction="sum"))
        n_known += len(labels)
        n_targets += int((targets != IGNORED).sum())
        correct += int((logits.argmax(dim=-1) == labels).sum())
    model.train(was_training)
    return Evaluation(
        loss / n_known if n_known else math.nan, correct / n_targets if n_targets else math.nan
    )
