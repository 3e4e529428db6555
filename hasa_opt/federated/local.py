"""Local training: what one client does with its subnet in one round."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor, nn

from hasa_opt._utils.streams import derive_seed
from hasa_opt.federated.batch_norm import estimate_statistics
from hasa_opt.federated.batches import ClientDropout, epochs, output_layer, summed_loss
from hasa_opt.federated.jobs import Failure, Job, LocalResult, Report
from hasa_opt.federated.settings import LocalTraining
from hasa_opt.federated.stepper import Stepper
from hasa_opt.federated.units import Extraction, Recent
from hasa_opt.models.cuts import Kept
from hasa_opt.models.inputs import Inputs
from hasa_opt.models.seeding import seeded_rng
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.models.training import scaled
from hasa_opt.tasks.learning import CLASSES, LearningProblem
from hasa_opt.tasks.splits import Split


class Parts:
    """Cuts parts out of a subnet while it trains; the module of a width is built once.

    Parameters
    ----------
    subnet : SupernetModel
        The client's model.
    split : Split
        The client's training samples.
    """

    def __init__(self, subnet: SupernetModel, split: Split) -> None:
        self._subnet, self._split = subnet, split
        self._heads: Recent[nn.Linear | None] = Recent()

    @cached_property
    def _extraction(self) -> Extraction:
        return Extraction(self._subnet)

    @contextmanager
    def cut(self, kept: Kept) -> Iterator[tuple[SupernetModel, nn.Linear | None]]:
        """Cut a part out of the subnet, and hand its gradients back to the subnet afterwards.

        Coordinates that the part does not hold get a gradient of zero.

        Yields
        ------
        tuple
            The part with the subnet's weights of now, and its :func:`output_layer`.
        """
        mould, where = self._extraction.now(kept)
        yield mould.model, self._heads.get(mould, lambda: output_layer(mould.model, self._split))
        gradients = {name: parameter.grad for name, parameter in mould.model.named_parameters()}
        for name, parameter in self._subnet.named_parameters():
            gradient = gradients[name]
            if gradient is not None:
                parameter.grad = torch.zeros_like(parameter)
                where[name].write(parameter.grad, gradient)


def local_train(
    subnet: SupernetModel,
    split: Split,
    settings: LocalTraining,
    generator_key: tuple[int, int, int],
    width: float = 1.0,
    drawn: Iterator[tuple[float, Kept]] | None = None,
    problem: LearningProblem = CLASSES,
    towards: Mapping[str, Tensor] | None = None,
) -> LocalResult:
    """Train a subnet in place on a client's samples.

    Sample order and dropout depend on the key alone: neither on the caller's random state, which is
    left as it was, nor on the clients trained before.

    Parameters
    ----------
    subnet : SupernetModel
        The client's model, changed in place.
    split : Split
        The client's training samples.
    settings : LocalTraining
    generator_key : (int, int, int)
        (seed, round, client), each at least 0. The round is also that of the schedule.
    width : float
        Width of the subnet.
    drawn : iterator of (float, dict), optional
        For each batch the width of the part of the subnet that it trains, and the units of that
        part. Other coordinates get a gradient of zero. Default: each batch trains the whole subnet.
    problem : LearningProblem
        Whose loss is minimised. Default: the cross entropy of classes.
    towards : mapping of str to Tensor, optional
        What the proximal term pulls the parameters to. Default: the weights that it starts with.

    Returns
    -------
    LocalResult
    """
    seed = derive_seed(generator_key)
    parameters = list(subnet.parameters())
    pull = None if towards is None else [towards[name] for name, _ in subnet.named_parameters()]
    stepper = Stepper(parameters, settings, generator_key[1], towards=pull)
    total, n_targets, n_steps, trained = 0.0, 0, 0, Counter[float]()
    start = time.perf_counter()
    add_gradients = _gradients(subnet, split, settings, width, drawn, problem)
    subnet.train()
    problem.to(parameters[0].device)
    masks = ClientDropout(seed)
    with seeded_rng(seed), scaled(subnet, width if settings.scaler else 1.0):
        for inputs, targets in epochs(split, settings, seed, parameters[0].device):
            for parameter in parameters:
                parameter.grad = None
            with masks if masks.used or not n_steps else nullcontext():
                trains, loss, count = add_gradients(inputs, targets)
            stepper.step()
            total += loss
            n_targets += count
            n_steps += 1
            trained[trains] += len(targets)
    if settings.batch_norm == "per_width":
        estimate_statistics(
            subnet, [split], settings.batch_size, drop_single=bool(settings.drop_last)
        )
    mean_loss = total / n_targets if n_targets else math.nan
    return LocalResult(mean_loss, time.perf_counter() - start, n_steps, trained)


def _gradients(
    subnet: SupernetModel,
    split: Split,
    settings: LocalTraining,
    width: float,
    drawn: Iterator[tuple[float, Kept]] | None,
    problem: LearningProblem,
) -> Callable[[Inputs, Tensor], tuple[float, float, int]]:
    """Make what adds a batch's gradients: it gives the width that trains, and as _backward does."""
    if drawn is None:
        head = output_layer(subnet, split)
        return lambda inputs, targets: (width, *_backward(subnet, head, inputs, targets, problem))
    parts = Parts(subnet, split)

    def of_a_part(inputs: Inputs, targets: Tensor) -> tuple[float, float, int]:
        trains, kept = next(drawn)
        with parts.cut(kept) as (part, head), scaled(part, trains if settings.scaler else 1.0):
            return trains, *_backward(part, head, inputs, targets, problem)

    return of_a_part


def _backward(
    model: SupernetModel,
    head: nn.Linear | None,
    inputs: Inputs,
    targets: Tensor,
    problem: LearningProblem,
) -> tuple[float, int]:
    """Add the gradient of the mean loss; give the summed loss and the number of targets in it."""
    loss, count = summed_loss(model, head, inputs, targets, problem)
    (loss / max(1, count)).backward()  # type: ignore[no-untyped-call]
    return float(loss.detach()), count


def train_alone(
    extraction: Extraction,
    jobs: Iterable[Job],
    settings: LocalTraining,
    reason: str = "",
) -> Iterator[Report | Failure]:
    """Train each job's subnet by itself; nothing of a job is kept once its answer is taken.

    ``reason`` says why, where other jobs are trained together.
    """
    for job in jobs:
        try:
            report = train_job(extraction.server, extraction.cut(job), job, settings)
            answer: Report | Failure = replace(report, reason=reason)
        except Exception as error:  # Whatever one client's samples make the model raise.
            answer = Failure(job, error)
        yield answer


def train_job(
    server: SupernetModel, subnet: SupernetModel, job: Job, settings: LocalTraining
) -> Report:
    """Train the subnet of one job, in place.

    Parameters
    ----------
    server : SupernetModel
        The supernet, for its architecture.
    subnet : SupernetModel
        With the weights that the client received.
    job : Job
    settings : LocalTraining
    """
    drawn = job.drawn(server)
    result = local_train(
        subnet,
        job.split,
        job.settings(settings),
        job.key,
        job.width,
        drawn,
        job.problem,
        job.towards,
    )
    return Report(job, subnet.state_dict(), result)
