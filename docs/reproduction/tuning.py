"""The learning rate of every method on an image task, by :mod:`hasa_opt.study.tuning`.

    python docs/reproduction/tuning.py --directory runs/tuning --task domains

Settings are those of ``groups.py``; seeds are exploratory. Finished runs are kept in the directory.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from domains import network
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

import hasa_opt as hasa
from hasa_opt import tasks
from hasa_opt.study.tuning import RATES, tune

POLICIES = (
    *("uniform", "uniform+personal", "local", "ditto", "clustered_found"),
    *("heterofl", "fedrolex", "federated_dropout", "fjord"),
)
ROUNDS = 30


def main() -> None:
    """Tune and print the metric on validation data at each rate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="keeps finished runs")
    parser.add_argument("--task", default="domains")
    parser.add_argument("--policies", nargs="+", default=POLICIES)
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    parser.add_argument("--budget", type=float, default=0.5)
    options = parser.parse_args()
    study = hasa.Study(
        tasks.load(options.task),
        network(),
        policies=options.policies,
        seeds=range(options.seeds),
        budget=options.budget,
        rounds=ROUNDS,
    )
    found = tune(study, rates=RATES, directory=options.directory)
    columns = sorted({rate for each in found.values() for rate in each.reached})
    metric = study.task.problem.scale.name
    title = f"{options.task}, budget {options.budget:g}: {metric} on validation data by rate"
    table = Table(title=title, box=SIMPLE_HEAD)
    for name in ("policy", *(f"{rate:.3g}" for rate in columns), "chosen"):
        table.add_column(name)
    for each in found.values():
        cells = [f"{each.reached[rate]:.4f}" if rate in each.reached else "" for rate in columns]
        table.add_row(each.policy, *cells, f"{each.best:.3g}{' (edge)' if each.at_edge else ''}")
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
