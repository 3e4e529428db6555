"""The federated loop: broadcast, local training, aggregation and evaluation, round by round."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray
from hasa_opt._utils.files import sha256
from hasa_opt.errors import InputError
from hasa_opt.federated.aggregation import Screen, Update
from hasa_opt.federated.batch_norm import start_statistics
from hasa_opt.federated.checkpoint import Checkpoints, deferred_interrupt
from hasa_opt.federated.costs import Costs
from hasa_opt.federated.engines import ENGINES, Job, Report
from hasa_opt.federated.evaluation import Deployments, Personal
from hasa_opt.federated.history import History
from hasa_opt.federated.jobs import LocalTraining
from hasa_opt.federated.participation import Faults, corrupted, draw_clients
from hasa_opt.federated.rounds import Record, Round, merge
from hasa_opt.federated.settings import (
    HasWidths,
    check_arguments,
    check_deployment,
    check_robustness,
    check_sample,
    check_weight_power,
    named,
    read_means,
    read_widths,
)
from hasa_opt.federated.units import SCHEMES, Draw, find_draw
from hasa_opt.models.subnets import prefix
from hasa_opt.models.supernet import SupernetModel

if TYPE_CHECKING:
    from torch import Tensor

    from hasa_opt.tasks import Task


def run(
    model: SupernetModel,
    task: Task,
    allocation: npt.ArrayLike | HasWidths,
    *,
    rounds: int,
    local_epochs: int = 1,
    batch_size: int = 32,
    learning_rate: float = 0.02,
    optimizer: Literal["adam", "sgd"] = "adam",
    aggregation: Literal["full", "selective"] = "full",
    evaluate: Literal["subnet", "supernet"] = "subnet",
    scheme: str = "prefix",
    engine: str = "sequential",
    scaler: bool = False,
    batch_norm: Literal["static", "per_width"] = "static",
    sample: int | None = None,
    mean_widths: npt.ArrayLike | None = None,
    weight_power: float = 1.0,
    output_bias: Literal["shared", "local"] = "shared",
    deploy: Literal["global", "personal"] = "global",
    mix: float | Literal["validation"] = 0.75,
    other_deployments: Literal["never", "last", "every"] = "never",
    faults: Faults | None = None,
    max_norm: float | None = 1e6,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    on_round: Callable[[int, Mapping[str, npt.NDArray[Any]]], None] | None = None,
) -> History:
    """Train one supernet across all clients, each at its own fixed width.

    Each round, every client trains the subnet of its width from the server's weights, and the
    server averages the subnets by training samples (HASA, arXiv:2606.07621). The result depends
    on the arguments alone: neither on the caller's random state nor on what ran before. Only the
    number of torch threads may change its last digits.

    An update with NaN or infinity, of a wrong shape, or beyond ``max_norm`` is rejected and named
    in ``History.events``. A round of which no update is left keeps the model, with a warning.

    With a ``checkpoint``, the first Ctrl-C lets the round end, and raises KeyboardInterrupt once
    it is stored; the second raises at once. A run that ended in any way, kill -9 included, goes on
    with ``resume=True`` and ends with the bits of one that was never interrupted.

    Parameters
    ----------
    model
        Architecture and initial weights; it is not changed.
    task
        The clients' data.
    allocation
        Widths in (0, 1], shape (n_clients,), or an object with such ``widths``.
    rounds
        Number of communication rounds.
    local_epochs, batch_size, learning_rate, optimizer, scaler
        See :class:`LocalTraining`.
    aggregation
        See :func:`aggregate`.
    evaluate
        Test each client on the new supernet cut to the units that its scheme chooses ("subnet") or
        uncut ("supernet", as is usual for "rolling" and "random").
    scheme
        Which units a subnet is made of; name in :data:`hasa_opt.federated.SCHEMES`.
    engine
        How the clients are trained; name in :data:`hasa_opt.federated.ENGINES`.
    batch_norm
        Which running statistics tested models use, if there are BatchNorm layers: re-estimated
        ("static") or those of their width ("per_width"); see
        :mod:`hasa_opt.federated.batch_norm`.
    sample
        Clients drawn in each round, uniformly and without replacement; None: all. Only those are
        trained and evaluated; after the last round all are evaluated.
    mean_widths
        With the scheme "ordered_dropout": mean of the widths that each client's batches train,
        shape (n_clients,). They are drawn by :class:`hasa_opt.federated.MirroredWidths`; None: from
        five widths, as in FjORD.
    weight_power
        Clients weigh by their number of training samples to this power in the average: 1 is
        FedAvg, 0 weighs all alike.
    output_bias
        "local": each client trains an output bias of its own, which is neither sent nor averaged.
    deploy
        What a client is tested on: the "global" model, or its "personal" subnet,
        ``global + mix (local - global)``, where local is the model that it trained last.
    mix
        Share of the local model in a personal one, from 0 to 1; "validation": chosen after each
        round from 0, 0.25, 0.5, 0.75 and 1 by the pooled validation accuracy; 0 without targets.
    other_deployments
        When clients are also tested on the uncut supernet and on their personal subnets: never,
        after the "last" round or after "every" one.
    faults
        Clients that drop out, are late or send garbage; None: none.
    max_norm
        Largest Euclidean norm of one client's update, as a guard against garbage; None: any.
    seed
        Drives sample order, dropout, the clients drawn and their faults; at least 0.
    checkpoint
        Directory in which the last two rounds are kept, each a history that
        :meth:`History.load` reads; None: nothing is stored.
    resume
        Go on after the last round in ``checkpoint``, or begin where there is none. All arguments
        must be those of the run that wrote it; ``rounds`` may be larger.
    on_round
        Called after each round, once it is stored, with its number, from 0, and its row of the
        history. Not called again for the rounds before a resumed one.

    Raises
    ------
    InputError
        If an argument is invalid, the model does not fit the task, or the checkpoint is damaged or
        of another run; no training has started then.
    StorageError
        If a checkpoint cannot be written; the one before it is intact.
    """
    settings = LocalTraining(local_epochs, batch_size, learning_rate, optimizer, scaler, batch_norm)
    widths = read_widths(allocation, task)
    check_arguments(model, task, rounds, aggregation, evaluate, seed)
    check_sample(task, sample)
    check_robustness(task, faults, max_norm, checkpoint, resume)
    check_deployment(evaluate, output_bias, deploy, mix, other_deployments)
    check_weight_power(weight_power)
    named(SCHEMES, "scheme", scheme)
    train = named(ENGINES, "engine", engine)
    draws = _draws(model, task, scheme, widths, mean_widths)
    personal = Personal(
        model,
        local_bias=output_bias == "local",
        keep_models=deploy == "personal" or other_deployments != "never",
    )
    costs = Costs(model, local_epochs, personal.local)
    costs.check(task, widths)
    faults = faults or Faults()
    statistics = start_statistics(model, task, settings)
    deployments = Deployments(
        task, widths, scheme, evaluate, deploy, mix, other_deployments, statistics, personal
    )
    metadata = describe_model(model) | _describe(task) | asdict(settings)
    metadata |= {"rounds": rounds, "seed": seed, "aggregation": aggregation, "evaluate": evaluate}
    metadata |= {"scheme": scheme, "engine": engine, "weight_power": float(weight_power)}
    metadata |= {"output_bias": output_bias, "deploy": deploy, "mix": mix}
    metadata |= {"other_deployments": other_deployments}
    metadata |= {"mean_widths": None if mean_widths is None else np.asarray(mean_widths).tolist()}
    metadata |= {"sample": sample, "faults": faults.record(), "max_norm": max_norm}
    server, record = copy.deepcopy(model), Record(widths, metadata)
    with _storage(checkpoint, resume) as (store, interrupted):
        if store is not None and (past := store.newest(metadata, widths)) is not None:
            _take_weights(server, past.weights, checkpoint)
            personal.load(past.clients)
            record.take(past)
        for number in range(len(record.rows), rounds):
            now = Round(seed, number, len(task), draw_clients(len(task), sample, (seed, number)))
            jobs = _jobs(server, task, widths, scheme, draws, personal, faults, costs, now)
            reports = train(server, jobs, settings)
            screen = Screen(server, max_norm)
            updates = _updates(reports, weight_power, personal, faults, screen, costs, now)
            merge(server, statistics.collect(updates), aggregation, personal.local, now)
            last = number == rounds - 1
            measured = np.arange(len(task)) if last else now.clients
            deployments.measure(server, measured, now, last)
            if last:
                statistics.fill(server, prefix(server, 1.0))
            record.add(now)
            if store is not None:
                store.save(record.history(server, personal.state()))
            if on_round is not None:
                on_round(number, now.row)
            if interrupted():
                raise KeyboardInterrupt(
                    f"round {number + 1} of {rounds} is stored in {checkpoint}: resume=True goes on"
                )
    return record.history(server, personal.state())


@contextmanager
def _storage(
    checkpoint: str | Path | None, resume: bool
) -> Iterator[tuple[Checkpoints | None, Callable[[], bool]]]:
    """Open the checkpoints; while there are any, Ctrl-C waits for the end of the round."""
    if checkpoint is None:
        yield None, lambda: False
        return
    notice = "The round is finished and stored first; Ctrl-C again stops at once."
    with Checkpoints.open(checkpoint, resume=resume) as store, deferred_interrupt(notice) as stop:
        yield store, stop


def _take_weights(
    server: SupernetModel, weights: Mapping[str, Tensor], checkpoint: str | Path | None
) -> None:
    """Go on with the weights of a checkpoint."""
    try:
        server.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(
            f"{checkpoint} holds the weights of another model ({error}): give the model of that "
            "run, or choose another directory"
        ) from error


def _draws(
    model: SupernetModel,
    task: Task,
    scheme: str,
    widths: FloatArray,
    mean_widths: npt.ArrayLike | None,
) -> list[Draw | None]:
    """Find what draws the width of each client's batches; None where all train the subnet."""
    if mean_widths is None:
        return [find_draw(model, scheme)] * len(task)
    means = read_means(mean_widths, task, scheme, widths)
    return [find_draw(model, scheme, mean) for mean in means.tolist()]


