"""What the policy ``recommended`` is worth, where clients form groups and where they do not.

    python docs/reproduction/groups.py --directory runs/groups --data medium_data.csv

All settings are constants below. They were chosen on seeds below 100 of ``domains`` and of the
texts, and written down before the seeds below were run, and before ``rotated``, ``fonts`` and
their twins were run at all. The primary comparison is ``recommended`` minus ``uniform`` on
``domains``, in the client mean and in the worst client, at both budgets. Finished runs are kept in
the directory: the same command goes on after an interruption.

    python docs/reproduction/groups.py --tried fifth --cells domains-0.5 --repeat

trains all policies again under the first seed of a cell, and prints what they reach beside what was
committed: half a minute on images, two minutes on texts.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import getpid
from pathlib import Path
from typing import Any

import numpy as np
from domains import CHANNELS, by_domain
from joblib import Parallel, cpu_count, delayed
from records import keep, raw, repeated, rounded
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table

import hasa_opt as hasa
from hasa_opt import models, tasks
from hasa_opt._utils.processes import follow
from hasa_opt.federated import Execution, LocalTraining
from hasa_opt.policies import POLICIES, Policy, Setting, Subnets
from hasa_opt.policies.whole_units import Meter, subnets_of
from hasa_opt.study.inference import paired
from hasa_opt.study.outcome import gather
from hasa_opt.tasks.docstrings import docstrings

RESULTS = Path(__file__).parent / "results" / "groups"
WIDTHS = (0.2, 0.35, 0.5, 0.65, 0.8)
ROUNDS = 30
IMAGES = LocalTraining(learning_rate=0.01)
TEXTS = LocalTraining(learning_rate=0.02)
ON_WORDS = ("titles", "docstrings", "code_and_prose")


@dataclass(frozen=True, eq=False)
class Scripted:
    """Uniform widths, with models that some clients share from a round on.

    Attributes
    ----------
    setting, meter, rounds
        As of :class:`hasa_opt.policies.Policy`'s allocators.
    higher_is_better : bool
        Unused.
    alone_from : float
        Share of the rounds after which every client goes on alone; 1: never.
    """

    setting: Setting
    meter: Meter
    rounds: int
    higher_is_better: bool
    alone_from: float = 1.0

    @property
    def every(self) -> int:
        """Rounds until clients go on alone."""
        return max(1, round(self.alone_from * self.rounds))

    def describe(self) -> dict[str, Any]:
        """What tells it from others."""
        return {"budget": self.setting.budget, "alone_from": self.alone_from}

    def __call__(self, seen: Any) -> Subnets | None:
        """Models of the kinds of clients at first, and of single clients later."""
        if seen.subnets is None:
            uniform = subnets_of(POLICIES["uniform"], self.setting, self.meter, self.rounds)
            return uniform if self.alone_from < 1 else with_models(uniform, self._kinds)
        if seen.round == self.every and self.alone_from < 1:
            return with_models(seen.subnets, np.arange(len(self.setting.clients)))
        return None

    @property
    def _kinds(self) -> np.ndarray:
        """Number of each client's kind: what its name says before the number."""
        kinds = [name.rstrip("0123456789 ") for name in self.setting.clients.all_names]
        return np.unique(kinds, return_inverse=True)[1]


def with_models(subnets: Subnets, numbers: np.ndarray) -> Subnets:
    """The same subnets, of models that the clients share by their numbers."""
    later = None if subnets.later is None else replace(subnets.later, models=numbers)
    return replace(subnets, models=numbers, later=later)


