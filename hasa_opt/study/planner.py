"""From a policy to what each client trains, or to what decides it: probes, subnets, allocators."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Memory, Parallel, cpu_count, delayed

from hasa_opt._utils.checks import FloatArray
from hasa_opt._utils.processes import follow
from hasa_opt.federated import Evaluation, History
from hasa_opt.federated.allocating import Allocator
from hasa_opt.federated.personal import resolved
from hasa_opt.federated.workers import one_thread
from hasa_opt.forecast.probing import Probe, probe
from hasa_opt.models import fresh
from hasa_opt.policies import POLICIES, RECOMMENDED, Policy, Setting, Subnets
from hasa_opt.policies.whole_units import subnets_of
from hasa_opt.study.settings import SetUp
from hasa_opt.study.trials import canonical, identity

__all__ = ["Planner"]

_FORMAT = 5
"""To be raised when :class:`Probe` changes, so that old ones are not read."""


class Planner:
    """Finds the subnets of each policy under a study's settings.

    Parameters
    ----------
    setup : SetUp
    store : path, optional
        Directory in which probes are kept; those of an earlier study are read.
    """

    def __init__(self, setup: SetUp, store: Path | None = None) -> None:
        self._setup = setup
        self._store = store
        self._probes: dict[int, Probe] = {}
        self._subnets: dict[tuple[Policy, int], Subnets] = {}

    def prepare(self, store: Path | None) -> None:
        """Measure all that the study's policies ask for, the seeds in parallel.

        Parameters
        ----------
        store : path or None
            Takes the place of the planner's.
        """
        self._store = store
        policies = self._setup.compared.values()
        asked = [policy for policy in policies if policy.probes]
        seeds = [seed for seed in self._setup.seeds if seed not in self._probes]
        if not asked or not seeds:
            return
        for policy in policies:
            if policy not in asked:
                self.subnets(policy, seeds[0])  # what cannot be met is refused before any work
        n_jobs = min(self._setup.execution.workers or cpu_count(), cpu_count(), len(seeds))
        found = Parallel(n_jobs=n_jobs)(
            delayed(_measured)(self._setup, store, seed, os.getpid()) for seed in seeds
        )
        self._probes |= dict(zip(seeds, found, strict=True))

    def setting(self, seed: int) -> Setting:
        """What the policies may look at: clients and scores from training data, budget, menu."""
        return self._setup.setting_for(seed, partial(self.probe, seed))

    def probe(self, seed: int) -> Probe:
        """What each client gains from width, measured at the mean width of the uniform policy."""
        if seed not in self._probes:
            setup = self._setup
            self._probes[seed] = self._kept(
                seed,
                widths=list(setup.widths),
                rounds=setup.probe_rounds,
                budget=self._mean_width(seed),
                training=setup.training,
                participation=replace(setup.participation, faults=None),
            )
        return self._probes[seed]

    def _mean_width(self, seed: int) -> float:
        """Mean width of the uniform policy, within the menu."""
        setup, mean = self._setup, self._setup.budget
        if setup.budget_in != "width":
            mean = setup.clients.mean(self.subnets(POLICIES["uniform"], seed).widths)
        return float(np.clip(mean, setup.widths[0], setup.widths[-1]))

    def _kept(self, seed: int, **settings: Any) -> Probe:
        """Probe of a seed: that of an earlier study of the same settings, or a new one."""
        setup = self._setup

        def made() -> Probe:
            with one_thread():
                return probe(fresh(setup.model, seed), setup.task, seed=seed, **settings)

        if self._store is None:
            return made()
        known = {"format": _FORMAT, **identity(setup.model, setup.task), "seed": seed, **settings}
        memory = Memory(self._store, verbose=0)
        keep = memory.cache(_remembered, ignore=["made"])
        found: Probe = keep(canonical(known), made)
        return found

    def resolved(self, policy: Policy) -> Policy:
        """The policy with the options about which "recommended" decides itself."""
        return resolved(policy, self._setup.clients.counts, self._setup.model)

    def evaluation(self, policy: Policy) -> Evaluation:
        """Which models of a policy are tested."""
        given = policy.common.changed("evaluation", self._setup.evaluation)
        chosen = policy.rule == RECOMMENDED
        return replace(given, interpolation="validation") if chosen else given

    def allocation(self, policy: Policy, seed: int) -> Subnets | Allocator:
        """What each client trains under a policy, or what decides it on the way."""
        if policy.allocator is None:
            return self.subnets(policy, seed)
        setup, higher = self._setup, self._setup.task.problem.scale.higher_is_better
        found: Allocator = policy.allocator(
            replace(self.setting(seed), probe=None), setup.meter, setup.rounds, higher
        )
        return found

    def measuring(self, policy: Policy, seed: int) -> float:
        """Training of the probe that a policy needs, as a share of a run's."""
        if not policy.probes:
            return 0.0
        return self.probe(seed).cost(self._setup.rounds, self._mean_width(seed))

    def subnets(self, policy: Policy, seed: int) -> Subnets:
        """What each client trains and deploys under a policy."""
        key = policy.plain, seed
        if key not in self._subnets:
            self._subnets[key] = subnets_of(
                policy, self.setting(seed), self._setup.meter, self._setup.rounds
            )
        return self._subnets[key]

    def spent(self, subnets: Subnets, history: History) -> float:
        """Share of the budget's resource that was spent, of the whole supernet's.

        Each client counts by the rounds in which it trained, so that it does not hang on how often
        clients were drawn or dropped out, and by nothing if it is left out. Where one that should
        have trained never did, all count by their subnets.
        """
        in_width = self._setup.budget_in == "width"
        trained = history.mean_width if in_width else self._flops(history)
        trained = np.where(subnets.widths > 0, trained, 0.0)
        if np.isnan(trained).all(axis=0).any():
            return self.planned(subnets)
        return self._setup.clients.mean(np.nanmean(trained, axis=0))

    def planned(self, subnets: Subnets) -> float:
        """Share that subnets spend if all clients take part in all rounds."""
        assert subnets.share is not None, "subnets of a policy know their share"
        return subnets.share

    def _flops(self, history: History) -> FloatArray:
        """FLOPs as a share of the whole supernet's, ``(rounds, n_clients)``; NaN: none."""
        setup = self._setup
        whole = setup.task.samples * setup.training.epochs * setup.meter.cost(1.0)
        shares: FloatArray = np.where(history.flops > 0, history.flops / whole, np.nan)
        return shares


def _measured(setup: SetUp, store: Path | None, seed: int, parent: int) -> Probe:
    """Probe of a seed, perhaps in a worker process."""
    follow(parent)
    return Planner(setup, store).probe(seed)


def _remembered(settings: str, made: Callable[[], Probe]) -> Probe:
    """What was measured; joblib keeps it under its settings."""
    return made()
