"""Curves of a study: how good the models are after so many rounds, bytes, operations or seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt._utils.drawing import finish
from hasa_opt._utils.scale import Scale
from hasa_opt.federated import History
from hasa_opt.study.outcome import Outcome, pooled_validation
from hasa_opt.study.plots import (
    MANY,
    WIDTH_IN,
    client_height,
    draw_allocation,
    draw_by_client,
    legend,
    spread,
    style,
)
from hasa_opt.study.results import MEASURES, Results, over_clients

__all__ = ["by_cost", "by_round", "overview"]


def by_round(
    results: Results, outcomes: Sequence[Outcome], targets: IntArray, measure: str = "mean"
) -> Figure:
    """Pooled validation and a measure of the test metric after each round, one line per policy.

    Parameters
    ----------
    results : Results
    outcomes : sequence of Outcome
        Their histories. The band is one standard deviation over seeds to either side; a star is
        the mean round that was chosen, where that is not the last.
    targets : (n_clients,) ints
        Validation targets of each client.
    measure : str
        As for :meth:`Results.measure`; over the clients that were tested in the round.

    Returns
    -------
    matplotlib Figure
    """
    figure = Figure(figsize=(WIDTH_IN, 6 + 0.1 * len(results.policies)), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    pooled = {
        policy: np.stack([pooled_validation(run.history, targets) for run in runs])
        for policy, runs in _runs(results, outcomes).items()
    }
    scale = results.scale
    _draw_curves(above, outcomes, pooled, "Pooled validation", scale)
    above.set_xlabel("")
    finish(above, f"{scale.title} during training")
    _draw_by_round(below, results, outcomes, measure)
    finish(below, "")
    legend(figure, below)
    return figure


def by_cost(results: Results, outcomes: Sequence[Outcome], measure: str = "mean") -> Figure:
    """A measure of the test metric against what was spent until then, one line per policy.

    Parameters
    ----------
    results : Results
    outcomes : sequence of Outcome
        Their histories.
    measure : str
        As for :meth:`Results.measure`; over the clients that were tested in the round.

    Returns
    -------
    matplotlib Figure
        A panel for the bytes received and sent and one for the operations, of all clients; and,
        where the rounds had a clock, for its seconds and joules.
    """
    runs, scale = _runs(results, outcomes), results.scale
    values = _measured(results, runs, measure)
    kinds = [name for name in _SPENT if any(_SPENT[name](run.history).any() for run in outcomes)]
    rows = -(-len(kinds) // 2)
    figure = Figure(figsize=(1.7 * WIDTH_IN, 0.6 + 2.7 * rows), layout="constrained")
    panels = figure.subplots(rows, min(2, len(kinds)), squeeze=False)
    for axes, name in zip(panels.flat, kinds, strict=False):
        spent = {
            policy: np.mean([_SPENT[name](run.history).cumsum() for run in own], axis=0)
            for policy, own in runs.items()
        }
        _draw_curves(axes, outcomes, values, _test(measure), scale, spent)
        axes.set_xlim(0, None)
        axes.set_xlabel(name)
        finish(axes, "")
    for axes in panels.flat[len(kinds) :]:
        axes.set_axis_off()
    legend(figure, panels.flat[0])
    return figure


def overview(results: Results, outcomes: Sequence[Outcome]) -> Figure:
    """Allocation, metric by client and metric by round side by side.

    Parameters
    ----------
    results : Results
    outcomes : sequence of Outcome
        Their histories.

    Returns
    -------
    matplotlib Figure
    """
    figure = Figure(figsize=(2.6 * WIDTH_IN, client_height(results)), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    draw_allocation(left, results)
    draw_by_client(middle, results)
    middle.tick_params(labelleft=False)
    _draw_by_round(right, results, outcomes)
    finish(right, f"{results.scale.title} during training")
    legend(figure, right, middle)
    return figure


def _draw_by_round(
    axes: Axes, results: Results, outcomes: Sequence[Outcome], measure: str = "mean"
) -> None:
    values = _measured(results, _runs(results, outcomes), measure)
    _draw_curves(axes, outcomes, values, _test(measure), results.scale)
    axes.set_xlim(0, outcomes[0].history.rounds + 1)


def _test(measure: str) -> str:
    """The beginning of a label of an axis."""
    return f"{MEASURES[measure].capitalize()}: test"


def _measured(
    results: Results, runs: Mapping[str, Sequence[Outcome]], measure: str
) -> dict[str, FloatArray]:
    """A measure over the clients after each round, ``(n_seeds, rounds)``, by policy."""

    def after(values: FloatArray) -> float:
        tested = np.isfinite(values)  # Clients not drawn are NaN there.
        found = over_clients(values[tested], results.samples[tested], results.scale, measure)
        return float(found)

    return {
        policy: np.array([[after(row) for row in run.history.test_metric] for run in own])
        for policy, own in runs.items()
    }


def _runs(results: Results, outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """Outcomes of each policy, but of those that share their runs only the first's."""
    found: dict[tuple[int, ...], str] = {}
    for policy in results.policies:
        found.setdefault(tuple(id(run.history) for run in _of(outcomes, policy)), policy)
    return {policy: _of(outcomes, policy) for policy in found.values()}


def _draw_curves(
    axes: Axes,
    outcomes: Sequence[Outcome],
    curves: Mapping[str, FloatArray],
    label: str,
    scale: Scale,
    spent: Mapping[str, FloatArray] | None = None,
) -> None:
    """Draw one line per policy, ``(n_seeds, rounds)``, against rounds or what was spent by then."""
    policies = list(dict.fromkeys(outcome.policy for outcome in outcomes))
    for policy, values in curves.items():
        means = scale.shown(values)
        rounds = np.arange(1, means.shape[1] + 1)
        along = rounds if spent is None else spent[policy]
        centre, reach = means.mean(axis=0), spread(means)
        drawn = style(policy, policies)
        if len(curves) <= MANY:
            ends = (centre - reach, centre + reach)
            axes.fill_between(along, *ends, color=drawn["color"], alpha=0.15, lw=0)
        every = max(1, len(rounds) // 10)
        axes.plot(along, centre, label=policy, markevery=every, markersize=4.5, lw=1.5, **drawn)
        chosen = float(np.mean([run.rounds for run in _of(outcomes, policy)]))
        if chosen < len(rounds):
            place = [np.interp(chosen, rounds, values) for values in (along, centre)]
            axes.plot(*place, marker="*", markersize=13, color=drawn["color"])
    axes.xaxis.set_major_locator(MaxNLocator(integer=spent is None))
    axes.set_xlabel("Round")
    axes.set_ylabel(scale.label(label))
    axes.grid(axis="y", color="0.9")


def _of(outcomes: Sequence[Outcome], policy: str) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.policy == policy]


def _joules(run: History) -> FloatArray:
    return np.asarray(np.nan_to_num(run.clock_joules).sum(axis=1))


_SPENT = {
    "MB received and sent": lambda history: (
        (history.bytes_down + history.bytes_up).sum(axis=1) / 1e6
    ),
    "TFLOP of training": lambda run: run.flops.sum(axis=1) / 1e12,
    "Seconds by the clock": lambda run: run.round_seconds,
    "Joules by the clock": _joules,
}
"""What each round spends, ``(n_rounds,)``, by its words on an axis."""
