"""Rounds: who is asked to train what, what comes back, and what the server makes of it.

One :class:`Round` serves the loop, the probe's warm-up and the Flower server alike, in three steps:
its jobs (:meth:`Round.jobs`, or :meth:`Round.ask` where clients train elsewhere), what came back
(:meth:`Round.take`), and its end (:meth:`Round.close`).
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from torch import Tensor

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt.errors import InputError
from hasa_opt.federated.aggregation import Average, Screen
from hasa_opt.federated.batch_norm import Static, start_statistics
from hasa_opt.federated.costs import Costs
from hasa_opt.federated.history import COLUMNS, COUNTED, Event, EventKind, History
from hasa_opt.federated.jobs import Draw, Engine, Failure, Job, LocalResult, Update
from hasa_opt.federated.participation import Faults, Participation, corrupted, draw_clients
from hasa_opt.federated.personal import Personal
from hasa_opt.federated.settings import LocalTraining, Server
from hasa_opt.federated.units import SCHEMES, find_draw
from hasa_opt.models.cuts import Kept
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.policies.subnets import Subnets
from hasa_opt.tasks.splits import Split
from hasa_opt.tasks.task import Task

Row = dict[str, npt.NDArray[Any]]
"""One round of a history: column name -> array of shape (n_clients,)."""


class Federation:
    """A server and its clients: what stays the same over the rounds of a run.

    Parameters
    ----------
    model : SupernetModel
        The server's supernet; each round changes it.
    subnets : Subnets
        What each client trains.
    names : n_clients strings
        Names of the clients.
    samples : (n_clients,) integers
        Training samples, by which clients weigh in the average.
    training : LocalTraining
    server : Server
    participation : Participation
    seed : int
    statistics : Static
        Gives tested models their running statistics.
    keep_models : bool
        Whether clients keep the model that they trained last.
    draw : Draw, optional
        Draws the widths of each client's batches. Default: as the scheme of the subnets does.
    """

    def __init__(
        self,
        model: SupernetModel,
        subnets: Subnets,
        names: Sequence[str],
        samples: Sequence[int] | IntArray,
        *,
        training: LocalTraining,
        server: Server,
        participation: Participation,
        seed: int,
        statistics: Static,
        keep_models: bool = False,
        draw: Draw | None = None,
    ) -> None:
        self.model, self.subnets, self.training, self.seed = model, subnets, training, seed
        self.names = tuple(names)
        self.server, self.statistics = server, statistics
        self.personal = Personal(model, training.output_bias == "local", keep_models)
        self.costs = Costs(model, training, self.personal.local)
        self.participation = participation
        self.faults = participation.faults or Faults()
        self.samples = [int(size) for size in samples]
        self._weights: list[float] = [size**server.weight_power for size in self.samples]
        self._draw = draw
        self.has_trained = False

    @classmethod
    def begin(
        cls,
        model: SupernetModel,
        task: Task,
        subnets: Subnets,
        training: LocalTraining,
        server: Server,
        participation: Participation,
        seed: int,
        keep_models: bool,
    ) -> Self:
        """Begin with a copy of a model, on the clients of a task.

        Raises
        ------
        InputError
            If the clients of the task cannot take part as asked, or the model cannot be trained
            on their samples.
        """
        participation.check(task)
        largest = int(task.samples.max())
        if not training.used(largest):
            raise InputError(
                f"drop_last = {training.drop_last!r} leaves no client a batch of "
                f"{training.batch_size}: the largest has {largest} sample(s), so use smaller "
                "batches, or drop_last=False"
            )
        begun = cls(
            copy.deepcopy(model),
            subnets,
            task.client_names,
            task.samples,
            training=training,
            server=server,
            participation=participation,
            seed=seed,
            statistics=start_statistics(model, task, training),
            keep_models=keep_models,
        )
        deployed = [begun.deployed(row) for row in range(len(begun))]
        begun.costs.check(task, np.array(deployed))
        return begun

    def __len__(self) -> int:
        return len(self._weights)

    def go_on(self, record: Record, past: History, place: str | PathLike[str]) -> None:
        """Go on after a checkpoint: with its weights, what its clients hold, and its rounds.

        Parameters
        ----------
        record : Record
            Takes over the rounds.
        past : History
        place : path
            Where the checkpoint lies, for messages.

        Raises
        ------
        InputError
            If the checkpoint holds the weights of another model.
        """
        try:
            self.model.load_state_dict(past.weights)
        except RuntimeError as error:
            raise InputError(
                f"{place} holds the weights of another model ({error}): give the model of that "
                "run, or choose another directory"
            ) from error
        self.personal.load(past.clients)
        record.take(past)

    def history(self, record: Record) -> History:
        """Everything that was measured so far, with the weights and what the clients hold."""
        return record.history(self.model, self.personal.state())

    def round(self, number: int) -> Round:
        """Begin a round, from 0."""
        return Round(self, number)

    def width(self, client: int) -> float:
        """Width of a client's subnet."""
        return float(self.subnets.widths[client])

    def deployed(self, client: int) -> float:
        """Width at which a client deploys the supernet, also one that trains nothing."""
        return float(self.subnets.deploys[client])

    def epochs(self, client: int) -> int:
        """Local epochs of a client."""
        epochs = self.subnets.epochs
        return self.training.epochs if epochs is None else int(epochs[client])

    def units(self, client: int, number: int, width: float) -> Kept:
        """Units of the supernet that a client trains, or is tested on, in a round."""
        return SCHEMES[self.subnets.scheme](self.model, width, (self.seed, number, client))

    def draw(self, client: int) -> Draw | None:
        """What draws the width of a client's batches; None: all train the whole subnet."""
        if self._draw is not None:
            return self._draw
        means = self.subnets.mean_widths
        mean = None if means is None else float(means[client])
        return find_draw(self.model, self.subnets.scheme, mean)

    def subnet(self, client: int, width: float, kept: Kept) -> SupernetModel:
        """Cut a model of the client's out of the newest supernet, ready to be tested.

        Parameters
        ----------
        client : int
        width : float
            Share of the units that are kept.
        kept : dict of str to slice or int64 tensor
            The units.
        """
        return self.personal.subnet(self.model, client, width, kept, self.statistics)

    def mixtures(
        self, client: int, width: float, kept: Kept, shares: Sequence[float]
    ) -> Iterator[SupernetModel]:
        """Mix such a model with the one that the client trained last, for each share of that.

        Parameters
        ----------
        client : int
        width : float
        kept : dict of str to slice or int64 tensor
            The units, for a client that has trained nothing.
        shares : sequence of float
            Shares of the local model, from 0 to 1.
        """
        return self.personal.models(self.model, client, width, kept, self.statistics, shares)

    def weight(self, client: int) -> float:
        """Weight of a client in the average."""
        return self._weights[client]


