"""The report of a study: one HTML file that says what was measured, and opens anywhere."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from functools import cache, partial
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from hasa_opt._utils import VERSION
from hasa_opt._utils.checks import listed
from hasa_opt._utils.files import file_target, write_text
from hasa_opt._utils.scale import Scale
from hasa_opt.policies.policy import split_name
from hasa_opt.solving.comparison import Comparison
from hasa_opt.study.claims import (
    REFERENCE,
    against,
    against_plain,
    against_same_options,
    dearer,
    headline,
    hinge_sentences,
    hinges,
    signed,
    span,
    verdict,
)
from hasa_opt.study.dots import dot_plots, scatter_plots
from hasa_opt.study.inference import signs
from hasa_opt.study.makespan import shortest_round
from hasa_opt.study.outcome import Outcome, measuring_of
from hasa_opt.study.pictures import pictures
from hasa_opt.study.results import CHOICES, MEASURES, Results
from hasa_opt.study.rounds import by_rounds
from hasa_opt.study.settings import SetUp
from hasa_opt.study.summary import by_width, left_out, summarise
from hasa_opt.study.tables import clock_units, scaled

__all__ = ["write_report"]


_FILES = {
    "results.csv": "one line per policy, seed and client",
    "rounds.csv": "one line per policy, seed, round and client",
}
_MINUS, _DASH = "\N{MINUS SIGN}", "\N{EN DASH}"
_MAX_LEFT_OUT = 12
"""Clients of whom the table without each in turn has a column: as many as a page is wide."""


def write_report(
    setup: SetUp,
    results: Results,
    outcomes: Sequence[Outcome],
    comparison: Comparison | None,
    path: str | PathLike[str],
) -> Path:
    """Write what a study compared and measured as one self-contained HTML file.

    Parameters
    ----------
    setup : SetUp
    results : Results
    outcomes : sequence of Outcome
        What the results are made of.
    comparison : Comparison or None
        Of the solvers.
    path : path of the file to write
        Its folder must exist; a file that is there is replaced.

    Returns
    -------
    Path
        Of the written file.

    Raises
    ------
    InputError
        If the folder does not exist.
    """
    target = file_target(path)
    content = _content(setup, results, outcomes, comparison)
    content["files"] = {
        name: what for name, what in _FILES.items() if (target.parent / name).is_file()
    }
    write_text(target, _template().render(content))
    return target


@cache
def _template() -> Template:
    """The page; to compile it takes as long as to fill it in."""
    environment = Environment(
        loader=PackageLoader("hasa_opt.study"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=_number, p=_p_value, scaled=scaled)
    return environment.get_template("report.html.jinja")


def _content(
    setup: SetUp, results: Results, outcomes: Sequence[Outcome], comparison: Comparison | None
) -> dict[str, Any]:
    """All that the template shows."""
    rows = summarise(results, setup.budget)
    flagged = {row.policy for row in rows if row.flagged}
    differences = {contrast.policy: contrast for contrast in against(results)}
    found, scale, scatters = hinges(results), results.scale, scatter_plots(results)
    costs = {plot.cost: plot.words for plot in scatters}
    return {
        **_written(scale),
        "setup": setup,
        "results": results,
        "comparison": comparison,
        "description": setup.description | {"Version": f"hasa_opt {VERSION}"},
        "rows": rows,
        "clock": clock_units(results),
        "shortest": shortest_round(setup, results),
        "measures": {name: words for name, words in MEASURES.items() if name != "mean"},
        "headline": headline(results, setup.budget),
        "reference": REFERENCE,
        "has_supernet": bool(results.measured("supernet").size),
        "unmeasured": [
            name for row, name in enumerate(results.clients) if row not in results.measured()
        ],
        "excluded": _excluded(results),
        "differences": differences,
        "choices": [_choice(results, name) for name in CHOICES],
        "verdict": lambda contrast: verdict(contrast, flagged),
        "hinges": hinge_sentences(found, scale),
        "warnings": hinge_sentences(
            [hinge for hinge in found if differences[hinge.policy].difference.clear], scale
        ),
        "measuring": measuring_of(outcomes),
        "by_rounds": by_rounds(outcomes, results.samples),
        "left_out": _left_out(results),
        "by_width": _by_width(results, setup.widths),
        "chosen": any(outcome.rounds < outcome.history.rounds for outcome in outcomes),
        "figures": pictures(setup, results, outcomes),
        "dots": dot_plots(results),
        "scatters": scatters,
        "costs_known": costs,
        "first_cost": next(iter(costs), ""),
        "measured_by": {name: MEASURES[name] for name in CHOICES},
        "dearer": dearer(results),
        "repeated": _versions() | {"Training": _duration(outcomes)},
        "meanings": {
            policy.name: _meaning(policy.name, policy.meaning)
            for policy in setup.compared.values()
            if policy.meaning
        },
        "contents": _CONTENTS,
    }


_CONTENTS = {
    "question": "The question",
    "answer": "The answer",
    "cost": "Worth and cost",
    "figures": "Figures",
    "measures": "All measures",
    "costs": "Costs",
    "setting": "Setting",
    "data": "Data",
    "again": "Run it again",
}


def _meaning(policy: str, meaning: str) -> str:
    """What a policy is, in words, with its loop options."""
    _, options = split_name(policy)
    return f"{meaning}; with {listed(options)}" if options else meaning


def _versions() -> dict[str, str]:
    """What the numbers hang on beside settings and data."""
    names = ("numpy", "torch", "scipy")
    found = ", ".join(f"{name} {version(name)}" for name in names)
    return {"Versions": f"hasa_opt {VERSION}, Python {platform.python_version()}, {found}"}


def _duration(outcomes: Sequence[Outcome]) -> str:
    """Wall-clock time of local training over all runs; runs of several policies count once."""
    runs = {id(outcome.history): outcome.history for outcome in outcomes}
    total = sum(float(np.nansum(run.seconds)) for run in runs.values())
    return f"{total / 60:.1f} minutes of local training in {len(runs)} runs"


def _written(scale: Scale) -> dict[str, Any]:
    """How values and gains are written, and the words that stand with them."""
    points = " (points)" if scale.is_share else ""
    over = f"{scale.minus.capitalize()} {REFERENCE}"
    return {
        "scale": scale,
        "value": lambda value: scale.number(value) if math.isfinite(value) else _DASH,
        "amount": lambda gain: scale.amount(gain) if math.isfinite(gain) else _DASH,
        "signed": partial(signed, scale=scale),
        "span": partial(span, scale=scale),
        "over": over,
        "over_in_points": over + points,
        "minus": scale.minus,
        "rule": "" if scale.is_share else _RULE.format(scale=scale),
    }


_RULE = (
    "{scale.direction}. Differences are gains, above zero where the policy is better than what it "
    "is compared with."
)


def _excluded(results: Results) -> dict[str, list[str]]:
    """Clients that a policy leaves out of training under some seed."""
    found = {}
    for policy, seeds in zip(results.policies, results.excluded, strict=True):
        if seeds.any():
            found[policy] = [results.clients[row] for row in np.flatnonzero(seeds.any(axis=0))]
    return found


def _choice(results: Results, measure: str) -> dict[str, Any]:
    """What the tables of one measure show."""
    total = {each.policy: each for each in against(results, measure=measure)}
    allocation = {each.policy: each for each in against_same_options(results, measure=measure)}
    options = {each.policy: each for each in against_plain(results, measure=measure)}
    families = {
        f"Each client's own network, against {REFERENCE}": list(total.values()),
        "The same loop options, another allocation": list(allocation.values()),
        f"The full supernet, against {REFERENCE}": against(
            results, measure=measure, kind="supernet"
        ),
    }
    return {
        "name": measure,
        "words": MEASURES[measure],
        "title": MEASURES[measure].capitalize(),
        "differences": total,
        "families": {title: found for title, found in families.items() if found},
        "parts": [
            {
                "policy": policy,
                "total": total.get(policy),
                "options": options.get(policy),
                "allocation": allocation.get(policy),
            }
            for policy in results.policies
            if policy in options or policy in allocation
        ],
    }


def _left_out(results: Results) -> dict[str, Any] | None:
    """Mean over the clients without each in turn; of many clients, those that matter most."""
    rows = results.measured()
    if rows.size < 2:
        return None
    without, means = left_out(results).mean(axis=1), results.measure().mean(axis=1)
    base = results.row(REFERENCE) if REFERENCE in results.policies else None
    gain = results.scale.gain
    gaps = gain(without, without[base]) if base is not None else without
    whole = gain(means, means[base]) if base is not None else means
    shift = np.abs(gaps - whole[:, None]).max(axis=0)
    shown = np.sort(np.argsort(-shift, kind="stable")[:_MAX_LEFT_OUT])
    return {
        "clients": [results.clients[rows[at]] for at in shown],
        "hidden": rows.size - shown.size,
        "means": means,
        "without": without[:, shown],
        "gaps": None if base is None else gaps[:, shown],
        "turned": signs(gaps, np.abs(without).max())[:, shown] * np.sign(whole)[:, None] < 0,
        "base": base,
    }


def _by_width(results: Results, menu: Sequence[float]) -> dict[str, Any]:
    """The metric by deployed width, at the widths that some client deploys."""
    widths = np.union1d(menu, [1.0])
    values, share = by_width(results, widths.tolist())
    used = share.any(axis=0)
    return {"widths": widths[used], "values": values[:, used], "share": share[:, used]}


def _number(value: float | None, digits: int = 7) -> str:
    """Significant digits, or a dash where there is no number."""
    if value is None or not math.isfinite(value):
        return _DASH
    return f"{value:.{digits}g}".replace("-", _MINUS)


def _p_value(value: float) -> str:
    """Three decimals of a p-value."""
    if not math.isfinite(value):
        return _DASH
    return "<0.001" if value < 0.001 else f"{value:.3f}"
