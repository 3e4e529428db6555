"""The federated loop: rounds of local training, aggregation and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from os import PathLike
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.showing import in_a_word
from hasa_opt.errors import InputError
from hasa_opt.federated.allocating import Allocating, Allocator, Decided, is_allocator
from hasa_opt.federated.checkpoint import Checkpoints, deferred_interrupt
from hasa_opt.federated.client_tests import ClientTests
from hasa_opt.federated.execution import Execution, check_groups
from hasa_opt.federated.federation import Federation
from hasa_opt.federated.history import History
from hasa_opt.federated.identity import describe_run
from hasa_opt.federated.measurements import titled
from hasa_opt.federated.participation import Participation
from hasa_opt.federated.record import Record
from hasa_opt.federated.rounds import Round
from hasa_opt.federated.settings import (
    Checkpoint,
    Evaluation,
    LocalTraining,
    Server,
    check_choice,
    check_run,
)
from hasa_opt.federated.units import SCHEMES
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.policies.subnets import Subnets
from hasa_opt.problem.matching import client_widths
from hasa_opt.problem.result import Allocation
from hasa_opt.tasks.task import Task

OnRound = Callable[[int, Mapping[str, npt.NDArray[Any]]], None]


class HasWidths(Protocol):
    """An allocation: anything that knows one width per client."""

    @property
    def widths(self) -> npt.ArrayLike:
        """Widths of the clients, shape (n_clients,)."""


def run(
    model: SupernetModel,
    task: Task,
    allocation: npt.ArrayLike | Mapping[str, float] | HasWidths | Subnets | Allocator,
    *,
    rounds: int,
    training: LocalTraining = LocalTraining(),
    server: Server = Server(),
    evaluation: Evaluation = Evaluation(),
    participation: Participation = Participation(),
    execution: Execution = Execution(),
    checkpoint: str | PathLike[str] | Checkpoint | None = None,
    on_round: OnRound | None = None,
    seed: int = 0,
) -> History:
    """Train one supernet across all clients, each at its own width.

    Each round, every client trains the subnet of its width from the server's weights, and the
    server averages the subnets by training samples (HASA, arXiv:2606.07621). The result depends on
    the arguments alone; torch's threads may change its last digits.

    With a ``checkpoint``, the first Ctrl-C lets the round end, and raises KeyboardInterrupt once
    it is stored; the second raises at once. A run that ended in any way, kill -9 included, goes on
    with ``Checkpoint(directory, resume=True)``, to the bits of one that was never interrupted.

    Parameters
    ----------
    model : SupernetModel
        Architecture and initial weights; it is not changed.
    task : Task
    allocation : (n_clients,) floats in (0, 1], mapping, Allocation, Subnets or Allocator
        Widths in the order of the clients, or by name; subnets, which also say which units they
        take; or an :class:`Allocator`, which is asked again while the clients train.
    rounds : int
    training, server, evaluation, participation, execution : settings objects
        How clients train, how the server averages, which model each client is tested on, who
        takes part in a round, and how the clients are trained.
    checkpoint : path or Checkpoint, optional
        Directory that keeps the last two rounds, each for :meth:`History.load`. Default: none.
    on_round : callable, optional
        Called after each new round, once it is stored, with its number, from 0, and its row.
    seed : int
        Drives sample order, dropout, the clients drawn and their faults; at least 0.

    Raises
    ------
    InputError
        If an argument is invalid, the model does not fit the task, or the checkpoint is damaged or
        of another run; no training has started then.
    StorageError
        If a checkpoint cannot be written; the one before it is intact.
    """
    check_run(model, task, rounds, seed)
    groups: dict[str, Any] = {"training": training, "server": server}
    groups |= {"evaluation": evaluation, "participation": participation}
    check_groups(**groups, execution=execution)
    execution.check_single()
    place, deciding = Checkpoint.read(checkpoint), _deciding(allocation, task, rounds)
    federation = Federation.begin(
        model, task, deciding.first, rounds, training, deciding.fitting(server), participation,
        seed, evaluation.keeps_models or deciding.keeps_models,
    )  # fmt: skip
    tests, engine = ClientTests(task, federation, evaluation), execution.start(federation.model)
    described = {"rounds": rounds, "seed": seed, "engine": execution.engine}
    described |= describe_run(model, task, deciding.first, **groups) | deciding.describe()
    deciding.join(federation)
    record = Record(deciding.first.last_of(rounds).widths, described)
    with _storage(place, federation, record, deciding) as (store, stop_if_interrupted):
        for number in range(len(record.rows), rounds):
            deciding.decide(number, federation, record)
            now = Round(federation, number)
            now.train(engine, task.train)
            now.close()
            tests.measure(now, last=number == rounds - 1)
            deciding.watch(now, tests.judge)
            record.add(now.row, now.events)
            store()
            _tell(on_round, now, task)
            stop_if_interrupted(number, rounds)
    return federation.history(record)


def _tell(on_round: OnRound | None, now: Round, task: Task) -> None:
    if on_round is not None:
        metric = task.problem.metric_name
        on_round(now.number, {titled(name, metric): now.row[name] for name in now.row})


def _deciding(allocation: Any, task: Task, rounds: int) -> Allocating | Decided:
    """What says what clients train: an allocator that is asked again, or once and for all."""
    if is_allocator(allocation):
        return Allocating(allocation, partial(read_subnets, task=task), task.samples, rounds)
    return Decided(read_subnets(allocation, task))


def read_subnets(
    allocation: npt.ArrayLike | Mapping[str, float] | HasWidths | Subnets | Allocator, task: Task
) -> Subnets:
    """Read what each client of a task trains.

    Raises
    ------
    InputError
        If the allocation is for other clients, there is another number of widths, one is not in
        (0, 1], or the scheme is unknown.
    """
    if isinstance(allocation, Subnets):
        check_choice("scheme", allocation.scheme, SCHEMES)
        _check_number(allocation.widths, task)
        return allocation
    if is_allocator(allocation):
        raise InputError(
            f"{in_a_word(allocation)} is an allocator, which decides while clients train: give it "
            "to federated.run"
        )
    if isinstance(allocation, Allocation):
        return Subnets.of(allocation, task.client_names)
    given: Any = getattr(allocation, "widths", allocation)
    if isinstance(allocation, Mapping):
        given = client_widths(allocation, task.client_names, "the allocation")
    try:
        widths = np.array(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"the allocation holds no numbers ({error}): give widths") from error
    _check_number(widths, task)
    for client in np.flatnonzero(~((widths > 0) & (widths <= 1))):
        leave_out = "; to leave it out, give Subnets(widths, deployed=...)"
        remedy = leave_out if widths[client] == 0 else ""
        raise InputError(
            f"client {task.client_names[client]!r} has width {widths[client]}: widths must be in "
            f"(0, 1]{remedy}"
        )
    return Subnets(widths)


def _check_number(widths: npt.NDArray[np.float64], task: Task) -> None:
    if widths.shape != (len(task),):
        raise InputError(
            f"the allocation has shape {widths.shape}, but task {task.name!r} has "
            f"{len(task)} clients: give one width per client"
        )


@contextmanager
def _storage(
    place: Checkpoint | None,
    federation: Federation,
    record: Record,
    deciding: Allocating | Decided,
) -> Iterator[tuple[Callable[[], None], Callable[[int, int], None]]]:
    """Go on from a checkpoint, if there is one; while rounds are stored, Ctrl-C waits for the end.

    Yields
    ------
    tuple
        Stores the rounds so far; raises if Ctrl-C was pressed in the round.
    """
    if place is None:
        yield lambda: None, lambda number, rounds: None
        return
    notice = "The round is finished and stored first; Ctrl-C again stops at once."
    opened = Checkpoints.open(place.directory, resume=place.resume)
    with opened as store, deferred_interrupt(notice) as interrupted:
        past = store.newest(record.metadata, record.widths)
        if past is not None:
            federation.go_on(record, past, place.directory)
            deciding.go_on(federation, past)

        def stop_if_interrupted(number: int, rounds: int) -> None:
            if interrupted():
                raise KeyboardInterrupt(
                    f"round {number + 1} of {rounds} is stored in {place.directory}: resume=True "
                    "goes on"
                )

        yield lambda: store.save(federation.history(record)), stop_if_interrupted
