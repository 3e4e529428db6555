"""Evaluation: how well models predict, and which model each client is tested on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
from hasa_opt.models.subnets import prefix
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.models.targets import counted, cross_entropy, known
from hasa_opt.tasks.splits import Split, loaded
from hasa_opt.tasks.task import Task


@dataclass(frozen=True)
class Metrics:
    """How well a model predicts a split.

    Attributes
    ----------
    loss : float
        Mean cross entropy over the targets with a known label, in nats; NaN if there is none.
    accuracy : float
        Share of the targets that are predicted, between 0 and 1; a label outside the vocabulary
        counts as an error. NaN without targets.
    """

    loss: float
    accuracy: float


def evaluate(model: SupernetModel, split: Split, batch_size: int = 64) -> Metrics:
    """Measure loss and top-1 accuracy without training; the model's mode is left as it was.

    Parameters
    ----------
    model : SupernetModel
    split : Split
    batch_size : int
        Samples per forward pass, which change the last digits at most.

    Returns
    -------
    Metrics
    """
    targets, labelled, correct, loss = outcomes(model, split, batch_size).sum(axis=0).tolist()
    return Metrics(
        loss / labelled if labelled else math.nan, correct / targets if targets else math.nan
    )


def measured(model: SupernetModel, part: str, split: Split | None) -> dict[str, float]:
    """Loss and accuracy of a model on a split, by names such as ``"test_accuracy"``.

    Parameters
    ----------
    model : SupernetModel
    part : str
        Name of the split.
    split : Split or None
        Without one, both are NaN.
    """
    found = Metrics(math.nan, math.nan) if split is None else evaluate(model, split)
    return {f"{part}_loss": found.loss, f"{part}_accuracy": found.accuracy}


@torch.no_grad()
def outcomes(model: SupernetModel, split: Split, batch_size: int = 64) -> FloatArray:
    """Outcomes of a split under a model, sample by sample, without training.

    Returns
    -------
    (n_samples, 4) float64
        Targets by which the sample is judged, those of them that have a known label, those that
        are predicted, and their summed loss in nats.
    """
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    head, order = output_layer(model, split), torch.arange(len(split.inputs))
    parts = [
        _outcomes(model, head, inputs, targets)
        for inputs, targets in batches(split, batch_size, order, device)
    ]
    model.train(was_training)
    return np.concatenate(parts) if parts else np.zeros((0, 4))


def _outcomes(
    model: SupernetModel, head: nn.Linear | None, inputs: Tensor, targets: Tensor
) -> FloatArray:
    """Outcomes of one batch, shape (batch, 4)."""
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
        server = self.federation.model
        if "supernet" in (self.evaluation.on, *also):
            self.federation.statistics.fill(server, prefix(server, 1.0))
        for client in clients.tolist():
            model = self._model(self.evaluation.on, client, now, share)
            validation = self._load("validation", client, now)
            now.note_metrics(client, measured(model, "validation", validation))
            test = self._load("test", client, now)
            now.note_metrics(client, measured(model, "test", test))
            for kind in also:
                found = measured(self._model(kind, client, now, share), "test", test)
                now.note_metrics(client, {f"{kind}_accuracy": found["test_accuracy"]})
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
        """Choose the share with the most correct predictions on all validation data together.

        The common model where there are none.
        """
        if self.evaluation.interpolation != "validation":
            return self.evaluation.interpolation
        correct = np.zeros(len(SHARES))
        for client, split in loaded(self.task.validation, clients):
            if count_targets(split):
                for row, model in enumerate(self._personal(client, now, SHARES)):
                    correct[row] += outcomes(model, split)[:, 2].sum()
        return SHARES[int(np.argmax(correct))]


def count_targets(split: Split) -> int:
    """Count the targets by which a split is judged; padding is none."""
    return int(counted(split.targets).sum())
