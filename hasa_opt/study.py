"""A study: several allocation policies, trained with matched seeds at a matched budget."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property, partial
from math import gcd
from os import PathLike
from pathlib import Path
from threading import Thread
from typing import Any, Literal

import numpy as np
from joblib import Parallel, cpu_count, delayed
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from hasa_opt import __version__, cost
from hasa_opt.clients import FloatArray, IntArray
from hasa_opt.compare import Comparison, compare
from hasa_opt.cost import Cost
from hasa_opt.errors import InputError
from hasa_opt.federated import ENGINES, Faults, History, LocalTraining
from hasa_opt.federated.arguments import (
    check_arguments,
    check_deployment,
    check_sample,
    check_weight_power,
    named,
)
from hasa_opt.models import SupernetModel, training_flops, units
from hasa_opt.outcome import Outcome, SummaryRow, chosen_round, summarise, write_outcomes
from hasa_opt.plan import Meter, Plan, plan
from hasa_opt.policies import Setting, parse_policy
from hasa_opt.progress import shared_counts
from hasa_opt.scores import SCORES
from hasa_opt.tasks import Task
from hasa_opt.trial import Trial

__all__ = ["Study"]

RESOURCES = ("width", "flops")
ROUNDS_BY = ("fixed", "validation")

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
    rounds_by : str
        Which round counts: "fixed", the last one, or "validation", the one with the best pooled
        validation accuracy.
    score : str
        Name in :data:`hasa_opt.scores.SCORES`.
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
    score: str = "jensen_shannon"
    command: str | None = None
    outcomes: tuple[Outcome, ...] = field(default=(), repr=False)
    comparison: Comparison | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("policies", "seeds", "widths"):
            values = getattr(self, name)
            object.__setattr__(self, name, (values,) if isinstance(values, str) else tuple(values))
            if not getattr(self, name):
                raise InputError(f"{name} is empty: give at least one")
        for name in ("policies", "seeds"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise InputError(f"{name} {getattr(self, name)} repeat a value: give each once")
        for policy in self.policies:
            check_weight_power(parse_policy(policy)[1].get("weight_power", self.weight_power))
        LocalTraining(self.local_epochs, self.batch_size, self.learning_rate, self.optimizer)
        for seed in self.seeds:
            check_arguments(
                self.model, self.task, self.rounds, self.aggregation, self.evaluate, seed
            )
        check_sample(self.task, self.sample)
        check_deployment(self.evaluate, self.output_bias, "global", self.mix, "last")
        named(ENGINES, "engine", self.engine)
        for name, value, known in (
            ("budget_in", self.budget_in, RESOURCES),
            ("rounds_by", self.rounds_by, ROUNDS_BY),
        ):
            if value not in known:
                raise InputError(f"unknown {name} {value!r}: use one of {known}")
        if self.score not in SCORES:
            raise InputError(f"score {self.score!r} is not known: choose from {', '.join(SCORES)}")
        self.setting_for(self.seeds[0]).problem().check_budget()

    def setting_for(self, seed: int) -> Setting:
        """What the policies may look at: clients and scores from training data, budget, menu."""
        scores = SCORES[self.score](self.task.counts)
        menu = tuple(self.widths)
        return Setting(self.task.clients(), scores, self.budget, menu, seed, self._menu_cost)

    @cached_property
    def _meter(self) -> Meter:
        """What the network charges for training a sample."""
        sizes, sample = self.model.sizes.values(), self.task.train[0].inputs[:1]
        if self.budget_in == "width":
            charged = cache(partial(units, self.model))
        else:
            charged = cache(lambda width: training_flops(self.model, width, sample))
        return Meter(charged, max(sizes), gcd(*sizes))

    @cached_property
    def _menu_cost(self) -> Cost:
        if self.budget_in == "width":
            return cost.width()
        charges = [self._meter.cost(width) for width in self.widths]
        return cost.table(charges, full=self._meter.cost(1.0))

    def plan(self, policy: str, seed: int = 0) -> Plan:
        """What each client trains and deploys under a policy."""
        return plan(parse_policy(policy)[0], self.setting_for(seed), self._meter)

    def allocate(self, policy: str, seed: int = 0) -> FloatArray:
        """Widths that a policy gives, in whole units of the model, ``(n_clients,)``."""
        return self.plan(policy, seed).widths

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
            Processes, of one torch thread each. Default: one per core. The numbers are the same
            for any.
        directory : path, optional
            Finished runs are kept here, and the rounds of the others. A study that was interrupted
            or killed repeats no finished run, and goes on with the others after their last round.
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
        store = None if directory is None else Path(directory)
        histories: dict[str, History] = {}
        rounds = self.rounds * len(distinct)
        tell = None if on_round is None else lambda finished: on_round(finished, rounds)
        with shared_counts(len(distinct), tell) as finished:
            for digest, history in _histories(distinct, store, workers, finished):
                histories[digest] = history
                if on_progress is not None:
                    on_progress(len(histories), len(distinct))
        outcomes = [
            self._outcome(*key, plan, histories[trials[key].digest]) for key, plan in plans.items()
        ]
        return replace(self, outcomes=tuple(outcomes), comparison=comparison)

    def _trial(self, policy: str, seed: int, plan: Plan) -> Trial:
        chosen = parse_policy(policy)[1]
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
                "mean_widths": None if plan.means is None else plan.means.tolist(),
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

    def _outcome(self, policy: str, seed: int, plan: Plan, history: History) -> Outcome:
        number = self.rounds if self.rounds_by == "fixed" else chosen_round(history, self.task)
        personal = parse_policy(policy)[1].get("deploy") == "personal"
        own = history.personal_accuracy if personal else history.test_accuracy
        return Outcome(
            policy,
            seed,
            plan.widths,
            self._spent(plan, history),
            history,
            own=own[number - 1],
            supernet=history.supernet_accuracy[number - 1],
            rounds=number,
        )

    def _spent(self, plan: Plan, history: History) -> float:
        """Share of the budget's resource that was really spent, of the whole supernet's."""
        trained = history.mean_width if self.budget_in == "width" else self._flops(history)
        taken_part = ~np.isnan(trained)
        if not taken_part.any(axis=0).all():
            return plan.share
        return float(self.task.clients().weights @ np.nanmean(trained, axis=0))

    def _flops(self, history: History) -> FloatArray:
        """FLOPs as a share of the whole supernet's, ``(rounds, n_clients)``; NaN: none."""
        whole = self.task.samples * self.local_epochs * self._meter.cost(1.0)
        shares: FloatArray = np.where(history.flops > 0, history.flops / whole, np.nan)
        return shares

    @property
    def setting(self) -> dict[str, str]:
        """Lines that describe the training, for the report."""
        sizes = ", ".join(f"{group} {size}" for group, size in self.model.sizes.items())
        return {
            "Supernet": f"{type(self.model).__name__} ({sizes})",
            "Local training": f"{self.local_epochs} epoch(s), batches of {self.batch_size}",
            "Optimiser": f"{self.optimizer}, learning rate {self.learning_rate:g}",
            "Aggregation": self.aggregation,
            "Clients a round": "all" if self.sample is None else str(self.sample),
            "Faults": "none" if self.faults is None else str(self.faults),
            "Evaluation": f"each client's test data on the {self.evaluate}",
            "Score": self.score,
            "Version": f"hasa_opt {__version__}",
        }

    def summary(self) -> list[SummaryRow]:
        """One row per policy, in their order.

        Raises
        ------
        InputError
            Before :meth:`run`.
        """
        if not self.outcomes:
            raise InputError("the study has no outcomes: call run() first")
        return [
            summarise([own for own in self.outcomes if own.policy == policy], self.budget)
            for policy in self.policies
        ]

    def table(self) -> Table:
        """Results as a rich table: accuracies in percent, mean ± std over the seeds."""
        table = Table(
            title=f"Test accuracy on {escape(self.task.name)} after {self.rounds} rounds, "
            f"{len(self.seeds)} seed(s), %",
            box=SIMPLE_HEAD,
        )
        table.add_column("policy", no_wrap=True)
        for name in ("client mean", "worst client", "worst third", "realised budget"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in self.summary():
            table.add_row(
                row.policy,
                f"{row.mean:.2f} ± {row.mean_std:.2f}",
                f"{row.worst:.2f} ± {row.worst_std:.2f}",
                f"{row.worst_third:.2f} ± {row.worst_third_std:.2f}",
                f"{row.realised:.4f}{' (misses)' if row.flagged else ''}",
            )
        return table

    def allocation_table(self) -> Table:
        """Score and width of each client under every policy, for the first seed."""
        setting = self.setting_for(self.seeds[0])
        plans = {policy: self.plan(policy, self.seeds[0]) for policy in self.policies}
        widths = {policy: own.widths for policy, own in plans.items()}
        table = Table(
            title=f"Widths at budget {self.budget:g}, {self.score} scores", box=SIMPLE_HEAD
        )
        table.add_column("client", no_wrap=True, max_width=20)
        for name in ("samples", "score", *widths):
            table.add_column(name, justify="right", no_wrap=True, min_width=len(name))
        for row, name in enumerate(self.task.client_names):
            scores = (str(self.task.samples[row]), f"{setting.scores[row]:.4f}")
            table.add_row(escape(name), *scores, *(f"{own[row]:.3f}" for own in widths.values()))
        shares = (f"{own.share:.4f}" for own in plans.values())
        table.add_row("realised budget", "", "", *shares, style="bold")
        return table

    def __rich__(self) -> Table:
        return self.table()

    def report(self, path: str | PathLike[str]) -> Path:
        """Write the report as one self-contained HTML file; see :mod:`hasa_opt.report`."""
        from hasa_opt.report import write_report

        return write_report(self, path)

    def record(self) -> dict[str, Any]:
        """Summary, allocations and solver comparison, ready for JSON."""
        return {
            "task": self.task.name,
            "budget": self.budget,
            "summary": [asdict(row) for row in self.summary()],
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


def _histories(
    trials: Mapping[str, Trial],
    store: Path | None,
    workers: int | None,
    finished: IntArray,
) -> Iterator[tuple[str, History]]:
    """Yield the history of every trial: stored ones at once, the others as they finish.

    ``finished`` counts the rounds of each trial, in their order.
    """
    jobs: list[Any] = []
    for row, (key, trial) in enumerate(trials.items()):
        place = None if store is None else trial.place(store)
        stored = trial.stored(place)
        if stored is None:
            jobs.append(delayed(_train)(key, trial, place, finished, row, os.getpid()))
        else:
            finished[row] = stored.rounds
            yield key, stored
    n_jobs = min(workers or cpu_count(), max(1, len(jobs)))
    yield from Parallel(n_jobs=n_jobs, return_as="generator_unordered")(jobs)


def _train(
    key: str,
    trial: Trial,
    place: Path | None,
    finished: IntArray,
    row: int,
    parent: int,
) -> tuple[str, History]:
    """Run a trial, perhaps in a worker process."""
    if os.getpid() != parent:
        _follow(parent)

    def count(number: int, measured: object) -> None:
        finished[row] = number + 1

    return key, trial.run(place, count)


@cache
def _follow(parent: int) -> None:
    """Let a worker process leave Ctrl-C to its parent, and end soon after its parent was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    if os.getppid() == parent:
        Thread(target=watch, daemon=True).start()
