"""Execution: where and how the clients of a run are trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from hasa_opt._utils.checks import expect
from hasa_opt.errors import InputError
from hasa_opt.federated.engines import ENGINES
from hasa_opt.federated.jobs import Engine
from hasa_opt.federated.participation import Participation
from hasa_opt.federated.settings import Evaluation, LocalTraining, Server, check_choice
from hasa_opt.federated.workers import Workers
from hasa_opt.models.supernet import SupernetModel

EXECUTORS = ("local", "ray")


def check_groups(**given: object) -> None:
    """Refuse settings that are not the objects of their groups.

    Parameters
    ----------
    **given
        By the keywords of :func:`hasa_opt.federated.run`.

    Raises
    ------
    InputError
        Naming the group and its class.
    """
    for name, value in given.items():
        expect(value, GROUPS[name], name, package="hasa_opt.federated")


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Where and how the work is done; the numbers are the same, but for rounding.

    Attributes
    ----------
    engine : str
        How the clients of a round are trained; name in :data:`hasa_opt.federated.ENGINES`.
    executor : {"local", "ray"}
        Where a study trains its runs: in processes of this machine, or on the Ray cluster that
        RAY_ADDRESS names (without one, on this machine).
    workers : int or None
        Processes, of one torch thread each: of a study, among which its runs are spread, or of a
        single run, among which the clients of a round are. None: in a study one per core, of the
        whole cluster on Ray; a single run stays in this process, with all its threads.

    Raises
    ------
    InputError
        If a name is unknown, or there is no worker.
    """

    engine: str = "sequential"
    executor: Literal["local", "ray"] = "local"
    workers: int | None = None

    def __post_init__(self) -> None:
        check_choice("engine", self.engine, ENGINES)
        check_choice("executor", self.executor, EXECUTORS)
        if self.workers is not None and not (
            isinstance(self.workers, (int, np.integer)) and self.workers >= 1
        ):
            raise InputError(f"workers = {self.workers} must be a whole number of at least 1")

    def check_single(self) -> None:
        """Refuse what only a study can do.

        Raises
        ------
        InputError
            If another executor is given for a single run.
        """
        if self.executor != "local":
            raise InputError(
                f"executor = {self.executor!r} spreads the runs of a Study; a single run stays "
                "on this machine: leave it out"
            )

    def start(self, model: SupernetModel) -> Engine:
        """Give what trains the clients of a single run."""
        engine = ENGINES[self.engine]
        return engine if self.workers is None else Workers(engine, model, self.workers)


GROUPS: dict[str, type] = {
    "training": LocalTraining,
    "server": Server,
    "evaluation": Evaluation,
    "participation": Participation,
    "execution": Execution,
}
"""Keyword of each group of settings -> its class."""
