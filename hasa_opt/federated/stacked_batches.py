"""Batches of several clients at once, in the order in which each client takes its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hasa_opt._utils.streams import derive_seed
from hasa_opt.federated.batches import lengths, orders
from hasa_opt.federated.jobs import Job
from hasa_opt.federated.settings import LocalTraining
from hasa_opt.models.targets import IGNORED, known, trainable

__all__ = ["StackedBatch", "StackedBatches", "count_steps"]


class StackedBatch(NamedTuple):
    """One step of the clients that have one left.

    Attributes
    ----------
    inputs : (n_clients, batch, ...) tensor
        A client's missing samples repeat its first one.
    targets : (n_clients, batch, ...) int64 tensor
        Those of missing samples are IGNORED, as are unknown labels.
    n_targets : (n_clients,) int64 tensor
        Known targets of each client.
    shapes : n_clients tuples
        Of each client's inputs before they were filled up: its samples, then, for sequences, the
        length of its longest one.
    """

    inputs: Tensor
    targets: Tensor
    n_targets: Tensor
    shapes: list[tuple[int, ...]]


class StackedBatches:
    """All batches of clients with samples of equal shapes.

    Parameters
    ----------
    jobs : sequence of Job
        What the clients have to do.
    training : LocalTraining
    device : torch.device
        Where the batches go.

    Attributes
    ----------
    order : (n_clients,) int64
        Which job each client is: those with the most steps come first.
    n_steps : (n_clients,) int64
        Steps of each client in this order, so that those at work are always the first ones.
    seeds : list of int
        Of each client.
    n_targets : (n_clients, n_steps) int64 tensor
        Known targets of each client in each step.
    """

    def __init__(self, jobs: Sequence[Job], training: LocalTraining, device: torch.device) -> None:
        n_steps = np.array([count_steps(job, training) for job in jobs], dtype=np.int64)
        self.order = np.argsort(-n_steps, kind="stable")
        self.n_steps = n_steps[self.order]
        chosen = [jobs[client] for client in self.order]
        self.seeds = [derive_seed(job.key) for job in chosen]
        rows, self._sizes = _plan(chosen, self.seeds, training)
        self._rows = torch.from_numpy(rows).to(device)
        self._inputs = torch.cat([job.split.tensor for job in chosen]).to(device)
        targets = torch.cat([job.split.targets for job in chosen]).to(device)
        self._lengths = lengths(targets).clamp(min=1) if jobs[0].split.is_padded else None
        self._targets = trainable(targets)
        present = torch.from_numpy(np.arange(rows.shape[2]) < self._sizes[:, :, None]).to(device)
        n_known = known(targets).reshape(len(targets), -1).sum(1)
        self.n_targets = (n_known[self._rows] * present).sum(2)
        self._absent = ~present

    def __iter__(self) -> Iterator[StackedBatch]:
        """Give one step after the other."""
        for step in range(int(self.n_steps[0])):
            working = int((self.n_steps > step).sum())
            sizes = self._sizes[:working, step]
            most = int(sizes.max())
            rows = self._rows[:working, step, :most]
            inputs, targets = self._inputs[rows], self._targets[rows]
            shapes: list[tuple[int, ...]] = [(size,) for size in sizes.tolist()]
            if self._lengths is not None:
                longest = self._lengths[rows].amax(dim=1).tolist()
                inputs, targets = inputs[:, :, : max(longest)], targets[:, :, : max(longest)]
                shapes = list(zip(sizes.tolist(), longest, strict=True))
            if sizes.min() < most:
                targets[self._absent[:working, step, :most]] = IGNORED
            yield StackedBatch(inputs, targets, self.n_targets[:working, step], shapes)


def count_steps(job: Job, training: LocalTraining) -> int:
    """Count the steps of a job in all of its epochs."""
    used, epochs = training.used(len(job.split)), job.settings(training).epochs
    return epochs * -(-used // training.batch_size)


def _plan(
    jobs: Sequence[Job], seeds: Sequence[int], training: LocalTraining
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Choose the rows of the clients' joined samples for each step.

    Returns
    -------
    rows : (n_clients, n_steps, batch) int64
        Those behind a client's last sample repeat the first one of the batch.
    sizes : (n_clients, n_steps) int64
        Samples of each batch.
    """
    largest = min(training.batch_size, max(training.used(len(job.split)) for job in jobs))
    most_steps = max(count_steps(job, training) for job in jobs)
    rows = np.zeros((len(jobs), most_steps, largest), dtype=np.int64)
    sizes = np.zeros(rows.shape[:2], dtype=np.int64)
    begin = 0
    for client, (job, seed) in enumerate(zip(jobs, seeds, strict=True)):
        samples = len(job.split)
        per_epoch = -(-training.used(samples) // training.batch_size)
        last = training.used(samples) - (per_epoch - 1) * training.batch_size
        for epoch, order in enumerate(orders(samples, job.settings(training), seed)):
            steps = slice(epoch * per_epoch, (epoch + 1) * per_epoch)
            padded = np.full(per_epoch * largest, order[-last])
            padded[: len(order)] = order
            rows[client, steps] = begin + padded.reshape(per_epoch, largest)
            sizes[client, steps] = largest
            sizes[client, steps.stop - 1] = last
        begin += samples
    return rows, sizes
