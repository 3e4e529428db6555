"""Write the page of claims, and the tables beside it, from what was measured.

``python docs/reproduction/tables.py``. Nothing is trained here. Each CSV file in ``results`` is one
setting, named task-hidden-budget; its tables are in ``results/tables``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from records import chosen, raw, setting_of, streams
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
TABLES = RESULTS / "tables"
MINUS = "\N{MINUS SIGN}"
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
    """The page of claims, as reStructuredText."""
    parts = [_title("Results of the reproduction", "="), _INTRODUCTION, _OLDER]
    if streams(RESULTS) < STREAMS:
        parts.append(_BY_ROWS)
    parts += _overview(settings())
    parts += [_title("What is recommended here", "-"), _RECOMMENDED]
    parts.append(_table(("claim", *_RECOMMENDED_SETTINGS), _recommended()))
    for folder, path in _all_files():
        choices = [f"{name} {times} times" for name, times in chosen(path).most_common()]
        if choices:
            remark = _SEEN if folder == RESULTS else ""
            parts.append(f"{_named(folder, path)}: {', '.join(choices)}.{remark}")
    parts += [_title("Every table", "-"), _EVERY_TABLE, _table(_FILES, list(_links()))]
    turning = [line for folder, path in _all_files() if (line := _turning(folder, path))]
    parts += ["Differences to uniform that change sign without one client:", *turning]
    return "\n\n".join(parts) + "\n"


def tables() -> dict[str, str]:
    """Content of each file of tables, by its name."""
    return {
        f"{_stem(folder, path)}-{kind}.csv": _as_csv(rows)
        for folder, path in _all_files()
        for kind, rows in _setting(
            read_results(path), float(setting_of(path).split("-")[2])
        ).items()
    }


def _all_files() -> Iterator[tuple[Path, Path]]:
    """Folder and file of each setting."""
    yield from ((folder, path) for folder in (RESULTS, CONFIRMATION) for path in _files(folder))


def _stem(folder: Path, path: Path) -> str:
    """Beginning of the names of a setting's tables."""
    own = setting_of(path)
    return f"{own}-confirmed" if folder == CONFIRMATION else own


def _named(folder: Path, path: Path) -> str:
    """A setting in words."""
    task, size, budget = setting_of(path).split("-")
    network = size.upper() if _of_images(path) else f"{size} hidden units"
    name = f"{task.capitalize()}, {network}, budget {budget}"
    return f"{name}, the recommendation" if folder == CONFIRMATION and size.isdigit() else name


def _links() -> Iterator[list[str]]:
    """A row for each setting: its seeds, and links to its files."""
    for folder, path in _all_files():
        results, own = read_results(path), _stem(folder, path)
        seeds = f"{results.seeds[0]} to {results.seeds[-1]}"
        at = path.relative_to(HERE)
        files = [f":download:`{kind} <results/tables/{own}-{kind}.csv>`" for kind in _KINDS]
        yield [_named(folder, path), seeds, f":download:`raw <{at}>`", *files]


def _recommended() -> list[list[str]]:
    """Each claim of what is recommended, in each setting of the confirmation."""
    found = [
        read_results(raw(CONFIRMATION, name.replace(" ", "-"))) for name in _RECOMMENDED_SETTINGS
    ]
    return [
        [claim.text, *(_with_interval(gap(claim, results)) for results in found)]
        for claim in RECOMMENDATION
    ]


def _with_interval(own: Difference | None) -> str:
    return "" if own is None else f"{signed(own.mean)} ({span(own.low, own.high)})"


def _turning(folder: Path, path: Path) -> str:
    """Differences of a setting that hang on one client; nothing without any."""
    found = [
        f"{own.policy} without {own.client} ({signed(own.difference)} to {signed(own.without)})"
        for own in hinges(read_results(path))
        if own.turns
    ]
    return f"- {_named(folder, path)}: {'; '.join(found)}." if found else ""


