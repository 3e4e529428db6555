"""Parts of each client's training samples: all but one train, the one that is held back judges."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from hasa_opt.clients import IntArray
from hasa_opt.errors import InputError
from hasa_opt.tasks import Lazy, Split, Task
from hasa_opt.tasks.task import generator

__all__ = ["Fold", "folds"]

_STREAM = 5


class Fold(NamedTuple):
    """Splits of all clients: those that train, and those that are held back."""

    kept: Lazy
    held: Lazy


def folds(task: Task, seed: int, count: int) -> tuple[Fold, ...]:
    """Deal each client's training samples into parts, at random by the seed.

    Parameters
    ----------
    task : Task
        Only its training splits are read, when a client's data is asked for.
    seed : int
    count : int
        Number of parts, at least 2. Each is held back by one of the folds.

    Raises
    ------
    InputError
        If a client has fewer samples than there are parts.
    """
    small = np.flatnonzero(task.samples < count)
    if small.size:
        first = small[0]
        raise InputError(
            f"client {task.client_names[first]!r} has {task.samples[first]} training sample(s) "
            f"for {count} parts, of which one judges what the others train: leave the client out "
            f"({small.size} such client(s))"
        )

    def part(fold: int, is_held: bool) -> Lazy:
        def rows(client: int) -> IntArray:
            size = int(task.samples[client])
            mine = (np.arange(size) % count == fold) == is_held
            order = generator(seed, _STREAM, client).permutation(size)
            return np.sort(order[mine])

        def load(client: int) -> Split:
            own, split = torch.from_numpy(rows(client)), task.train[client]
            return Split(split.inputs[own], split.targets[own])

        held = (task.samples + count - 1 - fold) // count
        return Lazy(held if is_held else task.samples - held, load)

    return tuple(Fold(part(fold, False), part(fold, True)) for fold in range(count))
