"""Rich tables of a study, readable at 100 columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from hasa_opt._utils.checks import FloatArray
from hasa_opt._utils.scale import Scale
from hasa_opt.clients.clients import Clients
from hasa_opt.study.claims import REFERENCE, against, dearer
from hasa_opt.study.inference import Difference
from hasa_opt.study.results import Results
from hasa_opt.study.summary import summarise

if TYPE_CHECKING:
    from hasa_opt.study.rounds import ByRounds

__all__ = [
    "COLUMNS",
    "allocation_table",
    "costs_table",
    "fitting_unit",
    "results_table",
    "rounds_table",
    "scaled",
]

_DASH = "\N{EN DASH}"
_MISSES = "*"
_PARTIAL = "\nrealised: if all clients took part in all rounds, which they did not"
_EXCLUDED = (
    "\nout: clients that are left out of training; they are tested, and count in every mean,\n"
    "at the widest width that they could deploy"
)
_PREFIXES = ("", "k", "M", "G", "T", "P")
COLUMNS = 100
"""Characters of a line, as wide as a window usually is."""

_CLOCK = {"seconds": "s", "joules": "J"}
"""Columns of costs that only a clock knows."""
_MAX_NAME = 20
"""Characters of a name; longer ones of clients are cut, of policies broken."""


def results_table(results: Results, budget: float, task: str, *, partial: bool = False) -> Table:
    """The metric by policy, mean ± standard deviation over the seeds; accuracies in percent.

    Parameters
    ----------
    results : Results
    budget : float
        What each policy should have spent.
    task : str
        Its name, for the title.
    partial : bool
        Whether not all clients took part in all rounds.
    """
    rounds, scale = sorted(set(results.rounds.flat)), results.scale
    after = f"{rounds[0]}" if len(rounds) == 1 else f"{rounds[0]} to {rounds[-1]}"
    table = Table(
        title=f"Test {escape(scale.name)} on {escape(task)} after {after} rounds, "
        f"{len(results.seeds)} seed(s), {'%' if scale.is_share else scale.direction}",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption="worst third: mean over the third of the clients with the "
        f"{scale.worst} {escape(scale.name)}\n"
        f"[ ]: 95 % interval of one comparison, paired by seed; {_MISSES} misses the budget"
        + (_PARTIAL if partial else ""),
        caption_justify="left",
    )
    table.add_column("policy", overflow="fold", max_width=_MAX_NAME)
    for name in (
        "client mean",
        f"{scale.minus} {REFERENCE}",
        "worst\nclient",
        "worst\nthird",
        "full\nsupernet",
        "realised\nbudget",
    ):
        table.add_column(name, justify="right", overflow="fold")
    differences = {contrast.policy: contrast.difference for contrast in against(results)}
    for row in summarise(results, budget):
        table.add_row(
            escape(_in_lines(row.policy)),
            scale.number(row.mean)
            + (f" ± {scale.amount(row.mean_std)}" if len(results.seeds) > 1 else ""),
            _interval(differences.get(row.policy), scale),
            scale.number(row.worst),
            scale.number(row.worst_third),
            scale.number(row.supernet.mean) if math.isfinite(row.supernet.mean) else "-",
            f"{row.realised:.4f}{_MISSES if row.flagged else ' '}",
        )
    return table


def costs_table(
    results: Results, budget: float, measuring: Mapping[str, float], shortest: str = ""
) -> Table:
    """What each policy trained, deployed and took.

    Parameters
    ----------
    results : Results
    budget : float
        What each policy should have spent.
    measuring : mapping of policy to float
        Training of its probe as a share of a run's, for those that measure.
    shortest : str
        What another allocation could gain in seconds, in a sentence.
    """
    excluding = bool(results.excluded.any())
    table = Table(
        title="Widths and costs, mean over the seeds",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption="trained, deployed: means by samples; operations, sent: all clients and "
        "rounds\nmemory: a step at the peak width; server, device: models kept from round to round"
        + ("; before: probe, in runs" if measuring else "")
        + (_EXCLUDED if excluding else "")
        + "".join(f"\n{escape(sentence)}" for sentence in (dearer(results), shortest) if sentence),
        caption_justify="left",
    )
    table.add_column("policy", overflow="fold", max_width=_MAX_NAME)
    columns = ["trained", "peak", "deployed", "operations", "sent", "memory", "server", "device"]
    clock = clock_units(results)
    for name in [*columns, *clock] + ["before"] * bool(measuring) + ["out"] * excluding:
        table.add_column(name, justify="right", overflow="fold")
    for row in summarise(results, budget):
        costs = row.costs
        before = [f"{measuring.get(row.policy, 0):.2f}"] * bool(measuring)
        table.add_row(
            escape(_in_lines(row.policy)),
            f"{costs.trained:.4f}",
            f"{costs.peak:.3f}",
            f"{costs.deployed:.3f}",
            scaled(costs.flops, "FLOP"),
            scaled(costs.bytes, "B"),
            scaled(costs.memory, "B"),
            scaled(costs.server, "B"),
            scaled(costs.device, "B"),
            *(scaled(getattr(costs, name), unit) for name, unit in clock.items()),
            *before,
            *[f"{costs.excluded:g}"] * excluding,
        )
    return table


def clock_units(results: Results) -> dict[str, str]:
    """Columns of costs, and their units, of results that had a clock; none without one."""
    known = {name: np.isfinite(getattr(results, name)).any() for name in _CLOCK}
    return {name: unit for name, unit in _CLOCK.items() if known[name]}


def rounds_table(found: ByRounds) -> Table:
    """What was trained in which rounds by policies that decide on the way, and why."""
    reasons = (f"{who}: {reason}" for who, reason in found.reasons.items())
    table = Table(
        title="Mean width trained by rounds",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption=escape("\n".join(["decided: anew after the first round", *reasons])),
        caption_justify="left",
    )
    table.add_column("policy", no_wrap=True, overflow="fold", max_width=_MAX_NAME)
    for name in (*found.spans, "decided"):
        table.add_column(name, justify="right", no_wrap=True)
    for policy, widths in found.trained.items():
        shown = [f"{width:.4f}" if math.isfinite(width) else _DASH for width in widths.tolist()]
        table.add_row(escape(_in_lines(policy)), *shown, f"{found.decided[policy]:g}")
    return table


def _in_lines(policy: str) -> str:
    """Name of a policy; a long one has a line for each option."""
    return policy if len(policy) <= _MAX_NAME else policy.replace("+", "\n+")


def scaled(value: float, unit: str) -> str:
    """Three digits with an SI prefix."""
    if not math.isfinite(value):
        return _DASH
    factor, prefixed = fitting_unit(value, unit)
    return f"{value / factor:.3g} {prefixed}"


def fitting_unit(value: float, unit: str) -> tuple[float, str]:
    """The unit with the SI prefix that suits a value, and how many units it is."""
    factor, power = 1.0, 0
    while value / factor >= 999.5 and power < len(_PREFIXES) - 1:
        factor, power = factor * 1000, power + 1
    return factor, f"{_PREFIXES[power]}{unit}"


def allocation_table(
    title: str,
    clients: Clients,
    scores: FloatArray,
    widths: Mapping[str, FloatArray],
    realised: Mapping[str, float],
    deciding: Sequence[str] = (),
) -> Table:
    """Score and width of each client under every policy, in blocks of as many as fit.

    Parameters
    ----------
    title : str
    clients : Clients
    scores : (n_clients,) floats
    widths : mapping of policy to (n_clients,) floats
        0: left out of training.
    realised : mapping of policy to float
        Budget that its widths spend.
    deciding : sequence of str
        Policies that decide again while the clients train: what they begin with is shown.
    """
    names = clients.all_names
    room = COLUMNS - min(_MAX_NAME, max(map(len, names))) - 25
    blocks: list[list[str]] = [[]]
    for policy in widths:
        if blocks[-1] and sum(max(6, len(name)) + 3 for name in [*blocks[-1], policy]) > room:
            blocks.append([])
        blocks[-1].append(policy)
    begin = f"{', '.join(deciding)}: at first; decides again while the clients train"
    outer = Table(
        title=title,
        box=None,
        show_header=False,
        padding=0,
        caption=escape(begin) if deciding else None,
        caption_justify="left",
    )
    for block in blocks:
        table = Table(box=SIMPLE_HEAD)
        table.add_column("client", overflow="fold")
        for name in ("samples", "score", *map(escape, block)):
            table.add_column(name, justify="right", overflow="fold")
        for row, name in enumerate(names):
            known = (str(clients.samples[row]), f"{scores[row]:.4f}")
            given = (float(widths[policy][row]) for policy in block)
            table.add_row(escape(name), *known, *(f"{own:.3f}" if own else "out" for own in given))
        shares = (f"{realised[policy]:.4f}" for policy in block)
        table.add_row("realised budget", "", "", *shares, style="bold")
        outer.add_row(table)
    return outer


def _interval(difference: Difference | None, scale: Scale) -> str:
    """Mean difference with its 95 % t interval, if there is one."""
    if difference is None:
        return ""
    mean, low, high = map(scale.signed, (difference.mean, difference.low, difference.high))
    return f"{mean} [{low}, {high}]" if math.isfinite(difference.low) else mean
