"""Menus of what rounds cost: the same figures as a run measures, for the program that allocates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np

from hasa_opt._utils.checks import IntArray
from hasa_opt._utils.rational import menu_units, written
from hasa_opt.federated.costs import Costs
from hasa_opt.federated.personal import Personal
from hasa_opt.federated.settings import LocalTraining, check_run, check_whole
from hasa_opt.models.inputs import Inputs
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.problem.clock import Clock
from hasa_opt.problem.menu import SKIP, WIDTH, Menu
from hasa_opt.tasks.task import Task

__all__ = ["round_menu"]


def round_menu(
    model: SupernetModel,
    task: Task,
    widths: Sequence[float],
    *,
    epochs: Sequence[int] | None = None,
    skip: bool = False,
    clock: Clock | None = None,
    training: LocalTraining = LocalTraining(),
) -> Menu:
    """Price what a round of :func:`run` takes of each client, by option.

    What a run of the allocation then measures is what was planned: operations and bytes to the
    unit, and by the clock seconds and joules, here rounded up to thousandths.

    Parameters
    ----------
    model : SupernetModel
    task : Task
        Each client's samples are loaded once.
    widths : increasing floats in (0, 1]
    epochs : increasing whole numbers of at least 1, optional
        Local epochs to choose from. Default: those of the training, which the options do not name.
    skip : bool
        Whether a client may be left out: an option that costs nothing comes first.
    clock : Clock, optional
        Adds "milliseconds", and "millijoules" where it knows the power. ``clock.deadline()`` is the
        constraint that nobody is late.
    training : LocalTraining

    Returns
    -------
    Menu
        With the resources "flops" and "bytes" (received and sent) and those of the clock; the
        largest option is ``full`` if its width is 1.

    Raises
    ------
    InputError
        If an argument is invalid, the model does not fit the task, or the clock is of another
        number of clients.
    """
    check_run(model, task, 1)
    units, denominator = menu_units(widths)
    passes = [None] if epochs is None else list(epochs)
    for number in passes:
        check_whole(epochs=training.epochs if number is None else number)
    options = list(product((units / denominator).tolist(), passes))
    names = [written(width) + ("" if n is None else f"/{n}") for width, n in options]
    attributes = {WIDTH: [width for width, _ in options]}
    if epochs is not None:
        attributes["epochs"] = [float(n) for _, n in options if n is not None]
    full = names[-1] if attributes[WIDTH][-1] == 1 else None
    splits = (task.train[client] for client in range(len(task)))
    samples = ((split.inputs, len(split)) for split in splits)
    flops, sent = round_costs(model, samples, options, training)
    if skip:
        names = [SKIP, *names]
        attributes = {name: [0.0, *values] for name, values in attributes.items()}
        flops, sent = (np.pad(table, ((0, 0), (1, 0))) for table in (flops, sent))
    timed = {}
    if clock is not None:
        clock.check(len(task))
        timed = clock.costs(flops, sent)
    costs = {"flops": flops, "bytes": 2 * sent, **timed}
    return Menu(names, costs=costs, attributes=attributes, full=full, clients=task.client_names)


def round_costs(
    model: SupernetModel,
    samples: Iterable[tuple[Inputs, int]],
    options: Sequence[tuple[float, int | None]],
    training: LocalTraining,
) -> tuple[IntArray, IntArray]:
    """Operations, and bytes each way, of each client and option, ``(n_clients, m)``.

    Parameters
    ----------
    model : SupernetModel
    samples : iterable of (inputs, int)
        Of each client: inputs of the shape of its own, and how many it trains on.
    options : sequence of (float, int or None)
        Widths, and local epochs where they are not those of the training.
    training : LocalTraining
    """
    own_bias = Personal(model, training.output_bias == "local", False).local
    costs = Costs(model, training, own_bias)
    flops = [
        [costs.flops(inputs, costs.planned(width, count, n)) for width, n in options]
        for inputs, count in samples
    ]
    sent = np.array([costs.transfer(width) for width, _ in options], dtype=np.int64)
    return np.array(flops, dtype=np.int64), np.tile(sent, (len(flops), 1))
