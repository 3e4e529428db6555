"""The report of a study: one HTML file that says what was measured, and opens anywhere."""

from __future__ import annotations

import base64
import io
import math
import platform
from collections.abc import Sequence
from functools import cache, partial
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from matplotlib.figure import Figure

from hasa_opt._utils import VERSION
from hasa_opt._utils.files import file_target, write_text
from hasa_opt._utils.scale import Scale
from hasa_opt.solving.comparison import Comparison
from hasa_opt.study import curves, plots
from hasa_opt.study.claims import (
    REFERENCE,
    Contrast,
    against,
    against_plain,
    against_same_options,
    headline,
    hinge_sentences,
    hinges,
    signed,
    span,
    verdict,
)
from hasa_opt.study.dots import dot_plots
from hasa_opt.study.inference import signs
from hasa_opt.study.makespan import shortest_round
from hasa_opt.study.outcome import Outcome, measuring_of, validation_targets
from hasa_opt.study.results import MEASURES, Results
from hasa_opt.study.rounds import by_rounds
from hasa_opt.study.settings import SetUp
from hasa_opt.study.summary import by_width, left_out, summarise
from hasa_opt.study.tables import clock_units, scaled

__all__ = ["write_report"]


_FILES = {
    "results.csv": "one line per policy, seed and client",
    "rounds.csv": "one line per policy, seed, round and client",
}
_DEARER = 0.05
"""Share by which bytes or operations exceed those of uniform before the report says so."""
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
    found, scale = hinges(results), results.scale
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
        "families": _families(results),
        "parts": _parts(results),
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
        "figures": _figures(setup, results, outcomes),
        "dots": dot_plots(results),
        "dearer": _dearer(results),
        "repeated": _versions() | {"Training": _duration(outcomes)},
        "meanings": {
            policy.name: policy.meaning for policy in setup.compared.values() if policy.meaning
        },
        "contents": _CONTENTS,
    }


_CONTENTS = {
    "question": "The question",
    "answer": "The answer",
    "figures": "Figures",
    "measures": "All measures",
    "costs": "Costs",
    "setting": "Setting",
    "data": "Data",
    "again": "Run it again",
}


def _dearer(results: Results) -> list[str]:
    """What policies send and compute more than uniform, which a budget of widths does not count."""
    if REFERENCE not in results.policies:
        return []
    base = results.row(REFERENCE)
    more: dict[str, list[str]] = {}
    for verb, table in (("sends", results.bytes), ("computes", results.flops)):
        totals = table.sum(axis=(1, 2)).astype(float)
        for policy, total in zip(results.policies, totals, strict=True):
            if totals[base] and total > (1 + _DEARER) * totals[base]:
                more.setdefault(policy, []).append(f"{verb} {total / totals[base] - 1:.0%}")
    return [
        f"At this budget {policy} {' and '.join(found)} more than {REFERENCE}."
        for policy, found in more.items()
    ]


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


def _families(results: Results) -> dict[str, list[Contrast]]:
    """Titles and comparisons of each table of statistics; Holm's correction is over one table."""
    families = {
        f"Each client's own network, against {REFERENCE}": against(results),
        "The same loop options, another allocation": against_same_options(results),
        f"The full supernet, against {REFERENCE}": against(results, kind="supernet"),
    }
    return {title: contrasts for title, contrasts in families.items() if contrasts}


def _parts(results: Results) -> list[dict[str, Any]]:
    """Split each gain of a policy with loop options into what options and allocation add."""
    total = {contrast.policy: contrast for contrast in against(results)}
    allocation = {contrast.policy: contrast for contrast in against_same_options(results)}
    options = {contrast.policy: contrast for contrast in against_plain(results)}
    return [
        {
            "policy": policy,
            "total": total.get(policy),
            "options": options.get(policy),
            "allocation": allocation.get(policy),
        }
        for policy in results.policies
        if policy in options or policy in allocation
    ]


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


def _figures(setup: SetUp, results: Results, outcomes: Sequence[Outcome]) -> list[dict[str, str]]:
    """Each figure as a data URI, with what it shows."""
    several = len(results.seeds) > 1
    spread = "one standard deviation over seeds" if several else ""
    many = len(results.policies) > plots.MANY
    bars, bands = (
        f". {what}: {spread}" if spread and not many else "" for what in ("Bars, if any", "Bands")
    )
    targets, scale = validation_targets(setup.task), results.scale
    drawn = {
        f"Mean width that each client trained{bars}": plots.allocation(results),
        f"{scale.title} after each round, before any personal model is made: pooled validation "
        f"data above, mean client test {scale.name} below{bands}. Policies of one run share a "
        "line. A star, if any: the mean round that was chosen": curves.by_round(
            results, outcomes, targets
        ),
        f"Mean client test {scale.name}, before any personal model is made, against what all "
        f"clients together have spent by then{bands}": curves.by_cost(results, outcomes),
        f"Test {scale.name} of what each client deploys{bars}": plots.by_client(results),
    }
    compared = REFERENCE in results.policies and len(results.policies) > 1
    if several and compared and results.measured().size:
        gains, to = ("Difference", "to") if scale.is_share else ("Gain", "over")
        first = (
            f"{gains} in mean client {scale.name} of each policy {to} uniform. Thick: 95 % "
            "interval; thin: after Holm's correction. Filled: the thin line leaves zero out. "
            "Small: single seeds"
        )
        drawn = {first: plots.differences(results), **drawn}
    return [{"alt": alt, "source": _data_uri(figure)} for alt, figure in drawn.items()]


def _data_uri(figure: Figure) -> str:
    """Encode a figure as SVG; the same figure always gives the same bytes."""
    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "hasa_opt", "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


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
