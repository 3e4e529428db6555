"""Client tests: which model each client is tested on after a round, and how well it predicts."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, groupby
from typing import NamedTuple

import numpy as np

from hasa_opt._utils.checks import IntArray
from hasa_opt._utils.streams import Purpose
from hasa_opt.errors import InputError
from hasa_opt.federated.batches import windowed
from hasa_opt.federated.evaluation import (
    Metrics,
    are_apart,
    evaluate,
    evaluate_together,
)
from hasa_opt.federated.federation import Federation
from hasa_opt.federated.judging import Judged, best_share, judged_totals, verdicts
from hasa_opt.federated.participation import draw_clients
from hasa_opt.federated.personal import SHARES
from hasa_opt.federated.rounds import Round
from hasa_opt.federated.seen import Verdicts
from hasa_opt.federated.settings import Evaluation
from hasa_opt.federated.units import identity
from hasa_opt.models.cuts import Kept
from hasa_opt.models.subnets import prefix
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.tasks.splits import Split, loaded
from hasa_opt.tasks.task import Task

WINDOW_BYTES = 2**24
"""Bytes of samples that are held at a time to be tested together; one client's always are."""


class Tested(NamedTuple):
    """A client with the model that it is tested on: equal models have equal keys."""

    client: int
    kept: Kept
    key: Hashable


