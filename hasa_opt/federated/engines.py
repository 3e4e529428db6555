"""The batched engine: clients whose subnets have equal sizes train together.

The loss of a step is the sum of the clients' mean losses, so that one backward pass gives every
client its own gradient. Client by client the steps are those of the sequential engine: the same
batches in the same order, the same dropout masks, an optimizer whose state is the client's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from hasa_opt.federated.alone import FASTER, not_reproduced, raised, why_alone
from hasa_opt.federated.batches import DropoutShapes, StackedDropout, windowed
from hasa_opt.federated.jobs import Engine, Failure, Job, LocalResult, Report
from hasa_opt.federated.local import train_alone
from hasa_opt.federated.settings import LocalTraining
from hasa_opt.federated.stacked_batches import StackedBatches, count_steps
from hasa_opt.federated.stacks import Stack, find_stack, group_of
from hasa_opt.federated.stepper import Stepper
from hasa_opt.federated.units import Extraction, Recent
from hasa_opt.models.inputs import each, tensors
from hasa_opt.models.profile import training_flops
from hasa_opt.models.states import ties
from hasa_opt.models.supernet import SupernetModel

__all__ = ["ENGINES", "Engine", "Job", "Report", "auto", "batched", "sequential"]


MOST = 64
"""Clients that are stacked at a time, at most: so that several processes have something to do where
all clients are alike, and the bits are the same for any number of them. Measured with 100 clients,
two stacks of 50 took 1.03 (a CNN) to 1.3 (a network of 64 units) of the time of one of 100."""

WINDOW_JOBS = 256
"""Jobs among which equal ones are looked for: a choice, a few dozen for each width of a menu."""

WINDOW_BYTES = 2**28
"""Most bytes of samples and trained weights that these jobs may hold; one job always may. A choice:
256 MB beside the model and the data."""

CHUNK_BYTES = 2**25
"""Most bytes of weights that are stacked at a time; two clients always are. A choice: 32 MB, which
with gradients and the optimizer's state become four times as much."""

BUSY_FLOPS = 10**8
"""Operations of one client's step above which "auto" stacks nothing on a CPU. Measured with ten
clients on one thread, stacked training took 0.3 to 0.6 of the time at 10**6 to 5 * 10**6
operations, 0.8 at 1.6 * 10**7, and as much or more from 6 * 10**7 on."""

AT_WORK = 3
"""Clients that must be at work in the average step of a stack for "auto" to train it together.
Measured with small networks, two clients took 0.8 of the time of training alone, three 0.7."""

_flops: WeakKeyDictionary[nn.Module, Recent[int]] = WeakKeyDictionary()


def batched(
    server: SupernetModel, jobs: Iterable[Job], settings: LocalTraining
) -> Iterator[Report | Failure]:
    """Train clients of equal width together, and by themselves those that have no equal.

    Each client's result is that of :func:`hasa_opt.federated.engines.sequential` but for rounding.
    ``Report.method`` says how a client was trained; models that cannot be stacked are trained one
    after another, as there.
    """
    return _run(server, jobs, settings, lambda extraction, members: len(members))


def auto(
    server: SupernetModel, jobs: Iterable[Job], settings: LocalTraining
) -> Iterator[Report | Failure]:
    """Train together where that is faster, by a rule that the jobs alone decide.

    On a CPU, clients whose steps take more than :data:`BUSY_FLOPS` are trained one after another.
    So are those with the most samples, until :data:`AT_WORK` of the others are at work on average.
    """

    def stacked(extraction: Extraction, members: Sequence[Job]) -> int:
        first = members[0]
        given = first.split.inputs
        sample = each(lambda part: torch.zeros_like(part[:1]), given)  # Its shape is counted.
        devices = {part.device.type for part in tensors(given)}
        if devices == {next(server.parameters()).device.type} == {"cpu"}:
            flops = _flops.setdefault(server, Recent()).get(
                group_of(extraction, first), lambda: training_flops(server, first.width, sample)
            )
            if flops * min(settings.batch_size, len(members[-1].split)) > BUSY_FLOPS:
                return 0
        steps = [count_steps(job, settings) for job in members]
        count = len(steps)
        while count and sum(steps[:count]) < AT_WORK * steps[count - 1]:
            count -= 1
        return count

    return _run(server, jobs, settings, stacked)


