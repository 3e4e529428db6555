"""From a policy to what each client trains: probes, pilots, recommendations, subnets."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from joblib import Memory, Parallel, cpu_count, delayed

from hasa_opt._utils.checks import FloatArray
from hasa_opt._utils.processes import follow
from hasa_opt.federated import Execution, History
from hasa_opt.federated.settings import INTERPOLATION
from hasa_opt.federated.workers import one_thread
from hasa_opt.forecast.piloting import Pilot, pilot
from hasa_opt.forecast.probing import Control, Probe, probe
from hasa_opt.forecast.recommendation import Recommendation, advise
from hasa_opt.models import fresh
from hasa_opt.policies import POLICIES, RECOMMENDED, Policy, Setting, Subnets
from hasa_opt.policies.whole_units import subnets_of
from hasa_opt.study.settings import SetUp
from hasa_opt.study.trials import canonical, identity

__all__ = ["Planner"]

Found = TypeVar("Found", Probe, Pilot)

_FORMAT = 3
"""To be raised when :class:`Probe` or :class:`Pilot` changes, so that old ones are not read."""


class Planner:
    """Finds the subnets of each policy under a study's settings.

    Parameters
    ----------
    setup : SetUp
    store : path, optional
        Directory in which probes and pilots are kept; those of an earlier study are read.
    """

    def __init__(self, setup: SetUp, store: Path | None = None) -> None:
        self._setup = setup
        self._store = store
        self._probes: dict[int, Probe] = {}
        self._pilots: dict[int, Pilot] = {}
        self._recommended: dict[int, Recommendation] = {}
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
            delayed(_measured)(self._setup, store, asked, seed, os.getpid()) for seed in seeds
        )
        for seed, (tried, judged) in zip(seeds, found, strict=True):
            self._probes[seed] = tried
            if judged is not None:
                self._pilots[seed] = judged

    def measured(self, asked: Collection[Policy], seed: int) -> tuple[Probe, Pilot | None]:
        """Probe of a seed, and the pilot that the policies ask for, if there is one."""
        if any(policy.rule == RECOMMENDED for policy in asked):
            self.recommendation(seed)
        return self.probe(seed), self._pilots.get(seed)

    def setting(self, seed: int) -> Setting:
        """What the policies may look at: clients and scores from training data, budget, menu."""
        return self._setup.setting_for(seed, partial(self.probe, seed))

    def probe(self, seed: int) -> Probe:
        """What each client gains from width, measured at the mean width of the uniform policy."""
        if seed not in self._probes:
            setup, mean = self._setup, self._setup.budget
            if setup.budget_in != "width":
                mean = setup.clients.mean(self.subnets(POLICIES["uniform"], seed).widths)
            self._probes[seed] = self._kept(
                probe,
                seed,
                widths=list(setup.widths),
                rounds=setup.probe_rounds,
                budget=float(np.clip(mean, setup.widths[0], setup.widths[-1])),
                **self._beforehand,
            )
        return self._probes[seed]

    def recommendation(self, seed: int) -> Recommendation:
        """Which policy to train, with its subnets."""
        if seed not in self._recommended:
            find = partial(self.subnets, seed=seed)
            self._recommended[seed], _ = advise(
                self.probe(seed),
                self._setup.clients,
                self._control(seed).width,
                subnets=find,
                deploy=find(POLICIES["fjord"]).widths,
                pilot=partial(self._pilot, seed=seed) if self._setup.pilot_repeats else None,
            )
        return self._recommended[seed]

    def _pilot(self, advice: Recommendation, seed: int) -> Pilot:
        """Uniform and what is proposed, as a run of the study would train them."""
        if seed not in self._pilots:
            setup, names = self._setup, advice.to_pilot
            how = self._beforehand
            how["training"] = advice.policy.changed("training", setup.training)
            self._pilots[seed] = self._kept(
                pilot,
                seed,
                allocations={name: self.subnets(POLICIES[name], seed) for name in names},
                rounds=setup.rounds,
                repeats=setup.pilot_repeats,
                server=setup.server,
                execution=Execution(engine=setup.execution.engine),
                **how,
            )
        return self._pilots[seed]

    def _kept(self, measure: Callable[..., Found], seed: int, **settings: Any) -> Found:
        """Probe or pilot of a seed: that of an earlier study of the same settings, or a new one."""
        setup = self._setup

        def made() -> Found:
            with one_thread():
                return measure(fresh(setup.model, seed), setup.task, seed=seed, **settings)

        if self._store is None:
            return made()
        known = {"format": _FORMAT, **identity(setup.model, setup.task), "seed": seed, **settings}
        memory = Memory(self._store, verbose=0)
        keep = memory.cache(_remembered, ignore=["made"])
        found: Found = keep(canonical(known), made)
        return found

    @property
    def _beforehand(self) -> dict[str, Any]:
        """How clients train and who takes part, as probe and pilot take it.

        Faults are left out, and a share of personal models that only the run itself can choose.
        """
        setup = self._setup
        given = setup.evaluation.interpolation
        known = INTERPOLATION if given == "validation" else given
        return {
            "training": setup.training,
            "participation": replace(setup.participation, faults=None),
            "evaluation": replace(setup.evaluation, on="subnet", interpolation=known),
        }

    def resolved(self, policy: Policy, seed: int) -> Policy:
        """The policy that a seed trains: another one in place of "recommended"."""
        return self.recommendation(seed).policy if policy.rule == RECOMMENDED else policy

    def reason(self, seed: int) -> str:
        """What is recommended and why, and what the probe and the pilot cost."""
        found = self.recommendation(seed)
        cost = self._probing(seed)
        words = f"{found.policy}: {found}; the probe cost {cost:.0%} of a run's training"
        if seed in self._pilots:
            words += f", the pilot {self._pilots[seed].cost(self._setup.rounds):.0%}"
        return words

    def measuring(self, policy: Policy, seed: int) -> float:
        """Training of the probe and the pilot that a policy needs, as a share of a run's."""
        share = self._probing(seed) if policy.probes else 0.0
        if policy.rule == RECOMMENDED and seed in self._pilots:
            share += self._pilots[seed].cost(self._setup.rounds)
        return share

    def _probing(self, seed: int) -> float:
        return self.probe(seed).cost(self._setup.rounds, self._control(seed).width)

    def subnets(self, policy: Policy, seed: int) -> Subnets:
        """What each client trains and deploys under a policy."""
        if policy.rule == RECOMMENDED:
            return self.recommendation(seed).subnets
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

    def _control(self, seed: int) -> Control:
        control = self.probe(seed).control
        assert control is not None, "the probe was given a budget"
        return control


def _measured(
    setup: SetUp, store: Path | None, asked: Collection[Policy], seed: int, parent: int
) -> tuple[Probe, Pilot | None]:
    """Probe and pilot of a seed, perhaps in a worker process."""
    follow(parent)
    return Planner(setup, store).measured(asked, seed)


def _remembered(settings: str, made: Callable[[], Found]) -> Found:
    """What was measured; joblib keeps it under its settings."""
    return made()
