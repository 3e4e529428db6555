"""Arguments of a federated run: what is refused before any work."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from numbers import Real
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, expect
from hasa_opt.errors import InputError
from hasa_opt.federated.aggregation import AGGREGATIONS
from hasa_opt.federated.evaluation import DEPLOYMENTS, OTHERS, OUTPUT_BIASES
from hasa_opt.federated.participation import Faults
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.tasks.task import Task

EVALUATIONS = ("subnet", "supernet")

_Function = TypeVar("_Function")


class HasWidths(Protocol):
    """An allocation: anything that knows one width per client."""

    @property
    def widths(self) -> npt.ArrayLike:
        """Widths of the clients, shape (n_clients,)."""


def read_widths(allocation: npt.ArrayLike | HasWidths, task: Task) -> FloatArray:
    """Read one valid width per client, shape (n_clients,).

    Raises
    ------
    InputError
        If there is another number of them, or one is not in (0, 1].
    """
    given = getattr(allocation, "widths", allocation)
    try:
        widths = np.array(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"the allocation holds no numbers ({error}): give widths") from error
    if widths.shape != (len(task.train),):
        raise InputError(
            f"the allocation has shape {widths.shape}, but task {task.name!r} has "
            f"{len(task.train)} clients: give one width per client"
        )
    for client in np.flatnonzero(~((widths > 0) & (widths <= 1))):
        raise InputError(
            f"client {task.client_names[client]!r} has width {widths[client]}: widths must be in "
            "(0, 1]"
        )
    return widths


def check_arguments(
    model: SupernetModel, task: Task, rounds: int, aggregation: str, evaluate: str, seed: int
) -> None:
    """Refuse what cannot run.

    Raises
    ------
    InputError
        If an argument of :func:`run` is invalid or the model does not fit the task.
    """
    expect(model, SupernetModel, "model", package="hasa_opt.models")
    expect(task, Task, "task", package="hasa_opt.tasks")
    for name, value, least in (("rounds", rounds, 1), ("seed", seed, 0)):
        if not isinstance(value, (int, np.integer)) or value < least:
            raise InputError(f"{name} = {value} must be an integer of at least {least}")
    check_choice("aggregation", aggregation, AGGREGATIONS)
    check_choice("evaluation", evaluate, EVALUATIONS)
    if model.n_outputs != task.n_outputs:
        raise InputError(
            f"the model predicts {model.n_outputs} outputs, but task {task.name!r} has "
            f"{task.n_outputs}: build the model with {task.n_outputs}"
        )


def read_means(
    mean_widths: npt.ArrayLike, task: Task, scheme: str, widths: FloatArray
) -> FloatArray:
    """Read the mean of the widths that each client's batches train, shape (n_clients,).

    Raises
    ------
    InputError
        If the scheme draws no widths, or a mean is not within reach of the client's width.
    """
    if scheme != "ordered_dropout":
        raise InputError(
            f'mean_widths need the scheme "ordered_dropout", not {scheme!r}: leave them out'
        )
    means = read_widths(mean_widths, task)
    for client in np.flatnonzero((means > widths) | (2 * means <= widths)):
        raise InputError(
            f"client {task.client_names[client]!r} has mean width {means[client]} and width "
            f"{widths[client]}: the mean must be above half the width and at most the width"
        )
    return means


def check_deployment(
    evaluate: str, output_bias: str, deploy: str, mix: object, other_deployments: str
) -> None:
    """Refuse what clients cannot be tested on.

    Raises
    ------
    InputError
        Naming the argument.
    """
    check_choice("output_bias", output_bias, OUTPUT_BIASES)
    check_choice("deploy", deploy, DEPLOYMENTS)
    check_choice("other_deployments", other_deployments, OTHERS)
    if deploy == "personal" and evaluate == "supernet":
        raise InputError(
            'deploy="personal" mixes subnets, which evaluate="supernet" does not test: '
            'use evaluate="subnet"'
        )
    share = isinstance(mix, (int, float)) and 0 <= mix <= 1
    if not share and mix != "validation":
        raise InputError(f'mix = {mix!r} must be from 0 to 1, or "validation"')


def check_weight_power(power: float) -> None:
    """Refuse a power that gives no weights.

    Raises
    ------
    InputError
        If it is not from 0 to 2.
    """
    if not (isinstance(power, Real) and 0 <= power <= 2):
        raise InputError(f"weight_power = {power} must be from 0 (all alike) to 2; 1 is FedAvg")


def check_sample(task: Task, sample: int | None) -> None:
    """Refuse to draw another number of clients than there are.

    Raises
    ------
    InputError
        If the sample is no whole number from 1 to the number of clients.
    """
    whole = sample is None or isinstance(sample, (int, np.integer))
    if not whole or not 1 <= (len(task) if sample is None else sample) <= len(task):
        raise InputError(
            f"sample = {sample} must be a whole number from 1 to the {len(task)} clients, or None"
        )


def check_robustness(
    task: Task,
    faults: Faults | None,
    max_norm: float | None,
    checkpoint: str | Path | None,
    resume: bool,
) -> None:
    """Refuse what are no faults, a bound that accepts nothing, and a resumption from nowhere.

    Raises
    ------
    InputError
        Naming the argument.
    """
    if faults is not None and not isinstance(faults, Faults):
        raise InputError(f"faults is a {type(faults).__name__}: give Faults(dropout=...) or None")
    if faults is not None and max(faults.absent, default=0) >= len(task):
        raise InputError(
            f"faults.absent names client {max(faults.absent)}, but task {task.name!r} has clients "
            f"0 to {len(task) - 1}"
        )
    bounds = isinstance(max_norm, Real) and math.isfinite(max_norm) and max_norm > 0
    if max_norm is not None and not bounds:
        raise InputError(
            f"max_norm = {max_norm} must be positive and finite; None accepts any finite update"
        )
    if resume and checkpoint is None:
        raise InputError("resume=True needs the directory to go on from: give checkpoint=DIRECTORY")


def named(known: Mapping[str, _Function], what: str, name: str) -> _Function:
    """Find a function by its name.

    Raises
    ------
    InputError
        Listing the names, if there is none of this one.
    """
    check_choice(what, name, known)
    return known[name]


def check_choice(what: str, value: str, known: Collection[str]) -> None:
    """Refuse a name that is not among those known.

    Raises
    ------
    InputError
        Listing the names.
    """
    if not isinstance(value, str) or value not in known:
        raise InputError(f"unknown {what} {value!r}: use one of {tuple(known)}")
