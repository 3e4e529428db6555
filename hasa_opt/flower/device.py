"""What one device holds: its data, and the widest subnet that it can train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from hasa_opt.clients import IntArray, dense
from hasa_opt.errors import InputError
from hasa_opt.tasks import Split, Task

__all__ = ["Device"]


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

    Raises
    ------
    InputError
        If a split is empty, or the width is no width.
    """

    name: str
    train: Split
    test: Split
    counts: IntArray
    validation: Split | None = None
    max_width: float = 1.0

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            if len(getattr(self, part)) == 0:
                raise InputError(
                    f"the {part} split of device {self.name!r} is empty: give it at least one "
                    "sample, or leave the device out"
                )
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
        )
