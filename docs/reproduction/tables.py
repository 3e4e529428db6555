"""Write the page of results from what was measured: ``python docs/reproduction/tables.py``.

Nothing is trained here. Each CSV file in ``results`` is one setting, named task-hidden-budget.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from records import chosen, streams
from run import POLICIES

from hasa_opt._utils.streams import STREAMS
from hasa_opt.policies import RECOMMENDED
from hasa_opt.study.claims import (
    Contrast,
    against,
    against_plain,
    against_same_options,
    hinges,
    signed,
    span,
)
from hasa_opt.study.inference import Difference, family
from hasa_opt.study.results import MEASURES, Kind, Results, read_results
from hasa_opt.study.summary import summarise

HERE = Path(__file__).parent
RESULTS = HERE / "results"
CONFIRMATION = RESULTS / "confirmation"
PAGE = HERE / "results.rst"
BASELINES = ("heterofl", "fedrolex", "federated_dropout", "fjord")


@dataclass(frozen=True)
class Claim:
    """One policy above another in one measure."""

    text: str
    better: str
    worse: str
    measure: str = "mean"
    kind: Kind = "own"


CLAIMS = (
    Claim("HASA has a higher client mean than uniform", "hasa", "uniform"),
    Claim("HASA has a better worst client than uniform", "hasa", "uniform", "worst"),
    Claim("HASA has a better worst third than uniform", "hasa", "uniform", "worst_third"),
    *(
        Claim(f"HASA has a better {MEASURES[measure]} than {name}", "hasa", name, measure)
        for name in BASELINES
        for measure in ("worst", "worst_third")
    ),
    *(
        Claim(f"HASA has a better worst client than {name}, both uncut", "hasa", name,
              "worst", "supernet")
        for name in ("fedrolex", "federated_dropout")
    ),
    Claim("The reversed rule is worse than HASA in the client mean", "hasa", "reverse"),
    Claim("The reversed rule is worse than HASA in the worst third", "hasa", "reverse",
          "worst_third"),
    Claim("So it is in the uncut supernet (client mean)", "hasa", "reverse", "mean", "supernet"),
    Claim("With selective aggregation, HASA has a higher client mean than uniform",
          "hasa+selective", "uniform+selective"),
)  # fmt: skip


RECOMMENDATION = tuple(
    Claim(f"{subject} has a better {MEASURES[measure]} than {other}", policy, other, measure)
    for policy, subject, others in (
        (RECOMMENDED, "The recommendation",
         ("uniform", "hasa", "uniform+personal", "uniform+personal+local_bias")),
        ("by_domain", "Width by domain", ("uniform", "hasa", "uniform+personal")),
    )
    for other in others
    for measure in ("mean", "weighted", "worst")
)  # fmt: skip


def page() -> str:
    """The page of all settings, as reStructuredText."""
    parts = [_title("Results of the reproduction", "="), _INTRODUCTION, _OLDER]
    if streams(RESULTS) < STREAMS:
        parts.append(_BY_ROWS)
    parts += _overview(settings())
    for folder, remark in ((RESULTS, _SEEN), (CONFIRMATION, "")):
        for path in _files(folder):
            task, size, budget = path.stem.split("-")
            results = read_results(path)
            network = size.upper() if _of_images(path) else f"{size} hidden units"
            name = f"{task.capitalize()}, {network}, budget {budget}"
            if folder == CONFIRMATION and not _of_images(path):
                name += ", the recommendation"
            seeds = f"{len(results.seeds)} seeds, {results.seeds[0]} to {results.seeds[-1]}."
            parts += [_title(name, "-"), seeds, *_setting(results, float(budget))]
            choices = [f"{name} {times} times" for name, times in chosen(path).most_common()]
            if choices:
                parts.append(f"Recommended were {', '.join(choices)}.{remark}")
    return "\n\n".join(parts) + "\n"


_SEEN = (
    " These seeds are not fresh for the rule of what is recommended: a first version had failed "
    "on them, with two of these settings, before the second was made. The confirmation is below."
)

_INTRODUCTION = """\
.. Written by tables.py from the files in results; do not edit.

