"""Figures of a report: each with what it shows and the measure that it follows, as a data URI."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.figure import Figure

from hasa_opt.study import curves, plots
from hasa_opt.study.claims import REFERENCE
from hasa_opt.study.outcome import Outcome, validation_targets
from hasa_opt.study.results import CHOICES, MEASURES, Results
from hasa_opt.study.settings import SetUp

__all__ = ["Picture", "pictures"]


@dataclass(frozen=True)
class Picture:
    """A figure of a report.

    Attributes
    ----------
    alt : str
        What it shows.
    source : str
        Data URI.
    measure : str
        The measure that it shows; empty: it shows the same whatever is chosen.
    broad : bool
        Whether it has panels side by side, which a telephone shows one after the other.
    """

    alt: str
    source: str
    measure: str
    broad: bool


def pictures(setup: SetUp, results: Results, outcomes: Sequence[Outcome]) -> list[Picture]:
    """All figures of a report, those of one kind beside each other.

    Parameters
    ----------
    setup : SetUp
    results : Results
    outcomes : sequence of Outcome
        Their histories.
    """
    scale, several = results.scale, len(results.seeds) > 1
    compared = REFERENCE in results.policies and len(results.policies) > 1
    bars = _spread(results, "Bars, if any")
    found: list[Picture] = []
    if several and compared and results.measured().size:
        found += [
            _picture(_gains(results, name), plots.differences(results, name), name)
            for name in CHOICES
        ]
    found.append(_picture(f"Mean width that each client trained{bars}", plots.allocation(results)))
    found += _curves(setup, results, outcomes)
    found.append(
        _picture(f"Test {scale.name} of what each client deploys{bars}", plots.by_client(results))
    )
    return found


def _curves(setup: SetUp, results: Results, outcomes: Sequence[Outcome]) -> Iterator[Picture]:
    targets, scale = validation_targets(setup.task), results.scale
    bands = _spread(results, "Bands")
    for name in CHOICES:
        yield _picture(
            f"{scale.title} after each round, before any personal model is made: pooled validation "
            f"data above, test {scale.name} below, {MEASURES[name]}{bands}. Policies of one run "
            "share a line. A star, if any: the mean round that was chosen",
            curves.by_round(results, outcomes, targets, name),
            name,
        )
    for name in CHOICES:
        yield _picture(
            f"Test {scale.name}, {MEASURES[name]}, before any personal model is made, against what "
            f"all clients together have spent by then{bands}",
            curves.by_cost(results, outcomes, name),
            name,
        )


def _gains(results: Results, name: str) -> str:
    gains, to = ("Difference", "to") if results.scale.is_share else ("Gain", "over")
    return (
        f"{gains} in {results.scale.name}, {MEASURES[name]}, of each policy {to} {REFERENCE}. "
        "Thick: 95 % interval; thin: after Holm's correction. Filled: the thin line leaves zero "
        "out. Small: single seeds"
    )


def _spread(results: Results, what: str) -> str:
    """What bars or bands show, where there are any."""
    if len(results.seeds) == 1 or len(results.policies) > plots.MANY:
        return ""
    return f". {what}: one standard deviation over seeds"


def _picture(alt: str, figure: Figure, measure: str = "") -> Picture:
    """Encode a figure as SVG; the same figure always gives the same bytes."""
    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "hasa_opt", "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    encoded = base64.b64encode(stream.getvalue()).decode("ascii")
    broad = figure.get_figwidth() > plots.WIDTH_IN
    return Picture(alt, "data:image/svg+xml;base64," + encoded, measure, broad)
