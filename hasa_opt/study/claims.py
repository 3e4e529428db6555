"""The claim of a study in one sentence, and the words that its numbers support.

All differences are gains, as :class:`~hasa_opt._utils.scale.Scale` says: above zero is better.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hasa_opt._utils.checks import listed
from hasa_opt._utils.scale import ACCURACY, Scale
from hasa_opt.policies.policy import split_name
from hasa_opt.study.inference import Difference, family, signs
from hasa_opt.study.results import Kind, Results
from hasa_opt.study.summary import SummaryRow, left_out, spent, summarise

__all__ = [
    "REFERENCE",
    "Contrast",
    "Hinge",
    "against",
    "against_plain",
    "against_same_options",
    "dearer",
    "headline",
    "hinge_sentences",
    "hinges",
    "plain_of",
    "reference_of",
    "signed",
    "span",
    "verdict",
]


REFERENCE = "uniform"
"""The policy that the others are held against."""


@dataclass(frozen=True)
class Contrast:
    """A policy, what it is held against, and its gain over the seeds; of accuracy, in points."""

    policy: str
    reference: str
    difference: Difference


@dataclass(frozen=True)
class Hinge:
    """A client without which a difference tells another story.

    Parameters
    ----------
    policy, reference, client : str
    difference, without : float
        Mean gain, with all clients and without this one; of accuracy, in points.
    turns : bool
        True if the sign changes; else the difference moves by more than half its 95 % interval.
    """

    policy: str
    reference: str
    client: str
    difference: float
    without: float
    turns: bool


def plain_of(policy: str) -> str:
    """Name of a policy's allocation without its loop options: "hasa" of "hasa+personal"."""
    return split_name(policy)[0]


def reference_of(policy: str, policies: Sequence[str]) -> str | None:
    """Find the policy with the same loop options and the reference's allocation.

    Parameters
    ----------
    policy : str
    policies : sequence of str
        Those to choose from.

    Returns
    -------
    str or None
        "uniform+personal" for "hasa+personal"; "uniform" for a policy without options. None where
        there is none, or it is the policy itself.
    """
    options = set(split_name(policy)[1])
    for other in policies:
        rule, others = split_name(other)
        if rule == REFERENCE and set(others) == options and other != policy:
            return other
    return None


def against(
    results: Results, reference: str = REFERENCE, *, measure: str = "mean", kind: Kind = "own"
) -> list[Contrast]:
    """Hold every other policy against one, with Holm's correction over all of them.

    Parameters
    ----------
    results : Results
    reference : str
        Name of a policy.
    measure : str
    kind : "own" or "supernet"
        As for :meth:`Results.measure`.

    Returns
    -------
    list of Contrast
        Empty if the reference is not in the results or no client was measured.
    """
    pairs = [(policy, reference) for policy in results.policies if policy != reference]
    return _contrasts(results, pairs if reference in results.policies else [], measure, kind)


def against_same_options(
    results: Results, *, measure: str = "mean", kind: Kind = "own"
) -> list[Contrast]:
    """Hold policies with loop options against the reference with the same: what allocation adds.

    Holm's correction is over these comparisons. Parameters as for :func:`against`.
    """
    found = ((policy, reference_of(policy, results.policies)) for policy in results.policies)
    pairs = [(policy, other) for policy, other in found if split_name(policy)[1] and other]
    return _contrasts(results, pairs, measure, kind)


def against_plain(results: Results, *, measure: str = "mean", kind: Kind = "own") -> list[Contrast]:
    """Hold policies with loop options against the same allocation without: what options add.

    Holm's correction is over these comparisons. Parameters as for :func:`against`.
    """
    plain = ((policy, plain_of(policy)) for policy in results.policies)
    pairs = [
        (policy, rule) for policy, rule in plain if policy != rule and rule in results.policies
    ]
    return _contrasts(results, pairs, measure, kind)


