"""Recommended: groups with units of their own where clients form some, and who goes on alone.

Who trains on other data moves shared units another way. Groups that do so train blocks of the
supernet that lie apart, each client at the cost that it had before. Where there are no groups, all
share one prefix until half of the run, and then each goes on by itself, if that pays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt.policies.budget import budget_left
from hasa_opt.policies.policy import Policy
from hasa_opt.policies.setting import Setting
from hasa_opt.policies.subnets import Subnets
from hasa_opt.policies.whole_units import Charges, Meter, subnets_from
from hasa_opt.problem import cost, utility
from hasa_opt.problem.groups import SameOption
from hasa_opt.rules.groups import UNSTRUCTURED, by_counts, labels_differ, silhouette
from hasa_opt.rules.rotation import by_updates
from hasa_opt.rules.widths import uniform
from hasa_opt.solving.solver import solve

__all__ = ["LEVEL", "TOGETHER", "Recommended", "spaced"]

LEVEL = 0.05
"""Share of runs without groups in which some may be found: the usual level of a test."""

_FIELDS = ("level", "power", "counts", "confirm", "alone")

TOGETHER = 3
"""Rounds whose updates are summed: one alone is mostly noise."""

_BEYOND_DOUBT = 2
"""Standard errors by which a loss is sure: about a level of 5 %."""

_CHECKS = 5
"""Looks at the updates, at most. Measured on five image tasks, groups show after three rounds."""


class Seen(Protocol):
    """What of :class:`hasa_opt.federated.Seen` is looked at."""

    @property
    def round(self) -> int:
        """Rounds that have ended."""

    @property
    def train_loss(self) -> FloatArray:
        """Newest loss of each client, ``(n_clients,)``."""

    @property
    def update_similarity(self) -> FloatArray:
        """Cosines of the clients' updates, ``(n_clients, n_clients)``."""

    @property
    def judged(self) -> Mapping[int, FloatArray]:
        """What each client's model reached on its validation data, by rounds that had ended."""

    @property
    def local_gain(self) -> Mapping[int, FloatArray]:
        """How far each client's local model is above the common one, by the same rounds."""

    @property
    def subnets(self) -> Subnets | None:
        """What the clients train by the last decision."""


def spaced(groups: IntArray, widths: FloatArray) -> FloatArray:
    """Where each client's block begins: those of the groups evenly spaced over the supernet.

    Parameters
    ----------
    groups : (n_clients,) int64
        Numbered from 0.
    widths : (n_clients,) floats

    Returns
    -------
    (n_clients,) floats
        All 0 with one group; blocks overlap where the groups' widths do not fit side by side.
    """
    last = max(1, int(groups.max()))
    starts = np.zeros(len(groups))
    for group in np.unique(groups[groups > 0]).tolist():
        members = groups == group
        starts[members] = (1 - widths[members].max()) * group / last
    return starts


