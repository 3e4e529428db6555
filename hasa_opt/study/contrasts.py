"""Policies held against references: the differences that a study makes claims about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hasa_opt.study.inference import Difference, family
from hasa_opt.study.results import Kind, Results
from hasa_opt.study.summary import left_out

__all__ = [
    "REFERENCE",
    "Contrast",
    "Hinge",
    "against",
    "against_plain",
    "against_same_options",
    "hinges",
    "plain_of",
    "reference_of",
]

REFERENCE = "uniform"
"""The policy that the others are held against."""


@dataclass(frozen=True)
class Contrast:
    """A policy, what it is held against, and their difference in points over the seeds."""

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
        Mean difference in points, with all clients and without this one.
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
    return policy.partition("+")[0]


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
    options = set(policy.split("+")[1:])
    for other in policies:
        first, *rest = other.split("+")
        if first == REFERENCE and set(rest) == options and other != policy:
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
    measure, kind
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
    pairs = [(policy, other) for policy, other in found if "+" in policy and other is not None]
    return _contrasts(results, pairs, measure, kind)


def against_plain(results: Results, *, measure: str = "mean", kind: Kind = "own") -> list[Contrast]:
    """Hold policies with loop options against the same allocation without: what options add.

    Holm's correction is over these comparisons. Parameters as for :func:`against`.
    """
    plain = ((policy, plain_of(policy)) for policy in results.policies)
    pairs = [(policy, own) for policy, own in plain if policy != own and own in results.policies]
    return _contrasts(results, pairs, measure, kind)


def hinges(results: Results, reference: str = REFERENCE) -> list[Hinge]:
    """Find clients without which a difference of client means changes its sign or moves far.

    Far is more than half the width of its 95 % t interval. For a single seed, which has none,
    only signs are looked at.
    """
    without, found = left_out(results), []
    clients = [results.clients[row] for row in results.measured()]
    for contrast in against(results, reference):
        whole = contrast.difference
        own, base = results.row(contrast.policy), results.row(reference)
        moved = (without[own] - without[base]).mean(axis=0)
        turns = np.sign(np.round(moved, 9)) * np.sign(whole.mean) < 0
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
    values = results.measure(measure, kind)
    differences = family([(values[results.row(a)], values[results.row(b)]) for a, b in pairs])
    return [Contrast(*pair, own) for pair, own in zip(pairs, differences, strict=True)]
