"""The task of this app: the supernet, and the data of each device."""

from functools import cache

from hasa_opt import models, tasks
from hasa_opt.flower import Device


@cache
def data() -> tasks.Task:
    """All clients' data, to try the app on one machine."""
    return tasks.load("docstrings")


def model() -> models.SupernetModel:
    """The supernet; every call gives the same initial weights."""
    task = data()
    net = models.MODELS["lstm"].for_data(
        task.train[0].inputs, task.n_outputs, hidden=64, embedding=64
    )
    return models.fresh(net, seed=0)


def device(partition: int, partitions: int) -> Device:
    """The data of one device; a real one reads its own samples here, and sets its max_width."""
    return Device.of(data(), partition)
