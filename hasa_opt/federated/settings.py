"""How a federated run is done: small frozen objects of plain values, each checked when it is made.

They are grouped by noun, and whoever trains takes the same objects: :func:`run`, a study, a
forecast and the Flower app. What depends on a task is checked by ``check(task)``.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from numbers import Real
from os import PathLike
from typing import Literal

import numpy as np

from hasa_opt._utils.checks import expect
from hasa_opt.errors import InputError
from hasa_opt.federated.averages import AGGREGATIONS
from hasa_opt.federated.fit import check_fit
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.models.training import OPTIMIZERS
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
    optimizer : {"adam", "sgd"}
        Started anew in each round.
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
        If a number is not positive or a name is unknown.
    """

    epochs: int = 1
    batch_size: int = 32
    drop_last: bool | Literal["single"] = False
    learning_rate: float = 0.02
    optimizer: Literal["adam", "sgd"] = "adam"
    scaler: bool = False
    batch_norm: Literal["static", "per_width"] = "static"
    output_bias: Literal["shared", "local"] = "shared"

    def __post_init__(self) -> None:
        check_whole(epochs=self.epochs, batch_size=self.batch_size)
        rate = self.learning_rate
        if not (isinstance(rate, Real) and math.isfinite(rate) and rate > 0):
            raise InputError(f"learning_rate = {rate} must be positive and finite")
        if self.drop_last != "single" and not isinstance(self.drop_last, bool):
            raise InputError(f'drop_last = {self.drop_last!r} must be False, True or "single"')
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_choice("batch_norm", self.batch_norm, BATCH_NORMS)
        check_choice("output_bias", self.output_bias, OUTPUT_BIASES)

    def used(self, samples: int) -> int:
        """How many of a client's samples train in an epoch: all, or those of the batches kept."""
        last = samples % self.batch_size
        least = {False: 1, "single": 2, True: self.batch_size}[self.drop_last]
        return samples - last if last < least else samples


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

    Raises
    ------
    InputError
        If a name is unknown, the power is not from 0 to 2, or the norm accepts nothing.
    """

    aggregation: str = "full"
    weight_power: float = 1.0
    max_update_norm: float | None = MAX_UPDATE_NORM

    def __post_init__(self) -> None:
        check_choice("aggregation", self.aggregation, AGGREGATIONS)
        power, norm = self.weight_power, self.max_update_norm
        if not (isinstance(power, Real) and 0 <= power <= 2):
            raise InputError(f"weight_power = {power} must be from 0 (all alike) to 2; 1 is FedAvg")
        bounds = isinstance(norm, Real) and math.isfinite(norm) and norm > 0
        if norm is not None and not bounds:
            raise InputError(
                f"max_update_norm = {norm} must be positive and finite; None accepts any finite "
                "update"
            )


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


def check_choice(what: str, value: object, known: Collection[str]) -> None:
    """Refuse a name that is not among those known.

    Raises
    ------
    InputError
        Listing the names.
    """
    if not isinstance(value, str) or value not in known:
        raise InputError(f"unknown {what} {value!r}: use one of {tuple(known)}")


def check_run(model: SupernetModel, task: Task, rounds: int, *seeds: int) -> None:
    """Refuse a run that cannot start: what neither a settings object nor an allocation knows.

    Raises
    ------
    InputError
        If the model, the task, the rounds or a seed is invalid, or the model does not fit the
        task.
    """
    expect(model, SupernetModel, "model", package="hasa_opt.models")
    expect(task, Task, "task", package="hasa_opt.tasks")
    for name, value, least in (("rounds", rounds, 1), *(("seed", seed, 0) for seed in seeds)):
        if not isinstance(value, (int, np.integer)) or value < least:
            raise InputError(f"{name} = {value} must be an integer of at least {least}")
    check_fit(model, task)
