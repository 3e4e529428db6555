"""The report of a study: one HTML file that says what was measured, and opens anywhere."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from functools import cache
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from matplotlib.figure import Figure

from hasa_opt._utils import VERSION
from hasa_opt._utils.files import file_target, write_text
from hasa_opt.errors import InputError
from hasa_opt.study import plots
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
from hasa_opt.study.outcome import measuring_of
from hasa_opt.study.results import MEASURES, Results
from hasa_opt.study.summary import by_width, left_out
from hasa_opt.study.tables import scaled

if TYPE_CHECKING:
    from hasa_opt.study.study import Study

__all__ = ["describe", "headline", "write_report"]


_WORDS = {"fixed": "the last one counts", "validation": "the best on validation data counts"}


def describe(study: Study) -> dict[str, str]:
    """Lines that describe how a study trains and deploys, by title."""
    return {
        "Supernet": f"{type(study.model).__name__} ({_sizes(study)})",
        "Local training": f"{study.local_epochs} epoch(s), batches of {study.batch_size}",
        "Rounds": f"{study.rounds}, {_WORDS[study.rounds_by]}",
        "Budget": f"{study.budget:g} of the supernet's {study.budget_in}",
        "Optimiser": f"{study.optimizer}, learning rate {study.learning_rate:g}",
        "Aggregation": f"{study.aggregation}, clients weigh by samples^{study.weight_power:g}",
        "Output bias": study.output_bias,
        "Personal models": f"mix {study.mix}",
        "Engine": study.engine,
        "Clients a round": "all" if study.sample is None else str(study.sample),
        "Caps": "none" if study.max_width is None else "given",
        "Faults": "none" if study.faults is None else str(study.faults),
        "Evaluation": f"each client's test data on the {study.evaluate}",
        "Score": study.score,
        **{f"Recommended for seed {own.seed}": own.reason for own in study.outcomes if own.reason},
        "Version": f"hasa_opt {VERSION}",
    }


def _sizes(study: Study) -> str:
    return ", ".join(f"{group} {size}" for group, size in study.model.sizes.items())


_MINUS, _DASH = "\N{MINUS SIGN}", "\N{EN DASH}"
_MAX_LEFT_OUT = 12


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
    if not study.outcomes:
        raise InputError("the study has no outcomes to report: call run() first")
    target = file_target(path)
    write_text(target, _template().render(_content(study)))
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
    environment.filters.update(
        number=_number, signed=signed, p=_p_value, scaled=scaled, percent=_percent
    )
    environment.globals.update(span=span)
    return environment.get_template("report.html.jinja")


def _content(study: Study) -> dict[str, Any]:
    """All that the template shows."""
    results, rows = study.results, study.summary()
    flagged = {row.policy for row in rows if row.flagged}
    differences = {own.policy: own for own in against(results)}
    found = hinges(results)
    return {
        "study": study,
        "rows": rows,
        "measures": {name: words for name, words in MEASURES.items() if name != "mean"},
        "headline": headline(study),
        "reference": REFERENCE,
        "has_supernet": bool(results.measured("supernet").size),
        "unmeasured": [
            name for row, name in enumerate(results.clients) if row not in results.measured()
        ],
        "differences": differences,
        "families": _families(results),
        "parts": _parts(results),
        "verdict": lambda contrast: verdict(contrast, flagged),
        "hinges": hinge_sentences(found),
        "warnings": hinge_sentences(
            [own for own in found if differences[own.policy].difference.clear]
        ),
        "measuring": measuring_of(study.outcomes),
        "left_out": _left_out(results),
        "by_width": _by_width(results, study.widths),
        "chosen": any(own.rounds < own.history.rounds for own in study.outcomes),
        "figures": _figures(study),
    }


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
    total = {own.policy: own for own in against(results)}
    allocation = {own.policy: own for own in against_same_options(results)}
    options = {own.policy: own for own in against_plain(results)}
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
    gaps = without - without[base] if base is not None else without
    whole = means - means[base] if base is not None else means
    shift = np.abs(gaps - whole[:, None]).max(axis=0)
    shown = np.sort(np.argsort(-shift, kind="stable")[:_MAX_LEFT_OUT])
    return {
        "clients": [results.clients[rows[at]] for at in shown],
        "hidden": rows.size - shown.size,
        "means": means,
        "without": without[:, shown],
        "gaps": None if base is None else gaps[:, shown],
        "turned": np.sign(np.round(gaps, 9)[:, shown]) * np.sign(whole)[:, None] < 0,
        "base": base,
    }


def _by_width(results: Results, menu: Sequence[float]) -> dict[str, Any]:
    """Accuracy by deployed width, at the widths that some client deploys."""
    widths = np.union1d(menu, [1.0])
    accuracy, share = by_width(results, widths.tolist())
    used = share.any(axis=0)
    return {"widths": widths[used], "accuracy": accuracy[:, used], "share": share[:, used]}


def _figures(study: Study) -> list[dict[str, str]]:
    """Each figure as a data URI, with what it shows."""
    spread = "one standard deviation over seeds" if len(study.seeds) > 1 else ""
    many = len(study.policies) > plots.MANY
    bars, bands = (
        f". {what}: {spread}" if spread and not many else "" for what in ("Bars, if any", "Bands")
    )
    drawn = [
        ("Difference in mean client accuracy of each policy to uniform. Thick: 95 % interval; "
         "thin: after Holm's correction. Filled: the thin line leaves zero out",
         plots.differences),
        (f"Mean width that each client trained{bars}", plots.allocation),
        ("Accuracy after each round, before any personal model is made: pooled validation data "
         f"above, mean client test accuracy below{bands}. Policies of one run share a line. A "
         "star, if any: the mean round that was chosen", plots.accuracy_by_round),
        (f"Test accuracy of what each client deploys{bars}", plots.accuracy_by_client),
    ]  # fmt: skip
    compared = REFERENCE in study.policies and len(study.policies) > 1
    if len(study.seeds) < 2 or not compared or not study.results.measured().size:
        drawn = drawn[1:]
    return [{"alt": alt, "source": _data_uri(draw(study))} for alt, draw in drawn]


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


def _percent(value: float) -> str:
    """Two decimals, or a dash."""
    return f"{value:.2f}" if math.isfinite(value) else _DASH


def _p_value(value: float) -> str:
    """Three decimals of a p-value."""
    if not math.isfinite(value):
        return _DASH
    return "<0.001" if value < 0.001 else f"{value:.3f}"
