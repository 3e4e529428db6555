"""Evaluation: how well models predict, and which model each client is tested on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hasa_opt._utils.checks import FloatArray
from hasa_opt.errors import InputError
from hasa_opt.federated.batches import batches, known_logits, output_layer
from hasa_opt.federated.federation import Federation
from hasa_opt.federated.personal import SHARES
from hasa_opt.federated.rounds import Round
from hasa_opt.federated.settings import Evaluation
from hasa_opt.models.inputs import Inputs, predict
from hasa_opt.models.subnets import prefix
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.models.targets import counted, cross_entropy, known
from hasa_opt.tasks.learning import CLASSES, LearningProblem, as_accuracy
from hasa_opt.tasks.splits import Split, loaded
from hasa_opt.tasks.task import Task


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


def evaluate(
    model: SupernetModel,
    split: Split,
    batch_size: int = 64,
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
    found = outcomes(model, split, batch_size, problem).sum(axis=0).tolist()
    targets, labelled, score, loss = found
    return Metrics(
        loss / labelled if labelled else math.nan, score / targets if targets else math.nan, name
    )


def measured(
    model: SupernetModel, part: str, split: Split | None, problem: LearningProblem
) -> dict[str, float]:
    """Loss and metric of a model on a split, by names such as ``"test_metric"``.

    Parameters
    ----------
    model : SupernetModel
    part : str
        Name of the split.
    split : Split or None
        Without one, both are NaN.
    problem : LearningProblem
    """
    found = Metrics(math.nan, math.nan)
    if split is not None:
        found = evaluate(model, split, problem=problem)
    return {f"{part}_loss": found.loss, f"{part}_metric": found.metric}


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
    batch_size: int = 64,
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
    columns = (counted(targets), labelled, correct, loss)
    sums = torch.stack([column.double().sum(1) for column in columns], 1)
    return np.asarray(sums.numpy(force=True))


@dataclass(frozen=True)
class ClientTests:
    """Tests clients after a round, on the models that they would use.

    Attributes
    ----------
    task : Task
        The clients' data.
    federation : Federation
        Holds the newest supernet, and knows which units are whose.
    evaluation : Evaluation
    """

    task: Task
    federation: Federation
    evaluation: Evaluation

    def measure(self, now: Round, last: bool) -> None:
        """Write losses and accuracies of the newest supernet into a round's row.

        Those of the round's clients, or of all clients after the last round.
        """
        clients = np.arange(len(self.task)) if last else now.clients
        also = self.evaluation.also_now(last)
        share = np.nan
        if "personal" in (self.evaluation.on, *also):
            share = self._interpolation(clients.tolist(), now)
            now.row["interpolation"][clients] = share
        server, problem = self.federation.model, self.task.problem
        if "supernet" in (self.evaluation.on, *also):
            self.federation.statistics.fill(server, prefix(server, 1.0))
        for client in clients.tolist():
            model = self._model(self.evaluation.on, client, now, share)
            validation = self._load("validation", client, now)
            now.note_metrics(client, measured(model, "validation", validation, problem))
            test = self._load("test", client, now)
            now.note_metrics(client, measured(model, "test", test, problem))
            for kind in also:
                found = measured(self._model(kind, client, now, share), "test", test, problem)
                now.note_metrics(client, {f"{kind}_metric": found["test_metric"]})
        now.warn()
        if last:
            self.federation.statistics.fill(server, prefix(server, 1.0))

    def _load(self, part: str, client: int, now: Round) -> Split | None:
        """Load a client's samples; where that fails it is noted, and nothing is measured."""
        splits: Sequence[Split] = getattr(self.task, part)
        try:
            return splits[client]
        except InputError as error:
            reason = f"its {part} samples cannot be used: {error}"
            now.fail(client, "untested", reason, error)
            return None

    def _model(self, kind: str, client: int, now: Round, share: float) -> SupernetModel:
        """The model of a kind that a client would use; statistics of the supernet are known."""
        federation, server = self.federation, self.federation.model
        if kind == "personal":
            return next(self._personal(client, now, [share]))
        if kind == "subnet":
            return federation.subnet(client, federation.deployed(client), now.units(client))
        if not federation.personal.local_parameters(client):
            return server
        return federation.subnet(client, 1.0, prefix(server, 1.0))

    def _personal(
        self, client: int, now: Round, shares: Sequence[float]
    ) -> Iterator[SupernetModel]:
        width = self.federation.deployed(client)
        return self.federation.mixtures(client, width, now.units(client), shares)

    def _interpolation(self, clients: Sequence[int], now: Round) -> float:
        """Choose the share with the best metric on all validation data together.

        The common model where there are none.
        """
        if self.evaluation.interpolation != "validation":
            return self.evaluation.interpolation
        problem, totals = self.task.problem, np.zeros(len(SHARES))
        for client, split in loaded(self.task.validation, clients):
            if problem.judged(split.targets):
                for row, model in enumerate(self._personal(client, now, SHARES)):
                    totals[row] += _total(model, split, problem)
        return SHARES[int(np.argmax(totals if problem.higher_is_better else -totals))]


def _total(model: SupernetModel, split: Split, problem: LearningProblem) -> float:
    """The metric, summed over what a split is judged by."""
    if problem.is_by_sample:
        return float(outcomes(model, split, problem=problem)[:, 2].sum())
    return evaluate(model, split, problem=problem).metric * problem.judged(split.targets)
