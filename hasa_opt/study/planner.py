"""From the name of a policy to what each client trains: probes, recommendations, plans."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from joblib import Memory, Parallel, cpu_count, delayed

from hasa_opt._utils.checks import FloatArray
from hasa_opt.federated import History
from hasa_opt.forecast.piloting import Pilot, pilot
from hasa_opt.forecast.probing import Control, Probe, probe
from hasa_opt.forecast.recommendation import Recommendation, recommend
from hasa_opt.models import fresh, training_flops, units
from hasa_opt.policies import RECOMMENDED, Setting, Subnets, read_policy
from hasa_opt.policies.whole_units import Meter, subnets_of
from hasa_opt.problem import cost
from hasa_opt.problem.cost import Cost
from hasa_opt.rules.scores import SCORES
from hasa_opt.study.trials import canonical, follow, identity, one_thread

if TYPE_CHECKING:
    from hasa_opt.study.study import Study

__all__ = ["RESOURCES", "Planner"]

RESOURCES = ("width", "flops")

Found = TypeVar("Found", Probe, Pilot)

_FORMAT = 1
"""To be raised when :class:`Probe` or :class:`Pilot` changes, so that old ones are not read."""


class Planner:
    """Finds the plan of each policy under a study's settings.

    Parameters
    ----------
    study : Study
    store : path, optional
        Directory in which probes and pilots are kept; those of an earlier study are read.
    """

    def __init__(self, study: Study, store: Path | None = None) -> None:
        self._study = study
        self._store = store
        self._probes: dict[int, Probe] = {}
        self._pilots: dict[int, Pilot] = {}
        self._recommended: dict[int, Recommendation] = {}
        self._plans: dict[tuple[str, int], Subnets] = {}

    def prepare(self, store: Path | None, workers: int | None) -> None:
        """Measure all that the study's policies ask for, the seeds in parallel.

        Parameters
        ----------
        store : path or None
            Takes the place of the planner's.
        workers : int or None
            Processes; None: one per core.
        """
        self._store = store
        asked = _asked(self._study.policies)
        seeds = [seed for seed in self._study.seeds if seed not in self._probes]
        if not asked or not seeds:
            return
        for policy in self._study.policies:
            if policy not in asked:
                self.plan(policy, seeds[0])  # what cannot be met is refused before any work
        n_jobs = min(workers or cpu_count(), cpu_count(), len(seeds))
        found = Parallel(n_jobs=n_jobs)(
            delayed(_measured)(self._study, store, asked, seed, os.getpid()) for seed in seeds
        )
        for seed, (tried, judged) in zip(seeds, found, strict=True):
            self._probes[seed] = tried
            if judged is not None:
                self._pilots[seed] = judged

    def measured(self, asked: Collection[str], seed: int) -> tuple[Probe, Pilot | None]:
        """Probe of a seed, and the pilot that the policies ask for, if there is one."""
        if RECOMMENDED in asked:
            self.recommendation(seed)
        return self.probe(seed), self._pilots.get(seed)

    def setting(self, seed: int) -> Setting:
        """What the policies may look at: clients and scores from training data, budget, menu."""
        study = self._study
        return Setting(
            study.clients,
            self._scores,
            study.budget,
            tuple(study.widths),
            seed,
            self._menu_cost,
            partial(self.probe, seed),
        )

    @cached_property
    def _scores(self) -> FloatArray:
        return SCORES[self._study.score](self._study.task.counts)

    @cached_property
    def _meter(self) -> Meter:
        """What the network charges for training a sample."""
        model, sample = self._study.model, self._study.task.train[0].inputs[:1]
        if self._study.budget_in == "width":
            return Meter.of(model.sizes, partial(units, model))
        return Meter.of(model.sizes, lambda width: training_flops(model, width, sample))

    @cached_property
    def _menu_cost(self) -> Cost:
        if self._study.budget_in == "width":
            return cost.width()
        charges = [self._meter.cost(width) for width in self._study.widths]
        return cost.table(charges, full=self._meter.cost(1.0))

    def probe(self, seed: int) -> Probe:
        """What each client gains from width, measured at the mean width of the uniform policy."""
        if seed not in self._probes:
            study, mean = self._study, self._study.budget
            if study.budget_in != "width":
                mean = study.clients.mean(self.plan("uniform", seed).widths)
            self._probes[seed] = self._kept(
                probe,
                seed,
                widths=list(study.widths),
                rounds=study.probe_rounds,
                budget=float(np.clip(mean, study.widths[0], study.widths[-1])),
                **self._training,
            )
        return self._probes[seed]

    def recommendation(self, seed: int) -> Recommendation:
        """What to train, and how to deploy it."""
        if seed not in self._recommended:
            decide = partial(
                recommend,
                self.probe(seed),
                self._study.clients,
                self._control(seed).width,
                deploy=self.plan("fjord", seed).widths,
            )
            found = decide()
            if found.proposals and self._study.pilot_repeats:
                if seed not in self._pilots:
                    self._pilots[seed] = self._pilot(found, seed)
                found = decide(pilot=self._pilots[seed])
            self._recommended[seed] = found
        return self._recommended[seed]

    def _pilot(self, advice: Recommendation, seed: int) -> Pilot:
        """Uniform and what is proposed, as a run of the study would train them."""
        study = self._study
        tried = ("uniform", *(own.policy for own in advice.proposals))
        plans = {name: self.plan(name, seed) for name in tried}
        means = {
            name: own.mean_widths for name, own in plans.items() if own.mean_widths is not None
        }
        return self._kept(
            pilot,
            seed,
            allocations={name: own.widths.tolist() for name, own in plans.items()},
            mean_widths={name: own.tolist() for name, own in means.items()},
            rounds=study.rounds,
            repeats=study.pilot_repeats,
            aggregation=study.aggregation,
            weight_power=study.weight_power,
            output_bias="local" if study.output_bias == "local" else advice.output_bias,
            engine=study.engine,
            **self._training,
        )

    def _kept(self, measure: Callable[..., Found], seed: int, **settings: Any) -> Found:
        """Probe or pilot of a seed: that of an earlier study of the same settings, or a new one.

        ``settings`` are such as JSON can hold.
        """
        study = self._study

        def made() -> Found:
            with one_thread():
                return measure(fresh(study.model, seed), study.task, seed=seed, **settings)

        if self._store is None:
            return made()
        known = {"format": _FORMAT, **identity(study.model, study.task), "seed": seed, **settings}
        memory = Memory(self._store, verbose=0)
        keep = memory.cache(_remembered, ignore=["made"])
        found: Found = keep(canonical(known), made)
        return found

    @property
    def _training(self) -> dict[str, Any]:
        """How clients train, as probe and pilot take it, and the share of personal models.

        The share is left out where it is known after the run alone.
        """
        names = ("sample", "local_epochs", "batch_size", "learning_rate", "optimizer", "mix")
        options = {name: getattr(self._study, name) for name in names}
        if options["mix"] == "validation":
            del options["mix"]
        return options

    def resolved(self, policy: str, seed: int) -> str:
        """Name of the policy that a seed trains: another one in place of "recommended"."""
        if policy != RECOMMENDED:
            return policy
        chosen = self.recommendation(seed)
        personal = "+personal" if chosen.personal else ""
        return chosen.policy + personal + ("+local_bias" if chosen.output_bias == "local" else "")

    def reason(self, seed: int) -> str:
        """What is recommended and why, and what the probe and the pilot cost."""
        chosen = f"{self.resolved(RECOMMENDED, seed)}: {self.recommendation(seed)}"
        words = f"{chosen}; the probe cost {self._probing(seed):.0%} of a run's training"
        if seed in self._pilots:
            words += f", the pilot {self._pilots[seed].cost(self._study.rounds):.0%}"
        return words

    def measuring(self, policy: str, seed: int) -> float:
        """Training of the probe and the pilot that a policy needs, as a share of a run's."""
        share = self._probing(seed) if _asked([policy]) else 0.0
        if policy == RECOMMENDED and seed in self._pilots:
            share += self._pilots[seed].cost(self._study.rounds)
        return share

    def _probing(self, seed: int) -> float:
        return self.probe(seed).cost(self._study.rounds, self._control(seed).width)

    def plan(self, policy: str, seed: int) -> Subnets:
        """What each client trains and deploys under a policy."""
        if (policy, seed) not in self._plans:
            chosen = read_policy(self.resolved(policy, seed))
            self._plans[policy, seed] = subnets_of(chosen, self.setting(seed), self._meter)
        return self._plans[policy, seed]

    def spent(self, plan: Subnets, history: History) -> float:
        """Share of the budget's resource that was spent, of the whole supernet's.

        Each client counts by the rounds in which it trained, so that it does not hang on how often
        clients were drawn or dropped out; one that never trained counts by its plan.
        """
        in_width = self._study.budget_in == "width"
        trained = history.mean_width if in_width else self._flops(history)
        if np.isnan(trained).all(axis=0).any():
            assert plan.share is not None, "policies know what they spend"
            return plan.share
        return self._study.clients.mean(np.nanmean(trained, axis=0))

    def _flops(self, history: History) -> FloatArray:
        """FLOPs as a share of the whole supernet's, ``(rounds, n_clients)``; NaN: none."""
        study = self._study
        whole = study.task.samples * study.local_epochs * self._meter.cost(1.0)
        shares: FloatArray = np.where(history.flops > 0, history.flops / whole, np.nan)
        return shares

    def _control(self, seed: int) -> Control:
        control = self.probe(seed).control
        assert control is not None, "the probe was given a budget"
        return control


def _asked(policies: Collection[str]) -> list[str]:
    """Those of the policies that need a probe."""
    return [name for name in policies if read_policy(name).probes]


def _measured(
    study: Study, store: Path | None, asked: Collection[str], seed: int, parent: int
) -> tuple[Probe, Pilot | None]:
    """Probe and pilot of a seed, perhaps in a worker process."""
    follow(parent)
    planner = Planner(study, store)
    return planner.measured(asked, seed)


def _remembered(settings: str, made: Callable[[], Found]) -> Found:
    """What was measured; joblib keeps it under its settings."""
    return made()
