"""Federation: a server and its clients, as they stay over the rounds of a run."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Self, TypeAlias

import numpy as np
from torch import Tensor

from hasa_opt._utils.checks import BoolArray, IntArray
from hasa_opt._utils.streams import Key, client_numbers
from hasa_opt.errors import InputError
from hasa_opt.federated.alone import ALONE
from hasa_opt.federated.batch_norm import Static, start_statistics
from hasa_opt.federated.costs import Costs
from hasa_opt.federated.history import History
from hasa_opt.federated.jobs import Draw
from hasa_opt.federated.own_models import OwnModels, check_own_models
from hasa_opt.federated.participation import Fate, Faults, Participation
from hasa_opt.federated.personal import Elsewhere, Personal
from hasa_opt.federated.record import Record
from hasa_opt.federated.seen import Watch
from hasa_opt.federated.server_optimizer import ServerOptimizer
from hasa_opt.federated.settings import LocalTraining, Server, check_blocks
from hasa_opt.federated.units import Extraction, find_draw, find_units
from hasa_opt.models.cuts import Kept
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.policies.subnets import Subnets
from hasa_opt.tasks.learning import CLASSES, LearningProblem
from hasa_opt.tasks.task import Task

Fetch: TypeAlias = Callable[[Sequence[int]], Mapping[int, Mapping[str, Tensor]]]
"""From clients that have trained alone, on machines of their own, to what they have trained."""


class Federation:
    """A server and its clients: what stays the same over the rounds of a run.

    Parameters
    ----------
    model : SupernetModel
        The server's supernet; each round changes it.
    subnets : Subnets
        What each client trains; :attr:`subnets` is what holds in the round that was begun last.
    names : n_clients strings
        Names of the clients.
    samples : (n_clients,) integers
        Training samples, by which clients weigh in the average.
    rounds : int
        Of the whole run.
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
    problem : LearningProblem
        What clients learn.
    elsewhere : bool
        Whether clients are machines of their own, which keep to themselves what nobody shares.
    """

    def __init__(
        self,
        model: SupernetModel,
        subnets: Subnets,
        names: Sequence[str],
        samples: Sequence[int] | IntArray,
        *,
        rounds: int,
        training: LocalTraining,
        server: Server,
        participation: Participation,
        seed: int,
        statistics: Static,
        keep_models: bool = False,
        draw: Draw | None = None,
        problem: LearningProblem = CLASSES,
        elsewhere: bool = False,
    ) -> None:
        check_blocks(subnets, server)
        check_own_models(subnets, server, model)
        self.model, self.training, self.seed = model, training, seed
        self.plan, self.rounds, self.subnets = subnets, rounds, subnets.during(0, rounds)
        self.names = tuple(names)
        self.numbers = client_numbers(self.names)
        self.server, self.statistics = server, statistics
        self.own = OwnModels(model, elsewhere)
        self.own.assign(self.subnets)
        keep_models = keep_models or bool(training.ditto)
        holder = Elsewhere if elsewhere else Personal
        self.personal = holder(model, training.output_bias == "local", keep_models)
        self.fetch: Fetch | None = None
        self._optimizer = (
            None
            if server.optimizer is None
            else ServerOptimizer(model, server.optimizer, self.personal.local)
        )
        self.alone: Counter[str] = Counter()
        self.costs = Costs(model, training, self.personal.local)
        self.participation = participation
        self.faults = participation.faults or Faults()
        self.samples = [int(size) for size in samples]
        self._weights: list[float] = [size**server.weight_power for size in self.samples]
        self._draw, self.problem = draw, problem
        self.watch: Watch | None = None
        self._returning: dict[int, int] = {}
        self.has_trained = False
        self.elapsed_s = 0.0

    @classmethod
    def begin(
        cls,
        model: SupernetModel,
        task: Task,
        subnets: Subnets,
        rounds: int,
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
        largest = int(task.samples[subnets.widths > 0].max(initial=0))
        if largest and not training.used(largest):
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
            rounds=rounds,
            training=training,
            server=server,
            participation=participation,
            seed=seed,
            statistics=start_statistics(model, task, training),
            keep_models=keep_models,
            problem=task.problem,
        )
        deployed = [begun.deployed(row) for row in range(len(begun))]
        begun.costs.check(task, np.array(deployed))
        return begun

    def __len__(self) -> int:
        return len(self._weights)

    def enlarge(
        self, names: Sequence[str], samples: Sequence[int] | IntArray, participation: Participation
    ) -> None:
        """Take in all clients that there are now: the rows of before, and newcomers behind them.

        Parameters
        ----------
        names : n_clients strings
        samples : (n_clients,) integers
        participation : Participation
            With the clock of all of them, if there is one.
        """
        self.names, self.numbers = tuple(names), client_numbers(names)
        self.samples = [int(size) for size in samples]
        self._weights = [size**self.server.weight_power for size in self.samples]
        self.participation = participation

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
        self.own.load(past.clients)
        if self.watch is not None:
            self.watch.load(past.clients)
        if self._optimizer is not None:
            self._optimizer.load(past.clients)
        self.alone.update(past.metadata.get(ALONE, {}))
        self.elapsed_s = float(past.round_seconds.sum())
        record.take(past)

    def history(self, record: Record) -> History:
        """Everything that was measured so far, and what a run goes on from."""
        held = self.own.state() | ({} if self._optimizer is None else self._optimizer.state())
        held |= {} if self.watch is None else self.watch.state()
        if self.alone:
            record.metadata[ALONE] = dict(sorted(self.alone.items()))
        return record.history(self.model, self.personal.state() | held)

    def update(self, number: int | None, averaged: Mapping[str, Tensor]) -> None:
        """Make the next supernet, or model of some clients, of the average of what they trained."""
        if self._optimizer is None:
            self.own.update(number, averaged)
        else:
            self._optimizer.step(averaged)

    def begin_round(self, number: int) -> None:
        """Let what the clients train be that of a round, from 0."""
        self.subnets = self.plan.during(number, self.rounds)
        self.own.assign(self.subnets)

    def wait(self, number: int) -> float:
        """Let the seconds pass until somebody can take part in a round; returns how many."""
        availability = self.participation.availability
        if availability is None or availability.unit == "rounds" or self.present(number).any():
            return 0.0
        waited = availability.wait(self.elapsed_s)
        self.elapsed_s += waited
        return waited

    def present(self, number: int) -> BoolArray:
        """Who can take part in a round that begins now, ``(n_clients,)``."""
        availability = self.participation.availability
        if availability is None:
            return np.ones(len(self), dtype=np.bool_)
        moment = number if availability.unit == "rounds" else self.elapsed_s
        return availability.present(self.names, self.numbers, (self.seed, number), moment)

    def join_models(self) -> None:
        """Let clients share the supernet again: it becomes the mean of their models.

        Who kept its own to itself has to send it.
        """
        training = np.flatnonzero(self.subnets.widths).tolist()
        self._returning = {
            row: self.costs.transfer(self.width(row)) for row in training if self.own.continues(row)
        }
        if self.fetch is not None:
            arrived = self.fetch(list(self._returning))
            self._returning = {row: self._returning[row] for row in arrived}
            for row, state in arrived.items():
                self.own.bring(row, self.personal.last_units(row) or {}, state)
        self.own.join(self.samples)

    def handed_over(self) -> dict[int, int]:
        """Bytes of the models that clients have sent beside their training since the last call."""
        returning, self._returning = self._returning, {}
        return returning

    @property
    def narrowest(self) -> float:
        """Width of the units that all clients train, in all rounds of the plan.

        0 where they do not hold the first ones.
        """
        plan = self.plan
        if plan.scheme != "prefix" or plan.has_blocks or plan.models is not None:
            return 0.0
        widths = plan.widths if plan.later is None else np.minimum(plan.widths, plan.later.widths)
        return float(widths[widths > 0].min(initial=1.0))

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
        start = None if self.subnets.starts is None else self.subnets.start(client)
        return find_units(self.model, self.subnets.scheme, width, self.key(client, number), start)

    def sends(self, client: int, number: int) -> bool:
        """Whether a client sends what it trains in a round, as others make use of it."""
        return self.own.sends(client) and not self.training.is_own(number)

    def key(self, client: int, number: int) -> Key:
        """What a client's random numbers in a round are made of."""
        return self.seed, number, int(self.numbers[client])

    def fate(self, client: int, number: int) -> Fate:
        """What happens to a client in a round."""
        absent = client in self.faults.absent
        return "dropped" if absent else self.faults.fate(self.key(client, number))

    def draw(self, client: int) -> Draw | None:
        """What draws the width of a client's batches; None: all train the whole subnet."""
        if self._draw is not None:
            return self._draw
        means = self.subnets.mean_widths
        mean = None if means is None else float(means[client])
        return find_draw(self.model, self.subnets.scheme, mean)

    def subnet(self, client: int, kept: Kept) -> SupernetModel:
        """Cut a model of the client's out of the newest supernet, ready to be tested.

        The next model that is cut may take its place.

        Parameters
        ----------
        client : int
        kept : dict of str to slice or int64 tensor
            The units.
        """
        return self.personal.subnet(client, kept, self.statistics, self.model_of(client))

    def mixtures(self, client: int, kept: Kept, shares: Sequence[float]) -> Iterator[SupernetModel]:
        """Mix such a model with the one that the client trained last, for each share of that.

        Parameters
        ----------
        client : int
        kept : dict of str to slice or int64 tensor
            The units, for a client that has trained nothing.
        shares : sequence of float
            Shares of the local model, from 0 to 1.
        """
        model = self.model_of(client)
        return self.personal.models(client, kept, self.statistics, shares, model)

    def model_of(self, client: int) -> SupernetModel:
        """The supernet, or the model that a client shares with some others, or has alone."""
        return self.own.model(self.own.number(client))

    def towards(self, client: int, kept: Kept, number: int) -> dict[str, Tensor] | None:
        """Weights that pull a client's own model; None where it trains the common one."""
        own = self.training.is_own(number)
        return Extraction(self.model_of(client)).copy(kept) if own else None

    def local(self, client: int, kept: Kept, number: int) -> dict[str, Tensor]:
        """Parameters of a subnet that a client has instead of the supernet's in a round."""
        if self.training.is_own(number):
            return self.personal.own(client, kept, self.model_of(client))
        mine = self.personal.local_parameters(client)
        if self.own.number(client) is None:
            return mine
        return Extraction(self.model_of(client)).copy(kept) | mine

    def weight(self, client: int) -> float:
        """Weight of a client in the average."""
        return self._weights[client]