@dataclass(frozen=True)
class ClientTests:
    """Tests clients after a round, on the models that they would use.

    Clients whose models are equal, as those of one width, share it, and their samples are
    predicted in joint batches where that changes nothing but rounding.

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
        """Write losses and metrics of the newest supernet into a round's row.

        Those of the round's clients, or of all clients after the last round, as far as the
        settings say.
        """
        if not self.evaluation.due(now.number, last):
            return
        clients = self._clients(now, last)
        also = self.evaluation.also_now(last)
        share = np.nan
        if "personal" in (self.evaluation.on, *also):
            share = self._interpolation(clients.tolist(), now)
            now.row["interpolation"][clients] = share
        server = self.federation.model
        if "supernet" in (self.evaluation.on, *also):
            self.federation.statistics.fill(server, prefix(server, 1.0))
        tested = (self._loaded(each, now) for each in self._sorted(clients.tolist(), now))
        for window in windowed(tested, _held, WINDOW_BYTES):
            self._test(self.evaluation.on, window, now, share, ("validation", "test"))
            for kind in also:
                self._test(kind, window, now, share, ("test",))
        now.warn()
        if last:
            self.federation.statistics.fill(server, prefix(server, 1.0))

    def _clients(self, now: Round, last: bool) -> IntArray:
        """Rows of the clients to be tested."""
        among = np.arange(len(self.task)) if last else now.clients
        if self.evaluation.clients is None or self.evaluation.clients >= len(among):
            return among
        key = self.federation.seed, now.number
        numbers = self.federation.numbers[among]
        return among[draw_clients(numbers, self.evaluation.clients, key, Purpose.TESTS)]

    def _sorted(self, clients: Iterable[int], now: Round) -> list[Tested]:
        """The clients with their models, equal ones next to each other."""
        asked = [self._tested(self.evaluation.on, client, now) for client in clients]
        places = {key: place for place, key in enumerate(dict.fromkeys(each.key for each in asked))}
        return sorted(asked, key=lambda each: places[each.key])

    def _tested(self, kind: str, client: int, now: Round) -> Tested:
        """Say which model of a kind a client would use."""
        federation = self.federation
        kept = prefix(federation.model, 1.0) if kind == "supernet" else now.units(client)
        if kind == "personal" or federation.personal.local_parameters(client):
            return Tested(client, kept, client)
        return Tested(
            client, kept, (federation.own.number(client), *identity(federation.model, kept))
        )

    def _loaded(self, tested: Tested, now: Round) -> tuple[Tested, dict[str, Split]]:
        """Load the samples of a client, as far as they can be."""
        found = {part: self._load(part, tested.client, now) for part in ("validation", "test")}
        return tested, {part: split for part, split in found.items() if split is not None}

    def _load(self, part: str, client: int, now: Round) -> Split | None:
        """Load a client's samples; where that fails it is noted, and nothing is measured."""
        splits: Sequence[Split] = getattr(self.task, part)
        try:
            return splits[client]
        except InputError as error:
            reason = f"its {part} samples cannot be used: {error}"
            now.fail(client, "untested", reason, error)
            return None

    def _test(
        self,
        kind: str,
        window: Iterable[tuple[Tested, Mapping[str, Split]]],
        now: Round,
        share: float,
        parts: Iterable[str],
    ) -> None:
        """Test the models of a kind on the parts of the clients' samples."""
        if kind != self.evaluation.on:
            window = [(self._tested(kind, each.client, now), splits) for each, splits in window]
        for _, group in groupby(window, key=lambda pair: pair[0].key):
            members = list(group)
            model = self._model(kind, members[0][0], share)
            for part in parts:
                able = [(each.client, splits[part]) for each, splits in members if part in splits]
                found = self._evaluate(model, [split for _, split in able])
                for (client, _), metrics in zip(able, found, strict=True):
                    named = metrics.named(part)
                    if kind != self.evaluation.on:
                        named = {f"{kind}_metric": metrics.metric}
                    now.note_metrics(client, named)

    def _evaluate(self, model: SupernetModel, splits: Sequence[Split]) -> list[Metrics]:
        """Evaluate splits together where their samples have no influence on each other."""
        problem = self.task.problem
        if len(splits) > 1 and problem.is_by_sample and self._apart:
            return evaluate_together(model, splits, problem)
        return [evaluate(model, split, problem=problem) for split in splits]

    @cached_property
    def _apart(self) -> bool:
        """Whether samples have no influence on each other, tried on the first client with some."""
        task = self.task
        held = (split for _, split in chain(loaded(task.test), loaded(task.validation)))
        first = next(filter(len, held), None)
        return first is not None and are_apart(self.federation.model, first, task.problem)

    def _model(self, kind: str, tested: Tested, share: float) -> SupernetModel:
        """The model of a kind; the next one may take its place."""
        federation, client = self.federation, tested.client
        if kind == "personal":
            return next(federation.mixtures(client, tested.kept, [share]))
        if kind == "supernet" and not federation.personal.local_parameters(client):
            return federation.model_of(client)
        return federation.subnet(client, tested.kept)

    def _interpolation(self, clients: Sequence[int], now: Round) -> float:
        """Choose the share with the best metric on all validation data together.

        The common model where there are none.
        """
        if self.evaluation.interpolation != "validation":
            return self.evaluation.interpolation
        judged = self._judged(clients, now)
        return SHARES[best_share(judged, bool(self.task.problem.higher_is_better))]

    def judge(self, now: Round) -> Verdicts:
        """What the round's clients say of their models: see :func:`verdicts`."""
        judged = self._judged(now.clients.tolist(), now)
        return verdicts(judged, bool(self.task.problem.higher_is_better), now)

    def _judged(self, clients: Sequence[int], now: Round) -> dict[int, Judged]:
        """Judge the clients' mixtures by their validation data, where they have any."""
        federation, problem, found = self.federation, self.task.problem, {}
        for client, split in loaded(self.task.validation, clients):
            targets = problem.judged(split.targets)
            if targets:
                models = federation.mixtures(client, now.units(client), SHARES)
                totals, width = judged_totals(models, split, problem), federation.deployed(client)
                flops = federation.costs.forward(split.inputs, len(split), width, len(SHARES))
                found[client] = Judged(totals, targets, flops)
        return found


def _held(tested: tuple[Tested, Mapping[str, Split]]) -> int:
    return sum(split.nbytes for split in tested[1].values())
