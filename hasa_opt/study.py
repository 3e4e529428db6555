"""A study: several allocation policies, trained with matched seeds at a matched budget."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property
from os import PathLike
from pathlib import Path
from threading import Thread
from typing import Any, Literal

import numpy as np
from joblib import Parallel, cpu_count, delayed
from rich.table import Table

from hasa_opt import __version__
from hasa_opt.clients import FloatArray, IntArray
from hasa_opt.compare import Comparison, compare
from hasa_opt.contrasts import against
from hasa_opt.errors import InputError
from hasa_opt.federated import Faults, History, LocalTraining
from hasa_opt.federated.arguments import check_arguments, check_sample
from hasa_opt.models import SupernetModel, units
from hasa_opt.models.profile import training_bytes
from hasa_opt.outcome import Outcome, gather, write_outcomes
from hasa_opt.policies import Setting, find_policy, realise
from hasa_opt.progress import shared_counts
from hasa_opt.results import Results
from hasa_opt.scores import SCORES
from hasa_opt.summary import SummaryRow, for_json, summarise
from hasa_opt.tables import allocation_table, results_table
from hasa_opt.tasks import Task
from hasa_opt.trial import Trial

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
        Names in :data:`hasa_opt.policies.POLICIES`.
    seeds : sequence of int
    budget : float
        Sample-weighted mean width.
    widths : sequence of float
        Menu of the integer program; its ends bound the continuous rules.
    rounds, local_epochs, batch_size, learning_rate, optimizer, aggregation, evaluate, sample, \
    faults
        As for :func:`hasa_opt.federated.run`.
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
    widths: Sequence[float] = (0.2, 0.35, 0.5, 0.65, 0.8)
    rounds: int = 10
    local_epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 0.02
    optimizer: Literal["adam", "sgd"] = "adam"
    aggregation: Literal["full", "selective"] = "full"
    evaluate: Literal["subnet", "supernet"] = "subnet"
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
            find_policy(policy)
        LocalTraining(self.local_epochs, self.batch_size, self.learning_rate, self.optimizer)
        for seed in self.seeds:
            check_arguments(
                self.model, self.task, self.rounds, self.aggregation, self.evaluate, seed
            )
        check_sample(self.task, self.sample)
        if self.score not in SCORES:
            raise InputError(f"score {self.score!r} is not known: choose from {', '.join(SCORES)}")
        self.setting_for(self.seeds[0]).problem().check_budget()

    def setting_for(self, seed: int) -> Setting:
        """What the policies may look at: clients and scores from training data, budget, menu."""
        scores = SCORES[self.score](self.task.counts)
        return Setting(self.task.clients(), scores, self.budget, tuple(self.widths), seed)

    def allocate(self, policy: str, seed: int = 0) -> FloatArray:
        """Widths that a policy gives, in whole units of the model, ``(n_clients,)``."""
        setting = self.setting_for(seed)
        return realise(
            find_policy(policy)(setting),
            setting,
            units=lambda width: units(self.model, width),
            largest=max(self.model.sizes.values()),
        )

    def realised(self, widths: FloatArray) -> float:
        """Sample-weighted mean share of the supernet's units that these widths train."""
        shares = [units(self.model, width) / units(self.model, 1.0) for width in widths]
        return float(self.task.clients().weights @ np.array(shares))

    def run(
        self,
        *,
        workers: int | None = None,
        directory: str | PathLike[str] | None = None,
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
        allocations = {
            (policy, seed): self.allocate(policy, seed)
            for policy in self.policies
            for seed in self.seeds
        }
        trials = {key: self._trial(*key, widths) for key, widths in allocations.items()}
        comparison = compare(
            self.setting_for(self.seeds[0]).problem(), time_limit_s=_COMPARE_SECONDS
        )
        store = None if directory is None else Path(directory)
        histories: dict[tuple[str, int], History] = {}
        rounds = self.rounds * len(trials)
        tell = None if on_round is None else lambda finished: on_round(finished, rounds)
        with shared_counts(len(trials), tell) as finished:
            for key, history in _histories(trials, store, workers, finished):
                histories[key] = history
                if on_progress is not None:
                    on_progress(len(histories), len(trials))
        outcomes = [
            Outcome(
                *key,
                widths,
                self.realised(widths),
                histories[key],
                own=histories[key].final_accuracy,
                supernet=np.full(len(widths), np.nan),
                rounds=self.rounds,
            )
            for key, widths in allocations.items()
        ]
        return replace(self, outcomes=tuple(outcomes), comparison=comparison)

    def _trial(self, policy: str, seed: int, widths: FloatArray) -> Trial:
        return Trial(
            self.task,
            self.model,
            widths,
            seed,
            {
                "rounds": self.rounds,
                "local_epochs": self.local_epochs,
                "batch_size": self.batch_size,
                "learning_rate": self.learning_rate,
                "optimizer": self.optimizer,
                "aggregation": self.aggregation,
                "evaluate": self.evaluate,
                "sample": self.sample,
                "faults": self.faults,
            },
        )

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
        return results_table(self.results, self.budget, self.task.name)

    def allocation_table(self) -> Table:
        """Score and width of each client under every policy, for the first seed."""
        widths = {policy: self.allocate(policy, self.seeds[0]) for policy in self.policies}
        return allocation_table(
            f"Widths at budget {self.budget:g}, {self.score} scores",
            self.task.clients(),
            self.setting_for(self.seeds[0]).scores,
            widths,
            {policy: self.realised(own) for policy, own in widths.items()},
        )

    def __rich__(self) -> Table:
        return self.table()

    def report(self, path: str | PathLike[str]) -> Path:
        """Write the report as one self-contained HTML file; see :mod:`hasa_opt.report`."""
        from hasa_opt.report import write_report

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

        :func:`hasa_opt.results.read_results` reads it.
        """
        self.results.write(path)


def _histories(
    trials: Mapping[tuple[str, int], Trial],
    store: Path | None,
    workers: int | None,
    finished: IntArray,
) -> Iterator[tuple[tuple[str, int], History]]:
    """Yield the history of every trial: stored ones at once, the others as they finish.

    ``finished`` counts the rounds of each trial, in their order.
    """
    jobs: list[Any] = []
    for row, (key, trial) in enumerate(trials.items()):
        place = None if store is None else store / f"{key[0]}-seed{key[1]}-{trial.digest}"
        stored = trial.stored(place)
        if stored is None:
            jobs.append(delayed(_train)(key, trial, place, finished, row, os.getpid()))
        else:
            finished[row] = stored.rounds
            yield key, stored
    n_jobs = min(workers or cpu_count(), max(1, len(jobs)))
    yield from Parallel(n_jobs=n_jobs, return_as="generator_unordered")(jobs)


def _train(
    key: tuple[str, int],
    trial: Trial,
    place: Path | None,
    finished: IntArray,
    row: int,
    parent: int,
) -> tuple[tuple[str, int], History]:
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
