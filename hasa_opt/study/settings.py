"""What a study refuses before any work starts."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import TYPE_CHECKING

from hasa_opt._utils.checks import listed, number, whole
from hasa_opt.errors import InputError
from hasa_opt.federated import ENGINES, LocalTraining
from hasa_opt.federated.participation import Participation
from hasa_opt.federated.settings import Evaluation, Server, check_choice, check_run
from hasa_opt.policies import RECOMMENDED, read_policy
from hasa_opt.policies.budget import BUDGET_TOLERANCE
from hasa_opt.policies.policy import PERSONAL
from hasa_opt.rules.scores import SCORES
from hasa_opt.study.planner import RESOURCES
from hasa_opt.study.trials import BACKENDS

if TYPE_CHECKING:
    from hasa_opt.study.study import Study

__all__ = ["check"]

_ROUNDS_BY = ("fixed", "validation")


def check(study: Study) -> None:
    """Refuse what a run, a probe or a pilot of the study would refuse later.

    Raises
    ------
    InputError
        Naming the value, the rule and the remedy.
    """
    for policy in study.policies:
        _check_policy(study, policy)
    LocalTraining(
        epochs=study.local_epochs,
        batch_size=study.batch_size,
        learning_rate=study.learning_rate,
        optimizer=study.optimizer,
        output_bias=study.output_bias,
    )
    Server(aggregation=study.aggregation)
    for seed in study.seeds:
        check_run(study.model, study.task, study.rounds, seed)
    _check_repeated(study)
    Participation(clients_per_round=study.sample, faults=study.faults).check(study.task)
    _check_deployment(study, "global")
    check_choice("engine", study.engine, ENGINES)
    check_choice("budget_in", study.budget_in, RESOURCES)
    check_choice("rounds_by", study.rounds_by, _ROUNDS_BY)
    if study.rounds_by == "validation" and study.draws:
        raise InputError(
            f'rounds_by="validation" needs all clients in each round, not sample = {study.sample}: '
            "of sampled ones only the last round measures all. Leave one of them out"
        )
    check_choice("backend", study.backend, BACKENDS)
    if study.score not in SCORES:
        raise InputError(f"score {study.score!r} is not known: choose from {', '.join(SCORES)}")
    whole(study.probe_rounds, "probe_rounds", least=1)
    _check_repeats(study)
    _check_budget(study)


def _check_policy(study: Study, policy: str) -> None:
    """Refuse a name that is not known, and options that do not fit the study."""
    chosen = read_policy(policy)
    Server(weight_power=chosen.changes.get("server", {}).get("weight_power", study.weight_power))
    personal = chosen.rule == RECOMMENDED or PERSONAL in chosen.options
    _check_deployment(study, "personal" if personal else "global")


def _check_repeated(study: Study) -> None:
    """Refuse what would count twice, also the same policy with its options in another order."""
    for name in ("policies", "seeds"):
        counted = Counter(getattr(study, name))
        if again := [value for value, times in counted.items() if times > 1]:
            raise InputError(f"{name} repeat a value ({listed(again)}): give each once")
    for first, second in combinations(map(read_policy, study.policies), 2):
        if first.same_as(second):
            raise InputError(
                f"policies {first.name!r} and {second.name!r} are the same: give one of them"
            )


def _check_budget(study: Study) -> None:
    """Refuse a budget that no widths of the menu can spend, or that is not enough for any."""
    number(study.budget, "budget")
    problem = study.setting_for(study.seeds[0]).problem()
    problem.check_budget()
    widest = problem.share_of(problem.dearest)
    if problem.share > widest * (1 + BUDGET_TOLERANCE):
        raise InputError(
            f"budget {problem.share:g} is above the widest possible allocation ({widest:.4g}): "
            "policies are compared where they spend it. Lower the budget or add a wider width"
        )


def _check_deployment(study: Study, deploy: str) -> None:
    Evaluation(on=study.evaluate, interpolation=study.mix)
    if deploy == "personal" and study.evaluate == "supernet":
        raise InputError(
            'deploy="personal" mixes subnets, which evaluate="supernet" does not test: '
            'use evaluate="subnet"'
        )


def _check_repeats(study: Study) -> None:
    repeats = whole(study.pilot_repeats, "pilot_repeats")
    smallest = int(study.task.samples.min())
    if RECOMMENDED in study.policies and (repeats == 1 or repeats > smallest):
        raise InputError(
            f"pilot_repeats {repeats} must be 0 or from 2 to {smallest}, the training samples of "
            "the smallest client"
        )