_KINDS = ("policies", "claims", "contrasts")
_FILES = ("setting", "seeds", "results", *_KINDS)
_RECOMMENDED_SETTINGS = (
    "titles 16 0.35", "titles 64 0.5", "docstrings 16 0.35", "docstrings 64 0.5",
    "domains cnn 0.35", "domains cnn 0.5",
)  # fmt: skip

_RECOMMENDED = """\
Differences with 95 % intervals of one comparison each, on seeds that the rule of the recommendation
had not seen. How often it chose what stands below."""

_EVERY_TABLE = """\
One line per policy, seed and client in *results*. *Policies*: client mean with its difference to
uniform, by samples, worst client and third, the full supernet, the budget that was spent. *Claims*:
each with its difference, 95 % interval and the smallest effect that a study of this size sees in
four of five cases. *Contrasts*: what allocation adds with the same options, and options to the same
allocation."""

_SEEN = (
    " These seeds are not fresh for the rule of what is recommended: a first version had failed "
    "on them, with two of these settings, before the second was made. The confirmation is below."
)

_INTRODUCTION = """\
.. Written by tables.py from the files in results; do not edit.

Test accuracy in percent. Differences are paired by seed, in percentage points. Intervals of tables
of policies are corrected for their number (Holm); those of claims are 95 % t intervals of one
comparison each. Every number of every setting lies beside this page, as a file (at its end)."""

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
    return {" ".join(setting_of(path).split("-")): read_results(path) for path in files}


def ordered(policies: Iterable[str]) -> list[str]:
    """Policies as the run names them, those that it does not know last."""
    known = {name: place for place, name in enumerate(POLICIES)}
    return sorted(dict.fromkeys(policies), key=lambda name: known.get(name, len(known)))


def _files(folder: Path) -> list[Path]:
    """Files of a folder, the titles first, by units and budget."""

    def place(path: Path) -> tuple[bool, str, int, float]:
        task, size, budget = setting_of(path).split("-")
        return task != "titles", task, int(size) if size.isdigit() else 0, float(budget)

    return sorted(folder.glob(raw(folder, "*-*-*").name), key=place)


def _of_images(path: Path) -> bool:
    """Whether a file is of the image study, all of whose policies ran on the confirming seeds."""
    return setting_of(path).startswith("domains")


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

.. figure:: ../images/reproduction.png
   :figclass: broad
   :alt: Differences to uniform in the client mean for each policy, with intervals, by setting
   :width: 100%

*Titles, by hidden units and budget. Thick: 95 % t intervals of one comparison; thin: corrected for
the number of policies (Holm). Blue: the corrected one leaves zero out.*"""


def _setting(results: Results, budget: float) -> dict[str, list[Sequence[str]]]:
    """The tables of a setting, each with its header, by their kind."""
    gaps = {own.policy: own.difference for own in against(results)}
    supernet = results.measure("mean", "supernet").mean(axis=1)
    policies = [
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
    claims = [*_claims(CLAIMS, results), *_claims(RECOMMENDATION, results)]
    contrasts = [
        [what, *_row(own)]
        for what, found in (
            ("allocation", against_same_options(results)),
            ("options", against_plain(results)),
        )
        for own in found
    ]
    return {
        "policies": [_COLUMNS, *policies],
        "claims": [_CLAIM_COLUMNS, *claims],
        "contrasts": [_CONTRAST_COLUMNS, *contrasts],
    }


def _as_csv(rows: Iterable[Sequence[str]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().replace(MINUS, "-")  # which programs read


_DIFFERENCE = ("difference", "interval (Holm)", "p (Holm)")
_COLUMNS = ("policy", "client mean", *_DIFFERENCE, "by samples", "worst client", "worst third",
            "supernet", "realised", "deployed")  # fmt: skip
_CLAIM_COLUMNS = ("claim", "difference", "95 % interval", "smallest effect", "verdict")
_CONTRAST_COLUMNS = ("what adds", "policy", "against", *_DIFFERENCE, "wins")


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
    TABLES.mkdir(exist_ok=True)
    for name, content in tables().items():
        (TABLES / name).write_text(content, encoding="utf-8")
