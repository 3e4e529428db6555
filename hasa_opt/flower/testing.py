"""Tests on devices: who is asked about which models, and what their answers say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hasa_opt.federated.allocating import Allocating, Decided
from hasa_opt.federated.federation import Federation
from hasa_opt.federated.judging import Judged, best_share, verdicts
from hasa_opt.federated.personal import SHARES
from hasa_opt.federated.rounds import Round
from hasa_opt.federated.settings import Evaluation
from hasa_opt.flower.messages import PERSONAL, SUBNET, Tested

__all__ = ["DeviceTests"]


@dataclass(frozen=True)
class DeviceTests:
    """Tests clients after a round, on their devices; validation data decide as in the loop.

    A device is asked once, about all shares of the local model among which one is chosen when all
    have answered.

    Attributes
    ----------
    federation : Federation
    evaluation : Evaluation
        On "subnet" or "personal".
    deciding : Allocating or Decided
        May ask for the clients' verdicts.
    higher_is_better : bool
        Of the metric.
    """

    federation: Federation
    evaluation: Evaluation
    deciding: Allocating | Decided
    higher_is_better: bool

    def kinds(self, now: Round) -> dict[int, list[str]]:
        """Kinds of models about which each client is asked after a round, by rows."""
        found = {row: [str(self.evaluation.on)] for row in self.tested(now)}
        for row in now.clients.tolist() if self.deciding.judges(now) else ():
            found[row] = list(dict.fromkeys([*found.get(row, []), PERSONAL]))
        return found

    def tested(self, now: Round) -> list[int]:
        """Rows of the clients that are tested after a round."""
        last = now.number + 1 == self.federation.rounds
        if not self.evaluation.due(now.number, last):
            return []
        return list(range(len(self.federation))) if last else now.clients.tolist()

    def shares(self, now: Round) -> list[float]:
        """Shares of the local model with which personal models are made."""
        chosen = self.evaluation.interpolation
        fixed = () if chosen == "validation" else (chosen,)
        return list(dict.fromkeys((*(SHARES if self._judges(now) else ()), *fixed)))

    def _judges(self, now: Round) -> bool:
        """Whether the clients judge all shares."""
        return self.evaluation.interpolation == "validation" or self.deciding.judges(now)

    def note(self, now: Round, told: Mapping[int, Tested]) -> None:
        """Note what the clients told: how well they did, and what they say of their models."""
        shares = self.shares(now)
        able = {row: each for row, each in told.items() if each.targets and self._judges(now)}
        judged = {row: self._judged(row, each) for row, each in able.items()}
        rows, at = [row for row in self.tested(now) if row in told], 0
        if self.evaluation.on != SUBNET:
            asked = {row: judged[row] for row in rows if row in judged}
            share = self.evaluation.interpolation
            if share == "validation":
                share = SHARES[best_share(asked, self.higher_is_better)]
            at = shares.index(share)
            now.row["interpolation"][rows] = share
        for row in rows:
            now.note_metrics(row, {name: each[at] for name, each in told[row].metrics.items()})
        here = {row: each for row, each in judged.items() if row in now.clients}
        self.deciding.watch(now, lambda now: verdicts(here, self.higher_is_better, now))

    def _judged(self, row: int, told: Tested) -> Judged:
        costs, width = self.federation.costs, self.federation.deployed(row)
        flops = costs.forward(told.sample, told.samples, width, len(SHARES))
        return Judged(np.array(told.totals[: len(SHARES)]), told.targets, flops)