def _jobs(
    server: SupernetModel,
    task: Task,
    widths: FloatArray,
    scheme: str,
    draws: Sequence[Draw | None],
    personal: Personal,
    faults: Faults,
    costs: Costs,
    now: Round,
) -> Iterator[Job]:
    """Say what each client that takes part has to do; one split is loaded at a time."""
    for client in now.clients.tolist():
        own = (now.seed, now.number, client)
        fate = faults.fate(own)
        if fate == "dropped":
            now.note(client, "dropped", "it took no part in the round")
            continue
        width, split = widths[client], task.train[client]
        for name in ("bytes_down", "bytes_up"):
            now.row[name][client] = costs.transfer(width)
        if fate == "late":
            now.row["flops"][client] = costs.flops(split.inputs, costs.planned(width, split))
            now.note(client, "late", "its update came when the round was closed")
            continue
        kept = SCHEMES[scheme](server, width, own)
        yield Job(client, width, kept, split, own, draws[client], personal.own(client))


def _updates(
    trained: Iterable[Report],
    weight_power: float,
    personal: Personal,
    faults: Faults,
    screen: Screen,
    costs: Costs,
    now: Round,
) -> Iterator[Update]:
    """Note each client's result and yield its update if it is sound, so that one state is held."""
    for report in trained:
        job, result = report.job, report.result
        now.row["train_loss"][job.client] = result.loss
        now.row["seconds"][job.client] = result.seconds
        now.row["mean_width"][job.client] = costs.mean_width(result.trained)
        now.row["flops"][job.client] = costs.flops(job.split.inputs, result.trained)
        garbage = faults.fate(job.key) == "corrupt"
        state = corrupted(report.state, job.key) if garbage else report.state
        update = Update(job.width, len(job.split) ** weight_power, state, job.kept)
        fault = screen.fault(update)
        if fault is None:
            personal.take(job.client, state, job.kept)
            yield update
        else:
            now.note(job.client, "rejected", fault)


def describe_model(model: SupernetModel) -> dict[str, Any]:
    """Describe a supernet and its initial weights in terms that JSON can hold."""
    weights = model.state_dict().values()
    return {
        "model": type(model).__name__,
        "sizes": dict(model.sizes),
        "architecture sha256": model.architecture,
        "initial weights sha256": sha256(tensor.numpy(force=True) for tensor in weights),
    }


def _describe(task: Task) -> dict[str, Any]:
    """Describe the data in terms that JSON can hold."""
    return {
        "task": task.name,
        "client_names": list(task.client_names),
        "samples": task.samples.tolist(),
        "data sha256": task.checksum,
        "fingerprint": dict(task.fingerprint),
    }