def hinges(results: Results, reference: str = REFERENCE) -> list[Hinge]:
    """Find clients without which a difference of client means changes its sign or moves far.

    Far is more than half the width of its 95 % t interval. For a single seed, which has none,
    only signs are looked at.
    """
    without, found, scale = left_out(results), [], results.scale
    largest = float(np.abs(without).max(initial=0.0))
    clients = [results.clients[row] for row in results.measured()]
    for contrast in against(results, reference):
        whole = contrast.difference
        row, base = results.row(contrast.policy), results.row(reference)
        moved = scale.gain(without[row], without[base]).mean(axis=0)
        turns = signs(moved, largest) * np.sign(whole.mean) < 0
        far = np.abs(moved - whole.mean) > (whole.high - whole.low) / 2
        for at in np.flatnonzero(turns | far):
            case = (clients[at], whole.mean, float(moved[at]), bool(turns[at]))
            found.append(Hinge(contrast.policy, reference, *case))
    return found


def _contrasts(
    results: Results, pairs: Sequence[tuple[str, str]], measure: str, kind: Kind
) -> list[Contrast]:
    if not results.measured(kind).size:
        return []
    values = results.worth(measure, kind)
    differences = family([(values[results.row(a)], values[results.row(b)]) for a, b in pairs])
    return [
        Contrast(*pair, difference) for pair, difference in zip(pairs, differences, strict=True)
    ]


_DEARER = 0.05
"""Share by which a policy spends more than the reference before that is said."""
_SPENDING = {
    "bytes": "sends {:.0f} % more bytes",
    "flops": "computes {:.0f} % more operations",
    "seconds": "takes {:.0f} % more seconds",
    "joules": "takes {:.0f} % more joules",
}
_MAX_NAMED = 6
"""Clients that a sentence names."""

_MINUS = "\N{MINUS SIGN}"


def headline(results: Results, budget: float) -> str:
    """State in one sentence which policy came first and how sure that is.

    Policies that miss the budget are left out. The word "better" needs an interval over seeds
    (paired by seed, t distribution, corrected by Holm's method for the number of policies) that
    leaves zero out.

    Parameters
    ----------
    results : Results
    budget : float
        What each policy should have spent.
    """
    if not results.measured().size:
        finite = "" if results.scale.is_share else f" and a finite {results.scale.name}"
        return (
            f"No client has test data{finite} under every policy and seed: nothing can be compared."
        )
    scale = results.scale
    ranked = sorted(
        (row for row in summarise(results, budget) if not row.flagged),
        key=lambda row: -row.mean if scale.higher_is_better else row.mean,
    )
    if not ranked:
        return (
            f"No policy meets the budget of {budget:g}, so the {_plural(scale)} below cannot be "
            "compared."
        )
    first = ranked[0]
    top = (
        f"{first.policy} has the {scale.best} mean client {scale.name} measured, "
        f"{scale.told(first.mean)}"
    )
    if REFERENCE not in {row.policy for row in ranked}:
        return f"{top}; there is no {REFERENCE} policy within the budget to compare it with."
    if len(ranked) == 1:
        return f"{top}; no other policy meets the budget."
    contrasts = {contrast.policy: contrast.difference for contrast in against(results)}
    clear = [row for row in ranked if row.policy in contrasts and _gains(contrasts[row.policy])]
    if clear:
        return _gain(results, clear[0], first, contrasts)
    if first.policy != REFERENCE:
        gap = contrasts[first.policy]
        told, apart = _told(gap.mean, scale), "from" if scale.is_share else "over"
        return f"{top}, {told} {apart} {REFERENCE}{_certainty(gap, contrasts, scale)}."
    second = ranked[1].policy
    gap = contrasts[second]
    told = f"{_told(gap.mean, scale)}{_certainty(gap, contrasts, scale)}"
    return f"{top}; the next, {second}, is at {told}."


def _plural(scale: Scale) -> str:
    return "accuracies" if scale.is_share else f"values of {scale.name}"


def _told(gain: float, scale: Scale) -> str:
    """A gain in a sentence."""
    return f"{signed(gain, scale)} points" if scale.is_share else f"a gain of {signed(gain, scale)}"


def _gains(difference: Difference) -> bool:
    return difference.verdict == "better"


