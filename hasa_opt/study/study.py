"""A study: several allocation policies, trained with matched seeds at a matched budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt._utils.files import made_directory, path_of
from hasa_opt._utils.processes import shared_counts
from hasa_opt._utils.progress import Callbacks, training_shown
from hasa_opt._utils.showing import Shown
from hasa_opt.errors import InputError
from hasa_opt.federated import History
from hasa_opt.models.inputs import each
from hasa_opt.models.profile import training_bytes
from hasa_opt.policies import Policy, Subnets, read_policy
from hasa_opt.policies.policy import PERSONAL
from hasa_opt.solving.comparison import Comparison, compare
from hasa_opt.study.claims import against
from hasa_opt.study.makespan import shortest_round
from hasa_opt.study.outcome import (
    Outcome,
    chosen_round,
    gather,
    measuring_of,
    validation_targets,
    write_outcomes,
)
from hasa_opt.study.planner import Planner
from hasa_opt.study.results import Results
from hasa_opt.study.rounds import ByRounds, by_rounds
from hasa_opt.study.settings import SetUp
from hasa_opt.study.summary import SummaryRow, for_json, summarise
from hasa_opt.study.tables import allocation_table, costs_table, results_table, rounds_table
from hasa_opt.study.trials import Trial, histories
from hasa_opt.tasks.splits import loaded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Study"]

_COMPARE_SECONDS = 20.0
"""Time of each solver on the integer program, which most solve in milliseconds."""


@dataclass(frozen=True, eq=False)
class Study(Shown, SetUp):
    """Policies compared on one task: same split, initial weights and batches for each seed.

    It takes what :class:`~hasa_opt.study.settings.SetUp` lists, checks it at once, and trains when
    it is told to :meth:`run`.

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

    outcomes: tuple[Outcome, ...] = field(default=(), repr=False)
    comparison: Comparison | None = field(default=None, repr=False)

    @cached_property
    def planner(self) -> Planner:
        """Finds the subnets of each policy; it remembers probes."""
        return Planner(self)

    def subnets(self, policy: str | Policy, seed: int = 0) -> Subnets:
        """What each client trains and deploys under a policy, in whole units of the model."""
        named = self.compared.get(policy) if isinstance(policy, str) else None
        return self.planner.subnets(named or read_policy(policy), seed)

    def allocate(self, policy: str | Policy, seed: int = 0) -> FloatArray:
        """Widths that a policy gives, in the mean over the rounds, ``(n_clients,)``.

        They are whole units of the model, or lie between two such widths.
        """
        return self.subnets(policy, seed).wanted

    def prepare(self, directory: str | PathLike[str] | None = None) -> None:
        """Measure the probes that the policies ask for, as :meth:`run` does first.

        Parameters
        ----------
        directory : path, optional
            As for :meth:`run`.
        """
        self.planner.prepare(None if directory is None else made_directory(directory))

    def run(
        self,
        *,
        directory: str | PathLike[str] | None = None,
        compare_solvers: bool = True,
        on_progress: Callable[[int, int], None] | None = None,
        on_round: Callable[[int, int], None] | None = None,
        progress: bool = True,
    ) -> Study:
        """Train every policy under every seed.

        Parameters
        ----------
        directory : path, optional
            Finished runs and probes are kept here, and the rounds of the other runs. A
            study that was interrupted or killed repeats nothing that is finished, and goes on with
            the others after their last round.
        compare_solvers : bool
            Whether all installed solvers are compared on the integer program.
        on_progress : callable, optional
            Called with the number of finished runs and of all runs.
        on_round : callable, optional
            Called from a thread with the number of finished rounds and of all rounds.
        progress : bool
            Whether a bar on standard error, or a line in a notebook, shows how far it is, unless a
            callback is given. Where there is neither, nothing is printed.

        Raises
        ------
        KeyboardInterrupt
            On Ctrl-C: after the round where there is one worker and a directory, else at once.

        Returns
        -------
        Study
            The same study with its outcomes.
        """
        self.prepare(directory)
        trials = {
            (policy, seed): self.trial(policy, seed)
            for policy in self.compared.values()
            for seed in self.seeds
        }
        comparison = None
        if compare_solvers:
            problem = self.setting_for(self.seeds[0]).problem()
            comparison = compare(problem, time_limit_s=_COMPARE_SECONDS)
        store = None if directory is None else path_of(directory)
        own = Callbacks(on_progress=on_progress, on_round=on_round)
        silent = not progress or any(own.values())
        with nullcontext(own) if silent else training_shown() as callbacks:
            trained = self._trained(list(trials.values()), store, **callbacks)
        outcomes = [self._outcome(*key, trained[trial.digest]) for key, trial in trials.items()]
        done = copy(self)
        vars(done).update(outcomes=tuple(outcomes), comparison=comparison, planner=self.planner)
        return done

    def _trained(
        self,
        trials: Sequence[Trial],
        store: Path | None,
        on_progress: Callable[[int, int], None] | None = None,
        on_round: Callable[[int, int], None] | None = None,
    ) -> dict[str, History]:
        """Histories by the digests of their trials; what several policies share is trained once."""
        distinct: dict[str, Trial] = {}
        for trial in trials:
            distinct.setdefault(trial.digest, trial)
        rounds = self.rounds * len(distinct)
        tell = None if on_round is None else lambda finished: on_round(finished, rounds)
        found: dict[str, History] = {}
        with shared_counts(len(distinct), tell) as finished:
            for digest, history in histories(distinct, store, self.execution, finished):
                found[digest] = history
                if on_progress is not None:
                    on_progress(len(found), len(distinct))
        return found

    def trial(self, policy: Policy, seed: int) -> Trial:
        """The training of a policy under a seed, with all that the study and the policy say."""
        chosen = self.planner.resolved(policy)
        allocation = self.planner.allocation(policy, seed)
        server = chosen.changed("server", self.server)
        return Trial(
            task=self.task,
            model=self.model,
            allocation=allocation,
            seed=seed,
            rounds=self.rounds,
            training=chosen.changed("training", self.training),
            server=server.fitting(allocation) if isinstance(allocation, Subnets) else server,
            evaluation=replace(
                self.planner.evaluation(policy),
                also=("supernet", PERSONAL),
                also_after="every" if self.rounds_by == "validation" else "last",
            ),
            participation=self.participation,
            engine=self.execution.engine,
            name=policy.rule,
        )

    def _outcome(self, policy: Policy, seed: int, history: History) -> Outcome:
        decided = history.decisions
        subnets = decided[-1].subnets if decided else self.planner.subnets(policy, seed)
        number = self._chosen_round(history)
        personal = self.planner.resolved(policy).is_personal
        uncut = not personal and self.planner.evaluation(policy).on == "supernet"
        deployed = subnets.last_of(self.rounds).deploys
        tested = history.personal_metric if personal else history.test_metric
        return Outcome(
            policy.name,
            seed,
            np.ones_like(deployed) if uncut else deployed,
            self.planner.spent(subnets, history),
            history,
            own=tested[number - 1],
            supernet=(history.test_metric if uncut else history.supernet_metric)[number - 1],
            rounds=number,
            reason="; ".join(str(each) for each in decided if each.reason),
            measuring=self.planner.measuring(policy, seed),
            device_bytes=float(history.device_bytes(personal=personal).max()),
        )

    def _chosen_round(self, history: History) -> int:
        if self.rounds_by == "fixed":
            return history.rounds
        return chosen_round(history, self.rounds_by, self._validation_targets)

    @cached_property
    def _validation_targets(self) -> IntArray:
        """Targets by which rounds are chosen; it loads lazy splits."""
        return validation_targets(self.task)

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
        scale = task.problem.scale
        return gather(self.outcomes, task.client_names, task.samples, self._memory, scale)

    def _memory(self, width: float) -> int:
        """Peak bytes of a training step with a batch of the largest client that can be loaded."""
        _, split = next(loaded(self.task.train, (-self.task.samples).argsort(kind="stable")))
        batch = each(lambda part: part[: self.training.batch_size], split.inputs)
        return training_bytes(self.model, width, batch, self.training.optimizer)

    def summary(self) -> list[SummaryRow]:
        """One row per policy, in their order.

        Raises
        ------
        InputError
            Before :meth:`run`.
        """
        return summarise(self.results, self.budget)

    def table(self) -> Table:
        """Results as a rich table: the metric, accuracies in percent, mean ± std over the seeds."""
        return results_table(self.results, self.budget, self.task.name, partial=self.partial)

    def costs_table(self) -> Table:
        """Widths, operations, bytes and memory of each policy as a rich table."""
        shortest = shortest_round(self, self.results)
        return costs_table(self.results, self.budget, measuring_of(self.outcomes), shortest)

    def allocation_table(self) -> Table:
        """Score and width of each client under every policy, for the first seed."""
        found = {name: self.subnets(name, self.seeds[0]) for name in self.compared}
        return allocation_table(
            f"Widths at budget {self.budget:g}, {self.score} scores",
            self.clients,
            self.scores,
            {name: subnets.wanted for name, subnets in found.items()},
            {name: self.planner.planned(subnets) for name, subnets in found.items()},
            [name for name, policy in self.compared.items() if policy.allocator is not None],
        )

    def rounds_table(self) -> Table:
        """Mean width trained by rounds of the policies that decide on the way, and why they did."""
        return rounds_table(self.by_rounds)

    @property
    def by_rounds(self) -> ByRounds:
        """What was decided while the clients trained; empty where no policy does so."""
        return by_rounds(self.outcomes, self.task.samples)

    def __repr__(self) -> str:
        runs = f"{len(self.outcomes)} runs done" if self.outcomes else "not run yet"
        names = ", ".join(map(str, self.policies))
        return (
            f"Study({self.task.name}: {names}; {len(self.seeds)} seeds, {self.rounds} rounds at "
            f"budget {self.budget:g}, {runs})"
        )

    def __rich__(self) -> Table | str:
        return self.table() if self.outcomes else escape(repr(self))

    def plot(self, name: str = "overview") -> Figure:
        """Draw a figure of what was measured.

        Parameters
        ----------
        name : str
            "overview", "allocation", "differences", "trade_off", "by_client", "by_round" or
            "by_cost"; see :mod:`hasa_opt.study.plots` and :mod:`hasa_opt.study.curves`.

        Raises
        ------
        InputError
            Before :meth:`run`, or for another name.
        """
        from hasa_opt.study import curves, plots

        results, outcomes = self.results, self.outcomes
        figures = {
            "overview": lambda: curves.overview(results, outcomes),
            "allocation": lambda: plots.allocation(results),
            "differences": lambda: plots.differences(results),
            "trade_off": lambda: plots.trade_off(results),
            "by_client": lambda: plots.by_client(results),
            "by_round": lambda: curves.by_round(results, outcomes, self._validation_targets),
            "by_cost": lambda: curves.by_cost(results, outcomes),
        }
        if name not in figures:
            raise InputError(f"figure {name!r} is not known: choose from {', '.join(figures)}")
        return figures[name]()

    def report(self, path: str | PathLike[str]) -> Path:
        """Write the report as one self-contained HTML file; see :mod:`hasa_opt.study.report`."""
        from hasa_opt.study.report import write_report

        return write_report(self, self.results, self.outcomes, self.comparison, path)

    def record(self) -> dict[str, Any]:
        """Summary, gains over uniform, allocations and solver comparison, ready for JSON."""
        return {
            "task": self.task.name,
            "budget": self.budget,
            "metric": asdict(self.task.problem.scale),
            "summary": for_json([asdict(row) for row in self.summary()]),
            "differences": for_json([asdict(contrast) for contrast in against(self.results)]),
            "widths": {
                outcome.policy: dict(
                    zip(self.task.client_names, outcome.history.widths.tolist(), strict=True)
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

        Gzipped where the name ends in ``.gz``; :func:`hasa_opt.study.read_results` reads either.
        """
        self.results.write(path)
