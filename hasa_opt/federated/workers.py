"""Workers: processes that train the clients of a round side by side."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from itertools import chain

import cloudpickle
import torch
from joblib import Parallel, cpu_count, delayed
from torch import Tensor

from hasa_opt._utils.processes import follow
from hasa_opt._utils.showing import first_line
from hasa_opt.errors import InputError
from hasa_opt.federated.engines import parts, windows
from hasa_opt.federated.jobs import Engine, Failure, Job, Report
from hasa_opt.federated.settings import LocalTraining
from hasa_opt.federated.units import Extraction
from hasa_opt.models.supernet import SupernetModel


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread, so that no number depends on the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def free_cores() -> int:
    """Cores without work in the last minute, as far as the machine tells; at least one."""
    waiting = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return max(1, int(cpu_count()) - round(waiting))


class Workers:
    """An engine that lets several processes train, of one torch thread each.

    The jobs are parted as the engines part them, so that the bits are the same for any number of
    processes, one included.

    Parameters
    ----------
    engine : Engine
    model : SupernetModel
        The supernet's architecture, which each process builds once.
    number : int
        Of processes; 1 trains in this one.

    Raises
    ------
    InputError
        If the model is not on the CPU.
    """

    def __init__(self, engine: Engine, model: SupernetModel, number: int) -> None:
        device = next(model.parameters()).device
        if device.type != "cpu":
            raise InputError(
                f"workers = {number} are processes of the CPU, but the model is on {device}: leave "
                "workers out"
            )
        self._content = cloudpickle.dumps((engine, model))
        self._number = number

    def __call__(
        self, server: SupernetModel, jobs: Iterable[Job], settings: LocalTraining
    ) -> Iterator[Report | Failure]:
        """Train the jobs, and answer in their order."""
        extraction, given = Extraction(server), (server.state_dict(), settings, os.getpid())
        with Parallel(n_jobs=self._number) as parallel:
            for window in windows(jobs, extraction):
                parted = sorted(parts(window, extraction), key=_work, reverse=True)
                found = parallel(
                    delayed(_train)(self._content, list(map(_packed, part)), *given)
                    for part in parted
                )
                answers = dict(zip(chain(*parted), chain(*found), strict=True))
                yield from (replace(answers[job], job=job) for job in window)


def _work(part: Sequence[Job]) -> float:
    """About how long a part takes: those that take longest are begun first."""
    return part[0].width * sum(len(job.split) * (job.epochs or 1) for job in part)


def _train(
    content: bytes,
    jobs: Sequence[Job],
    state: Mapping[str, Tensor],
    settings: LocalTraining,
    parent: int,
) -> list[Report | Failure]:
    """Train some jobs, perhaps in a worker process."""
    follow(parent)
    engine, server = _unpickled(content)
    server.load_state_dict(state)
    with one_thread():
        return [_sent(answer) for answer in engine(server, jobs, settings)]


@lru_cache(maxsize=2)
def _unpickled(content: bytes) -> tuple[Engine, SupernetModel]:
    """Engine and model of a run, of which what was learned about stacking is remembered."""
    found: tuple[Engine, SupernetModel] = cloudpickle.loads(content)
    return found


def _packed(job: Job) -> Job:
    """The job as it is sent: a part of a large tensor would take all of it along."""
    return replace(job, split=job.split.mapped(_alone))


def _sent(answer: Report | Failure) -> Report | Failure:
    """The answer as it is sent: without what the asking process has."""
    job = replace(answer.job, split=answer.job.split.blank(), local={})
    if isinstance(answer, Report):
        state = {name: _alone(tensor) for name, tensor in answer.state.items()}
        return replace(answer, job=job, state=state)
    try:
        cloudpickle.loads(cloudpickle.dumps(answer.error))
    except Exception:  # Whatever an error holds that cannot be sent.
        return Failure(job, RuntimeError(first_line(answer.error)))
    return Failure(job, answer.error)


def _alone(tensor: Tensor) -> Tensor:
    """A tensor that holds no more memory than its own."""
    return tensor.clone() if tensor.untyped_storage().nbytes() > tensor.nbytes else tensor