BY_DOMAIN = Policy("by_domain", by_domain, is_program=True)
CLUSTERED = Policy("clustered_by_kind", POLICIES["uniform"].choose, allocator=Scripted)
THEN_ALONE = Policy(
    "uniform_then_alone", POLICIES["uniform"].choose, allocator=partial(Scripted, alone_from=0.5)
)
ON_IMAGES = ("uniform", "recommended", CLUSTERED)
ON_TEXTS = (
    "uniform", "recommended", "uniform+personal+local_bias", THEN_ALONE,
    THEN_ALONE.having("local_bias"),
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A task at a budget.

    Attributes
    ----------
    task : str
    budget : float
    policies : tuple
        The first is what the others are compared with.
    seeds : range
        Each draws the data, the initial weights and the batches.
    rounds : int
    more : int
        Rounds that all but ``recommended`` train beyond these: for the operations that judging
        cost it on exploratory seeds.
    """

    task: str
    budget: float
    policies: tuple[str | Policy, ...]
    seeds: range
    rounds: int = ROUNDS
    more: int = 0

    def __str__(self) -> str:
        return f"{self.task}-{self.budget:g}"

    def studies(self, seed: int, data: Path | None) -> list[hasa.Study]:
        """The studies of one seed: of ``recommended``, and of the others."""
        others = [policy for policy in self.policies if policy != "recommended"]
        longer = self.rounds + self.more
        return [
            self._study(seed, data, ["recommended"], self.rounds),
            self._study(seed, data, others, longer),
        ]

    def _study(
        self, seed: int, data: Path | None, policies: list[str | Policy], rounds: int
    ) -> hasa.Study:
        load = {"titles": partial(tasks.titles, data), "docstrings": docstrings}
        task = load.get(self.task, partial(tasks.load, self.task))(seed=seed)
        return study_of(self.task, task, policies, [seed], self.budget, rounds)


def study_of(
    name: str,
    task: tasks.Task,
    policies: Sequence[str | Policy],
    seeds: Sequence[int],
    budget: float,
    rounds: int,
    **training: Any,
) -> hasa.Study:
    """Policies on the data of a task, with the network of its kind and how that is trained.

    Parameters
    ----------
    name : str
        Of the task.
    task : Task
    policies, seeds, budget, rounds
        As of a study.
    training
        What is trained otherwise, such as ``learning_rate``.
    """
    network: Any = models.CNN(task.n_outputs, channels=CHANNELS, norm_channels=1)
    if name in ON_WORDS:
        network = models.GRULanguageModel(task.n_outputs, embedding=32, hidden=64)
    return hasa.Study(
        task, network, policies=policies, seeds=seeds, budget=budget, widths=WIDTHS, rounds=rounds,
        training=replace(TEXTS if name in ON_WORDS else IMAGES, **training),
        execution=Execution(engine="batched", workers=1),
    )  # fmt: skip


PRIMARY = tuple(
    Cell("domains", budget, ("uniform", "recommended", "uniform+personal", BY_DOMAIN, CLUSTERED),
         range(300, 320))
    for budget in (0.5, 0.35)
)  # fmt: skip
INPUTS_ALONE = tuple(
    Cell(f"{name}{twin}", 0.5, ON_IMAGES, range(300, 310))
    for name in ("rotated", "fonts") for twin in ("", "_twin")
)  # fmt: skip
WITHOUT_GROUPS = tuple(
    Cell(name, 0.5, ON_TEXTS, range(300, 310), rounds=10, more=2)
    for name in ("docstrings", "titles")
)
CELLS = (*PRIMARY, *INPUTS_ALONE, *WITHOUT_GROUPS)

SECOND = tuple(
    replace(cell, seeds=range(360, 370)) for cell in INPUTS_ALONE if cell.task.endswith("_twin")
)
"""A second try without groups, since the first lost 0.66 and 0.31 points on the twins, in the trial
of going alone. Changed on exploratory seeds and then written down: the trial is spared where local
models are worse than the common one by a standard error, who comes back brings along what it has
learned, and clients stay alone if they gain anything more. The lower end should be above -0.3
beside ``uniform``."""

THIRD = (replace(SECOND[0], seeds=range(380, 390)),)
"""A third try: the texts of the second were stopped and not looked at, when ``make demo`` showed
that one standard error spares the trial where it pays. It takes two now. Stopped after its first
cell, in which one of ten runs went on alone by the sign of a noisy judgement, and lost 13 points;
the others were not looked at."""

FOURTH = tuple(
    replace(cell, seeds=range(400, 410), more=min(cell.more, 1))
    for cell in (*SECOND, *WITHOUT_GROUPS)
)
"""A fourth: the sign keeps clients alone only where local models were better too, else it takes a
standard error. Twins as above; texts: not below ``uniform+personal+local_bias``, and as good as
``uniform_then_alone``. The others train one round more, for the operations of judging."""

FIFTH = tuple(replace(cell, seeds=range(420, 440), more=1) for cell in PRIMARY)
"""A fifth, of the primary comparison: where labels differ, as on ``domains``, groups wait until
local models are above the common one. Changed on exploratory seeds of ``domains`` and
``overlapping``, and written down before these seeds were run. The others train one round more, for
the operations of judging."""

TRIES = {
    "first": (RESULTS, CELLS),
    "second": (RESULTS / "second", SECOND),
    "third": (RESULTS / "third", THIRD),
    "fourth": (RESULTS / "fourth", FOURTH),
    "fifth": (RESULTS / "fifth", FIFTH),
}


def measured(cell: Cell, seed: int, directory: Path, data: Path | None, parent: int) -> Any:
    """Results of one seed, what was decided in it, and what it cost, policy by policy."""
    follow(parent)
    outcomes = []
    for study in cell.studies(seed, data):
        done = study.run(directory=directory / str(cell), compare_solvers=False)
        outcomes += done.outcomes
    why = {outcome.policy: outcome.reason for outcome in outcomes}
    names = [str(policy) for policy in cell.policies]
    outcomes.sort(key=lambda outcome: names.index(outcome.policy))
    return rounded(gather(outcomes, study.task.client_names, study.task.samples)), why


def table(results: hasa.study.Results, cell: Cell) -> Table:
    """Differences to the first policy: client mean, worst client, operations."""
    found = Table(title=f"{cell}, {len(results.seeds)} seeds, points", box=SIMPLE_HEAD)
    for name in ("policy", "mean", "worst", "mean minus", "worst minus", "operations"):
        found.add_column(name, justify="left" if name == "policy" else "right")
    means, worst = results.measure("mean"), results.measure("worst")
    flops = results.flops.sum(axis=-1).mean(axis=1)
    for row, policy in enumerate(results.policies):
        cells = [f"{means[row].mean():.2f}", f"{worst[row].mean():.2f}"]
        for values in (means, worst):
            own = paired(values[row], values[0])
            told = f"{own.mean:+.2f} [{own.low:+.2f}, {own.high:+.2f}]"
            cells.append(told if row else "")
        found.add_row(policy, *cells, f"{flops[row] / flops[0]:.3f}")
    return found


def main() -> None:
    """Run what is asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="CSV file of the titles")
    parser.add_argument("--directory", type=Path, default=Path("runs/groups"), help="of all runs")
    parser.add_argument("--results", type=Path, help="where the CSV files are")
    parser.add_argument("--cells", nargs="+", help="such as titles-0.5; default: all")
    parser.add_argument("--tried", choices=TRIES, default="first", help="which of the tries")
    parser.add_argument("--workers", type=int, help="processes; default: one per core")
    parser.add_argument("--repeat", action="store_true", help="the first seed alone")
    options = parser.parse_args()
    console = Console()
    folder, cells = TRIES[options.tried]
    for cell in cells:
        if options.cells and str(cell) not in options.cells:
            continue
        if options.repeat:
            again, _ = measured(cell, cell.seeds[0], options.directory, options.data, getpid())
            console.print(repeated(again, raw(folder, cell)))
            continue
        jobs = [
            delayed(measured)(cell, seed, options.directory, options.data, getpid())
            for seed in cell.seeds
        ]
        n_jobs = options.workers or cpu_count()
        done = Parallel(n_jobs=n_jobs, return_as="generator_unordered")(jobs)
        found = list(track(done, description=str(cell), total=len(jobs)))
        found.sort(key=lambda own: own[0].seeds)
        place = raw(options.results or folder, cell)
        merged = keep([results for results, _ in found], place)
        console.print(table(merged, cell))
        for results, why in found:
            console.print(results.seeds[0], why["recommended"], highlight=False, markup=False)


if __name__ == "__main__":
    main()
