"""The server's half of a Flower app: wait, ask, allocate, and run the rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from logging import INFO, WARNING
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from flwr.app import (
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Strategy
from flwr.supercore import log
from torch import Tensor

from hasa_opt.errors import HasaError, InputError
from hasa_opt.federated import History
from hasa_opt.federated.batch_norm import Static, running_statistics
from hasa_opt.federated.checkpoint import Checkpoints
from hasa_opt.federated.events import DECISIONS
from hasa_opt.federated.federation import Federation
from hasa_opt.federated.identity import check_same_run, describe_model, describe_versions
from hasa_opt.federated.record import Record
from hasa_opt.federated.rounds import Round
from hasa_opt.flower.devices import Devices, identify
from hasa_opt.flower.fleet import Fleet
from hasa_opt.flower.messages import MODEL, Asked, Tested, Trained, lost, reason, unpack
from hasa_opt.flower.roster import Roster, judged_by
from hasa_opt.flower.settings import Settings
from hasa_opt.flower.testing import DeviceTests
from hasa_opt.models import SupernetModel

__all__ = ["SupernetStrategy", "serve", "server_app"]

_ROSTER = "roster"


class SupernetStrategy(Strategy):
    """Federated averaging of subnets of different widths.

    Replies that carry an error are dropped. What a node trained is known from what it was sent, not
    from what it says: width, units and samples are the server's own. Weights of another shape, and
    such that hold NaN or infinity, are refused. Who was asked and sent nothing usable is recorded.

    Parameters
    ----------
    federation : Federation
        Its supernet holds the newest weights.
    roster : Roster
        The same clients.
    fleet : Fleet
    settings : Settings
    record : Record
        What the rounds measured so far; the next round is the one after them.
    on_round : callable, optional
        Called after each round.
    """

    def __init__(
        self,
        federation: Federation,
        roster: Roster,
        fleet: Fleet,
        settings: Settings,
        record: Record,
        on_round: Callable[[], None] | None = None,
    ) -> None:
        self.model, self.record = federation.model, record
        self._federation = federation
        self._roster, self._fleet, self._settings = roster, fleet, settings
        self._on_round = on_round
        self._now = self._next()
        self._asked: dict[int, int] = {}
        self._questions: dict[int, Asked] = {}
        higher = roster.scale.higher_is_better
        self._tests = DeviceTests(federation, settings.evaluation, roster.deciding, higher)
        self._devices = Devices(federation, settings, record.metadata[_ROSTER]["run"])
        federation.fetch = self._fetch

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send each drawn client that is connected its slice of the supernet."""
        self.model.load_state_dict(arrays.to_torch_state_dict())
        self._meet(len(self.record.rows))
        self._roster.deciding.decide(len(self.record.rows), self._federation, self.record)
        self._now = now = self._next()
        return self._messages(
            MessageType.TRAIN, now.training_clients(), lambda row: self._devices.train(row, now)
        )

    def _meet(self, number: int) -> None:
        """Allocate again, where nodes have joined, left or returned since that was done last."""
        roster, fleet, settings = self._roster, self._fleet, self._settings
        if not roster.adapts(settings):
            return
        newcomers = fleet.newcomers(settings.epsilon, settings.delta)
        known = {*roster.partitions, *(told.partition for told in newcomers)}
        present = known & fleet.nodes().keys()
        if not present or present == roster.present:
            return
        try:
            roster = roster.reallocated(newcomers, present, number, self.model, settings)
        except HasaError as error:
            fleet.refuse(told.partition for told in newcomers)
            log(WARNING, "The widths stay as they are, and newcomers out: %s", error)
            return
        log(INFO, "%s", roster.subnets.reason)
        if DECISIONS not in self.record.metadata:
            self.record.decide(0, self._roster.subnets, settings.rounds)
        self._roster = roster
        participation = replace(self._federation.participation, clock=roster.prices.clock)
        self._federation.enlarge(roster.names, roster.samples, participation)
        self._federation.plan = roster.subnets
        self.record.decide(number, roster.subnets, settings.rounds)
        run = self.record.metadata[_ROSTER]["run"]
        self.record.metadata[_ROSTER] = roster.record() | {"run": run}

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Average what arrived, in the order of the partitions; nothing where nobody answered."""
        now = self._now
        arrived, faults = self._sort(replies)
        for row in now.training_clients():
            if row not in arrived:
                now.note(row, "dropped", faults.get(row, "its node is not connected"))
        for row, reply in arrived.items():
            self._take(row, reply)
        now.close()
        for event in now.events:
            name = "" if event.client is None else self._roster.names[event.client]
            log(WARNING, "%s %s: %s", name, event.kind, event.reason)
        if any(event.kind == "empty" for event in now.events):
            return None, None
        loss = float(np.nanmean(now.row["train_loss"]))
        metrics = MetricRecord({"train_loss": loss, "clients": len(arrived)})
        return ArrayRecord(dict(self.model.state_dict())), metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send the round's clients, after the last round all, their slices of the new supernet."""
        now, kinds, shares = self._now, self._tests.kinds(self._now), self._tests.shares(self._now)
        tested = self._tests.tested(now)
        self._questions = {
            row: self._devices.question(
                row, str(self._tests.evaluation.on) if row in tested else "", shares, kinds[row]
            )
            for row in sorted(kinds)
        }
        return self._messages(
            MessageType.EVALUATE,
            self._questions,
            lambda row: self._devices.test(row, now, self._questions[row]),
        )

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Note how well the clients' subnets did; the round ends here."""
        now, (arrived, faults) = self._now, self._sort(replies)
        told: dict[int, Tested] = {}
        for row, reply in arrived.items():
            try:
                told[row] = Tested.read(reply, self._questions[row])
            except InputError as error:
                faults[row] = str(error)
        self._tests.note(now, told)
        for row, why in faults.items():
            log(WARNING, "%s was not tested: %s", self._roster.names[row], why)
        self.record.add(now.row, now.events)
        if self._on_round is not None:
            self._on_round()
        measured = [now.row["test_metric"][row] for row in self._tests.tested(now) if row in told]
        if not measured:
            return None
        mean, name = float(np.mean(measured)), self._roster.scale.name
        return MetricRecord({f"test_{name}": mean, "clients": len(measured)})

    def summary(self) -> None:
        """Log the allocation."""
        roster, subnets = self._roster, self._federation.subnets
        columns = roster.names, roster.samples, subnets.widths, subnets.deploys
        for name, samples, width, deployed in zip(*columns, strict=True):
            if width:
                log(INFO, "\t%s: %d samples, width %.3g", name, samples, width)
            else:
                out = "\t%s: %d samples, left out of training, tested at width %.3g"
                log(INFO, out, name, samples, deployed)

    def _next(self) -> Round:
        """The round after those that are recorded."""
        return Round(self._federation, len(self.record.rows))

    def _messages(
        self, kind: str, rows: Iterable[int], content: Callable[[int], RecordDict]
    ) -> list[Message]:
        """Make the messages to those connected; a list, since Flower goes through them twice."""
        partitions, nodes = self._roster.partitions, self._fleet.nodes()
        rows = [row for row in rows if partitions[row] in nodes]
        self._asked = {nodes[partitions[row]]: row for row in rows}
        group = str(self._now.number)
        return [
            Message(content(row), node, kind, group_id=group) for node, row in self._asked.items()
        ]

    def _fetch(self, rows: Sequence[int]) -> dict[int, dict[str, Tensor]]:
        """Ask devices for the models that they have trained alone, to be shared again."""
        partitions, nodes = self._roster.partitions, self._fleet.nodes()
        asked = {nodes[partitions[row]]: row for row in rows if partitions[row] in nodes}
        questions = {
            node: self._devices.question(row, "", [], []).record() for node, row in asked.items()
        }
        found: dict[int, dict[str, Tensor]] = {}
        for node, reply in self._fleet.ask(questions, MODEL).items():
            row, missing = asked[node], "it no longer has it"
            fault = missing if lost(reply) else self._devices.unfit(row, unpack(reply))
            if fault is None:
                found[row] = unpack(reply)
            else:
                log(WARNING, "The model of %s is left out: %s", self._roster.names[row], fault)
        return dict(sorted(found.items()))

    def _sort(self, replies: Iterable[Message]) -> tuple[dict[int, Message], dict[int, str]]:
        """Find whose replies are usable, in the order of the clients, and why others are not."""
        usable: dict[int, Message] = {}
        faults = dict.fromkeys(self._asked.values(), "no reply came")
        for reply in replies:
            row = self._asked.get(reply.metadata.src_node_id)
            if row is None:
                log(WARNING, "A reply came from a node that was not asked: %s", reason(reply))
            elif reply.has_error():
                faults[row] = reason(reply)
            elif lost(reply):
                self._devices.forget(row)
                faults[row] = "its device no longer has what it kept, and begins anew"
            else:
                usable[row] = reply
        missing = {row: why for row, why in faults.items() if row not in usable}
        return dict(sorted(usable.items())), missing

    def _take(self, row: int, reply: Message) -> None:
        """Hand a client's reply to the round, which averages it in if it is sound."""
        try:
            found = Trained.read(reply, self._federation.sends(row, self._now.number))
            state = None if found.state is None else self._devices.whole(found.state)
            self._now.take(row, state, found.result, found.sample)
        except InputError as error:
            self._now.reject(row, str(error))