def _run(
    server: SupernetModel,
    jobs: Iterable[Job],
    settings: LocalTraining,
    stacked: Callable[[Extraction, Sequence[Job]], int],
) -> Iterator[Report | Failure]:
    """Train window by window; ``stacked`` says how many of equal jobs, in rising size, to stack."""
    extraction = Extraction(server)
    for window in windows(jobs, extraction):
        answers: dict[Job, Report | Failure] = {}
        for equal in parts(window, extraction):
            count = stacked(extraction, equal)
            trained = chain(
                _train_together(extraction, equal[:count], settings),
                train_alone(extraction, equal[count:], settings, FASTER),
            )
            answers |= {answer.job: answer for answer in trained}
        for job in window:
            yield answers.pop(job)


def windows(jobs: Iterable[Job], extraction: Extraction) -> Iterator[list[Job]]:
    """Take as many jobs at a time as may be held in memory."""

    def held(job: Job) -> int:
        return job.split.nbytes + extraction.place(job.kept).n_bytes

    return windowed(jobs, held, WINDOW_BYTES, WINDOW_JOBS)


def parts(window: Sequence[Job], extraction: Extraction) -> list[list[Job]]:
    """Part the jobs into those that are stacked, if they can be, the smallest splits first."""
    groups: dict[object, list[Job]] = {}
    for job in sorted(window, key=lambda job: len(job.split) * (job.epochs or 1)):
        groups.setdefault(group_of(extraction, job), []).append(job)
    return [part for equal in groups.values() for part in _evenly(equal)]


