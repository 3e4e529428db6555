"""Deployments: which model each client is tested on, and what it measures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from hasa_opt.clients import FloatArray, IntArray
from hasa_opt.federated.evaluate import evaluate
from hasa_opt.federated.personal import MIXES, Personal
from hasa_opt.federated.record import Round
from hasa_opt.federated.schemes import SCHEMES
from hasa_opt.federated.statistics import Static
from hasa_opt.models.cuts import Kept
from hasa_opt.models.supernet import SupernetModel, prefix
from hasa_opt.tasks.task import IGNORED

if TYPE_CHECKING:
    from hasa_opt.tasks import Split, Task

OTHERS = ("never", "last", "every")


@dataclass(frozen=True)
class Deployments:
    """Tests clients after a round, on the models that they would use.

    Parameters
    ----------
    task
        The clients' data.
    widths
        Width of each client's subnet, shape (n_clients,).
    scheme, evaluate, deploy, mix, others
        As for :func:`hasa_opt.federated.run`.
    statistics
        Gives tested models their running statistics.
    personal
        What the clients keep to themselves.
    """

    task: Task
    widths: FloatArray
    scheme: str
    evaluate: Literal["subnet", "supernet"]
    deploy: Literal["global", "personal"]
    mix: float | Literal["validation"]
    others: Literal["never", "last", "every"]
    statistics: Static
    personal: Personal

    def measure(self, server: SupernetModel, clients: IntArray, now: Round, last: bool) -> None:
        """Write losses and accuracies of the newest supernet into a round's row."""
        others = self.others == "every" or (self.others == "last" and last)
        mix = np.nan
        if self.deploy == "personal" or others:
            mix = self._chosen_mix(server, clients, now)
            now.row["mix"][clients] = mix
        if self.evaluate == "supernet" or others:
            self.statistics.fill(server, prefix(server, 1.0))
        for client in clients.tolist():
            model = self._deployed(server, client, now, mix)
            for part, splits in (("validation", self.task.validation), ("test", self.task.test)):
                found = evaluate(model, splits[client])
                now.row[f"{part}_loss"][client] = found.loss
                now.row[f"{part}_accuracy"][client] = found.accuracy
            if others:
                test = self.task.test[client]
                whole = self._whole(server, client)
                (mixed,) = self._personal(server, client, now, [mix])
                now.row["supernet_accuracy"][client] = evaluate(whole, test).accuracy
                now.row["personal_accuracy"][client] = evaluate(mixed, test).accuracy

    def _deployed(
        self, server: SupernetModel, client: int, now: Round, mix: float
    ) -> SupernetModel:
        if self.evaluate == "supernet":
            return self._whole(server, client)
        if self.deploy == "personal":
            return next(self._personal(server, client, now, [mix]))
        width, kept = self.widths[client], self._kept(server, client, now)
        return self.personal.globally(server, client, width, kept, self.statistics)

    def _whole(self, server: SupernetModel, client: int) -> SupernetModel:
        """Give the uncut supernet, whose running statistics are known."""
        if not self.personal.own(client):
            return server
        kept = prefix(server, 1.0)
        return self.personal.globally(server, client, 1.0, kept, self.statistics)

    def _personal(
        self, server: SupernetModel, client: int, now: Round, mixes: Sequence[float]
    ) -> Iterator[SupernetModel]:
        width, kept = self.widths[client], self._kept(server, client, now)
        return self.personal.personally(server, client, width, kept, self.statistics, mixes)

    def _kept(self, server: SupernetModel, client: int, now: Round) -> Kept:
        return SCHEMES[self.scheme](server, self.widths[client], (now.seed, now.number, client))

    def _chosen_mix(self, server: SupernetModel, clients: IntArray, now: Round) -> float:
        """Choose the mix with the most correct predictions on all validation data together.

        The common model where there are none.
        """
        if self.mix != "validation":
            return self.mix
        correct = np.zeros(len(MIXES))
        for client in clients.tolist():
            split = self.task.validation[client]
            if targets := count_targets(split):
                for row, model in enumerate(self._personal(server, client, now, MIXES)):
                    correct[row] += evaluate(model, split).accuracy * targets
        return MIXES[int(np.argmax(correct.round(6)))]


def count_targets(split: Split) -> int:
    """Count the targets by which a split is judged; padding is none."""
    return int((split.targets != IGNORED).sum())
