"""Headroom: what the best allocation is predicted to gain over uniform, before compute is spent.

The gain is cross-fitted: an allocation is chosen on one half of the measurements and judged on the
other, so that it cannot profit from the noise that it was chosen by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import (
    FloatArray,
    IntArray,
    confidence_level,
    expect,
    float_array,
    whole,
)
from hasa_opt._utils.scale import ACCURACY, Scale
from hasa_opt._utils.showing import Shown, new_table
from hasa_opt.clients.clients import Clients
from hasa_opt.forecast.curves import hat_weights, smoothed
from hasa_opt.forecast.evidence import Evidence, read_evidence
from hasa_opt.forecast.foretold import Foretold
from hasa_opt.forecast.gains import Gain
from hasa_opt.forecast.probing import Probe
from hasa_opt.forecast.rule_widths import Rules, rule_widths
from hasa_opt.problem import utility
from hasa_opt.problem.cost import Cost
from hasa_opt.problem.limits import Constraint
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.solving.solver import solve

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

__all__ = ["OPTIMUM", "Headroom", "headroom"]

OPTIMUM = "measured optimum"
"""Name of the best allocation by the measurements, among the rules."""

_OWN_UNITS = "own units of the groups"

_UNIFORM = "uniform"

_ROUNDING = 1e-12
"""Share of the largest entry of a table below which a difference is rounding."""


@dataclass(frozen=True, eq=False)
class Headroom(Shown):
    """What allocation is worth under a budget.

    Attributes
    ----------
    budget, confidence : float
    gain, low, high : float
        Predicted gain of the measured optimum over uniform in the unweighted client mean, and its
        interval: of accuracies in points, above zero is better.
    promised : float
        What the smoothed table promises for its own optimum.
    widths, uniform : (n_clients,) floats
        The measured optimum by all measurements, and what it is compared with.
    rules : mapping of str to Gain
        Gain of each rule over uniform.
    spent : mapping of str to float
        What each costs, as a share of the full width's cost.
    scale : Scale
        The metric of the gains.
    foretold : Foretold
        Whether there are groups of alike clients, of which no table of widths knows: by the counts
        of labels, and by the updates of a probe, which also tells what they would gain.
    """

    budget: float
    confidence: float
    gain: float
    low: float
    high: float
    promised: float
    widths: FloatArray
    uniform: FloatArray
    rules: Mapping[str, Gain]
    spent: Mapping[str, float]
    scale: Scale = ACCURACY
    foretold: Foretold = field(default_factory=Foretold)

    @property
    def groups(self) -> IntArray | None:
        """Group of each client, all 0 without groups; None where nothing was looked at."""
        return self.foretold.groups

    @property
    def worthwhile(self) -> bool:
        """Whether the whole interval of the gain is above zero."""
        return self.low > 0

    @property
    def shares(self) -> dict[str, float]:
        """Gain of each rule as a share of :attr:`whole`; empty where nothing is worthwhile."""
        if not self.worthwhile:
            return {}
        gains = {name: gain.value for name, gain in self.rules.items()} | {OPTIMUM: self.gain}
        return {name: gain / self.whole for name, gain in gains.items()}

    @property
    def whole(self) -> float:
        """The 100 % of the shares: what is promised, or the gain where that is larger."""
        return max(self.promised, self.gain)

    @property
    def sentence(self) -> str:
        """The verdict."""
        worth = f"allocation is worth {self._optimum.told} here"
        if not self.worthwhile:
            return f"{worth}: use uniform"
        (first, most), *others = self.shares.items()
        captured = [f"{_name(first)} captures {most:.0%}"]
        captured += [f"{_name(name)} {share:.0%}" for name, share in others]
        return f"{worth}: {', '.join(captured)}"

    @property
    def _optimum(self) -> Gain:
        return Gain(self.gain, self.low, self.high, self.scale)

    def record(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        own = self.foretold.gain
        return {
            "verdict": self.sentence,
            "metric": asdict(self.scale),
            "worthwhile": self.worthwhile,
            "budget": self.budget,
            "confidence": self.confidence,
            "gain": self.gain,
            "low": self.low,
            "high": self.high,
            "promised": self.promised,
            "whole": self.whole,
            "shares": self.shares,
            "rules": {name: _interval(gain) for name, gain in self.rules.items()},
            "spent": dict(self.spent),
            "widths": self.widths.tolist(),
            "groups": None if self.groups is None else self.groups.tolist(),
            "own_units": None if own is None else _interval(own),
            "foretold": str(self.foretold),
        }

    def __repr__(self) -> str:
        return f"Headroom({self.sentence})"

    def table(self) -> Table:
        """Gain, interval, share and cost of the measured optimum and of each rule."""
        from rich.markup import escape

        scale = self.scale
        unit = "points" if scale.is_share else escape(scale.name)
        table = new_table(
            title=f"Predicted gain over uniform in the client mean, {unit}, at budget "
            f"{self.budget:g}; {self.confidence:.0%} intervals",
        )
        table.add_column("rule", overflow="fold")
        for name in ("gain", "interval", "captures", "spends"):
            table.add_column(name, justify="right", overflow="fold")
        own = self.foretold.gain
        shown = {OPTIMUM: self._optimum} | dict(self.rules)
        for name, gain in (shown | ({} if own is None else {_OWN_UNITS: own})).items():
            share = self.shares.get(name)
            table.add_row(
                escape(name),
                scale.signed(gain.value),
                f"{scale.signed(gain.low)} to {scale.signed(gain.high)}",
                "-" if share is None else f"{share:.0%}",
                "as uniform" if gain is own else f"{self.spent[name]:.4f}",
            )
        table.caption = (
            f"the smoothed table promises {scale.signed(self.promised)}; 100 % is "
            f"{scale.signed(self.whole)}"
        )
        return table

    def __rich__(self) -> Group:
        from rich.console import Group

        return Group(self.table(), self.sentence, str(self.foretold))


def headroom(
    utilities: Probe | npt.ArrayLike,
    clients: Clients,
    budget: float,
    *,
    widths: Sequence[float] | FloatArray | None = None,
    noise: npt.ArrayLike | None = None,
    rules: Rules | None = None,
    scores: npt.ArrayLike | None = None,
    cost: Cost | None = None,
    constraints: Sequence[Constraint] = (),
    confidence: float = 0.95,
    seed: int = 0,
) -> Headroom:
    """Predict what the best allocation gains over uniform in the unweighted client mean.

    Parameters
    ----------
    utilities : Probe or array
        What each client reaches at each width, more being better (of an error, give its negative):
        a probe, which knows which end is better; the same measure on at least two independent parts
        of the data, ``(n_parts, n_clients, n_widths)``, whose noise falls with the client's
        samples; or one table ``(n_clients, n_widths)`` with its ``noise``.
    clients : Clients
        Sizes and caps.
    budget : float
        Share of the full width's cost, as for :meth:`AllocationProblem.build`.
    widths : increasing floats in (0, 1]
        The menu of an array; a probe has its own. Values off the menu are read linearly between
        its widths, a little below a concave curve: let it hold the budget.
    noise : float, or (n_clients,), (n_clients, n_widths) or (n_clients, n_widths, n_widths) floats
        Of one table: standard errors of its independent entries, or covariances; 0 for none.
    rules : str, sequence of str, or mapping of str to str or (n_clients,) widths, optional
        What else is judged at the same budget: names in :data:`hasa_opt.policies.POLICIES`, or
        widths. Default: ``("hasa", "reverse")`` where scores can be had.
    scores : (n_clients,) floats, optional
        What the named rules rank by. Default: the Jensen-Shannon divergence of ``clients.counts``.
    cost : Cost, optional
        Default: :func:`~hasa_opt.problem.cost.width`.
    constraints : sequence of Constraint
        What the allocation must meet beside the budget, such as :class:`Coverage`.
    confidence : float in (0, 1)
        Of the two-sided intervals.
    seed : int
        Of the halves into which one table is thinned.

    Returns
    -------
    Headroom

    Raises
    ------
    InputError
        For a value that breaks a rule.
    InfeasibleError
        If the budget is below the narrowest possible allocation.

    Examples
    --------
    >>> import hasa_opt as hasa
    >>> table = [[60, 60, 60], [30, 50, 65], [60, 60, 60], [30, 50, 65]]
    >>> clients = hasa.Clients([100, 100, 100, 100])
    >>> found = hasa.headroom(table, clients, 0.5, widths=(0.2, 0.5, 0.8), noise=0.5)
    >>> found.worthwhile, found.widths.tolist()
    (True, [0.2, 0.8, 0.2, 0.8])
    """
    expect(clients, Clients, "clients")
    level = confidence_level(confidence)
    evidence = read_evidence(utilities, clients, widths, noise, whole(seed, "seed"))
    problem = AllocationProblem.build(
        clients, widths=evidence.widths, budget=budget, cost=cost, constraints=constraints,
        utility=utility.measured(evidence.table),
    )  # fmt: skip
    judge = _Judge(problem, evidence, level, cost)
    foretold = (
        judge.foretold(utilities) if isinstance(utilities, Probe) else Foretold.of(clients.counts)
    )
    given = rule_widths(rules, scores, problem, cost, judge.share)
    read = {name: judge.read(name, widths) for name, widths in given.items()}
    return judge.headroom(read, foretold)


@dataclass(frozen=True, eq=False)
class _Judge:
    """Chooses allocations, and reads gains off the measurements.

    An allocation is a table of weights ``(n_clients, n_widths)``, by which each client's curve is
    read: one 1 in a row, or two neighbours.
    """

    problem: AllocationProblem
    evidence: Evidence
    confidence: float
    cost: Cost | None

    def headroom(self, rules: Mapping[str, FloatArray], foretold: Foretold) -> Headroom:
        """What the best allocation gains, and each rule."""
        evidence = self.evidence
        table = smoothed(evidence.widths, evidence.table, evidence.covariance)
        best, found = self.choose(table), self.cross_fitted()
        shown = {OPTIMUM: best, **rules}
        return Headroom(
            budget=self.problem.share,
            confidence=self.confidence,
            gain=found.value,
            low=found.low,
            high=found.high,
            promised=self.gain_by(table, best),
            widths=best @ evidence.widths,
            uniform=self.uniform @ evidence.widths,
            rules={name: self.judged(allocation) for name, allocation in rules.items()},
            spent={name: self.spent(allocation) for name, allocation in shown.items()},
            scale=evidence.scale,
            foretold=foretold,
        )

    @cached_property
    def uniform(self) -> FloatArray:
        """The common width that spends the budget; capped clients stay at their caps."""
        unranked = np.zeros(len(self.problem))
        found = rule_widths((_UNIFORM,), unranked, self.problem, self.cost, self.share)
        return self.read(_UNIFORM, found[_UNIFORM])

    @cached_property
    def least(self) -> float:
        """What is no gain but rounding."""
        return _ROUNDING * float(np.abs(self.evidence.table).max())

    def foretold(self, probe: Probe) -> Foretold:
        """What a probe has seen of groups, with what they gain at uniform's widths."""
        if probe.apart is None:
            return probe.foretold
        gain = probe.apart.gain(self.uniform, self.confidence, probe.scale)
        return replace(probe.foretold, gain=gain)

    def choose(self, table: FloatArray) -> FloatArray:
        """The best allocation by a table; uniform where none is better."""
        found = solve(replace(self.problem, utilities=table / len(table)))
        best = hat_weights(self.problem.widths, found.widths)
        return best if self.gain_by(table, best) > self.least else self.uniform

    def gain_by(self, table: FloatArray, allocation: FloatArray) -> float:
        """Gain over uniform in the client mean by a table."""
        gain = float(((allocation - self.uniform) * table).sum() / len(table))
        return gain if abs(gain) > self.least else 0.0

    def judged(self, allocation: FloatArray) -> Gain:
        """Gain of an allocation that was not chosen by these measurements."""
        errors = self._variances(allocation)
        return self._gain(self.gain_by(self.evidence.table, allocation), errors.sum())

    def cross_fitted(self) -> Gain:
        """Choose on all parts but one, judge on that one; mean over parts and splits."""
        found = [self._split(parts) for parts in self.evidence.parts]
        gain, variance = np.mean(found, axis=0)
        return self._gain(float(gain), float(variance))

    def _split(self, parts: FloatArray) -> tuple[float, float]:
        """Gain and its variance from one division into parts.

        A client that gets the same width whatever part is left out adds independent errors of the
        parts. Where the width hangs on the noise, the errors of choice and judgement are as one:
        under no signal, both are the product of the same two noises. They add up fully.
        """
        count = len(parts)
        noise = self.evidence.covariance * count / (count - 1)
        chosen, gains = [], []
        for part in parts:
            rest = (parts.sum(axis=0) - part) / (count - 1)
            best = self.choose(smoothed(self.problem.widths, rest, noise))
            chosen.append(best)
            gains.append(self.gain_by(part, best))
        stable = np.all([allocation == chosen[0] for allocation in chosen], axis=(0, 2))
        variances = [self._variances(allocation) for allocation in chosen]
        fixed = variances[0][stable].sum()
        moving = np.mean([np.sqrt(count * variance[~stable].sum()) for variance in variances]) ** 2
        return float(np.mean(gains)), float(fixed + moving)

    def _variances(self, allocation: FloatArray) -> FloatArray:
        """What the noise of each client adds to the variance of a gain, ``(n_clients,)``."""
        moved = (allocation - self.uniform) / len(allocation)
        return np.asarray(np.einsum("ik,ikl,il->i", moved, self.evidence.covariance, moved))

    def _gain(self, value: float, variance: float) -> Gain:
        evidence = self.evidence
        return Gain.measured(value, variance, evidence.degrees, self.confidence, evidence.scale)

    def read(self, name: str, widths: npt.ArrayLike) -> FloatArray:
        """Weights of a rule's widths."""
        given = float_array(widths, f"widths of rule {name!r}", (len(self.problem),))
        return hat_weights(self.problem.widths, given)

    def share(self, widths: FloatArray) -> float:
        """What widths cost, as a share of the full width's cost."""
        return self.spent(hat_weights(self.problem.widths, widths))

    def spent(self, allocation: FloatArray) -> float:
        """Cost as a share of the full width's cost."""
        return self.problem.share_of(float((allocation * self.problem.costs).sum()))


def _interval(gain: Gain) -> dict[str, float]:
    return {"value": gain.value, "low": gain.low, "high": gain.high}


def _name(rule: str) -> str:
    return {OPTIMUM: f"the {OPTIMUM}", "hasa": "HASA"}.get(rule, rule)
