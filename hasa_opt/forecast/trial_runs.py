"""Runs on a part of the training data, judged on the rest.

What :func:`hasa_opt.pilot` is made of; the learning side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray
from hasa_opt.errors import InputError
from hasa_opt.federated.costs import Costs
from hasa_opt.federated.execution import GROUPS, Execution, check_groups
from hasa_opt.federated.history import History
from hasa_opt.federated.loop import read_subnets, run
from hasa_opt.federated.participation import Participation
from hasa_opt.federated.settings import Evaluation, LocalTraining, Server, check_run
from hasa_opt.forecast.probing import known_interpolation
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.policies.policy import PERSONAL
from hasa_opt.policies.subnets import Subnets
from hasa_opt.tasks.task import Fold, Task, folds

__all__ = ["TrialRuns"]


@dataclass(frozen=True, eq=False, kw_only=True)
class TrialRuns:
    """How trial runs are done: all of them alike, but for what each client trains.

    Attributes
    ----------
    model : SupernetModel
        Architecture and initial weights.
    rounds : int
    training : LocalTraining
    server : Server
    evaluation : Evaluation
    participation : Participation
    execution : Execution
        As for :func:`hasa_opt.federated.run`.
    """

    model: SupernetModel
    rounds: int
    training: LocalTraining = LocalTraining()
    server: Server = Server()
    evaluation: Evaluation = Evaluation()
    participation: Participation = Participation()
    execution: Execution = Execution()

    def read(
        self, task: Task, given: Mapping[str, npt.ArrayLike | Subnets], seed: int
    ) -> dict[str, Subnets]:
        """Read what each client trains under each allocation, before anything is trained.

        Raises
        ------
        InputError
            If anything could not be run.
        """
        check_run(self.model, task, self.rounds, seed)
        check_groups(**{name: getattr(self, name) for name in GROUPS})
        self.participation.check(task)
        self.execution.check_single()
        known_interpolation(self.evaluation)
        return {name: read_subnets(allocation, task) for name, allocation in given.items()}

    def repeated(
        self, task: Task, allocations: Mapping[str, Subnets], seed: int, repeats: int
    ) -> tuple[FloatArray, int]:
        """Train under all allocations in each of several folds.

        After two repetitions an allocation that is ahead of the first one with neither kind of
        model is dropped.

        Parameters
        ----------
        task : Task
        allocations : mapping of str to Subnets
        seed : int
        repeats : int

        Returns
        -------
        reached : (n_repeats, n_allocations, 2, n_clients) floats
            The task's metric, of common and of personal models; NaN where an allocation had been
            dropped.
        flops : int
            Operations of training and judging.
        """
        costs, names = Costs(self.model, self.training), list(allocations)
        reached = np.full((repeats, len(names), 2, len(task)), np.nan)
        passes = 2 * self.rounds + 1  # validation and test of each round, personal after the last
        flops, left = 0, set(names)
        for repeat, fold in enumerate(folds(task, seed, repeats)):
            for row, name in enumerate(names):
                if name in left:
                    history = self._run(task, fold, allocations[name], seed + repeat)
                    reached[repeat, row] = history.test_metric[-1], history.personal_metric[-1]
                    flops += int(history.flops.sum())
                    flops += costs.judging(fold.held, allocations[name].widths, passes)
            if repeat:
                worth = task.problem.scale.sign * reached
                ahead = (name for name in left if _is_ahead(worth, names.index(name)))
                left = {names[0], *ahead}
            if len(left) == 1:
                break
        return reached, flops

    def round_flops(self, task: Task, subnets: Subnets) -> float:
        """Operations of one round in which all clients train."""
        return float(Costs(self.model, self.training).round(task, subnets.widths))

    def _run(self, task: Task, fold: Fold, subnets: Subnets, seed: int) -> History:
        """Train on the kept part; the held-back part is the test."""
        history = run(
            self.model,
            replace(task, train=fold.kept, validation=fold.held, test=fold.held),
            subnets,
            rounds=self.rounds,
            training=self.training,
            server=self.server,
            evaluation=Evaluation(
                also=[PERSONAL], interpolation=known_interpolation(self.evaluation)
            ),
            participation=self.participation,
            execution=self.execution,
            seed=seed,
        )
        if not np.isfinite(history.test_metric[-1]).any():
            raise InputError(
                f"no client has a finite {history.metric} after a run of the pilot: lower the "
                "learning rate"
            )
        return history


def _is_ahead(worth: FloatArray, row: int) -> bool:
    """Whether common or personal models are ahead of both of the first allocation."""
    means = np.nanmean(worth[:, [0, row]], axis=(0, 3))
    return bool(means[1].max() > means[0].max())
