"""A pilot: the few candidate allocations, trained on most of the training data, judged on the rest.

A table of what each client gains from width cannot tell what training *under an allocation* does,
since clients meet in the shared weights. A pilot trains under it. The module is importable without
torch; :func:`pilot` needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, confidence_level, whole
from hasa_opt.errors import InputError, MissingExtraError
from hasa_opt.forecast.prediction import Gain, interval

if TYPE_CHECKING:
    from rich.table import Table

    from hasa_opt.federated import History
    from hasa_opt.models import SupernetModel
    from hasa_opt.tasks import Task
    from hasa_opt.tasks.task import Fold

__all__ = ["PERSONAL", "Pilot", "pilot"]

PERSONAL = "+personal"
"""What the name of an allocation ends with where clients deploy personal models."""


@dataclass(frozen=True, eq=False)
class Pilot:
    """What clients reached under each allocation, on held-back training samples.

    An allocation is named as in a study: ``"hasa"``, or ``"hasa+personal"`` where each client
    deploys its mixture of the common and its last local model.

    Attributes
    ----------
    names : tuple of str
        Allocations; the first is what the others are compared with.
    accuracy : (n_repeats, n_allocations, 2, n_clients) floats in [0, 1]
        Of common and of personal models, at the deployed width. NaN where an allocation had been
        dropped, or a client's held-back part had no target.
    rounds : int
    flops : int
        Operations of the pilot, training and judging.
    round_flops : float
        Operations of one round of the real run under the first allocation.
    """

    names: tuple[str, ...]
    accuracy: FloatArray
    rounds: int
    flops: int
    round_flops: float

    def cost(self, rounds: int) -> float:
        """Compute of the pilot as a share of the training of a run of so many rounds."""
        whole(rounds, "rounds", least=1)
        return self.flops / (rounds * self.round_flops)

    def gain(self, name: str, over: str | None = None, *, confidence: float = 0.95) -> Gain:
        """Gain of an allocation over another one in the unweighted client mean, in points.

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
        other = self.names[0] + PERSONAL if over is None else over
        gains = 100 * (self._reached(name) - self._reached(other))
        gains = gains[np.isfinite(gains).any(axis=1)]
        return _mean_gain(gains[:, np.isfinite(gains).all(axis=0)], level)

    def _reached(self, name: str) -> FloatArray:
        """Accuracy in each repetition, ``(n_repeats, n_clients)``."""
        own = name.removesuffix(PERSONAL)
        if own not in self.names:
            raise InputError(f"{name!r} is not in the pilot: choose from {', '.join(self.names)}")
        return self.accuracy[:, self.names.index(own), int(own != name)]

    def __rich__(self) -> Table:
        from rich.box import SIMPLE_HEAD
        from rich.markup import escape
        from rich.table import Table

        first = self.names[0]
        table = Table(
            title=f"Accuracy on held-back training samples after {self.rounds} rounds, client mean",
            box=SIMPLE_HEAD,
        )
        table.add_column("policy", no_wrap=True)
        for column in ("%", f"over {first}", f"over {first}{PERSONAL}", "repetitions"):
            table.add_column(column, justify="right")
        for name in (each + ending for each in self.names for ending in ("", PERSONAL)):
            own = self._reached(name)
            cells = (
                "" if name == over else str(self.gain(name, over))
                for over in (first, first + PERSONAL)
            )
            done = int(np.isfinite(own).any(axis=1).sum())
            table.add_row(escape(name), f"{100 * np.nanmean(own):.2f}", *cells, str(done))
        table.caption = "points, 95 % intervals; what is not ahead after two repetitions is dropped"
        return table


