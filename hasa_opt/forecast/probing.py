"""What each client gains from width, measured before the real run: a short warm-up, judged.

Widths are worth something else to each client. A probe trains the supernet for a few rounds with
all widths of the menu and lets held-back *training* samples judge every width. Validation and test
splits are never read.

What is measured is the task's metric where that is a name, such as "accuracy" or "mse": a mean over
targets, to which each sample adds its part, so that single samples tell the noise. A metric that is
a function or an object judges whole splits, and no sample has a part of it: the loss, of which less
is better, stands in for it. ``Probe.scale`` says which.

The module is importable without torch; :func:`probe` needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hasa_opt._utils.checks import FloatArray, number, whole
from hasa_opt._utils.installing import needing
from hasa_opt._utils.rational import menu_units, written
from hasa_opt._utils.scale import ACCURACY, Scale, as_accuracy
from hasa_opt._utils.showing import SHOWN_ROWS, Shown, first_of, new_table
from hasa_opt.errors import InputError
from hasa_opt.forecast.apart import Apart
from hasa_opt.forecast.curves import pooled_covariance, smoothed
from hasa_opt.forecast.foretold import Foretold

if TYPE_CHECKING:
    from rich.table import Table

    from hasa_opt.federated import LocalTraining, Participation
    from hasa_opt.forecast.measuring import Measured
    from hasa_opt.forecast.warm_up import Judged, Plan
    from hasa_opt.models import SupernetModel
    from hasa_opt.tasks import Task

__all__ = ["Probe", "probe"]


_STEEPEST = 1e3
"""Slope of the log-odds of two widths at which only an end of the menu is drawn."""

_ROUNDING = 1e-12
"""Least variance by which something is divided."""


@dataclass(frozen=True, eq=False)
class Probe(Shown):
    """Loss and metric of each client at each width, on held-back training samples.

    Attributes
    ----------
    widths : (n_widths,) floats
    loss : (n_clients, n_widths) floats
        Mean over targets; of classes in nats.
    reached : (n_clients, n_widths) floats
        The metric; of accuracies, shares in [0, 1].
    halves : (2, n_clients, n_widths) floats
        The same on each half of the training samples, of a supernet that was trained on the other.
    covariance : (n_clients, n_widths, n_widths) floats
        Noise of ``reached``: of the samples, from their single outcomes, and of another training
        run, from what the halves differ by beyond it.
    degrees : float
        Degrees of freedom behind all of it.
    utility : (n_clients, n_widths) floats
        ``reached``, smoothed and shrunk, turned so that more is better, divided by the number of
        clients: a sum over clients is the unweighted client mean, of accuracies in percentage
        points. Ready for :func:`utility.measured`.
    rounds : int
    flops : int
        Operations of the probe, training and judging.
    round_flops : (n_widths,) floats
        Operations of one round of the real run with all clients at each width.
    names : n_clients strings
    scale : Scale
        The metric, and which end of it is better.
    similarities : tuple of (n_clients, n_clients) floats
        Cosines of the clients' updates, summed over each three rounds, the mean of both warm-ups:
        groups of alike clients show in them (:func:`hasa_opt.rules.by_updates`). Empty with more
        than 200 clients, or where not all take part in each round.
    foretold : Foretold
        Whether the counts of labels in the training splits, or these similarities, show groups.
    apart : Apart, optional
        Where they do, what is gained where each group goes on apart. None without groups, and of
        networks with BatchNorm.
    """

    widths: FloatArray
    loss: FloatArray
    reached: FloatArray
    halves: FloatArray
    covariance: FloatArray
    degrees: float
    utility: FloatArray
    rounds: int
    flops: int
    round_flops: FloatArray
    names: tuple[str, ...]
    scale: Scale = ACCURACY
    similarities: tuple[FloatArray, ...] = ()
    foretold: Foretold = field(default_factory=Foretold)
    apart: Apart | None = None

    @property
    def accuracy(self) -> FloatArray:
        """:attr:`reached`, where the metric is the accuracy."""
        return np.asarray(as_accuracy(self.reached, self.scale.name))

    def cost(self, rounds: int, budget: float) -> float:
        """Compute of the probe as a share of a run's training.

        Parameters
        ----------
        rounds : int
            Rounds of that run, all clients drawn.
        budget : float
            Its mean width.
        """
        whole(rounds, "rounds", least=1)
        return self.flops / (rounds * float(np.interp(budget, self.widths, self.round_flops)))

    def __repr__(self) -> str:
        return f"Probe({len(self.names)} clients x {len(self.widths)} widths, {self.rounds} rounds)"

    def __rich__(self) -> Table:
        from rich.markup import escape

        scale = self.scale
        unit = "%" if scale.is_share else scale.direction
        table = new_table(
            title=f"{escape(scale.title)} on held-back training samples after {self.rounds} "
            f"rounds, {unit}, smoothed and shrunk",
        )
        table.add_column("client", overflow="fold")
        for width in self.widths:
            table.add_column(f"{width:g}", justify="right", overflow="fold")
        table.add_column("noise of a difference", justify="right", overflow="fold")
        values = scale.sign * self.utility * len(self.names)
        wide, narrow = self.covariance[:, -1], self.covariance[:, 0]
        noise = scale.factor * np.sqrt(np.maximum(wide[:, -1] + narrow[:, 0] - 2 * wide[:, 0], 0))
        for row in range(min(len(self.names), SHOWN_ROWS)):
            cells = map(scale.number, values[row])
            table.add_row(escape(self.names[row]), *cells, f"± {scale.amount(noise[row])}")
        table.add_row("mean", *map(scale.number, values.mean(axis=0)), style="bold")
        table.caption = first_of(len(self.names))
        return table


def probe(
    model: SupernetModel,
    task: Task,
    widths: Sequence[float],
    rounds: int,
    seed: int,
    *,
    budget: float | None = None,
    training: LocalTraining | None = None,
    participation: Participation | None = None,
    workers: int | None = None,
    on_round: Callable[[int, int], object] | None = None,
) -> Probe:
    """Measure what each client gains from width, on training data alone.

    Each client's training samples are dealt into two halves. A supernet is warmed up on one half of
    all clients and judged on the other, and the other way round, so that every training sample
    judges and the two tables have no sample and no training run in common. In the warm-up every
    client holds the widest subnet of the menu and each batch trains a drawn width of it (FjORD,
    arXiv:2102.13451), so that each client's data has trained all widths alike.

    Where groups of alike clients are found, by counts of labels or by the updates, each warm-up
    goes on for as many rounds again, once with all clients together and once with each group on a
    copy of the supernet: what that gains is measured on the same held-back samples.

    Parameters
    ----------
    model : SupernetModel
        Architecture and initial weights; it is not changed.
    task : Task
        Only its training splits are read.
    widths : increasing floats in (0, 1]
        The menu; it should hold the budget.
    rounds : int
        Rounds of each warm-up, on half of the samples.
    seed : int
        Drives halves, sample order and drawn widths; at least 0.
    budget : float, optional
        Mean width of the real run, with which widths are drawn. Default: all are drawn equally
        often.
    training : LocalTraining, optional
        Output biases are shared, and running statistics are re-estimated, whatever it says.
    participation : Participation, optional
        Without faults.
    workers : int or None
        Processes, of one torch thread each, among which the warm-ups are spread: two can be used,
        four where there are groups. None: they run in this process, with all its threads. Any
        number gives the same bits.
    on_round : callable, optional
        Called from a thread with finished rounds and all: three times as many with groups.

    Returns
    -------
    Probe

    Raises
    ------
    InputError
        If an argument breaks a rule, before any work starts.
    MissingExtraError
        If torch is not installed.
    """
    units, denominator = menu_units(widths)
    menu = units / denominator
    shares = _shares(menu, budget)
    with needing("a probe", extra="fl"):
        from hasa_opt.federated import LocalTraining, Participation
        from hasa_opt.federated.settings import check_run
        from hasa_opt.forecast.measuring import measure
        from hasa_opt.forecast.warm_up import Plan
    check_run(model, task, rounds, seed)
    if workers is not None:
        whole(workers, "workers", least=1)
    taking_part = participation or Participation()
    taking_part.check(task)
    if taking_part.faults is not None:
        raise InputError("a probe knows no faults: leave faults out of its participation")
    plan = Plan(menu, shares, rounds, training or LocalTraining(), taking_part, seed)
    measured = measure(model, task, plan, workers, on_round)
    return _summary(measured, plan, task)


def _shares(menu: FloatArray, budget: float | None) -> FloatArray:
    """How often each width is drawn: with the budget as mean, else as evenly as can be."""
    if budget is None:
        return np.full(menu.size, 1.0 / menu.size)
    mean = number(budget, "budget")
    if not menu[0] <= mean <= menu[-1]:
        raise InputError(
            f"budget {written(mean)} is outside the menu, {written(menu[0])} to "
            f"{written(menu[-1])}: no draw of its widths has this mean, add a width"
        )
    low, high = -_STEEPEST, _STEEPEST
    for _ in range(100):
        middle = (low + high) / 2
        shares = np.exp(middle * (menu - menu.mean()))
        shares /= shares.sum()
        low, high = (middle, high) if shares @ menu < mean else (low, middle)
    return np.asarray(shares)


def _summary(measured: Measured, plan: Plan, task: Task) -> Probe:
    """Ratios of all held-back targets, with the noise of their samples."""
    names, scale = task.client_names, task.problem.for_single_samples.scale
    _check_finite(measured.outcomes, names, scale)
    reached, halves, noise, degrees = _read(measured.outcomes)
    losses = np.sum(
        [[client.loss.sum(axis=0) for client in half] for half in measured.outcomes], axis=0
    )
    known = np.sum([[client.known.sum() for client in half] for half in measured.outcomes], axis=0)
    table = smoothed(plan.menu, scale.worth(reached), scale.factor**2 * noise)
    return Probe(
        widths=plan.menu,
        loss=losses / np.maximum(known, 1.0)[:, None],
        reached=reached,
        halves=halves,
        covariance=noise,
        degrees=degrees,
        utility=table / len(names),
        rounds=plan.rounds,
        flops=measured.flops,
        round_flops=measured.round_flops,
        names=names,
        scale=scale,
        similarities=tuple(measured.similarities),
        foretold=measured.foretold,
        apart=_apart(measured, names, scale),
    )


def _apart(measured: Measured, names: Sequence[str], scale: Scale) -> Apart | None:
    """What groups gain apart, with its noise."""
    if not measured.apart:
        return None
    _check_finite(measured.apart, names, scale)
    difference, _, noise, degrees = _read(measured.apart)
    return Apart(difference, noise, degrees)


def _read(
    outcomes: Sequence[Sequence[Judged]],
) -> tuple[FloatArray, FloatArray, FloatArray, float]:
    """Metric of each client in each column; that of the halves; covariance; its degrees."""
    reached, noise, degrees = _ratios(outcomes)
    halves = np.stack([_means(half) for half in outcomes])
    runs = _between_runs(halves[0] - halves[1], noise)
    return reached, halves, noise + runs * np.eye(reached.shape[1]), degrees


def _check_finite(halves: Sequence[Sequence[Judged]], names: Sequence[str], scale: Scale) -> None:
    """Refuse a warm-up that has diverged, which no accuracy shows."""
    for name, client in (pair for half in halves for pair in zip(names, half, strict=True)):
        if not np.isfinite(client.score).all():
            raise InputError(
                f"the {scale.name} of held-back samples of client {name!r} is not finite in the "
                "probe: lower the learning rate, or leave out samples that have none"
            )


def _ratios(halves: Sequence[Sequence[Judged]]) -> tuple[FloatArray, FloatArray, float]:
    """Metric of each client in each column, the covariance of its noise, degrees of freedom.

    Samples, not targets, are the units: the words of one text stand or fall together.
    """
    sums = np.sum([[client.score.sum(axis=0) for client in half] for half in halves], axis=0)
    targets = np.sum([[client.targets.sum() for client in half] for half in halves], axis=0)
    samples = np.sum([[len(client.targets) for client in half] for half in halves], axis=0)
    scatter = np.sum([[_scatter(client) for client in half] for half in halves], axis=0)
    degrees = samples - float(len(halves))
    covariance = pooled_covariance(scatter, degrees, samples / np.maximum(targets, 1.0) ** 2)
    return sums / np.maximum(targets, 1.0)[:, None], covariance, float(degrees.sum())


def _scatter(client: Judged) -> FloatArray:
    """Outer products of the residuals of a ratio, summed over samples."""
    ratio = client.score.sum(axis=0) / max(client.targets.sum(), 1.0)
    residual = client.score - client.targets[:, None] * ratio
    return np.asarray(residual.T @ residual)


def _between_runs(difference: FloatArray, covariance: FloatArray) -> float:
    """Variance that another training run adds to each entry of the mean of the halves.

    The halves were judged on other samples *and* other runs. What their difference varies by
    between the widths, beyond the noise of the samples, is the runs'; clients count by how little
    noise they have.
    """
    size = difference.shape[1]
    if size < 2:
        return 0.0
    centred = difference - difference.mean(axis=1, keepdims=True)
    seen = (centred**2).sum(axis=1) / 4 / (size - 1)
    trace = np.trace(covariance, axis1=1, axis2=2) - covariance.mean(axis=2).sum(axis=1)
    expected = trace / (size - 1)
    weight = 1 / np.maximum(expected, _ROUNDING) ** 2
    return max(0.0, float(weight @ (seen - expected) / weight.sum()))


def _means(half: Sequence[Judged]) -> FloatArray:
    return np.stack([client.score.sum(axis=0) / max(client.targets.sum(), 1.0) for client in half])
