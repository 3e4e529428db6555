"""Federated tasks: embedded ones by name, any CSV file of short texts, and your own data.

Here belongs what a study trains on: each client's training, validation and test data, what it
counted, and what is learned, with loss and metric. Batches do not: see :mod:`hasa_opt.federated`.
Columns of numbers without data are :class:`hasa_opt.Clients`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from hasa_opt._utils.registry import Registry
from hasa_opt.errors import InputError
from hasa_opt.tasks.arrays import from_arrays
from hasa_opt.tasks.datasets import from_datasets
from hasa_opt.tasks.folders import from_folder
from hasa_opt.tasks.frames import from_frame
from hasa_opt.tasks.learning import LearningProblem
from hasa_opt.tasks.splits import Lazy, Split
from hasa_opt.tasks.task import Task
from hasa_opt.tasks.text import text_csv, titles

__all__ = [
    "TASKS",
    "Lazy",
    "LearningProblem",
    "Split",
    "Task",
    "from_arrays",
    "from_datasets",
    "from_folder",
    "from_frame",
    "load",
    "text_csv",
    "titles",
]


def load(name: str, **options: Any) -> Task:
    """Build an embedded task.

    Parameters
    ----------
    name : str
        A key of :data:`TASKS`.
    **options
        Passed to the task's function, such as ``seed``.

    Raises
    ------
    InputError
        If the name is unknown, or an option breaks a rule of the task.
    """
    if name not in TASKS:
        raise InputError(
            f"unknown task {name!r}: choose one of {', '.join(sorted(TASKS))}, "
            "or read your own texts with hasa_opt.tasks.text_csv"
        )
    maker = TASKS[name]
    if isinstance(maker, str):
        module, function = maker.split(":")
        maker = getattr(import_module(module), function)
    return maker(**options)


TASKS: Registry[str | Callable[..., Task]] = Registry(
    "tasks",
    {
        "code_and_prose": "hasa_opt.tasks.styles:code_and_prose",
        "digits": "hasa_opt.tasks.digits:digits",
        "dirichlet": "hasa_opt.tasks.label_skew:dirichlet",
        "dirichlet_0.1": partial(load, "dirichlet", concentration=0.1),
        "dirichlet_0.3": partial(load, "dirichlet", concentration=0.3),
        "dirichlet_1": partial(load, "dirichlet", concentration=1.0),
        "docstrings": "hasa_opt.tasks.docstrings:docstrings",
        "domains": "hasa_opt.tasks.domains:domains",
        "fonts": "hasa_opt.tasks.groups:fonts",
        "fonts_twin": partial(load, "fonts", differ=False),
        "forty_clients": "hasa_opt.tasks.groups:forty_clients",
        "forty_clients_twin": partial(load, "forty_clients", differ=False),
        "overlapping": "hasa_opt.tasks.label_skew:overlapping",
        "rotated": "hasa_opt.tasks.groups:rotated",
        "rotated_twin": partial(load, "rotated", differ=False),
        "unequal": "hasa_opt.tasks.groups:unequal",
        "unequal_twin": partial(load, "unequal", differ=False),
    },
)
"""Name of each task to the function that builds it; ours are imported on first use."""
