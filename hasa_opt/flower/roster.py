"""Who takes part in a run, and what each trains."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Self

import numpy as np

from hasa_opt._utils.checks import BoolArray, FloatArray, IntArray, listed
from hasa_opt._utils.scale import ACCURACY, Scale
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import InputError
from hasa_opt.federated.allocating import Allocating, Decided
from hasa_opt.flower.pricing import Prices
from hasa_opt.flower.profiles import Profile
from hasa_opt.flower.settings import Settings
from hasa_opt.models import SupernetModel, units
from hasa_opt.policies import Setting, Subnets, read_policy
from hasa_opt.policies.budget import budget_left
from hasa_opt.policies.subnets import describe_subnets, read_subnets
from hasa_opt.policies.whole_units import Charges, Meter, subnets_from, subnets_of
from hasa_opt.rules.scores import SCORES

__all__ = ["Roster", "judged_by"]


def judged_by(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the clients are judged by, as a history's metadata say it; nothing for the accuracy."""
    return {name: record[name] for name in ("metric", "higher_is_better") if name in record}


@dataclass(frozen=True, eq=False)
class Roster:
    """The clients of a run; rows are those who came first by partition, and then the newcomers.

    Attributes
    ----------
    profiles : tuple of Profile
        What each has told of itself.
    subnets : Subnets
        What each client trains; an allocator changes it.
    prices : Prices
        What each can train.
    allocating : Allocating, optional
        Asks the policy's allocator, if it has one.
    present : frozenset of int
        Partitions of the clients for whom the widths were allocated.
    since : int
        Round from which they hold.
    spent : float
        Shares of the budget's resource that the rounds before have spent, summed.
    """

    profiles: tuple[Profile, ...]
    subnets: Subnets
    prices: Prices
    allocating: Allocating | None
    present: frozenset[int]
    since: int = 0
    spent: float = 0.0

    def __len__(self) -> int:
        return len(self.profiles)

    @cached_property
    def partitions(self) -> tuple[int, ...]:
        """Partition of each client."""
        return tuple(told.partition for told in self.profiles)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Name of each client."""
        return tuple(told.name for told in self.profiles)

    @cached_property
    def samples(self) -> IntArray:
        """Training samples of each client, ``(n_clients,)``."""
        return np.array([told.samples for told in self.profiles], dtype=np.int64)

    @property
    def scale(self) -> Scale:
        """What all are judged by."""
        return self.profiles[0].scale

    @property
    def deciding(self) -> Allocating | Decided:
        """What says what clients train: an allocator, or what was decided beforehand."""
        return self.allocating or Decided(self.subnets)

    @classmethod
    def allocate(
        cls, profiles: Sequence[Profile], model: SupernetModel, settings: Settings
    ) -> Self:
        """Give each client its width, by the policy and within the budget.

        Parameters
        ----------
        profiles : sequence of Profile
            By partition.
        model : SupernetModel
        settings : Settings

        Raises
        ------
        InputError
            If the policy needs a probe, or the profiles do not fit together.
        InfeasibleError
            If the budget is below the narrowest allocation.
        """
        _check_alike(profiles)
        prices = Prices.of(profiles, model, settings)
        setting, meter = _setting(profiles, prices, settings), _meter(model)
        setting.problem().check_budget()
        allocating = _allocating(setting, meter, settings, profiles[0].scale)
        subnets = allocating.first if allocating else None
        if subnets is None:
            policy = read_policy(settings.policy)
            subnets = subnets_of(policy, setting, meter, settings.rounds)
        present = frozenset(told.partition for told in profiles)
        return cls(tuple(profiles), subnets, prices, allocating, present)

    def reallocated(
        self,
        newcomers: Sequence[Profile],
        present: Collection[int],
        number: int,
        model: SupernetModel,
        settings: Settings,
    ) -> Self:
        """Solve again from a round on, as other clients are there; the budget of the run holds.

        Who is not there keeps its width, for the day on which it returns.

        Parameters
        ----------
        newcomers : sequence of Profile
            Who was not there before.
        present : collection of int
            Partitions of all that are there.
        number : int
            Of the round, from 0.
        model : SupernetModel
        settings : Settings

        Raises
        ------
        InputError, InfeasibleError
            As for :meth:`allocate`.
        """
        profiles = (*self.profiles, *newcomers)
        _check_alike(profiles)
        prices, meter = Prices.of(profiles, model, settings), _meter(model)
        there = np.array([told.partition in present for told in profiles])
        able = [told for told in profiles if told.partition in present]
        setting = _setting(able, Prices.of(able, model, settings), settings)
        spent, rounds = self.spent + self._spent(number, meter, settings), settings.rounds
        setting = replace(setting, budget=budget_left(settings.budget, spent, number, rounds))
        setting.problem().check_budget()
        chosen = subnets_from(number, read_policy(settings.policy), setting, meter, rounds)
        subnets = replace(
            _spread(chosen, there, self.subnets), reason=self._reason(newcomers, there)
        )
        here = frozenset(told.partition for told in able)
        return type(self)(profiles, subnets, prices, None, here, number, spent)

    def _spent(self, number: int, meter: Meter, settings: Settings) -> float:
        """What the rounds since the widths were allocated have spent, by whom they were for."""
        there = [told.partition in self.present for told in self.profiles]
        able = [told for told, is_there in zip(self.profiles, there, strict=True) if is_there]
        prices = replace(self.prices, caps=self.prices.caps[there])
        drawn = self.subnets.mean_widths is not None
        charges = Charges(_setting(able, prices, settings), meter, spread=drawn)
        plans = [self.subnets.during(each, settings.rounds) for each in range(self.since, number)]
        widths = [plan.widths if plan.mean_widths is None else plan.mean_widths for plan in plans]
        return sum(charges.share(each[there]) for each in widths)

    def _reason(self, newcomers: Sequence[Profile], there: BoolArray) -> str:
        """What has changed, in words."""
        known = self.profiles
        were = np.array([told.partition in self.present for told in known])
        told = {
            "joined": [each.name for each in newcomers],
            "returned": [known[row].name for row in np.flatnonzero(~were & there[: len(known)])],
            "left": [known[row].name for row in np.flatnonzero(were & ~there[: len(known)])],
        }
        words = [f"{listed(names)} {what}" for what, names in told.items() if names]
        return f"{'; '.join(words)}: solved again for {np.count_nonzero(there)} clients"

    def adapts(self, settings: Settings) -> bool:
        """Whether widths can be allocated again when others are there.

        An allocator, and clients with units or models of their own, know those of the beginning.
        """
        policy = read_policy(settings.policy)
        own = policy.starts is not None or policy.models is not None
        return settings.reallocate and self.allocating is None and not own

    def fitting(self, settings: Settings, model: SupernetModel) -> Settings:
        """The settings with those about which the policy decides itself."""
        counts = None if self.allocating is None else _clients(self.profiles, self.prices).counts
        return settings.resolved(counts, model)

    def record(self) -> dict[str, Any]:
        """All but the widths, ready for JSON."""
        scale = self.scale
        judged = {"metric": scale.name, "higher_is_better": scale.higher_is_better}
        return {
            "profiles": [told.columns() for told in self.profiles],
            "caps": self.prices.caps.tolist(),
            "present": sorted(self.present),
            "since": self.since,
            "spent": self.spent,
            **describe_subnets(self.subnets),
            **({} if scale == ACCURACY else judged),
        }

    @classmethod
    def read(
        cls, record: Mapping[str, Any], widths: FloatArray, model: SupernetModel, settings: Settings
    ) -> Self:
        """Take up what :meth:`record` gave."""
        profiles = tuple(map(Profile.read, record["profiles"]))
        prices = Prices.again(profiles, np.array(record["caps"]))
        setting = _setting(profiles, prices, settings)
        allocating = _allocating(setting, _meter(model), settings, profiles[0].scale)
        subnets, present = read_subnets(record, widths), frozenset(record["present"])
        kept = record["since"], record["spent"]
        return cls(profiles, subnets, prices, allocating, present, *kept)


def _check_alike(profiles: Sequence[Profile]) -> None:
    """Refuse devices that are judged otherwise than others, or count other labels."""
    scales = list(dict.fromkeys(profile.scale for profile in profiles))
    if len(scales) > 1:
        told = listed([f"{scale.name} ({scale.direction})" for scale in scales])
        raise InputError(f"devices are judged by {told}: give all of them one problem")
    lengths = {profile.counts.size for profile in profiles}
    if len(lengths) > 1:
        raise InputError(f"devices count {listed(sorted(lengths))} labels: all must count the same")


def _clients(profiles: Sequence[Profile], prices: Prices) -> Clients:
    return Clients(
        [profile.samples for profile in profiles],
        counts=np.stack([profile.counts for profile in profiles]),
        max_width=prices.caps,
        names=[profile.name for profile in profiles],
    )


def _setting(profiles: Sequence[Profile], prices: Prices, settings: Settings) -> Setting:
    clients = _clients(profiles, prices)
    scores = SCORES[settings.score](clients.counts)
    budget, menu, seed = settings.budget, settings.menu, settings.seed
    return Setting(clients, scores, budget, menu, seed, constraints=prices.constraints)


def _meter(model: SupernetModel) -> Meter:
    return Meter.of(model.sizes, partial(units, model))


def _allocating(
    setting: Setting, meter: Meter, settings: Settings, scale: Scale
) -> Allocating | None:
    """What asks the policy's allocator; None for a policy that decides beforehand."""
    policy = read_policy(settings.policy)
    if policy.allocator is None:
        return None
    if setting.constraints:
        raise InputError(
            f"policy {policy.name!r} decides while clients train, and knows no budget of seconds "
            "or joules: leave hasa.budget-s and hasa.budget-j out, or use 'optimal'"
        )
    allocator = policy.allocator(setting, meter, settings.rounds, scale.higher_is_better)
    samples = setting.clients.samples
    return Allocating(allocator, lambda subnets: subnets, samples, settings.rounds)


def _spread(chosen: Subnets, there: BoolArray, past: Subnets) -> Subnets:
    """Subnets of some clients, and those of before for the others."""

    def column(new: FloatArray, old: FloatArray) -> FloatArray:
        whole = np.concatenate([old, np.zeros(len(there) - len(old))])
        whole[there] = new
        return whole

    def spread(new: Subnets, old: Subnets) -> Subnets:
        means = new.mean_widths, old.mean_widths
        drawn = None if means[0] is None or means[1] is None else column(means[0], means[1])
        deployed = column(new.deploys, old.deploys)
        widths = column(new.widths, old.widths)
        is_same = np.array_equal(deployed, widths)
        return Subnets(widths, new.scheme, drawn, deployed=None if is_same else deployed)

    first = spread(chosen, past)
    if chosen.later is None and past.later is None:
        return first
    later = spread(chosen.later or chosen, past.later or past)
    if later.deployed is None or first.deployed is None:
        first, later = (replace(each, deployed=each.deploys) for each in (first, later))
    shares = [
        np.zeros(len(each.widths)) if each.later_share is None else each.later_share
        for each in (chosen, past)
    ]
    return replace(first, later=later, later_share=column(*shares))