Test accuracy in percent. Differences are paired by seed, in percentage points. The interval in the
tables is corrected for the number of policies (Holm); those of the claims are 95 % t intervals of
one comparison each. *Smallest effect*: what a study of this size sees in four of five cases."""

_OLDER = """\
Of an older version, and not run again: every row of ``recommended``, which chose before training,
by a probe and trial runs, and now decides while the clients train; and every row at budget 0.35,
where policies mixed two widths over the clients that they now spend in time."""

_BY_ROWS = """\
Measured with random streams of version 1, which hung on the rows of clients. Since version 2 they
hang on names: a repetition draws other splits and batches, and other images of the domains, and so
gives other numbers of the same kind."""


def settings() -> dict[str, Results]:
    """Results of each setting in which all was tried: "titles 64 0.5" and so on."""
    files = [*_files(RESULTS), *(path for path in _files(CONFIRMATION) if _of_images(path))]
    return {" ".join(path.stem.split("-")): read_results(path) for path in files}


def ordered(policies: Iterable[str]) -> list[str]:
    """Policies as the run names them, those that it does not know last."""
    known = {name: place for place, name in enumerate(POLICIES)}
    return sorted(dict.fromkeys(policies), key=lambda name: known.get(name, len(known)))


def _files(folder: Path) -> list[Path]:
    """Files of a folder, the titles first, by units and budget."""

    def place(path: Path) -> tuple[bool, str, int, float]:
        task, size, budget = path.stem.split("-")
        return task != "titles", task, int(size) if size.isdigit() else 0, float(budget)

    return sorted(folder.glob("*-*-*.csv"), key=place)


def _of_images(path: Path) -> bool:
    """Whether a file is of the image study, all of whose policies ran on the confirming seeds."""
    return path.stem.startswith("domains")


def _overview(found: Mapping[str, Results]) -> Iterator[str]:
    """All settings beside each other: differences to uniform, and the claims of the paper."""
    yield _title("At a glance", "-")
    yield _AT_A_GLANCE
    yield _table(("policy", *found), glance(found))
    yield "The claims of the paper, each with its difference:"
    yield _table(
        ("claim", *found),
        [
            [claim.text, *(_judged(claim, results) for results in found.values())]
            for claim in CLAIMS
        ],
    )


def glance(found: Mapping[str, Results]) -> list[list[str]]:
    """One row per policy: its name and its difference to uniform in each setting."""
    gaps = [{own.policy: own.difference for own in against(own)} for own in found.values()]
    return [
        [policy, *(_marked(own.get(policy)) for own in gaps)]
        for policy in ordered(policy for own in gaps for policy in own)
    ]


def _marked(own: Difference | None) -> str:
    if own is None:
        return ""
    return f"**{signed(own.mean)}**" if own.clear else signed(own.mean)


def _judged(claim: Claim, results: Results) -> str:
    own = gap(claim, results)
    return "" if own is None else f"{_verdict(own)} ({signed(own.mean)})"


_AT_A_GLANCE = """\
Differences to uniform in the client mean, in points, by task, hidden units and budget. In bold: the
interval, corrected for the number of policies, leaves zero out.

.. image:: ../images/reproduction.png
   :alt: Differences to uniform in the client mean for each policy, with intervals, by setting
   :width: 100%

*Titles, by hidden units and budget. Thick: 95 % t intervals of one comparison; thin: corrected for
the number of policies (Holm). Blue: the corrected one leaves zero out.*"""


def _setting(results: Results, budget: float) -> Iterator[str]:
    gaps = {own.policy: own.difference for own in against(results)}
    supernet = results.measure("mean", "supernet").mean(axis=1)
    rows = [
        [
            row.policy,
            f"{row.mean:.2f} ± {row.mean_std:.2f}",
            *_difference(gaps.get(row.policy)),
            f"{row.weighted:.2f}",
            f"{row.worst:.2f}",
            f"{row.worst_third:.2f}",
            f"{whole:.2f}",
            f"{row.realised:.4f}{' (misses)' if row.flagged else ''}",
            f"{row.costs.deployed:.2f}",
        ]
        for row, whole in zip(summarise(results, budget), supernet, strict=True)
    ]
    yield _table(_COLUMNS, rows)
    for title, claims in (
        ("Claims of the paper", CLAIMS),
        ("What is recommended here", RECOMMENDATION),
    ):
        if rows := list(_claims(claims, results)):
            yield _title(title, "~")
            yield _table(("claim", "difference", "95 % interval", "smallest effect", "verdict"),
                         rows)  # fmt: skip
    for title, found in (
        ("What allocation adds, with the same options", against_same_options(results)),
        ("What the options add to the same allocation", against_plain(results)),
    ):
        if found:
            yield _title(title, "~")
            yield _table(("policy", "against", *_DIFFERENCE, "wins"), [_row(own) for own in found])
    turning = [
        f"{own.policy} without {own.client} ({signed(own.difference)} to {signed(own.without)})"
        for own in hinges(results)
        if own.turns
    ]
    if turning:
        yield f"Differences to uniform that change sign without one client: {'; '.join(turning)}."


_DIFFERENCE = ("difference", "interval (Holm)", "p (Holm)")
_COLUMNS = ("policy", "client mean", *_DIFFERENCE, "by samples", "worst client", "worst third",
            "supernet", "realised", "deployed")  # fmt: skip


def _claims(claims: Sequence[Claim], results: Results) -> Iterator[list[str]]:
    for claim in claims:
        own = gap(claim, results)
        if own is not None:
            yield [claim.text, signed(own.mean), span(own.low, own.high),
                   f"{own.detectable:.2f}", _verdict(own)]  # fmt: skip


def gap(claim: Claim, results: Results) -> Difference | None:
    """The difference that a claim is about, where both policies were measured."""
    if not {claim.better, claim.worse} <= set(results.policies):
        return None
    values = results.measure(claim.measure, claim.kind)
    (own,) = family([(values[results.row(claim.better)], values[results.row(claim.worse)])])
    return own


def _verdict(difference: Difference) -> str:
    if difference.low == difference.high == 0:
        return "the same runs"
    if difference.low > 0:
        return "holds"
    return "does not hold" if difference.high < 0 else "unclear"


def _difference(own: Difference | None) -> list[str]:
    if own is None:
        return ["", "", ""]
    p_value = f"{own.p_holm:.3f}" if own.p_holm >= 0.001 else "< 0.001"
    return [signed(own.mean), span(own.holm_low, own.holm_high), p_value]


def _row(own: Contrast) -> list[str]:
    wins = f"{own.difference.wins} of {own.difference.n}"
    return [own.policy, own.reference, *_difference(own.difference), wins]


def _title(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (header, *rows):
        lines += [f"   {'*' if at == 0 else ' '} - {cell}".rstrip() for at, cell in enumerate(row)]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
