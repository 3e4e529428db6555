"""Evaluation: how well a model predicts, of one client or of many at once."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hasa_opt._utils.checks import FloatArray
from hasa_opt.federated.batches import batches, known_logits, output_layer
from hasa_opt.models.inputs import Inputs, predict, tensors
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.models.targets import counted, cross_entropy, known
from hasa_opt.tasks.learning import CLASSES, LearningProblem, as_accuracy
from hasa_opt.tasks.splits import Split

FEW, MANY, SMALL = 64, 256, 1024
"""Samples of a forward pass, and how many numbers a sample has at most of which many are taken: a
choice, a megabyte of inputs."""

TRIED = 4
"""Samples on which it is tried whether they are predicted alike in any company."""


@dataclass(frozen=True)
class Metrics:
    """How well a model predicts a split.

    Attributes
    ----------
    loss : float
        Mean of the problem's loss, of classes over the targets with a known label, in nats; NaN if
        there is none.
    metric : float
        What the problem is judged by. The accuracy is the share of the targets that are predicted,
        between 0 and 1; a label outside the vocabulary counts as an error. NaN without targets.
    name : str
        Name of the metric.
    """

    loss: float
    metric: float
    name: str = "accuracy"

    @property
    def accuracy(self) -> float:
        """The metric, where it is the accuracy."""
        return float(as_accuracy(self.metric, self.name))

    def named(self, part: str) -> dict[str, float]:
        """Both by the names of a history's columns, such as ``"test_metric"``."""
        return {f"{part}_loss": self.loss, f"{part}_metric": self.metric}


def evaluate(
    model: SupernetModel,
    split: Split,
    batch_size: int = FEW,
    problem: LearningProblem = CLASSES,
) -> Metrics:
    """Measure loss and metric without training; the model's mode is left as it was.

    Parameters
    ----------
    model : SupernetModel
    split : Split
    batch_size : int
        Samples per forward pass, which change the last digits at most.
    problem : LearningProblem
        For example ``task.problem``. Default: classes, judged by accuracy.

    Returns
    -------
    Metrics
    """
    name = problem.metric_name
    if not len(split):
        return Metrics(math.nan, math.nan, name)
    if not problem.is_by_sample:
        return Metrics(*_of_whole_split(model, split, batch_size, problem), name)
    (found,) = _means(outcomes(model, split, batch_size, problem).sum(axis=0)[None], name)
    return found


def evaluate_together(
    model: SupernetModel, splits: Sequence[Split], problem: LearningProblem = CLASSES
) -> list[Metrics]:
    """Measure loss and metric of one model on several splits, with their samples in joint batches.

    The results are those of :func:`evaluate`, but for rounding. Where samples have an influence on
    each other, as :func:`are_apart` tells, each split must be evaluated by itself.

    Parameters
    ----------
    model : SupernetModel
    splits : sequence of Split
    problem : LearningProblem
    """
    if not problem.is_by_sample:
        return [evaluate(model, split, problem=problem) for split in splits]
    alike: dict[Hashable, list[int]] = {}
    for row, split in enumerate(splits):
        alike.setdefault(split.kind if len(split) else None, []).append(row)
    nothing = Metrics(math.nan, math.nan, problem.metric_name)
    found = dict.fromkeys(alike.pop(None, []), nothing)
    for rows in alike.values():
        joint = Split.join([splits[row] for row in rows])
        table = outcomes(model, joint, _at_once(joint), problem)
        starts = np.cumsum([0, *(len(splits[row]) for row in rows[:-1])])
        sums = np.add.reduceat(table, starts)
        found |= dict(zip(rows, _means(sums, problem.metric_name), strict=True))
    return [found[row] for row in range(len(splits))]


def _at_once(split: Split) -> int:
    """Samples of a forward pass: few of long, large or padded ones, which take much memory."""
    small = all(part[:1].numel() <= SMALL for part in tensors(split.inputs))
    return MANY if small and not split.is_padded else FEW


