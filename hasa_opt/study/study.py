"""A study: several allocation policies, trained with matched seeds at a matched budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from hasa_opt._utils.checks import FloatArray, IntArray, several, whole
from hasa_opt._utils.files import made_directory
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import InputError
from hasa_opt.federated import Faults, History
from hasa_opt.models import SupernetModel
from hasa_opt.models.profile import training_bytes
from hasa_opt.policies import RECOMMENDED, Setting, Subnets, read_policy
from hasa_opt.policies.policy import PERSONAL
from hasa_opt.solving.comparison import Comparison, compare
from hasa_opt.study.claims import against
from hasa_opt.study.outcome import (
    Outcome,
    chosen_round,
    gather,
    measuring_of,
    validation_targets,
    write_outcomes,
)
from hasa_opt.study.planner import Planner
from hasa_opt.study.report import describe
from hasa_opt.study.results import Results
from hasa_opt.study.settings import check
from hasa_opt.study.summary import SummaryRow, for_json, summarise
from hasa_opt.study.tables import allocation_table, costs_table, results_table
from hasa_opt.study.trials import Trial, shared_counts
from hasa_opt.study.trials import histories as trained
from hasa_opt.tasks import Task

__all__ = ["Study"]

_COMPARE_SECONDS = 20.0


@dataclass(frozen=True, eq=False)
class Study:
    """Policies compared on one task: same split, initial weights and batches for each seed.

    Parameters
    ----------
    task : Task
    model : SupernetModel
        Gives the architecture; each seed draws its own initial weights.
    policies : sequence of str
        Names in :data:`hasa_opt.policies.POLICIES`, which may carry options of the loop:
        ``"hasa+personal"``, ``"uniform+selective"``, ``"uniform+n^0.5"``, ``"uniform+local_bias"``.
        ``"recommended"`` stands for what a probe and a pilot choose, personal
        models and output bias included, and takes no options.
    seeds : sequence of int
    budget : float
        Sample-weighted mean cost, as a share of the whole supernet's.
    budget_in : str
        What the budget is spent on: "width" (the paper) or "flops".
    widths : sequence of float
        Menu of the integer program; its ends bound the continuous rules.
    rounds, local_epochs, batch_size, learning_rate, optimizer, aggregation, evaluate, engine, \
    weight_power, output_bias, mix, sample, faults
        As for :func:`hasa_opt.federated.run`.
    max_width : sequence of float, optional
        Widest subnet of each client's device, for training and deployment. Default: no caps, so
        that the policy ``"capacity"`` is ``"uniform"``.
    rounds_by : str
        Which round counts: "fixed", the last one, or "validation", the one with the best pooled
        validation accuracy of what the run deploys before any personal model is made.
    probe_rounds : int
        Rounds of the probe, for the policies that need one. It knows no faults, averages all
        coordinates by samples, and takes a mix of 0.75 where validation data are to choose it.
    pilot_repeats : int
        Repetitions of the pilot that tries what a probe proposes, for ``"recommended"``; 0: none,
        and proposals are not followed. Else from 2 to the samples of the smallest client.
    score : str
        Name in :data:`~hasa_opt.rules.scores.SCORES`.
    backend : str
        Where the runs are trained: "local", in processes of this machine, or "ray", on the Ray
        cluster that RAY_ADDRESS names (without one, on this machine). The numbers are the same.
        Probes and pilots are measured on this machine.
        All machines of a cluster must share the ``directory`` of :meth:`run`, if one is given.
    command : str, optional
        Command line that repeats the study, for the report.

    Attributes
    ----------
    outcomes : tuple of Outcome
        Empty before :meth:`run`.
    comparison : Comparison or None
        All installed solvers on the integer program; None before :meth:`run`.

    Raises
    ------
    InputError
        For an unknown name or a value that breaks a rule, before any work starts.
    """

    task: Task
    model: SupernetModel
    policies: Sequence[str] = ("uniform", "hasa", "reverse", "optimal")
    seeds: Sequence[int] = (0, 1, 2)
    budget: float = 0.5
    budget_in: Literal["width", "flops"] = "width"
    widths: Sequence[float] = (0.2, 0.35, 0.5, 0.65, 0.8)
    rounds: int = 10
    local_epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 0.02
    optimizer: Literal["adam", "sgd"] = "adam"
    aggregation: Literal["full", "selective"] = "full"
    evaluate: Literal["subnet", "supernet"] = "subnet"
    engine: str = "sequential"
    weight_power: float = 1.0
    output_bias: Literal["shared", "local"] = "shared"
    mix: float | Literal["validation"] = 0.75
    rounds_by: Literal["fixed", "validation"] = "fixed"
    sample: int | None = None
    faults: Faults | None = None
    max_width: Sequence[float] | None = None
    probe_rounds: int = 6
    pilot_repeats: int = 4
    score: str = "jensen_shannon"
    backend: Literal["local", "ray"] = "local"
    command: str | None = None
    outcomes: tuple[Outcome, ...] = field(default=(), repr=False)
    comparison: Comparison | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("policies", "seeds", "widths"):
            object.__setattr__(self, name, several(getattr(self, name), name))
            if not getattr(self, name):
                raise InputError(f"{name} is empty: give at least one")
        check(self)

    def __getstate__(self) -> dict[str, Any]:
        """What was given, without what can be computed again: not all of it can be sent."""
        return {own.name: getattr(self, own.name) for own in fields(self)}

    @cached_property
    def clients(self) -> Clients:
        """Columns of the clients, from training data, with the caps of their devices."""
        own = self.task.clients()
        if self.max_width is None:
            return own
        return Clients(own.samples, counts=own.counts, names=own.names, max_width=self.max_width)

    @property
    def draws(self) -> bool:
        """Whether some of the clients are drawn in each round."""
        return self.sample not in (None, len(self.task))

    @property
    def partial(self) -> bool:
        """Whether not all clients take part in all rounds."""
        return self.draws or self.faults is not None

    @cached_property
    def planner(self) -> Planner:
        """Finds the plan of each policy; it remembers probes."""
        return Planner(self)

    def setting_for(self, seed: int) -> Setting:
        """What the policies may look at: clients and scores from training data, budget, menu."""
        return self.planner.setting(seed)

    def plan(self, policy: str, seed: int = 0) -> Subnets:
        """What each client trains and deploys under a policy."""
        return self.planner.plan(policy, seed)

    def allocate(self, policy: str, seed: int = 0) -> FloatArray:
        """Widths that a policy gives, in whole units of the model, ``(n_clients,)``."""
        return self.plan(policy, seed).widths

    def prepare(
        self, directory: str | PathLike[str] | None = None, *, workers: int | None = None
    ) -> None:
        """Measure the probes and pilots that the policies ask for, as :meth:`run` does first.

        Parameters
        ----------
        directory, workers
            As for :meth:`run`.
        """
        if workers is not None:
            whole(workers, "workers", least=1)
        self.planner.prepare(None if directory is None else made_directory(directory), workers)

    def run(
        self,
        *,
        workers: int | None = None,
        directory: str | PathLike[str] | None = None,
        compare_solvers: bool = True,
        on_progress: Callable[[int, int], None] | None = None,
        on_round: Callable[[int, int], None] | None = None,
    ) -> Study:
        """Train every policy under every seed.

        Parameters
        ----------
        workers : int, optional
            Processes, of one torch thread each. Default: one per core, of the whole cluster on
            Ray. The numbers are the same for any.
        directory : path, optional
            Finished runs, probes and pilots are kept here, and the rounds of the other runs. A
            study that was interrupted or killed repeats nothing that is finished, and goes on with
            the others after their last round.
        compare_solvers : bool
            Whether all installed solvers are compared on the integer program.
        on_progress : callable, optional
            Called with the number of finished runs and of all runs.
        on_round : callable, optional
            Called from a thread with the number of finished rounds and of all rounds.

        Raises
        ------
        KeyboardInterrupt
            On Ctrl-C: after the round where there is one worker and a directory, else at once.

        Returns
        -------
        Study
            The same study with its outcomes.
        """
        store = None if directory is None else Path(directory)
        self.prepare(directory, workers=workers)
        plans = {
            (policy, seed): self.plan(policy, seed)
            for policy in self.policies
            for seed in self.seeds
        }
        trials = {key: self._trial(*key, plan) for key, plan in plans.items()}
        distinct: dict[str, Trial] = {}
        for trial in trials.values():
            distinct.setdefault(trial.digest, trial)
        comparison = None
        if compare_solvers:
            problem = self.setting_for(self.seeds[0]).problem()
            comparison = compare(problem, time_limit_s=_COMPARE_SECONDS)
        histories: dict[str, History] = {}
        rounds = self.rounds * len(distinct)
        tell = None if on_round is None else lambda finished: on_round(finished, rounds)
        with shared_counts(len(distinct), tell) as finished:
            for digest, history in trained(distinct, store, workers, finished, self.backend):
                histories[digest] = history
                if on_progress is not None:
                    on_progress(len(histories), len(distinct))
        outcomes = [
            self._outcome(*key, plan, histories[trials[key].digest]) for key, plan in plans.items()
        ]
        done = replace(self, outcomes=tuple(outcomes), comparison=comparison)
        vars(done)["planner"] = self.planner
        return done

    def _trial(self, policy: str, seed: int, plan: Subnets) -> Trial:
        changes = read_policy(self.planner.resolved(policy, seed)).changes
        chosen = {name: value for own in changes.values() for name, value in own.items()}
        return Trial(
            self.task,
            self.model,
            plan.widths,
            seed,
            {
                "rounds": self.rounds,
                "local_epochs": self.local_epochs,
                "batch_size": self.batch_size,
                "learning_rate": self.learning_rate,
                "optimizer": self.optimizer,
                "aggregation": chosen.get("aggregation", self.aggregation),
                "evaluate": self.evaluate,
                "scheme": plan.scheme,
                "mean_widths": None if plan.mean_widths is None else plan.mean_widths.tolist(),
                "engine": self.engine,
                "weight_power": chosen.get("weight_power", self.weight_power),
                "output_bias": chosen.get("output_bias", self.output_bias),
                "mix": self.mix,
                "other_deployments": "last" if self.rounds_by == "fixed" else "every",
                "sample": self.sample,
                "faults": self.faults,
            },
            policy.partition("+")[0],
        )

    def _outcome(self, policy: str, seed: int, plan: Subnets, history: History) -> Outcome:
        number = self._chosen_round(history)
        personal = PERSONAL in read_policy(self.planner.resolved(policy, seed)).options
        own = history.personal_accuracy if personal else history.test_accuracy
        return Outcome(
            policy,
            seed,
            plan.widths,
            self.planner.spent(plan, history),
            history,
            own=own[number - 1],
            supernet=history.supernet_accuracy[number - 1],
            rounds=number,
            reason=self.planner.reason(seed) if policy == RECOMMENDED else "",
            measuring=self.planner.measuring(policy, seed),
        )

    def _chosen_round(self, history: History) -> int:
        if self.rounds_by == "fixed":
            return history.rounds
        return chosen_round(history, self.rounds_by, self._validation_targets)

    @cached_property
    def _validation_targets(self) -> IntArray:
        """Targets by which rounds are chosen; it loads lazy splits."""
        return validation_targets(self.task)

    @property
    def setting(self) -> dict[str, str]:
        """Lines that describe the training, for the report."""
        return describe(self)

    @cached_property
    def results(self) -> Results:
        """What was measured, as columns: all that tables and statistics are made from.

        Raises
        ------
        InputError
            Before :meth:`run`.
        """
        if not self.outcomes:
            raise InputError("the study has no outcomes: call run() first")
        task = self.task
        return gather(self.outcomes, task.client_names, task.samples, self._memory)

    def _memory(self, width: float) -> int:
        """Peak bytes of a training step with a batch of the largest client."""
        inputs = self.task.train[int(self.task.samples.argmax())].inputs
        return training_bytes(self.model, width, inputs[: self.batch_size], self.optimizer)

    def summary(self) -> list[SummaryRow]:
        """One row per policy, in their order.

        Raises
        ------
        InputError
            Before :meth:`run`.
        """
        return summarise(self.results, self.budget)

    def table(self) -> Table:
        """Results as a rich table: accuracies in percent, mean ± std over the seeds."""
        return results_table(self.results, self.budget, self.task.name, partial=self.partial)

    def costs_table(self) -> Table:
        """Widths, operations, bytes and memory of each policy as a rich table."""
        return costs_table(self.results, self.budget, measuring_of(self.outcomes))

    def allocation_table(self) -> Table:
        """Score and width of each client under every policy, for the first seed."""
        plans = {policy: self.plan(policy, self.seeds[0]) for policy in self.policies}
        return allocation_table(
            f"Widths at budget {self.budget:g}, {self.score} scores",
            self.clients,
            self.setting_for(self.seeds[0]).scores,
            {policy: own.widths for policy, own in plans.items()},
            {policy: own.share or 0.0 for policy, own in plans.items()},
        )

    def __rich__(self) -> Table:
        return self.table()

    def report(self, path: str | PathLike[str]) -> Path:
        """Write the report as one self-contained HTML file; see :mod:`hasa_opt.study.report`."""
        from hasa_opt.study.report import write_report

        return write_report(self, path)

    def record(self) -> dict[str, Any]:
        """Summary, differences to uniform, allocations and solver comparison, ready for JSON."""
        return {
            "task": self.task.name,
            "budget": self.budget,
            "summary": for_json([asdict(row) for row in self.summary()]),
            "differences": for_json([asdict(own) for own in against(self.results)]),
            "widths": {
                outcome.policy: dict(
                    zip(self.task.client_names, outcome.widths.tolist(), strict=True)
                )
                for outcome in self.outcomes
                if outcome.seed == self.seeds[0]
            },
            "comparison": self.comparison.records() if self.comparison else None,
        }

    def to_csv(self, path: str | PathLike[str]) -> None:
        """Write one line per policy, seed, round and client, with all that was measured."""
        write_outcomes(self.outcomes, self.task.client_names, path)

    def write_results(self, path: str | PathLike[str]) -> None:
        """Write one line per policy, seed and client: tables and statistics can be rebuilt from it.

        :func:`hasa_opt.study.read_results` reads it.
        """
        self.results.write(path)