class Round:
    """One round: who takes part, what is measured, what goes wrong.

    Parameters
    ----------
    federation : Federation
        Its supernet is broadcast, and replaced when the round is closed.
    number : int
        From 0.

    Attributes
    ----------
    clients : (n_drawn,) int64
        Rows of the clients that are drawn, ascending.
    row : dict of str to (n_clients,) array
        What is measured.
    events : list of Event
        What goes wrong.
    """

    def __init__(self, federation: Federation, number: int) -> None:
        self.federation, self.number = federation, number
        n_clients, drawn = len(federation), federation.participation.clients_per_round
        self.clients = draw_clients(n_clients, drawn, (federation.seed, number))
        self.row: Row = {name: np.full(n_clients, np.nan) for name in COLUMNS}
        self.row |= {name: np.zeros(n_clients, dtype=np.int64) for name in COUNTED}
        self.events: list[Event] = []
        self._units: dict[int, Kept] = {}
        self._screen = Screen(federation.model, federation.server.max_update_norm)
        self._average = Average(
            federation.model, federation.server.aggregation, federation.personal.local
        )
        federation.statistics.begin()

    def note(self, client: int | None, kind: EventKind, reason: str) -> None:
        """Record what went wrong with a client, or, without one, with the whole round."""
        self.events.append(Event(self.number, client, kind, reason))

    def units(self, client: int) -> Kept:
        """Units of the supernet that a client deploys, and trains if it does, in this round."""
        return self.federation.units(client, self.number, self.federation.deployed(client))

    def ask(self, client: int) -> Kept:
        """Send a client its subnet, which is noted; the units that it trains are returned."""
        width = self.federation.width(client)
        self.row["bytes_down"][client] = self.federation.costs.transfer(width)
        self._units[client] = self.federation.units(client, self.number, width)
        return self._units[client]

    def jobs(self, splits: Sequence[Split]) -> Iterator[Job]:
        """Say what each client that takes part has to do; one split is loaded at a time.

        Parameters
        ----------
        splits : n_clients training splits
        """
        federation = self.federation
        for client in self.training_clients():
            key = (federation.seed, self.number, client)
            fate = federation.faults.fate(key)
            if not federation.training.used(federation.samples[client]):
                self.note(client, "dropped", "its batches are too small: drop_last leaves them out")
                continue
            if fate == "dropped":
                self.note(client, "dropped", "it took no part in the round")
                continue
            width, split, kept = federation.width(client), splits[client], self.ask(client)
            if fate == "late":
                self._late(client, split)
                continue
            local = federation.personal.local_parameters(client)
            draw, epochs = federation.draw(client), federation.epochs(client)
            yield Job(client, width, kept, split, key, draw, local, epochs)

    def training_clients(self) -> list[int]:
        """Rows of the clients that are drawn and not left out by their allocation."""
        return [row for row in self.clients.tolist() if self.federation.width(row) > 0]

    def _late(self, client: int, split: Split) -> None:
        """Note a client that trained and sent for nothing."""
        costs, width = self.federation.costs, self.federation.width(client)
        self.row["bytes_up"][client] = costs.transfer(width)
        planned = costs.planned(width, split, self.federation.epochs(client))
        self.row["flops"][client] = costs.flops(split.inputs, planned)
        self.note(client, "late", "its update came when the round was closed")

    def take(
        self, client: int, state: Mapping[str, Tensor], result: LocalResult, sample: Tensor
    ) -> None:
        """Take what a client sent, and average it in if it is sound.

        Parameters
        ----------
        client : int
            Row of a client that was asked.
        state : dict of str to tensor
            ``state_dict()`` of its trained subnet.
        result : LocalResult
        sample : (n, ...) tensor
            Inputs that it trained on, for the count of operations; one is enough.
        """
        federation, row = self.federation, self.row
        costs, width = federation.costs, federation.width(client)
        federation.has_trained = True
        row["bytes_up"][client] = costs.transfer(width)
        row["train_loss"][client], row["seconds"][client] = result.loss, result.seconds
        row["mean_width"][client] = costs.mean_width(result.trained)
        row["flops"][client] = costs.flops(sample, result.trained)
        key = (federation.seed, self.number, client)
        sent = corrupted(state, key) if federation.faults.fate(key) == "corrupt" else state
        update = Update(width, federation.weight(client), sent, self._units[client])
        fault = self._screen.fault(update)
        if fault is not None:
            self.reject(client, fault)
            return
        federation.personal.take(client, sent, self._units[client])
        federation.statistics.learn(update)
        self._average.add(update)

    def reject(self, client: int, reason: str) -> None:
        """Note a client that sent something of no use."""
        width = self.federation.width(client)
        self.row["bytes_up"][client] = self.federation.costs.transfer(width)
        self.note(client, "rejected", reason)

    def train(self, engine: Engine, splits: Sequence[Split]) -> None:
        """Let the clients train on this machine, and take what they send.

        A client whose training raises an exception has dropped out, with a warning.

        Parameters
        ----------
        engine : Engine
        splits : n_clients training splits

        Raises
        ------
        InputError
            If nobody has trained yet and several clients fail, or the only one there is: then the
            model or the task is to blame.
        """
        federation = self.federation
        failures: list[Failure] = []
        for answer in engine(federation.model, self.jobs(splits), federation.training):
            job = answer.job
            if isinstance(answer, Failure):
                failures.append(answer)
                self._drop(answer)
            else:
                self.take(job.client, answer.state, answer.result, job.split.inputs)
        if not federation.has_trained and (len(failures) > 1 or len(failures) == len(federation)):
            first = failures[0]
            raise InputError(
                f"no client could train in round {self.number}: client "
                f"{federation.names[first.job.client]!r} ended with {first}: correct the model, or "
                "the samples of the task"
            ) from first.error

    def _drop(self, failure: Failure) -> None:
        """Note a client whose training raised an exception, and warn of it."""
        client = failure.job.client
        self.note(client, "dropped", f"its training ended with {failure}")
        name = self.federation.names[client]
        notice = f"round {self.number}: client {name!r} dropped out, as its training ended with "
        warnings.warn(notice + str(failure), stacklevel=4)

    def note_metrics(self, client: int, measured: Mapping[str, float]) -> None:
        """Record what a client's test measured, by the names of a history's columns."""
        for name, value in measured.items():
            self.row[name][client] = value

    def close(self) -> None:
        """Average what arrived into the supernet, or keep it, with a warning, without any."""
        if self._average.empty:
            self.note(None, "empty", "no update was left: the model stays as it was")
            notice = f"round {self.number}: no update was left, the model is kept"
            warnings.warn(notice, stacklevel=3)
            return
        self.federation.model.load_state_dict(self._average.state())


