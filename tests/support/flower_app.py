"""A Flower app of ten small clients, which other processes import too."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import torch

from hasa_opt import models
from hasa_opt.flower import Device, client_app
from hasa_opt.tasks import Split, Task

SIZES = (40, 12, 66, 25, 31, 90, 18, 54, 22, 47)


def split(n: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, 4, (n,), generator=generator)
    return Split(torch.randn(n, 6, generator=generator) + targets[:, None], targets)


@cache
def task() -> Task:
    train = tuple(split(size, client) for client, size in enumerate(SIZES))
    held_out = (tuple(split(20, 100 * part + client) for client in range(10)) for part in (1, 2))
    counts = np.random.default_rng(0).poisson(5.0, (10, 4)) * np.arange(1, 11)[:, None]
    return Task("toy", tuple("abcdefghij"), train, *held_out, counts=counts, n_outputs=4)


def model() -> models.SupernetModel:
    return models.fresh(models.MLP(6, 4, hidden=(16, 8)), 0)


def device(partition: int, partitions: int) -> Device:
    return Device.of(task(), partition)


def broken(partition: int, partitions: int) -> Device:
    """Let training fail on the devices 2 and 5: their samples lack a feature."""
    own = device(partition, partitions)
    if partition not in (2, 5):
        return own
    return replace(own, train=Split(own.train.inputs[:, 1:], own.train.targets))


client = client_app(model, device)
broken_client = client_app(model, broken)
