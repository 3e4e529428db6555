"""The device's half of a Flower app: profile, train and test."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from math import nan
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import torch
from flwr.app import ConfigRecord, Context, Message, MetricRecord
from flwr.clientapp import ClientApp

from hasa_opt._utils.checks import IntArray
from hasa_opt.clients.counts import dense
from hasa_opt.errors import InputError
from hasa_opt.federated import Job, LocalTraining, Metrics, evaluate
from hasa_opt.federated.fit import check_split
from hasa_opt.federated.judging import judged_totals
from hasa_opt.federated.local import train_job
from hasa_opt.federated.units import find_draw, find_units
from hasa_opt.flower.memory import Memory, begun
from hasa_opt.flower.messages import (
    ARRAYS,
    IDENTITY,
    LOST,
    MODEL,
    PERSONAL,
    PROFILE,
    WORK,
    Asked,
    Tested,
    Work,
    load,
    pack,
    tell,
    unpack,
    unpack_slice,
)
from hasa_opt.flower.profiles import Profile
from hasa_opt.models import SupernetModel, extract
from hasa_opt.problem.clock import Clock
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
    directory : Path, optional
        Where the device keeps a model of its own, if it has one, beyond the end of a run: a run
        that goes on after its server was killed is a new one to Flower, which forgets.
    clock : Clock, optional
        Its speed, bandwidths and power, and its own deadline, each one number. Default: they are
        not known.
    memory_bytes : float, optional
        What it has for training. Default: enough.

    Raises
    ------
    InputError
        If a split is empty, the inputs are several tensors, the width is not in (0, 1], the memory
        is not above 0, or the clock is of several devices.
    """

    name: str
    train: Split
    test: Split
    counts: IntArray
    validation: Split | None = None
    max_width: float = 1.0
    problem: LearningProblem = CLASSES
    directory: Path | None = None
    clock: Clock | None = None
    memory_bytes: float | None = None

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
        if self.memory_bytes is not None and not self.memory_bytes > 0:
            raise InputError(
                f"device {self.name!r} has memory_bytes {self.memory_bytes}: give a number above "
                "0, or None where there is enough"
            )
        if self.clock is not None:
            for name, value in self.clock.record().items():
                if isinstance(value, list):
                    raise InputError(
                        f"device {self.name!r} has a clock with {len(value)} values of {name}: "
                        "give one number"
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


def client_app(
    model: MakeModel, device: MakeDevice, options: Mapping[str, Any] = MappingProxyType({})
) -> ClientApp:
    """Make the app that every device runs.

    Parameters
    ----------
    model : callable
        Builds the supernet; its weights come from the server.
    device : callable
        Gives the data of one device, from its partition and the number of partitions. They are
        the node's ``partition-id`` and ``num-partitions``: a simulation sets them, and
        ``flower-supernode --node-config "partition-id=0 num-partitions=3"``.
    options : mapping of str to any
        Those of the server: of them a device needs "optimizer" and "schedule", if they are no
        names, as no message holds functions and classes.

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
        check_split(supernet, here.train, f"device {here.name!r}", supernet.n_outputs, here.problem)
        asked = Work.read(load(message, WORK), options)
        return _train(message, asked, supernet, here, _memory(context, here, message))

    @app.query(MODEL)
    def show(message: Message, context: Context) -> Message:
        supernet, here = _prepare(model, device, context)
        asked = Asked(**load(message, WORK))
        own = _memory(context, here, message).recall(supernet, asked.local_bias, asked.last)
        state = own.over(0, own.last_units(0) or {}, supernet, {})
        sent = {name: tensor for name, tensor in state.items() if name not in own.local}
        return Message(pack(sent), reply_to=message) if sent else _lost(message)

    @app.evaluate()
    def test(message: Message, context: Context) -> Message:
        supernet, here = _prepare(model, device, context)
        return _test(message, supernet, here, _memory(context, here, message))

    return app


def _train(
    message: Message,
    asked: tuple[Work, LocalTraining],
    supernet: SupernetModel,
    here: Device,
    memory: Memory,
) -> Message:
    """Train what is asked, and send it or keep it to itself."""
    work, training = asked
    kept = find_units(supernet, work.scheme, work.width, work.key, work.start)
    own = memory.recall(supernet, training.output_bias == "local", work.last)
    received = unpack(message) if ARRAYS in message.content else {}
    state = begun(supernet, kept, received, own, work.continues)
    if state is None:
        return _lost(message)
    subnet = extract(supernet, work.width, kept)
    subnet.load_state_dict(state)
    job = Job(
        work.client,
        work.width,
        kept,
        here.train,
        work.key,
        find_draw(supernet, work.scheme, work.mean or None),
        problem=here.problem,
        towards=received if training.is_own(work.round) else None,
    )
    report = train_job(supernet, subnet, job, training)
    if work.keeps:
        own.take(0, report.state, kept, work.round)
        memory.keep(own, work.round, work.last)
    sent = {name: tensor for name, tensor in report.state.items() if name not in own.local}
    told = tell(report.result, here.train)
    return Message(pack(sent if work.sends else None, **told), reply_to=message)


def _test(message: Message, supernet: SupernetModel, here: Device, memory: Memory) -> Message:
    """Measure the models that are asked about, and judge its personal ones."""
    asked, totals, problem = Asked(**load(message, WORK)), list[float](), here.problem
    own = memory.recall(supernet, asked.local_bias, asked.last)
    found: dict[str, list[float]] = {}
    for kind in asked.kinds:
        kept, received = unpack_slice(message, kind) or (own.last_units(0) or {}, {})
        state = begun(supernet, kept, received, own, asked.continues)
        if state is None:
            return _lost(message)
        subnet, is_personal = extract(supernet, 1.0, kept), kind == PERSONAL
        for share in asked.shares if is_personal else [0.0]:
            subnet.load_state_dict(state)
            tested = own.mixed(0, subnet, share) if is_personal else subnet
            if is_personal and len(asked.shares) > 1 and here.validation is not None:
                totals += judged_totals([tested], here.validation, problem).tolist()
            if kind == asked.test_on:
                for name, value in _measured(tested, here).items():
                    found.setdefault(name, []).append(value)
    targets = 0 if here.validation is None else problem.judged(here.validation.targets)
    told = Tested.records(found, totals, targets if totals else 0, here.validation)
    return _reply(message, **told)


def _measured(model: SupernetModel, here: Device) -> dict[str, float]:
    """Losses and metrics of a model, by their names in a history."""
    found: dict[str, float] = {}
    for part, split in (("validation", here.validation), ("test", here.test)):
        metrics = Metrics(nan, nan)
        if split is not None:
            metrics = evaluate(model, split, problem=here.problem)
        found |= metrics.named(part)
    return found


def _memory(context: Context, here: Device, message: Message) -> Memory:
    """What a device has kept in the run of a message."""
    whose = f"{load(message, WORK)['run']}-{_partition(context)[0]}"
    return Memory(context.state, here.directory, whose)


def _lost(message: Message) -> Message:
    """Say that the device has not got what it was to go on with."""
    return _reply(message, **{LOST: ConfigRecord({})})


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
    inputs = device.train.tensor
    profile = Profile(
        partition[0],
        device.name,
        len(device.train),
        counts,
        device.max_width,
        scale.name,
        scale.higher_is_better,
        tuple(inputs.shape[1:]),
        inputs.is_floating_point(),
        device.memory_bytes or 0.0,
        {} if device.clock is None else device.clock.record(),
    )
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
