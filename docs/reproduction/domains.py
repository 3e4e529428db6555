"""Is allocation worth it where clients differ in need? Probe, verdict, then the training.

``python docs/reproduction/domains.py --directory runs/domains`` prints, for a plentiful and for a
scarce budget, what ``headroom`` says before the training and what 20 seeds show after it. All
settings are constants below, chosen on seeds 0 to 99. Finished runs are kept in the directory: the
same command goes on after an interruption. It uses all cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from records import check_streams, keep, keep_choices, raw, reasons, rounded
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from run import POLICIES as REPEATED

import hasa_opt as hasa
from hasa_opt import models, tasks
from hasa_opt._utils.checks import FloatArray
from hasa_opt.federated import LocalTraining
from hasa_opt.policies import POLICIES, Policy, Setting
from hasa_opt.study.inference import paired as paired_difference

BUDGETS = {"plentiful": 0.5, "scarce": 0.35}
WIDTHS = (0.2, 0.35, 0.5, 0.65, 0.8)
BY_DOMAIN = "by_domain"
COMPARED = (
    *REPEATED, "measured_covered", "measured_covered+personal", BY_DOMAIN, f"{BY_DOMAIN}+personal",
)  # fmt: skip
REFERENCES = ("uniform", "hasa", "uniform+personal")
PROBE_ROUNDS, ROUNDS = 30, 30
TRAINING = LocalTraining(epochs=1, learning_rate=0.01)
CHANNELS = (8, 16)


def network() -> models.CNN:
    """Two stages of 8 and 16 channels, each normalised on its own: 0.2 keeps 1 and 3."""
    return models.CNN(10, channels=CHANNELS, norm_channels=1)


def predict(task: tasks.Task, budget: float, seed: int) -> hasa.Headroom:
    """Probe the task on training data and ask what allocation would gain."""
    model = models.fresh(network(), seed)
    found = hasa.probe(model, task, WIDTHS, PROBE_ROUNDS, seed, budget=budget, training=TRAINING)
    Console().print(found, f"The probe costs {found.cost(ROUNDS, budget):.0%} of one run.")
    return hasa.headroom(found, task.clients(), budget)


def by_domain(setting: Setting) -> FloatArray:
    """What somebody would choose who knows the domains: the narrowest width for all scans."""
    easy = np.char.startswith(setting.clients.names, "scans")
    rest = setting.budget - setting.widths[0] * setting.clients.weights[easy].sum()
    return np.where(easy, setting.widths[0], rest / setting.clients.weights[~easy].sum())


def study(task: tasks.Task, budget: float, policies: Sequence[str], seeds: range) -> hasa.Study:
    """The policies, that by the known domains among them."""
    POLICIES[BY_DOMAIN] = Policy(BY_DOMAIN, by_domain, is_program=True)
    return hasa.Study(
        task,
        network(),
        policies=policies,
        seeds=seeds,
        budget=budget,
        widths=WIDTHS,
        rounds=ROUNDS,
        training=TRAINING,
    )


def paired(done: hasa.Study) -> Table:
    """Differences of the client mean in points, seed by seed."""
    title = f"Differences in the client mean, points, {len(done.seeds)} paired seeds, budget"
    table = Table(title=f"{title} {done.budget:g}", box=SIMPLE_HEAD)
    for name in ("policy", "against", "difference", "95 % interval", "wins"):
        table.add_column(name, justify="left" if name in ("policy", "against") else "right")
    means = dict(zip(done.results.policies, done.results.measure(), strict=True))
    references = [other for other in REFERENCES if other in means]
    contrasts = [
        (own, other)
        for place, other in enumerate(references)
        for own in means
        if own not in references[: place + 1]
    ]
    for policy, other in contrasts:
        own = paired_difference(means[policy], means[other])
        table.add_row(
            policy,
            other,
            f"{own.mean:+.2f}",
            f"{own.low:+.2f} to {own.high:+.2f}",
            f"{own.wins} of {own.n}",
        )
    return table


def by_client(done: hasa.Study) -> Table:
    """Mean accuracy of each client under each policy, in percent."""
    table = Table(title="Own-width test accuracy of each client, %", box=SIMPLE_HEAD)
    for name in ("policy", *done.task.client_names):
        table.add_column(name, justify="left" if name == "policy" else "right")
    for policy, own in zip(done.results.policies, done.results.own.mean(axis=1), strict=True):
        table.add_row(policy, *(f"{100 * accuracy:.1f}" for accuracy in own))
    return table


def main() -> None:
    """Run and print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="keeps finished runs")
    parser.add_argument("--first-seed", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=20, help="how many")
    parser.add_argument("--budgets", nargs="*", choices=BUDGETS, default=list(BUDGETS))
    parser.add_argument("--policies", nargs="+", default=COMPARED)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    check_streams(options.results)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    task, console = tasks.load("domains"), Console()
    for name in options.budgets:
        setting = f"domains-cnn-{BUDGETS[name]:g}"
        verdict = predict(task, BUDGETS[name], options.first_seed)
        console.rule(f"{name}: budget {BUDGETS[name]}")
        console.print(verdict)
        done = study(task, BUDGETS[name], options.policies, seeds)
        done.prepare(options.directory / name)
        console.print(done.allocation_table())
        done = done.run(directory=options.directory / name)
        console.print(done, by_client(done), paired(done))
        keep([rounded(done.results)], raw(options.results, setting))
        why = reasons(done.outcomes)
        keep_choices(setting, why, options.results)
        for seed, reason in why.items():
            console.print(f"seed {seed}: {reason}", markup=False, highlight=False)


if __name__ == "__main__":
    main()