def _evenly(equal: Sequence[Job]) -> Iterator[list[Job]]:
    """Part equal jobs into as few parts as may be, of nearly equal numbers."""
    ends = np.linspace(0, len(equal), -(-len(equal) // MOST) + 1).round().astype(int).tolist()
    for begin, end in pairwise(ends):
        yield list(equal[begin:end])


def _train_together(
    extraction: Extraction, jobs: Sequence[Job], settings: LocalTraining
) -> Iterator[Report | Failure]:
    """Train stackable jobs, as many at a time as may be, the smallest splits first.

    Jobs whose stack raises an exception are trained one after another, which shows whose it is.
    """
    if not jobs:
        return
    reason = why_alone(extraction.server, jobs, settings)
    found = None if reason else find_stack(extraction, jobs[0])
    if found is None:
        reason = reason or not_reproduced(extraction.server)
        yield from train_alone(extraction, jobs, settings, reason)
        return
    method, stack = found
    most = max(2, CHUNK_BYTES // max(1, extraction.place(jobs[0].kept).n_bytes))
    for begin in range(0, len(jobs), most):
        chunk = jobs[begin : begin + most]
        try:
            reports = list(_train_stack(extraction, stack, method, chunk, settings))
        except Exception as error:  # Whatever the samples of one client make the model raise.
            yield from train_alone(extraction, chunk, settings, raised(error))
        else:
            yield from reports


def _train_stack(
    extraction: Extraction, stack: Stack, method: str, jobs: Sequence[Job], settings: LocalTraining
) -> Iterator[Report]:
    """Train all jobs at once; their time is shared out by their steps."""
    start = time.perf_counter()
    plan = StackedBatches(jobs, settings, next(extraction.server.parameters()).device)
    chosen = [jobs[client] for client in plan.order]
    weights = _stacked_weights(extraction, chosen)
    dropout = StackedDropout(plan.seeds, lambda length: _shapes(extraction, jobs[0], length))
    losses = _fit(stack, plan, weights, dropout, settings, number=jobs[0].key[1])
    stack.fill({name: tensor[:0].clone() for name, tensor in weights.items()})  # Lets go of them.
    seconds = (time.perf_counter() - start) * plan.n_steps / plan.n_steps.sum()
    each = {name: tensor.unbind() for name, tensor in weights.items()}
    places = np.argsort(plan.order)
    for job, place in zip(jobs, places.tolist(), strict=True):
        state = {name: parts[place] for name, parts in each.items()}
        trained = {job.width: settings.used(len(job.split)) * job.settings(settings).epochs}
        steps = int(plan.n_steps[place])
        result = LocalResult(losses[place], float(seconds[place]), steps, trained)
        yield Report(job, state, result, method)


def _fit(
    stack: Stack,
    plan: StackedBatches,
    weights: Mapping[str, Tensor],
    dropout: StackedDropout,
    settings: LocalTraining,
    number: int,
) -> list[float]:
    """Train weights of shape (clients, ...) in place; returns each client's mean loss.

    The clients with the most steps come first, so those at work are a leading part of the stack,
    and what has been trained to the end is not touched any more.
    """
    losses = torch.zeros(len(plan.n_steps), dtype=torch.float64, device=plan.n_targets.device)
    stepper: Stepper | None = None
    parameters: list[Tensor] = []
    at_work = 0
    for batch in plan:
        if stepper is None or len(batch.inputs) < at_work:
            at_work = len(batch.inputs)
            held = stack.fill({name: tensor[:at_work] for name, tensor in weights.items()})
            parameters = _parameters(held)
            if stepper is None:
                stepper = Stepper(parameters, settings, number, stacked=True)
            else:
                stepper.keep(parameters)
        dropout.begin(batch.shapes)
        summed = stack.losses(batch.inputs, batch.targets, dropout)
        for parameter in parameters:
            parameter.grad = None
        mean = batch.n_targets.clamp(min=1).to(summed).reciprocal()
        summed.backward(mean)  # type: ignore[no-untyped-call]
        stepper.step()
        losses[:at_work].add_(summed.detach())
    return (losses / plan.n_targets.sum(1)).tolist()


def _parameters(held: Mapping[str, Tensor]) -> list[Tensor]:
    """List what is trained; tied parameters once."""
    return list({id(p): p for p in held.values() if isinstance(p, nn.Parameter)}.values())


def _stacked_weights(extraction: Extraction, jobs: Sequence[Job]) -> dict[str, Tensor]:
    """Copy the weights of all jobs' subnets, shape (clients, ...); tied ones are one tensor."""
    places = [extraction.place(job.kept) for job in jobs]
    if all(place is places[0] for place in places) and not any(job.local for job in jobs):
        only = extraction.weights(jobs[0])
        stacked = {name: torch.stack([tensor] * len(jobs)) for name, tensor in only.items()}
    else:
        each = [extraction.weights(job) for job in jobs]
        stacked = {name: torch.stack([weights[name] for weights in each]) for name in each[0]}
    return stacked | {name: stacked[first] for name, first in ties(extraction.server).items()}


@torch.no_grad()
def _shapes(extraction: Extraction, job: Job, length: int) -> list[tuple[int, ...]]:
    """List the shapes that dropout is given for one sequence of a length, call by call."""
    subnet = extraction.cut(job).train()
    sample = job.split.tensor[:1, :length].to(next(subnet.parameters()).device)
    noted = DropoutShapes()
    with noted:
        subnet(sample)
    return noted.shapes


def sequential(
    server: SupernetModel, jobs: Iterable[Job], settings: LocalTraining
) -> Iterator[Report | Failure]:
    """Train one client after another: the reference for every other engine."""
    return train_alone(Extraction(server), jobs, settings)


ENGINES: dict[str, Engine] = {"sequential": sequential, "batched": batched, "auto": auto}
"""Name of each engine -> its function."""
