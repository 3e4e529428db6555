"""A pilot: the few candidate allocations, trained on most of the training data, judged on the rest.

A table of what each client gains from width cannot tell what training *under an allocation* does,
since clients meet in the shared weights. A pilot trains under it. The module is importable without
torch; :func:`pilot` needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, confidence_level, whole
from hasa_opt._utils.installing import needing
from hasa_opt._utils.scale import ACCURACY, Scale, as_accuracy
from hasa_opt._utils.showing import Shown, new_table
from hasa_opt.errors import InputError
from hasa_opt.forecast.gains import Gain
from hasa_opt.policies import Subnets
from hasa_opt.policies.policy import PERSONAL, full_name

if TYPE_CHECKING:
    from rich.table import Table

    from hasa_opt.federated import Evaluation, Execution, LocalTraining, Participation, Server
    from hasa_opt.models import SupernetModel
    from hasa_opt.tasks import Task

__all__ = ["ENDING", "Pilot", "pilot"]

ENDING = full_name("", (PERSONAL,))
"""What the name of an allocation ends with where clients deploy personal models."""


@dataclass(frozen=True, eq=False)
class Pilot(Shown):
    """What clients reached under each allocation, on held-back training samples.

    An allocation is named as in a study: ``"hasa"``, or ``"hasa+personal"`` where each client
    deploys its mixture of the common and its last local model.

    Attributes
    ----------
    names : tuple of str
        Allocations; the first is what the others are compared with.
    reached : (n_repeats, n_allocations, 2, n_clients) floats
        The task's metric, of common and of personal models, at the deployed width. NaN where an
        allocation had been dropped, or a client's held-back part had no target.
    rounds : int
    flops : int
        Operations of the pilot, training and judging.
    round_flops : float
        Operations of one round of the real run under the first allocation.
    scale : Scale
        The metric, and which end of it is better.
    """

    names: tuple[str, ...]
    reached: FloatArray
    rounds: int
    flops: int
    round_flops: float
    scale: Scale = ACCURACY

    @property
    def accuracy(self) -> FloatArray:
        """:attr:`reached`, where the metric is the accuracy; shares in [0, 1]."""
        return np.asarray(as_accuracy(self.reached, self.scale.name))

    def cost(self, rounds: int) -> float:
        """Compute of the pilot as a share of the training of a run of so many rounds."""
        whole(rounds, "rounds", least=1)
        return self.flops / (rounds * self.round_flops)

    def gain(self, name: str, over: str | None = None, *, confidence: float = 0.95) -> Gain:
        """Gain of an allocation over another one in the unweighted client mean.

        The interval covers what repetitions differ by: held-back samples, training samples and
        the order of batches, not the initial weights, which all repetitions share. Its variance is
        the larger of two estimates, each with its own degrees of freedom: of errors that are
        independent between clients (the variances of the clients add up, Welch-Satterthwaite),
        and of the client mean itself, for errors that clients share.

        Parameters
        ----------
        name, over : str
            Such as ``"hasa+personal"``. Default of ``over``: the first allocation, personal.
        confidence : float in (0, 1)

        Raises
        ------
        InputError
            If a name is not among the allocations, or the confidence is none.
        """
        level = confidence_level(confidence)
        other = self.names[0] + ENDING if over is None else over
        gains = self.scale.factor * self.scale.gain(self._reached(name), self._reached(other))
        gains = gains[np.isfinite(gains).any(axis=1)]
        return _mean_gain(gains[:, np.isfinite(gains).all(axis=0)], level, self.scale)

    def _reached(self, name: str) -> FloatArray:
        """The metric in each repetition, ``(n_repeats, n_clients)``."""
        allocation = name.removesuffix(ENDING)
        if allocation not in self.names:
            raise InputError(f"{name!r} is not in the pilot: choose from {', '.join(self.names)}")
        return self.reached[:, self.names.index(allocation), int(allocation != name)]

    def __repr__(self) -> str:
        return f"Pilot({', '.join(self.names)}; {len(self.reached)} x {self.rounds} rounds)"

    def __rich__(self) -> Table:
        from rich.markup import escape

        first, scale = self.names[0], self.scale
        table = new_table(
            title=f"{escape(scale.title)} on held-back training samples after {self.rounds} "
            "rounds, client mean",
        )
        table.add_column("policy", no_wrap=True)
        for column in (
            "%" if scale.is_share else scale.direction,
            f"over {first}",
            f"over {first}{ENDING}",
            "repetitions",
        ):
            table.add_column(column, justify="right")
        for name in (each + ending for each in self.names for ending in ("", ENDING)):
            reached = self._reached(name)
            cells = (
                "" if name == over else str(self.gain(name, over))
                for over in (first, first + ENDING)
            )
            done = int(np.isfinite(reached).any(axis=1).sum())
            mean = scale.number(float(scale.factor * np.nanmean(reached)))
            table.add_row(escape(name), mean, *cells, str(done))
        gains = "points" if scale.is_share else "gains"
        table.caption = (
            f"{gains}, 95 % intervals; what is not ahead after two repetitions is dropped"
        )
        return table


def pilot(
    model: SupernetModel,
    task: Task,
    allocations: Mapping[str, npt.ArrayLike | Subnets],
    rounds: int,
    seed: int,
    *,
    repeats: int = 4,
    training: LocalTraining | None = None,
    server: Server | None = None,
    evaluation: Evaluation | None = None,
    participation: Participation | None = None,
    execution: Execution | None = None,
) -> Pilot:
    """Train under each allocation on a part of the training data and judge on the rest.

    Each client's training samples are dealt into as many parts as there are repetitions. In each
    repetition all allocations start from the same initial weights, see the same batches and train
    on all parts but one, which then judges both the common and the personal models at their
    deployed width. So every training sample judges once. After two repetitions an allocation that
    is ahead of the first one with neither kind of model is dropped; that can only lose a gain,
    never make one up. The early rounds mislead (wide clients lead first), so give the pilot the
    rounds of the real run if you can; :meth:`Pilot.cost` says what it cost.

    Parameters
    ----------
    model : SupernetModel
        Architecture and initial weights; it is not changed.
    task : Task
        Only its training splits are read.
    allocations : mapping of str to Subnets or (n_clients,) floats in (0, 1]
        What each client trains and deploys, by name. The first one, usually "uniform", is what the
        others are compared with.
    rounds : int
        Rounds of each training.
    seed : int
        Drives parts and sample order; at least 0.
    repeats : int
        At least 2, and at most the samples of the smallest client.
    training : LocalTraining, optional
    server : Server, optional
    evaluation : Evaluation, optional
        Its ``interpolation`` makes the personal models; a number.
    participation : Participation, optional
    execution : Execution, optional
        As for :func:`hasa_opt.federated.run`.

    Returns
    -------
    Pilot

    Raises
    ------
    InputError
        If an argument breaks a rule, before any work starts.
    MissingExtraError
        If torch is not installed.
    """
    _check(allocations, whole(repeats, "repeats"))
    with needing("a pilot", extra="fl"):
        from hasa_opt.forecast.trial_runs import TrialRuns
    how: dict[str, Any] = {"training": training, "server": server, "evaluation": evaluation}
    how |= {"participation": participation, "execution": execution}
    given = {name: value for name, value in how.items() if value is not None}
    runs = TrialRuns(model=model, rounds=rounds, **given)
    tried = runs.read(task, allocations, seed)
    reached, flops = runs.repeated(task, tried, seed, repeats)
    first, *_ = tried.values()
    return Pilot(
        tuple(tried), reached, rounds, flops, runs.round_flops(task, first), task.problem.scale
    )


def _check(allocations: Mapping[str, Any], repeats: int) -> None:
    """Refuse what cannot be compared."""
    if not isinstance(allocations, Mapping):
        raise InputError(
            f"allocations are a {type(allocations).__name__}: name them, as in "
            "{'uniform': widths, 'hasa': widths}"
        )
    if len(allocations) < 2:
        raise InputError(
            f"{len(allocations)} allocation(s) cannot be compared: give at least two, the one to "
            "beat first"
        )
    for name in allocations:
        if ENDING in name:
            raise InputError(
                f"allocation {name!r} ends with {ENDING!r}: leave it out, personal models are "
                "judged for all"
            )
    if repeats < 2:
        raise InputError(f"repeats {repeats} leave no noise to see: give at least 2")


def _mean_gain(gains: FloatArray, confidence: float, scale: Scale) -> Gain:
    """Mean over repetitions and clients of ``(n_repeats, n_clients)`` gains, with its interval."""
    repeats, clients = gains.shape
    variances = gains.var(axis=0, ddof=1) / (repeats * clients**2)
    apart, together = float(variances.sum()), float(gains.mean(axis=1).var(ddof=1) / repeats)
    if together >= apart:
        return Gain.measured(float(gains.mean()), together, repeats - 1, confidence, scale)
    degrees = (repeats - 1) * apart**2 / float((variances**2).sum())
    return Gain.measured(float(gains.mean()), apart, degrees, confidence, scale)
