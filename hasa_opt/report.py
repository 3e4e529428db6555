"""The report of a study: one HTML file that says what was measured, and opens anywhere."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from scipy import stats

from hasa_opt import plots
from hasa_opt.errors import InputError

if TYPE_CHECKING:
    from hasa_opt.outcome import SummaryRow
    from hasa_opt.study import Study

__all__ = ["headline", "write_report"]

_REFERENCE = "uniform"
_LEVEL = 0.95
_MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Difference:
    """Mean paired difference between two policies over seeds, in percentage points.

    Parameters
    ----------
    mean : float
    low, high : float
        Ends of the 95 % t interval; infinite for a single seed.
    """

    mean: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0

    @property
    def interval(self) -> str:
        """The interval in words; empty for a single seed."""
        return f"{_signed(self.low)} to {_signed(self.high)}" if math.isfinite(self.low) else ""

    def __str__(self) -> str:
        return _signed(self.mean)


def write_report(study: Study, path: str | PathLike[str]) -> Path:
    """Write a study as one self-contained HTML file.

    Parameters
    ----------
    study : Study
        With outcomes, that is, after ``run()``.
    path : path of the file to write
        Its folder must exist; a file that is there is replaced.

    Returns
    -------
    Path
        Of the written file.

    Raises
    ------
    InputError
        If the study has not been run, or the folder does not exist.
    """
    target = Path(path)
    if not study.outcomes:
        raise InputError("the study has no outcomes to report: call run() first")
    if not target.parent.is_dir():
        raise InputError(f"{target}: the folder {target.parent} does not exist: create it first")
    environment = Environment(
        loader=PackageLoader("hasa_opt"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=_number, signed=_signed)
    rows = study.summary()
    page = environment.get_template("report.html.jinja").render(
        study=study,
        rows=rows,
        headline=headline(study),
        reference=_REFERENCE,
        differences={
            row.policy: _difference(study, row.policy, _REFERENCE)
            for row in rows
            if _REFERENCE in study.policies and row.policy != _REFERENCE
        },
        figures=_figures(study),
    )
    target.write_text(page, encoding="utf-8")
    return target


def headline(study: Study) -> str:
    """State in one sentence which policy came first and how sure that is.

    Policies that miss the budget are left out. The word "better" needs a 95 % interval over seeds
    (paired by seed, t distribution) that leaves zero out.

    Parameters
    ----------
    study : Study
        With outcomes.
    """
    ranked = sorted((row for row in study.summary() if not row.flagged), key=lambda row: -row.mean)
    if not ranked:
        return (
            f"No policy meets the budget of {study.budget:g}, "
            "so the accuracies below cannot be compared."
        )
    best = ranked[0]
    top = f"{best.policy} has the highest mean client accuracy measured, {best.mean:.2f} %"
    if _REFERENCE not in {row.policy for row in ranked}:
        return f"{top}; there is no {_REFERENCE} policy within the budget to compare it with."
    if best.policy != _REFERENCE:
        return _against_reference(study, best, top)
    if len(ranked) == 1:
        return f"{top}; no other policy meets the budget."
    second = ranked[1].policy
    gap = _difference(study, second, _REFERENCE)
    return f"{top}; the next, {second}, is at {gap} points{_certainty(gap, len(study.seeds))}."


def _against_reference(study: Study, best: SummaryRow, top: str) -> str:
    gap = _difference(study, best.policy, _REFERENCE)
    n_seeds = len(study.seeds)
    if gap.clear:
        return (
            f"{best.policy} is better than {_REFERENCE} by {gap.mean:.2f} points of mean client "
            f"accuracy ({best.mean:.2f} %; 95 % interval {gap.interval}, {n_seeds} seeds)."
        )
    return f"{top}, {gap} points from {_REFERENCE}{_certainty(gap, n_seeds)}."


def _certainty(gap: Difference, n_seeds: int) -> str:
    if n_seeds == 1:
        return "; one seed cannot tell this from chance"
    verdict = "" if gap.clear else "; this cannot be told from zero"
    return f" (95 % interval {gap.interval}, {n_seeds} seeds){verdict}"


def _difference(study: Study, policy: str, reference: str) -> Difference:
    """Compare final mean client accuracies seed by seed."""
    final = {
        (own.policy, own.seed): 100 * own.history.test_accuracy[-1].mean() for own in study.outcomes
    }
    gaps = np.array([final[policy, seed] - final[reference, seed] for seed in study.seeds])
    mean = float(gaps.mean())
    if len(gaps) == 1:
        return Difference(mean, -math.inf, math.inf)
    error = float(gaps.std(ddof=1)) / math.sqrt(len(gaps))
    reach = error * float(stats.t.ppf((1 + _LEVEL) / 2, len(gaps) - 1))
    return Difference(mean, mean - reach, mean + reach)


def _figures(study: Study) -> list[dict[str, str]]:
    """Each figure as a data URI, with what it shows and what shows the spread over seeds."""
    drawn = (
        ("Width of each client's subnet", "Bars, if any", plots.allocation),
        ("Mean client test accuracy after each round", "Bands", plots.accuracy_by_round),
        ("Test accuracy of each client after the last round", "Bars", plots.accuracy_by_client),
    )
    return [
        {"alt": alt, "spread": spread, "source": _data_uri(draw(study))}
        for alt, spread, draw in drawn
    ]


def _data_uri(figure: Figure) -> str:
    """Encode a figure as SVG; the same figure always gives the same bytes."""
    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "hasa_opt", "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _signed(value: float) -> str:
    """Two decimals with a sign; a value that rounds to zero has none."""
    text = f"{abs(value):.2f}"
    if float(text) == 0:
        return text
    return ("+" if value > 0 else _MINUS) + text


def _number(value: float | None, digits: int = 7) -> str:
    """Significant digits, or a dash where there is no number."""
    if value is None or not math.isfinite(value):
        return "\N{EN DASH}"
    return f"{value:.{digits}g}".replace("-", _MINUS)