@dataclass(eq=False)
class Record:
    """What the rounds of a run have measured so far.

    Attributes
    ----------
    widths : (n_clients,) floats
    metadata : dict
        Settings and data of the run, ready for JSON.
    rows : list of dict
        One for each round.
    events : list of Event
    """

    widths: FloatArray
    metadata: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def take(self, past: History) -> None:
        """Begin with the rounds of a checkpoint."""
        self.events = list(past.events)
        self.rows = [
            {name: getattr(past, name)[number] for name in COLUMNS} for number in range(past.rounds)
        ]

    def add(self, done: Round) -> None:
        """Append a round; its events by client, in whatever order the engine trained them."""
        self.rows.append(done.row)
        self.events += sorted(done.events, key=lambda event: (event.client is None, event.client))

    def history(self, server: SupernetModel, clients: Mapping[str, Tensor]) -> History:
        """Everything so far, with a copy of the weights and what the clients hold."""
        columns = {name: np.stack([row[name] for row in self.rows]) for name in COLUMNS}
        state = server.state_dict()
        weights = {name: tensor.detach().clone().cpu() for name, tensor in state.items()}
        return History(
            widths=self.widths,
            **columns,
            metadata=self.metadata,
            weights=weights,
            clients={name: tensor.detach().clone().cpu() for name, tensor in clients.items()},
            events=tuple(self.events),
        )
