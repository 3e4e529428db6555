"""The device's half of a Flower app: profile, train and test."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import nan
from typing import Self

import numpy as np
import torch
from flwr.app import ConfigRecord, Context, Message, MetricRecord
from flwr.clientapp import ClientApp

from hasa_opt._utils.checks import IntArray
from hasa_opt.clients.counts import dense
from hasa_opt.errors import InputError
from hasa_opt.federated import Job, Metrics, evaluate
from hasa_opt.federated.fit import check_split
from hasa_opt.federated.local import train_job
from hasa_opt.federated.units import find_draw
from hasa_opt.flower.messages import (
    IDENTITY,
    PROFILE,
    WORK,
    Profile,
    Work,
    load,
    pack,
    tell,
    unpack,
)
from hasa_opt.models import SupernetModel, extract, prefix
from hasa_opt.rules.private import noisy_histograms
from hasa_opt.tasks import Split, Task
from hasa_opt.tasks.learning import CLASSES, LearningProblem

__all__ = ["Device", "client_app"]


@dataclass(frozen=True, eq=False)
class Device:
    """One client's data, which stays where it is, and its limit.

    Parameters
    ----------
    name : str
        Distinct among the devices.
    train, test : Split
        Neither may be empty.
    counts : (n_labels,) integers
        Training tokens or labels, over a vocabulary that all devices share.
    validation : Split, optional
        Without one, validation losses are NaN.
    max_width : float in (0, 1]
        Widest subnet that it can train.
    problem : LearningProblem
        What is learned, and how it is judged: the same on all devices. Default: classes, judged by
        accuracy.

    Raises
    ------
    InputError
        If a split is empty, the inputs are several tensors, or the width is not in (0, 1].
    """

    name: str
    train: Split
    test: Split
    counts: IntArray
    validation: Split | None = None
    max_width: float = 1.0
    problem: LearningProblem = CLASSES

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            if len(getattr(self, part)) == 0:
                raise InputError(
                    f"the {part} split of device {self.name!r} is empty: give it at least one "
                    "sample, or leave the device out"
                )
        _ = self.train.tensor
        if not 0 < self.max_width <= 1:
            raise InputError(
                f"device {self.name!r} has max_width {self.max_width}: give a width in (0, 1]"
            )

    @classmethod
    def of(cls, task: Task, client: int, max_width: float = 1.0) -> Self:
        """Take one client out of a task.

        Parameters
        ----------
        task : Task
        client : int
            Row of the client.
        max_width : float in (0, 1]

        Raises
        ------
        InputError
            If the task has no such client.
        """
        if not 0 <= client < len(task):
            raise InputError(
                f"task {task.name!r} has clients 0 to {len(task) - 1}, not {client}: start as many "
                "nodes as it has clients"
            )
        counts = np.asarray(dense(task.counts[[client]]))[0]
        return cls(
            task.client_names[client],
            task.train[client],
            task.test[client],
            counts,
            task.validation[client],
            max_width,
            task.problem,
        )


MakeModel = Callable[[], SupernetModel]
MakeDevice = Callable[[int, int], Device]


def client_app(model: MakeModel, device: MakeDevice) -> ClientApp:
    """Make the app that every device runs.

    Parameters
    ----------
    model : callable
        Builds the supernet; its weights come from the server.
    device : callable
        Gives the data of one device, from its partition and the number of partitions. They are
        the node's ``partition-id`` and ``num-partitions``: a simulation sets them, and
        ``flower-supernode --node-config "partition-id=0 num-partitions=3"``.

    Returns
    -------
    flwr.clientapp.ClientApp
    """
    app = ClientApp()

    @app.query(IDENTITY)
    def identify(message: Message, context: Context) -> Message:
        partition = _partition(context)
        name = device(*partition).name
        return _reply(message, profile=ConfigRecord({"partition": partition[0], "name": name}))

    @app.query(PROFILE)
    def profile(message: Message, context: Context) -> Message:
        asked = load(message, WORK)
        known = _describe(device, context, asked["epsilon"], asked["delta"])
        return _reply(message, profile=known.record())

    @app.train()
    def train(message: Message, context: Context) -> Message:
        supernet, here = _prepare(model, device, context)
        whose = f"device {here.name!r}"
        check_split(supernet, here.train, whose, supernet.n_outputs, here.problem)
        work, training = Work.read(load(message, WORK))
        subnet = _subnet(supernet, work.width, message)
        job = Job(
            work.client,
            work.width,
            prefix(supernet, work.width),
            here.train,
            work.key,
            find_draw(supernet, work.scheme, work.mean or None),
            problem=here.problem,
        )
        report = train_job(supernet, subnet, job, training)
        told = tell(report.result, here.train)
        return Message(pack(report.state, **told), reply_to=message)

    @app.evaluate()
    def test(message: Message, context: Context) -> Message:
        supernet, here = _prepare(model, device, context)
        subnet = _subnet(supernet, float(load(message, WORK)["width"]), message)
        found: dict[str, float] = {}
        for part, split in (("validation", here.validation), ("test", here.test)):
            metrics = (
                Metrics(nan, nan)
                if split is None
                else evaluate(subnet, split, problem=here.problem)
            )
            found |= metrics.named(part)
        return _reply(message, measured=MetricRecord(dict(found)))

    return app


def _reply(message: Message, **records: ConfigRecord | MetricRecord) -> Message:
    return Message(pack(None, **records), reply_to=message)


def _partition(context: Context) -> tuple[int, int]:
    """Partition of a node, and the number of partitions."""
    try:
        return int(context.node_config["partition-id"]), int(context.node_config["num-partitions"])
    except KeyError as error:
        raise InputError(
            f"the node has no {error}: start it with "
            '--node-config "partition-id=0 num-partitions=3"'
        ) from error


def _describe(make: MakeDevice, context: Context, epsilon: float, delta: float) -> Profile:
    """Profile of a device; a private histogram is drawn once, and remembered."""
    partition, known = _partition(context), context.state.config_records.get(PROFILE)
    if known is not None:
        return Profile.read(known)
    device = make(*partition)
    counts = device.counts if epsilon == 0 else _noisy(device.counts, epsilon, delta)
    scale = device.problem.scale
    told = (partition[0], device.name, len(device.train), counts, device.max_width)
    profile = Profile(*told, scale.name, scale.higher_is_better)
    if epsilon:
        context.state[PROFILE] = profile.record()
    return profile


def _noisy(counts: IntArray, epsilon: float, delta: float) -> IntArray:
    """Release a histogram privately; nobody may know the noise, so no seed is given.

    Where the noise leaves no count, nothing is known of the device: all labels are equally likely.
    """
    seen = noisy_histograms([counts], epsilon, delta, seed=secrets.randbits(63))[0]
    whole = np.asarray(np.rint(seen), dtype=np.int64)
    return whole if whole.any() else np.ones_like(whole)


def _prepare(
    make_model: MakeModel, make_device: MakeDevice, context: Context
) -> tuple[SupernetModel, Device]:
    """Supernet and data of a device; one thread, so that sums do not depend on the machine."""
    torch.set_num_threads(1)
    return _architecture(make_model), make_device(*_partition(context))


@cache
def _architecture(make: MakeModel) -> SupernetModel:
    """Build a supernet once in each process."""
    return make()


def _subnet(supernet: SupernetModel, width: float, message: Message) -> SupernetModel:
    """Subnet with the weights of a message."""
    subnet = extract(supernet, width)
    subnet.load_state_dict(unpack(message))
    return subnet
