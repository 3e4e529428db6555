"""From the name of a policy to what each client trains: probes, recommendations, plans."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from hasa_opt import cost
from hasa_opt.clients import FloatArray
from hasa_opt.cost import Cost
from hasa_opt.federated import History
from hasa_opt.models import fresh, training_flops, units
from hasa_opt.pilot import Pilot, pilot
from hasa_opt.policies import RECOMMENDED, Setting, parse_policy
from hasa_opt.probe import Control, Probe, probe
from hasa_opt.recommend import Recommendation, recommend
from hasa_opt.scores import SCORES
from hasa_opt.study.plan import Meter, Plan, plan

if TYPE_CHECKING:
    from hasa_opt.study.study import Study

__all__ = ["RESOURCES", "Planner"]

RESOURCES = ("width", "flops")


class Planner:
    """Finds the plan of each policy under a study's settings.

    Parameters
    ----------
    study : Study
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._probes: dict[int, Probe] = {}
        self._pilots: dict[int, Pilot] = {}
        self._recommended: dict[int, Recommendation] = {}

    def setting(self, seed: int) -> Setting:
        """What the policies may look at: clients and scores from training data, budget, menu."""
        study = self._study
        return Setting(
            study.task.clients(),
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
                mean = float(study.task.clients().weights @ self.plan("uniform", seed).widths)
            self._probes[seed] = probe(
                fresh(study.model, seed),
                study.task,
                study.widths,
                study.probe_rounds,
                seed,
                budget=float(np.clip(mean, study.widths[0], study.widths[-1])),
                sample=study.sample,
                local_epochs=study.local_epochs,
                batch_size=study.batch_size,
                learning_rate=study.learning_rate,
                optimizer=study.optimizer,
                **self._mix,
            )
        return self._probes[seed]

    def recommendation(self, seed: int) -> Recommendation:
        """What to train, and how to deploy it."""
        if seed not in self._recommended:
            decide = partial(
                recommend,
                self.probe(seed),
                self._study.task.clients(),
                self._control(seed).width,
                deploy=self.plan("fjord", seed).widths,
            )
            found = decide()
            if found.proposals and self._study.pilot_repeats:
                tried = [own.policy for own in found.proposals]
                self._pilots[seed] = self._pilot(tried, seed)
                found = decide(pilot=self._pilots[seed])
            self._recommended[seed] = found
        return self._recommended[seed]

    def _pilot(self, policies: Sequence[str], seed: int) -> Pilot:
        """Uniform and some policies, as a run of the study trains them."""
        study = self._study
        plans = {name: self.plan(name, seed) for name in ("uniform", *policies)}
        return pilot(
            fresh(study.model, seed),
            study.task,
            {name: own.widths for name, own in plans.items()},
            study.rounds,
            seed,
            mean_widths={name: own.means for name, own in plans.items() if own.means is not None},
            repeats=study.pilot_repeats,
            sample=study.sample,
            local_epochs=study.local_epochs,
            batch_size=study.batch_size,
            learning_rate=study.learning_rate,
            optimizer=study.optimizer,
            aggregation=study.aggregation,
            weight_power=study.weight_power,
            output_bias=study.output_bias,
            engine=study.engine,
            **self._mix,
        )

    @property
    def _mix(self) -> dict[str, float]:
        """Share of the local model in personal ones, where it is known before the run."""
        mix = self._study.mix
        return {} if mix == "validation" else {"mix": mix}

    def resolved(self, policy: str, seed: int) -> str:
        """Name of the policy that a seed trains: another one in place of "recommended"."""
        if policy != RECOMMENDED:
            return policy
        chosen = self.recommendation(seed)
        return chosen.policy + ("+personal" if chosen.personal else "")

    def reason(self, seed: int) -> str:
        """What is recommended and why, and what the probe and the pilot cost."""
        share = self.probe(seed).cost(self._study.rounds, self._control(seed).width)
        chosen = f"{self.resolved(RECOMMENDED, seed)}: {self.recommendation(seed)}"
        words = f"{chosen}; the probe cost {share:.0%} of a run's training"
        if seed in self._pilots:
            words += f", the pilot {self._pilots[seed].cost(self._study.rounds):.0%}"
        return words

    def plan(self, policy: str, seed: int) -> Plan:
        """What each client trains and deploys under a policy."""
        chosen = parse_policy(self.resolved(policy, seed))[0]
        return plan(chosen, self.setting(seed), self._meter)

    def spent(self, plan: Plan, history: History) -> float:
        """Share of the budget's resource that was really spent, of the whole supernet's."""
        in_width = self._study.budget_in == "width"
        trained = history.mean_width if in_width else self._flops(history)
        if np.isnan(trained).all(axis=0).any():
            return plan.share
        return float(self._study.task.clients().weights @ np.nanmean(trained, axis=0))

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