def _gain(
    results: Results, row: SummaryRow, first: SummaryRow, contrasts: Mapping[str, Difference]
) -> str:
    """Say by how much a policy is above the reference, and what of that is allocation."""
    gap, scale = contrasts[row.policy], results.scale
    claim = (
        f"{row.policy} is better than {REFERENCE} by {scale.amount(gap.mean)}{scale.points} of "
        f"mean client {scale.name} ({scale.told(row.mean)}; {_interval(gap, contrasts, scale)})"
    )
    same = {contrast.policy: contrast for contrast in against_same_options(results)}
    if row.policy in same:
        part = same[row.policy]
        gained = part.difference
        claim += (
            f"; the part of it that is allocation, against {part.reference}, is "
            f"{_told(gained.mean, scale)}{_certainty(gained, same, scale)}"
        )
    if first is not row:
        told = f"{first.policy} measured {scale.told(first.mean)}"
        claim += f"; {told}, not told apart from {REFERENCE}"
    return f"{claim}."


def _interval(gap: Difference, tests: Collection[object], scale: Scale) -> str:
    corrected = f" after Holm over {len(tests)} comparisons" if len(tests) > 1 else ""
    return f"95 % interval {span(gap.holm_low, gap.holm_high, scale)}{corrected}, {gap.n} seeds"


def _certainty(gap: Difference, tests: Collection[object], scale: Scale) -> str:
    if gap.n == 1:
        return "; one seed cannot tell this from chance"
    doubt = "" if gap.clear else "; this cannot be told from zero"
    return f" ({_interval(gap, tests, scale)}){doubt}"


def verdict(contrast: Contrast, flagged: Collection[str]) -> str:
    """Word for a comparison; none of gain or loss where a budget was missed."""
    missed = [name for name in (contrast.policy, contrast.reference) if name in flagged]
    if missed:
        return f"{missed[0]} misses the budget"
    return contrast.difference.verdict


def dearer(results: Results) -> str:
    """Say what policies spend more than the reference, which a budget of widths does not count.

    Parameters
    ----------
    results : Results

    Returns
    -------
    str
        Empty where no policy spends over 5 % more of anything.
    """
    if REFERENCE not in results.policies:
        return ""
    base, tables = results.row(REFERENCE), spent(results)
    more: dict[str, list[str]] = {}
    for kind, words in _SPENDING.items():
        totals = tables[kind].mean(axis=1)
        for policy, total in zip(results.policies, totals.tolist(), strict=True):
            if totals[base] > 0 and total > (1 + _DEARER) * totals[base]:
                more.setdefault(policy, []).append(words.format(100 * (total / totals[base] - 1)))
    told = "; ".join(f"{policy} {' and '.join(found)}" for policy, found in more.items())
    return f"At this budget, beside {REFERENCE}: {told}." if told else ""


def hinge_sentences(found: Sequence[Hinge], scale: Scale = ACCURACY) -> list[str]:
    """One sentence per policy whose difference hangs on single clients: the one that moves most."""
    sentences = []
    for policy in dict.fromkeys(hinge.policy for hinge in found):
        mine = [hinge for hinge in found if hinge.policy == policy]
        worst = max(mine, key=lambda hinge: abs(hinge.without - hinge.difference))
        change = "changes its sign" if worst.turns else "moves by more than half its interval"
        more = [hinge.client for hinge in mine if hinge is not worst]
        others = f" (also: {listed(more, most=_MAX_NAMED)})" if more else ""
        sentences.append(
            f"{policy} against {worst.reference}: without {worst.client} the difference {change}, "
            f"from {signed(worst.difference, scale)} to {signed(worst.without, scale)}"
            f"{scale.points}{others}."
        )
    return sentences


def signed(value: float, scale: Scale = ACCURACY) -> str:
    """A gain with its sign; one that rounds to zero has none, NaN is a dash."""
    if not math.isfinite(value):
        return "\N{EN DASH}"
    text = scale.amount(abs(value))
    if float(text) == 0:
        return text
    return ("+" if value > 0 else _MINUS) + text


def span(low: float, high: float, scale: Scale = ACCURACY) -> str:
    """An interval in words."""
    if not math.isfinite(low):
        return "unbounded"
    return f"{signed(low, scale)} to {signed(high, scale)}"