def pilot(
    model: SupernetModel,
    task: Task,
    allocations: Mapping[str, npt.ArrayLike],
    rounds: int,
    seed: int,
    *,
    mean_widths: Mapping[str, npt.ArrayLike] | None = None,
    repeats: int = 4,
    **options: Any,
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
    allocations : mapping of str to (n_clients,) floats in (0, 1]
        Width that each client trains and deploys, by name. The first one, usually "uniform", is
        what the others are compared with.
    rounds : int
        Rounds of each training.
    seed : int
        Drives parts and sample order; at least 0.
    mean_widths : mapping of str to (n_clients,) floats, optional
        Mean of the widths that batches train, for those allocations that ordered dropout trains.
    repeats : int
        At least 2, and at most the samples of the smallest client.
    **options
        As for :func:`hasa_opt.federated.run`: ``sample``, ``local_epochs``, ``batch_size``,
        ``learning_rate``, ``optimizer``, ``aggregation``, ``weight_power``, ``output_bias``,
        ``mix`` (a number), ``engine``.

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
    means = dict(mean_widths or {})
    _check(allocations, means, whole(repeats, "repeats"), options)
    try:
        from hasa_opt.federated.costs import Costs
        from hasa_opt.federated.loop import read_subnets
        from hasa_opt.federated.settings import check_run
        from hasa_opt.tasks.task import folds
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"a pilot needs {error.name}, not installed here: pip install 'hasa-opt[fl]'"
        ) from error
    check_run(model, task, rounds, seed)
    widths = {name: read_subnets(own, task).widths for name, own in allocations.items()}
    costs = Costs(model, options.get("local_epochs", 1))
    names = tuple(widths)
    reached = np.full((repeats, len(names), 2, len(task)), np.nan)
    flops, left = 0, set(names)
    passes = 2 * rounds + 1  # validation and test of each round, personal models of the last one
    for repeat, fold in enumerate(folds(task, seed, repeats)):
        for row, name in enumerate(names):
            if name in left:
                history = _trained(
                    model, task, fold, widths[name], means.get(name), rounds, seed + repeat, options
                )
                reached[repeat, row] = history.test_accuracy[-1], history.personal_accuracy[-1]
                flops += int(history.flops.sum())
                flops += costs.judging(fold.held, widths[name], passes)
        if repeat:
            left = {names[0], *(name for name in left if _is_ahead(reached, names.index(name)))}
        if len(left) == 1:
            break
    return Pilot(names, reached, rounds, flops, float(costs.round(task, widths[names[0]])))


def _check(
    allocations: Mapping[str, Any],
    means: Mapping[str, Any],
    repeats: int,
    options: Mapping[str, Any],
) -> None:
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
        if PERSONAL in name:
            raise InputError(
                f"allocation {name!r} ends with {PERSONAL!r}: leave it out, personal models are "
                "judged for all"
            )
    if unknown := means.keys() - allocations.keys():
        raise InputError(f"mean_widths name {sorted(unknown)}, which are no allocations: add them")
    if repeats < 2:
        raise InputError(f"repeats {repeats} leave no noise to see: give at least 2")
    if unknown := options.keys() - _OPTIONS:
        raise InputError(f"unknown options {sorted(unknown)}: use some of {sorted(_OPTIONS)}")
    if options.get("mix") == "validation":
        raise InputError(
            "mix 'validation' would be chosen on the samples that judge: give a number"
        )


_OPTIONS = frozenset(
    {
        "sample", "local_epochs", "batch_size", "learning_rate", "optimizer", "aggregation",
        "weight_power", "output_bias", "mix", "engine",
    }
)  # fmt: skip


def _trained(
    model: SupernetModel,
    task: Task,
    fold: Fold,
    widths: FloatArray,
    means: npt.ArrayLike | None,
    rounds: int,
    seed: int,
    options: Mapping[str, Any],
) -> History:
    """Train on the kept part; the held-back part is the test."""
    from hasa_opt.federated.loop import run_flat

    part = replace(task, train=fold.kept, validation=fold.held, test=fold.held)
    return run_flat(
        model,
        part,
        widths,
        rounds=rounds,
        seed=seed,
        scheme="prefix" if means is None else "ordered_dropout",
        mean_widths=means,
        other_deployments="last",
        **options,
    )


def _is_ahead(reached: FloatArray, row: int) -> bool:
    """Whether common or personal models are ahead of both of the first allocation."""
    means = np.nanmean(reached[:, [0, row]], axis=(0, 3))
    return bool(means[1].max() > means[0].max())


def _mean_gain(gains: FloatArray, confidence: float) -> Gain:
    """Mean over repetitions and clients of ``(n_repeats, n_clients)`` gains, with its interval."""
    repeats, clients = gains.shape
    own = gains.var(axis=0, ddof=1) / (repeats * clients**2)
    apart, together = float(own.sum()), float(gains.mean(axis=1).var(ddof=1) / repeats)
    if together >= apart:
        return interval(float(gains.mean()), together, repeats - 1, confidence)
    degrees = (repeats - 1) * apart**2 / float((own**2).sum())
    return interval(float(gains.mean()), apart, degrees, confidence)
