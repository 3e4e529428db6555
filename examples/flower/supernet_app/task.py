"""The task of this app: the supernet, the data of each device, and options of the run.

To train something else, change this file alone. `model` may give any network of yours, as
`models.Supernet(module, example)`; `device` your samples, and what is learned, as
`Device(name, train, test, counts, problem=LearningProblem(loss, metric))`.
"""

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


# Settings of hasa_opt.flower.Settings in Python; what stands here holds whatever pyproject.toml
# says. {"optimizer": partial(torch.optim.SGD, momentum=0.9)} cannot be said there.
OPTIONS: dict[str, object] = {}
