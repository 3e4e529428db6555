"""How a federated run is done: small frozen objects of plain values, each checked when it is made.

They are grouped by noun, and whoever trains takes the same objects: :func:`run`, a study, a
forecast and the Flower app. What depends on a task is checked by ``check(task)``.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from numbers import Real
from os import PathLike
from typing import Literal

import numpy as np
from torch.optim import Optimizer

from hasa_opt._utils.checks import expect
from hasa_opt.errors import InputError
from hasa_opt.federated.averages import AGGREGATIONS
from hasa_opt.federated.fit import check_fit
from hasa_opt.federated.schedules import Schedule
from hasa_opt.models.optimizers import Given, check_optimizer
from hasa_opt.models.seeding import no_supernet
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.policies.subnets import Subnets
from hasa_opt.tasks.task import Task

BATCH_NORMS = ("static", "per_width")
MODELS_TESTED = ("subnet", "supernet", "personal")
ALSO_TESTED = ("supernet", "personal")
ALSO_AFTER = ("last", "every")
OUTPUT_BIASES = ("shared", "local")

INTERPOLATION = 0.75
"""Share of the local model in a personal one. Measured at width 0.5, ten rounds, five seeds, the
mean validation accuracies at the shares 0, 0.25, 0.5, 0.75 and 1 were 13.0, 13.4, 13.7, 13.7 and
13.6 % (docstrings, an LSTM of 32 units), 61.4, 74.3, 82.0, 85.0 and 83.3 % (digits, the CNN), and
65.4, 69.6, 70.4, 70.0 and 67.2 % (domains, the CNN)."""

MAX_UPDATE_NORM = 1e6
"""A choice, far from both sides: the largest update measured in five rounds at width 1 has a norm
of 10 (digits) and 170 (docstrings), and damaged weights are as large as 1e30."""


@dataclass(frozen=True, kw_only=True)
class LocalTraining:
    """How a client trains its subnet in one round.

    Attributes
    ----------
    epochs : int
        Passes over the client's training samples per round.
    batch_size : int
        Samples per step.
    drop_last : bool or "single"
        Whether an epoch's last batch is left out where it is smaller than ``batch_size``. True: as
        in PyTorch's DataLoader, so that clients with fewer samples do not train. "single": only
        where it is one sample, which BatchNorm cannot normalise. A client without any batch counts
        as dropped out.
    learning_rate : float
        Step size.
    schedule : callable, optional
        From the number of a round, from 0, to the factor of the learning rate in that round:
        :class:`CosineDecay`, :class:`StepDecay`, or a function, which checkpoints tell apart by
        its name alone. Default: 1 in all rounds.
    optimizer : str, class or partial
        "adam", "sgd", a class such as ``torch.optim.AdamW``, or one with arguments:
        ``functools.partial(torch.optim.SGD, momentum=0.9, weight_decay=1e-4)``. Started anew in
        each round.
    clip_norm : float or None
        Largest Euclidean norm of a step's gradient, to which longer ones are shortened
        (arXiv:1211.5063); None: any.
    proximal : float
        The mu of FedProx (arXiv:1812.06127, eq. 2): mu / 2 times the squared distance to the
        weights that the client starts from is added to its loss, over the coordinates that it
        holds. The gradient that is clipped has it; the loss that is reported has not. 0: FedAvg.
    ditto : float
        The lambda of Ditto (arXiv:2012.04221, eq. 1): above 0, clients train a model of their own
        instead of the common one in every second round, with lambda / 2 times the squared distance
        to the newest common one added to its loss. It is kept, not sent, and is their personal
        model. So both are trained at the cost of one, each half as often. 0: the common one alone.
    scaler : bool
        Divide hidden activations by the subnet's width; see :func:`hasa_opt.models.scaled`.
    batch_norm : {"static", "per_width"}
        Which running statistics tested models use, if there are BatchNorm layers: re-estimated
        from all clients' data ("static"), or those that the clients of their width estimate once
        they have trained ("per_width"); see :mod:`hasa_opt.federated.batch_norm`.
    output_bias : {"shared", "local"}
        "local": each client trains an output bias of its own, which is neither sent nor averaged.

    Raises
    ------
    InputError
        If a number is out of its range, a name is unknown, or the optimizer is refused.
    """

    epochs: int = 1
    batch_size: int = 32
    drop_last: bool | Literal["single"] = False
    learning_rate: float = 0.02
    schedule: Schedule | None = None
    optimizer: Given = "adam"
    clip_norm: float | None = None
    proximal: float = 0.0
    ditto: float = 0.0
    scaler: bool = False
    batch_norm: Literal["static", "per_width"] = "static"
    output_bias: Literal["shared", "local"] = "shared"

    def __post_init__(self) -> None:
        check_whole(epochs=self.epochs, batch_size=self.batch_size)
        rate = self.learning_rate
        if not _is_positive(rate):
            raise InputError(f"learning_rate = {rate} must be positive and finite")
        if self.drop_last != "single" and not isinstance(self.drop_last, bool):
            raise InputError(f'drop_last = {self.drop_last!r} must be False, True or "single"')
        if self.schedule is not None and not callable(self.schedule):
            raise InputError(
                f"schedule is a {type(self.schedule).__name__}: give CosineDecay(...), "
                "StepDecay(...), a function of the round, or None"
            )
        check_optimizer(self.optimizer, rate)
        if self.clip_norm is not None and not _is_positive(self.clip_norm):
            raise InputError(
                f"clip_norm = {self.clip_norm} must be positive and finite; None clips nothing"
            )
        for name, pull in (("proximal", self.proximal), ("ditto", self.ditto)):
            if not _is_positive(pull) and pull != 0:
                raise InputError(f"{name} = {pull} must be at least 0 and finite")
        check_choice("batch_norm", self.batch_norm, BATCH_NORMS)
        check_choice("output_bias", self.output_bias, OUTPUT_BIASES)
        if self.ditto and self.output_bias == "local":
            raise InputError(
                f"ditto = {self.ditto} gives each client a model of its own, its output bias "
                'included: use output_bias="shared", or ditto=0'
            )

    def used(self, samples: int) -> int:
        """How many of a client's samples train in an epoch: all, or those of the batches kept."""
        last = samples % self.batch_size
        least = {False: 1, "single": 2, True: self.batch_size}[self.drop_last]
        return samples - last if last < least else samples

    def is_own(self, number: int) -> bool:
        """Whether clients train models of their own in a round, from 0."""
        return bool(self.ditto) and number % 2 == 1

    def rate(self, number: int) -> float:
        """Step size in a round.

        Raises
        ------
        InputError
            If the schedule gives no factor for it.
        """
        if self.schedule is None:
            return self.learning_rate
        factor = self.schedule(number)
        if not _is_positive(factor) and factor != 0:
            raise InputError(
                f"schedule gives {factor!r} in round {number}: the factor of the learning rate "
                "must be a finite number of at least 0"
            )
        return self.learning_rate * float(factor)


