"""Repeat the paper's language benchmark, and the same on docstrings, with settings fixed here.

    python docs/reproduction/run.py --data medium_data.csv

Each seed has its own split, vocabulary and initial weights, and is measured in its own process.
Finished runs are kept, so that an interrupted call goes on when it is repeated. The results of a
setting are written as CSV once all its seeds are measured; policies that were not asked for stay
in the file.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from os import getpid
from pathlib import Path

from joblib import Parallel, cpu_count, delayed
from records import check_streams, keep, keep_choices, raw, reasons, rounded
from rich.progress import track

from hasa_opt import tasks
from hasa_opt._utils.processes import follow
from hasa_opt.federated import Execution, LocalTraining
from hasa_opt.models import GRULanguageModel
from hasa_opt.study import Results, Study
from hasa_opt.study.outcome import gather
from hasa_opt.tasks import Task

Load = Callable[..., Task]
RESULTS = Path(__file__).parent / "results"
SEEDS = range(200, 220)
WIDTHS = (0.2, 0.35, 0.5, 0.65, 0.8)
ROUNDS = 10

POLICIES = (
    "uniform", "hasa", "hasa_two_passes", "reverse", "random", "inverse_size", "optimal", "covered",
    "heterofl", "fedrolex", "federated_dropout", "fjord", "measured", "recommended",
    "uniform+personal", "hasa+personal", "reverse+personal", "optimal+personal", "fjord+personal",
    "measured+personal", "uniform+selective", "hasa+selective", "uniform+n^0.5", "hasa+n^0.5",
    "uniform+local_bias", "uniform+personal+local_bias", "hasa+personal+local_bias",
    "fjord+personal+local_bias",
)  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """One supernet and one budget on one task."""

    task: str
    hidden: int
    budget: float

    def __str__(self) -> str:
        return f"{self.task}-{self.hidden}-{self.budget:g}"

    def study(self, task: Task, seed: int, policies: tuple[str, ...]) -> Study:
        """The study of one seed."""
        model = GRULanguageModel(task.n_outputs, embedding=32, hidden=self.hidden)
        return Study(
            task,
            model,
            policies=policies,
            seeds=(seed,),
            budget=self.budget,
            widths=WIDTHS,
            rounds=ROUNDS,
            training=LocalTraining(epochs=1, batch_size=32, learning_rate=0.02, optimizer="adam"),
            execution=Execution(engine="auto" if self.hidden < 64 else "sequential", workers=1),
        )


SETTINGS = tuple(
    Setting(task, hidden, budget)
    for task in ("titles", "docstrings")
    for hidden, budget in ((64, 0.5), (16, 0.35), (16, 0.5), (64, 0.35), (128, 0.5), (128, 0.35))
)


def main() -> None:
    """Read the command line and run what it asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="CSV file of the titles")
    parser.add_argument("--directory", type=Path, default=Path("reproduction"), help="of all runs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the CSV files are")
    parser.add_argument("--settings", nargs="+", default=[str(each) for each in SETTINGS])
    parser.add_argument("--policies", nargs="+", default=POLICIES)
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--workers", type=int, help="processes; default: one per core")
    options = parser.parse_args()
    check_streams(options.results)
    load: dict[str, Load] = {
        "titles": partial(tasks.titles, options.data),
        "docstrings": partial(tasks.load, "docstrings"),
    }
    for setting in SETTINGS:
        if str(setting) in options.settings:
            jobs = [
                delayed(measured)(
                    setting, load[setting.task], seed, options.policies, options.directory, getpid()
                )
                for seed in options.seeds
            ]
            n_jobs = options.workers or cpu_count()
            done = Parallel(n_jobs=n_jobs, return_as="generator_unordered")(jobs)
            found = list(track(done, description=str(setting), total=len(jobs)))
            found.sort(key=lambda own: own[0].seeds)
            keep([results for results, _ in found], raw(options.results, setting))
            why = {seed: reason for _, own in found for seed, reason in own.items()}
            keep_choices(str(setting), why, options.results)


def measured(
    setting: Setting, load: Load, seed: int, policies: Sequence[str], directory: Path, parent: int
) -> tuple[Results, dict[int, str]]:
    """Results of one seed, and why it chose what is recommended."""
    follow(parent)
    study = setting.study(load(seed=seed), seed, tuple(policies))
    done = study.run(directory=directory / str(setting), compare_solvers=False)
    results = gather(done.outcomes, done.task.client_names, done.task.samples)
    return rounded(results), reasons(done.outcomes)


if __name__ == "__main__":
    main()