def _means(sums: FloatArray, name: str) -> list[Metrics]:
    """Loss and metric of splits, of whose samples :func:`outcomes` are summed."""
    targets, labelled, score, loss = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        means = zip((loss / labelled).tolist(), (score / targets).tolist(), strict=True)
    return [Metrics(*both, name) for both in means]


@torch.no_grad()
def are_apart(model: SupernetModel, split: Split, problem: LearningProblem = CLASSES) -> bool:
    """Whether the samples of a batch, and its padding, have no influence on each other.

    Each of a few samples is predicted alone and beside another one without padding.
    """
    few = split.take(torch.arange(min(len(split), TRIED)))
    other = few.unlike()
    for row in range(len(few)):
        alone = few.take([row])
        expected, found = (
            outcomes(model, split, problem=problem)[0]
            for split in (alone, Split.join([alone, other]))
        )
        if not np.allclose(expected, found, rtol=1e-3, atol=1e-4, equal_nan=True):
            return False
    return True


@contextmanager
def _evaluating(model: SupernetModel) -> Iterator[torch.device]:
    """Test within the block, without gradients; gives the device of the model."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield next(model.parameters()).device
    finally:
        model.train(was_training)


def outcomes(
    model: SupernetModel,
    split: Split,
    batch_size: int = FEW,
    problem: LearningProblem = CLASSES,
) -> FloatArray:
    """Outcomes of a split under a model, sample by sample, without training.

    Parameters
    ----------
    model : SupernetModel
    split : Split
    batch_size : int
    problem : LearningProblem
        With a loss and a metric that are means over targets.

    Returns
    -------
    (n_samples, 4) float64
        Targets by which the sample is judged, those of them that enter the loss, the metric summed
        over the first, such as how many are predicted, and the summed loss, of classes in nats.
    """
    with _evaluating(model) as device:
        head, order = output_layer(model, split), torch.arange(len(split))
        parts = [
            _outcomes(model, head, inputs, targets, problem)
            for inputs, targets in batches(split, batch_size, order, device)
        ]
    return np.concatenate(parts) if parts else np.zeros((0, 4))


def _of_whole_split(
    model: SupernetModel, split: Split, batch_size: int, problem: LearningProblem
) -> tuple[float, float]:
    """Loss, and a metric that is a function or an object; the object begins anew."""
    taker, loss, count = problem.metric_object, 0.0, 0
    seen: list[tuple[Any, Tensor]] = []
    if taker is not None:
        taker.reset()
    with _evaluating(model) as device:
        problem.to(device)
        for inputs, targets in batches(split, batch_size, torch.arange(len(split)), device):
            outputs = predict(model, inputs)
            total, number = problem.summed_loss(outputs, targets)
            loss, count = loss + float(total), count + number
            if taker is None:
                seen.append((outputs, targets))
            else:
                taker.update(outputs, targets)
        mean = loss / count if count else math.nan
        return mean, problem.judge(seen, mean)


def _outcomes(
    model: SupernetModel,
    head: nn.Linear | None,
    inputs: Inputs,
    targets: Tensor,
    problem: LearningProblem,
) -> FloatArray:
    """Outcomes of one batch, shape (batch, 4)."""
    if not problem.has_classes(targets):
        return np.asarray(problem.outcomes(predict(model, inputs), targets).numpy(force=True))
    logits, labels = known_logits(model, head, inputs, targets)
    targets = targets.reshape(len(targets), -1)
    labelled = known(targets)
    correct, loss = (torch.zeros_like(targets, dtype=torch.float64) for _ in range(2))
    correct[labelled] = (logits.argmax(dim=-1) == labels).double()
    loss[labelled] = cross_entropy(logits, labels).double()
    judged = (labelled, loss) if problem.metric_name == "loss" else (counted(targets), correct)
    columns = (judged[0], labelled, judged[1], loss)
    sums = torch.stack([column.double().sum(1) for column in columns], 1)
    return np.asarray(sums.numpy(force=True))