@dataclass(frozen=True, kw_only=True)
class Server:
    """How the server makes the next supernet of what the clients send.

    Attributes
    ----------
    aggregation : str
        "full", "selective" or another name in :data:`~hasa_opt.federated.averages.AGGREGATIONS`.
        See :func:`aggregate`.
    weight_power : float
        Clients weigh by their number of training samples to this power in the average: 1 is
        FedAvg, 0 weighs all alike.
    max_update_norm : float or None
        Largest Euclidean norm of one client's update, as a guard against garbage; None: any.
    optimizer : class with arguments, optional
        Takes a step from the old supernet, with the old minus the averaged one as the gradient;
        see :class:`~hasa_opt.federated.server_optimizer.ServerOptimizer`. It holds its learning
        rate: ``functools.partial(torch.optim.SGD, lr=1.0, momentum=0.9)`` is FedAvgM,
        ``partial(torch.optim.Adam, lr=0.01, eps=1e-3)`` FedAdam. Default: the average itself.

    Raises
    ------
    InputError
        If a name is unknown, the power is not from 0 to 2, the norm accepts nothing, or the
        optimizer is refused.
    """

    aggregation: str = "full"
    weight_power: float = 1.0
    max_update_norm: float | None = MAX_UPDATE_NORM
    optimizer: partial[Optimizer] | None = None

    def __post_init__(self) -> None:
        check_choice("aggregation", self.aggregation, AGGREGATIONS)
        power, norm = self.weight_power, self.max_update_norm
        if not (isinstance(power, Real) and 0 <= power <= 2):
            raise InputError(f"weight_power = {power} must be from 0 (all alike) to 2; 1 is FedAvg")
        if norm is not None and not _is_positive(norm):
            raise InputError(
                f"max_update_norm = {norm} must be positive and finite; None accepts any finite "
                "update"
            )
        if self.optimizer is not None:
            check_optimizer(self.optimizer, rate=None)

    def fitting(self, subnets: Subnets) -> Server:
        """The same; where clients hold different blocks, averaged over those who hold a unit."""
        return replace(self, aggregation="selective") if subnets.has_blocks else self


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Which model each client is tested on after a round.

    Attributes
    ----------
    on : {"subnet", "supernet", "personal"}
        The new supernet cut to the units that the client's scheme chooses ("subnet"), uncut
        ("supernet", as is usual for the schemes "rolling" and "random"), or the client's personal
        subnet, ``global + interpolation (local - global)``, where local is the model that it
        trained last ("personal").
    also : tuple of {"supernet", "personal"}
        Further models whose test accuracy is measured.
    also_after : {"last", "every"}
        Whether those are measured after the last round or after every one.
    every : int
        Clients are tested after each so many rounds, and after the last.
    clients : int or None
        Most clients that are tested after a round, the last one included, drawn anew for each;
        None: all that took part, and all registered ones after the last round.
    interpolation : float or "validation"
        Share of the local model in a personal one, from 0 to 1; "validation": chosen after each
        round from 0, 0.25, 0.5, 0.75 and 1 by the pooled validation accuracy; 0 without targets.

    Raises
    ------
    InputError
        If a name is unknown, a number is below 1, or the interpolation is not a share.
    """

    on: Literal["subnet", "supernet", "personal"] = "subnet"
    also: Collection[Literal["supernet", "personal"]] = ()
    also_after: Literal["last", "every"] = "last"
    every: int = 1
    clients: int | None = None
    interpolation: float | Literal["validation"] = INTERPOLATION

    def __post_init__(self) -> None:
        check_choice("on", self.on, MODELS_TESTED)
        given = (self.also,) if isinstance(self.also, str) else tuple(self.also)
        for name in given:
            check_choice("also", name, ALSO_TESTED)
        object.__setattr__(self, "also", tuple(name for name in ALSO_TESTED if name in given))
        check_choice("also_after", self.also_after, ALSO_AFTER)
        check_whole(every=self.every)
        if self.clients is not None:
            check_whole(clients=self.clients)
        share = self.interpolation
        if not (isinstance(share, (int, float)) and 0 <= share <= 1) and share != "validation":
            raise InputError(f'interpolation = {share!r} must be from 0 to 1, or "validation"')

    @property
    def keeps_models(self) -> bool:
        """Whether clients keep the model that they trained last."""
        return "personal" in (self.on, *self.also)

    def due(self, number: int, last: bool) -> bool:
        """Whether clients are tested after a round, counted from 0."""
        return last or (number + 1) % self.every == 0

    def also_now(self, last: bool) -> Collection[str]:
        """Further models that are tested after a round, which may be the last."""
        return self.also if last or self.also_after == "every" else ()


@dataclass(frozen=True)
class Checkpoint:
    """Where the last two rounds of a run are kept.

    Attributes
    ----------
    directory : path
        Each round is a history in it that :meth:`History.load` reads.
    resume : bool
        Go on after the last round in the directory, or begin where there is none. All arguments
        must be those of the run that wrote it; ``rounds`` may be larger.
    """

    directory: str | PathLike[str]
    resume: bool = False

    @classmethod
    def read(cls, given: str | PathLike[str] | Checkpoint | None) -> Checkpoint | None:
        """Read the argument of a run: a directory is one to begin in.

        Raises
        ------
        InputError
            If it is neither.
        """
        if given is None or isinstance(given, Checkpoint):
            return given
        if isinstance(given, (str, PathLike)):
            return cls(given)
        raise InputError(
            f"checkpoint is a {type(given).__name__}: give a directory, "
            "Checkpoint(directory, resume=True), or None"
        )


def check_whole(**given: object) -> None:
    """Refuse what is no whole number of at least 1.

    Raises
    ------
    InputError
        Naming the first.
    """
    for name, value in given.items():
        if not isinstance(value, (int, np.integer)) or value < 1:
            raise InputError(f"{name} = {value} must be an integer of at least 1")


def _is_positive(value: object) -> bool:
    """Whether a value is a number that is finite and above 0."""
    return isinstance(value, Real) and math.isfinite(value) and float(value) > 0


def check_choice(what: str, value: object, known: Collection[str]) -> None:
    """Refuse a name that is not among those known.

    Raises
    ------
    InputError
        Listing the names.
    """
    if not isinstance(value, str) or value not in known:
        raise InputError(f"unknown {what} {value!r}: use one of {tuple(known)}")


def check_blocks(subnets: Subnets, server: Server) -> None:
    """Refuse to shrink the updates of clients who have units of their own.

    Raises
    ------
    InputError
        If clients hold different blocks, and the server fills what a client does not hold.
    """
    if subnets.has_blocks and server.aggregation == "full":
        raise InputError(
            'the clients hold different blocks of units, and aggregation = "full" averages each '
            "unit over all clients, those included who do not hold it: use "
            'Server(aggregation="selective")'
        )


def check_run(model: SupernetModel, task: Task, rounds: int, *seeds: int) -> None:
    """Refuse a run that cannot start: what neither a settings object nor an allocation knows.

    Raises
    ------
    InputError
        If the model, the task, the rounds or a seed is invalid, or the model does not fit the
        task.
    """
    if not isinstance(model, SupernetModel):
        raise no_supernet(model)
    expect(task, Task, "task", package="hasa_opt.tasks")
    for name, value, least in (("rounds", rounds, 1), *(("seed", seed, 0) for seed in seeds)):
        if not isinstance(value, (int, np.integer)) or value < least:
            raise InputError(f"{name} = {value} must be an integer of at least {least}")
    check_fit(model, task)