@dataclass(frozen=True, eq=False)
class Recommended:
    """Uniform widths, until groups are found or going on alone pays.

    *Groups* are looked for after ``every`` rounds in the counts of labels
    (:func:`~hasa_opt.rules.by_counts`), and in the cosines of the clients' updates
    (:func:`~hasa_opt.rules.by_updates`) after each further ``every``, up to half of the run; the
    level of the test is shared out over these looks. Each group gets a block of units, as a copy of
    what all had until then: on ``domains`` that was 2 points better than blocks from the first
    round on.
    All keep one width, or, with a ``power``, the groups' widths solve an integer program: least sum
    over the clients of loss times width to the power of ``-power``, within what is left of the
    budget of the run.

    *Where labels differ* between clients by more than chance
    (:func:`~hasa_opt.rules.labels_differ`), updates contradict each other even if each label looks
    the same everywhere, and an output bias of each client's own is all that it takes. Groups that
    the labels show too (their mean silhouette is above 0.25) get units only once the clients' local
    models are above the common one on validation data, in the mean of the last two looks.

    *Alone*: without groups, from half of the run on every client trains a model of its own for
    ``every`` rounds, on trial, unless what clients have just trained is below the common model on
    validation data, by two standard errors over the clients. They stay alone if they gain more
    than sharing would gain, by a standard error where local models were not above the common one;
    else they share the supernet again, which begins as the mean of their models. What sharing
    would gain follows from what it gained in as many rounds before, on a learning curve whose
    distance to its limit falls as one over the rounds.

    Attributes
    ----------
    setting : Setting
    meter : Meter
    rounds : int
        Of the run.
    higher_is_better : bool
        Of the metric on validation data.
    level : float
        Share of runs without groups in which the updates may show some.
    power : float
        0 keeps all groups at one width: on ``domains`` the program won nothing at a budget of a
        half, and lost a point at 0.35.
    counts : bool
        Whether counts of labels are looked at.
    confirm : bool
        Whether groups wait for better local models where labels differ.
    alone : bool
        Whether clients may go on alone.
    """

    setting: Setting
    meter: Meter
    rounds: int
    higher_is_better: bool = True
    level: float = LEVEL
    power: float = 0.0
    counts: bool = True
    confirm: bool = True
    alone: bool = True

    def describe(self) -> dict[str, Any]:
        """What tells it from others."""
        setting = self.setting
        told = {name: getattr(self, name) for name in ("every", *_FIELDS)}
        told |= {"budget": setting.budget, "widths": list(setting.widths), "seed": setting.seed}
        costs = [self.meter.cost(width) for width in (*setting.widths, 1.0)]
        return told | {"caps": setting.caps.tolist(), "costs": costs}

    def __call__(self, seen: Seen) -> Subnets | None:
        """What clients train from now on; None: what they have trained."""
        nobody_apart = np.zeros(len(self.setting.clients), dtype=np.int64)
        if seen.subnets is None:
            return self._plan(nobody_apart, None, 0, None)
        if seen.subnets.has_blocks:
            return None
        if seen.subnets.models is None and seen.round <= self._checks * self.every:
            groups, reason = self._groups(seen)
            if groups.any():
                plan = self._plan(groups, seen.train_loss, seen.round, seen.subnets)
                return replace(plan, reason=reason)
            if seen.round != self._half or not self._tries:
                return replace(seen.subnets, reason=reason)
        return self._sharing(seen)

    def judges(self, number: int, subnets: Subnets) -> bool:
        """Whether clients judge what they would deploy.

        They do so around the trial of going alone, and where groups wait for it at every look.
        """
        if subnets.has_blocks:
            return False
        alone = subnets.models is not None
        looks = [] if alone or not self._waits else self._looks
        if self._tries:
            looks = [*looks, self._half - self.every, self._half]
            looks += [self._half + self.every] if alone else []
        return number in looks

    @property
    def every(self) -> int:
        """Rounds between two looks: three, or a fifth of a short run."""
        return min(TOGETHER, max(1, self.rounds // _CHECKS))

    @property
    def _checks(self) -> int:
        """How often the updates are looked at."""
        return max(1, min(_CHECKS, self.rounds // 2 // self.every))

    @property
    def _looks(self) -> list[int]:
        """The rounds after which groups are looked for."""
        return [self.every * (check + 1) for check in range(self._checks)]

    @cached_property
    def _waits(self) -> bool:
        """Whether groups wait for better local models."""
        counts = self.setting.clients.counts
        return self.confirm and counts is not None and labels_differ(counts)

    @cached_property
    def _counted(self) -> IntArray:
        """Groups by the counts of labels; all 0 if there are none, or they are not looked at."""
        counts = self.setting.clients.counts
        if self.counts and counts is not None:
            return by_counts(counts)
        return np.zeros(len(self.setting.clients), dtype=np.int64)

    @property
    def _half(self) -> int:
        """The look that is nearest to half of the run, from below."""
        return self.rounds // 2 // self.every * self.every

    @property
    def _tries(self) -> bool:
        """Whether there are rounds enough for a trial."""
        return self.alone and self._half >= 2 * self.every

    def _groups(self, seen: Seen) -> tuple[IntArray, str]:
        """Groups that are to have units of their own, and why; all 0 if there are none."""
        groups, reason = self._candidates(seen)
        if not groups.any() or not self._are_shown(groups):
            return groups, reason
        mean, error = self._local_gain(seen, seen.round)
        if not mean <= 0:
            return groups, reason
        told = f"local models are {mean:.3g} above the common one (standard error {error:.2g})"
        return np.zeros_like(groups), f"no units of their own for {reason}: {told}"

    def _are_shown(self, groups: IntArray) -> bool:
        """Whether the labels show groups too, so that these wait."""
        counts = self.setting.clients.counts
        if not self._waits or counts is None:
            return False
        return groups is self._counted or silhouette(counts, groups) > UNSTRUCTURED

    def _candidates(self, seen: Seen) -> tuple[IntArray, str]:
        """Groups by the counts of labels, or by the updates; and why."""
        counted = self._counted
        if counted.any() and (self._waits or seen.round == self.every):
            return counted, f"{counted.max() + 1} groups by the counts of labels"
        level = self.level / self._checks
        found = by_updates(seen.update_similarity, level=level, seed=self.setting.seed)
        return found.groups, found.reason

    def _sharing(self, seen: Seen) -> Subnets | None:
        """Going on alone, on trial, and whether to stay so."""
        assert seen.subnets is not None, "there was a decision before the first round"
        if not self._tries:
            return None
        if seen.round == self._half:
            return self._trial(seen, seen.subnets)
        if seen.round != self._half + self.every or seen.subnets.models is None:
            return None
        before, then, now = (seen.judged[self._half + step * self.every] for step in (-1, 0, 1))
        sign = 1 if self.higher_is_better else -1
        lasting = (self._half - self.every) / (self._half + self.every)
        mean, error = _estimate(sign * ((now - then) - lasting * (then - before)))
        told = f"alone they gain {mean:.3g} more than together (standard error {error:.2g})"
        least = 0.0 if self._local_gain(seen, self._half)[0] > 0 else error
        if mean > least:
            return replace(seen.subnets, reason=f"alone: {told}")
        return with_models(seen.subnets, None, f"together again: {told}")

    def _trial(self, seen: Seen, shared: Subnets) -> Subnets:
        """Going on alone on trial, unless local models are worse than the common one."""
        mean, error = self._local_gain(seen, self._half)
        if not np.isfinite(mean):
            return replace(shared, reason="together: no validation data to judge going alone by")
        told = f"local models are {mean:.3g} above the common one (standard error {error:.2g})"
        if mean < -_BEYOND_DOUBT * error:
            return replace(shared, reason=f"together: {told}")
        alone = np.arange(len(self.setting.clients))
        return with_models(shared, alone, f"alone, on trial: {told}")

    def _local_gain(self, seen: Seen, look: int) -> tuple[float, float]:
        """How far local models are above the common one, in a look and the one before it."""
        looks = (look - self.every, look)
        known = [seen.local_gain[each] for each in looks if each in seen.local_gain]
        return _estimate(np.mean(known, axis=0) if known else np.array([]))

    def _plan(
        self, groups: IntArray, loss: FloatArray | None, number: int, past: Subnets | None
    ) -> Subnets:
        """Blocks and widths of groups from a round on, within what is left of the budget."""
        setting = self.setting
        if past is not None:
            charges = Charges(setting, self.meter)
            shares = [
                charges.share(past.during(each, self.rounds).widths) for each in range(number)
            ]
            left = budget_left(setting.budget, sum(shares), number, self.rounds)
            setting = replace(setting, budget=left)

        def even(setting: Setting) -> FloatArray:
            return uniform(setting.clients.samples, **setting.limits)

        def by_loss(setting: Setting) -> FloatArray:
            assert loss is not None, "the clients have trained"
            return _by_loss(setting, self.meter, groups, loss, self.power)

        def starts(setting: Setting, widths: FloatArray) -> FloatArray:
            return spaced(groups, widths)

        chosen = even if loss is None or not self.power else by_loss
        apart = starts if groups.any() else None
        policy = Policy("own units", chosen, is_program=chosen is by_loss, starts=apart)
        return subnets_from(number, policy, setting, self.meter, self.rounds)


def _estimate(gains: FloatArray) -> tuple[float, float]:
    """Mean over the clients of whom anything is known, and its standard error.

    NaN without any client, and no bound on the error with one.
    """
    known = gains[np.isfinite(gains)]
    if known.size < 2:
        return (float(known[0]) if known.size else np.nan), np.inf
    return float(known.mean()), float(known.std(ddof=1) / np.sqrt(known.size))


def _by_loss(
    setting: Setting, meter: Meter, groups: IntArray, loss: FloatArray, power: float
) -> FloatArray:
    """One width per group: least sum over the clients of loss times width to a falling power."""
    known = np.array([np.nanmean(loss[groups == group]) for group in groups])
    losses = np.where(np.isfinite(loss), loss, known)
    grid = meter.grid(*setting.ends)
    costs = [meter.cost(width) for width in grid.tolist()]
    whole = cost.table(costs, full=meter.cost(1.0))
    fine = replace(setting, widths=tuple(grid.tolist()), cost=whole)
    worth = utility.measured(-losses[:, None] * grid**-power)
    return solve(fine.problem(worth, [SameOption(groups)])).widths


def with_models(subnets: Subnets, models: IntArray | None, reason: str) -> Subnets:
    """The same, with other models shared."""
    later = None if subnets.later is None else replace(subnets.later, models=models)
    return replace(subnets, models=models, later=later, reason=reason)
