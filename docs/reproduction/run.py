"""Repeat the paper's language benchmark, and the same on docstrings, with settings fixed here.

    python docs/reproduction/run.py --data medium_data.csv

Each seed has its own split, vocabulary and initial weights. Finished runs are kept, so that an
interrupted call goes on when it is repeated. At the end all results are written as CSV.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich.progress import track

from hasa_opt import tasks
from hasa_opt.models import GRULanguageModel
from hasa_opt.study import Results, Study
from hasa_opt.study.outcome import Outcome, gather
from hasa_opt.tasks import Task

SEEDS = range(200, 220)
WIDTHS = (0.2, 0.35, 0.5, 0.65, 0.8)
ROUNDS = 10

POLICIES = (
    "uniform", "hasa", "hasa_two_passes", "reverse", "random", "inverse_size", "optimal", "covered",
    "heterofl", "fedrolex", "federated_dropout", "fjord", "measured", "recommended",
    "uniform+personal", "hasa+personal", "reverse+personal", "optimal+personal", "fjord+personal",
    "measured+personal", "uniform+selective", "hasa+selective", "uniform+n^0.5", "hasa+n^0.5",
    "uniform+local_bias",
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
            local_epochs=1,
            batch_size=32,
            learning_rate=0.02,
            optimizer="adam",
            engine="auto" if self.hidden < 64 else "sequential",
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
    parser.add_argument("--output", type=Path, default=Path("reproduction"))
    parser.add_argument("--settings", nargs="+", default=[str(each) for each in SETTINGS])
    parser.add_argument("--policies", nargs="+", default=POLICIES)
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--workers", type=int)
    options = parser.parse_args()
    load: dict[str, Callable[..., Task]] = {
        "titles": partial(tasks.titles, options.data),
        "docstrings": partial(tasks.load, "docstrings"),
    }
    for setting in SETTINGS:
        if str(setting) in options.settings:
            outcomes: list[Outcome] = []
            for seed in track(options.seeds, description=str(setting)):
                study = setting.study(load[setting.task](seed=seed), seed, tuple(options.policies))
                directory = options.output / str(setting)
                done = study.run(
                    workers=options.workers, directory=directory, compare_solvers=False
                )
                outcomes += done.outcomes
            found = gather(outcomes, done.task.client_names, done.task.samples)
            _rounded(found).write(options.output / f"{setting}.csv")


def _rounded(results: Results) -> Results:
    """Six decimals are enough, and a tenth of the file."""
    columns = ("own", "supernet", "deployed", "peak", "trained", "realised")
    return replace(results, **{name: getattr(results, name).round(6) for name in columns})


if __name__ == "__main__":
    main()