def server_app(
    model: Callable[[], SupernetModel], options: Mapping[str, Any] = MappingProxyType({})
) -> ServerApp:
    """Make the app that the server runs.

    Its settings are those of :class:`Settings`, in the project's run configuration.

    Parameters
    ----------
    model : callable
        Builds the supernet with its initial weights, the same each time.
    options : mapping of str to any
        Settings in Python, such as ``{"schedule": CosineDecay(...)}``, which hold whatever the
        configuration says. :func:`client_app` is given the same.

    Returns
    -------
    flwr.serverapp.ServerApp
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        serve(model(), grid, Settings.read(context.run_config, options))

    return app


def serve(model: SupernetModel, grid: Grid, settings: Settings) -> History:
    """Wait for the nodes, give each a width, and train the supernet on them.

    Parameters
    ----------
    model : SupernetModel
        With the initial weights; it is changed.
    grid : flwr.serverapp.Grid
    settings : Settings

    Returns
    -------
    History
        As of :func:`hasa_opt.federated.run`.

    Raises
    ------
    InputError
        If a setting or a profile is invalid, too few nodes come, or the checkpoint is another
        run's; no round has started then.
    """
    if running_statistics(model):
        raise InputError(
            f"{type(model).__name__} has BatchNorm layers, whose statistics would have to be "
            "estimated from data that stay on the devices: build it with GroupNorm"
        )
    metadata = describe_versions() | describe_model(model) | settings.record()
    fleet = Fleet(grid, settings.node_timeout_s)
    with _checkpoints(settings) as store:
        past = None if store is None else store.read()
        if past is None:
            profiles = fleet.enrol(settings.clients, settings.epsilon, settings.delta)
            roster = Roster.allocate(profiles, model, settings)
            kept, settings = roster.record(), roster.fitting(settings, model)
            kept |= {"run": identify(metadata | kept)}
            widths = roster.subnets.last_of(settings.rounds).widths
            record = Record(widths, metadata | judged_by(kept) | {_ROSTER: kept})
            federation = _federation(model, roster, settings)
        else:
            kept = past.metadata.get(_ROSTER, {})
            record = Record(past.widths, metadata | judged_by(kept) | {_ROSTER: kept})
            check_same_run(Path(settings.checkpoint), past, record.metadata, past.widths)
            roster = Roster.read(kept, past.widths, model, settings)
            settings = roster.fitting(settings, model)
            federation = _federation(model, roster, settings)
            federation.go_on(record, past, settings.checkpoint)
            roster.deciding.go_on(federation, past)
            fleet.rejoin(settings.clients, dict(zip(roster.partitions, roster.names, strict=True)))
            log(INFO, "Going on after round %d of %d", past.rounds, settings.rounds)
        history = _run(federation, roster, fleet, settings, record, store, grid)
    if settings.output:
        history.save(Path(settings.output))
    scale = roster.scale
    mean = scale.told(float(scale.factor * np.nanmean(history.test_metric[-1])))
    log(INFO, "Mean test %s of the clients' subnets: %s", scale.name, mean)
    return history


def _federation(model: SupernetModel, roster: Roster, settings: Settings) -> Federation:
    """The server and its clients; their data, and so BatchNorm's statistics, stay elsewhere."""
    keeps = settings.evaluation.keeps_models or roster.subnets.models is not None
    federation = Federation(
        model,
        roster.subnets,
        roster.names,
        roster.samples,
        rounds=settings.rounds,
        training=settings.training,
        server=settings.server.fitting(roster.subnets),
        participation=replace(settings.participation, clock=roster.prices.clock),
        seed=settings.seed,
        statistics=Static(model, (), settings.batch_size),
        keep_models=keeps or roster.allocating is not None,
        elsewhere=True,
    )
    roster.deciding.join(federation)
    return federation


def _run(
    federation: Federation,
    roster: Roster,
    fleet: Fleet,
    settings: Settings,
    record: Record,
    store: Checkpoints | None,
    grid: Grid,
) -> History:
    """Run the rounds that are left, each stored once it has ended."""

    def keep() -> None:
        if store is not None:
            store.save(federation.history(record))

    strategy = SupernetStrategy(federation, roster, fleet, settings, record, keep)
    strategy.start(
        grid,
        ArrayRecord(dict(federation.model.state_dict())),
        num_rounds=settings.rounds - len(record.rows),
        timeout=settings.round_timeout_s,
    )
    return federation.history(record)


@contextmanager
def _checkpoints(settings: Settings) -> Iterator[Checkpoints | None]:
    if not settings.checkpoint:
        yield None
        return
    with Checkpoints.open(settings.checkpoint, resume=True) as store:
        yield store
